#include "config/config.h"
#include "config/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define REQUIRED_KEYS "backbone: b.safetensors\nstate_dir: state\nkafka: {bootstrap.servers: h:1}\n" /* lines 1 to 3 */

static struct config *parse(const char *text)
{
	struct config *config = NULL;
	struct error err = { 0 };
	enum status s = config_parse("f.yaml", text, strlen(text), &config, &err);
	if (s)
		fail_msg("%s", err.text);
	return config;
}

static void refuses(const char *text, const char *message)
{
	struct config *config = NULL;
	struct error err = { 0 };
	enum status s = config_parse("f.yaml", text, strlen(text), &config, &err);
	assert_null(config);
	assert_string_equal(err.text, message);
	assert_int_equal(s, STATUS_CONFIG);
	assert_int_equal(err.status, STATUS_CONFIG);
}

/* libyaml words its own messages as it likes. */
static void refuses_starting(const char *text, const char *start)
{
	struct config *config = NULL;
	struct error err = { 0 };
	assert_int_equal(config_parse("f.yaml", text, strlen(text), &config, &err), STATUS_CONFIG);
	err.text[strlen(start)] = '\0';
	assert_string_equal(err.text, start);
}

/* The same after three lines of what is required: faults stand on line 4 and below. */
static void refuses_more(const char *text, const char *message)
{
	char whole[4096];
	(void)snprintf(whole, sizeof whole, "%s%s", REQUIRED_KEYS, text);
	refuses(whole, message);
}

static void contract_sample_parses(void **state)
{
	static const char text[] =
		"    group: peterd                       # consumer group; transactional ids start with it\n"
		"    instance: a                         # unique and stable for a process: static membership, "
		"fencing\n"
		"    workers: 1\n"
		"    backbone: /path/to/backbone.safetensors\n"
		"    state_dir: /path/to/directory\n"
		"    kafka: {bootstrap.servers: \"127.0.0.1:9092\", security.protocol: plaintext}    # any librdkafka "
		"property\n"
		"    interactions: {topic: peterd.interactions, schema: FILE.avsc, event_types: [], fields: {user_id: "
		"user_id, item_id: item_id, timestamp: timestamp}}\n"
		"    sequences: {keep: 256, ttl_days: 0}\n"
		"    labels: {topic: peterd.labels}\n"
		"    updates: {topic: peterd.updates, min_interval_ms: 0}\n"
		"    transaction: {interval_ms: 100}\n"
		"    schema_registry: {url: \"\"}          # empty: plain datum\n"
		"    http: {listen: \"127.0.0.1:9464\"}    # empty: none; port 0: any free one, logged\n"
		"    tasks:                              # the same keys as a record on the tasks topic and a file for "
		"`task put`\n"
		"      - name: gender\n"
		"        type: classification            # classification | ranking | regression\n"
		"        labels: [F, M]                  # absent: the vocabulary grows with what arrives\n"
		"        insertion: side                 # serial | parallel | side\n"
		"        bottleneck: 16\n"
		"    patch: {max_age_ms: 1000, min_labels: 1}    # the defaults for side; serial and parallel: 60000\n"
		"    join: {grace_ms: 200}\n";
	struct config *c = parse(text);
	assert_string_equal(c->group, "peterd");
	assert_string_equal(c->backbone, "/path/to/backbone.safetensors");
	assert_string_equal(c->interactions_schema, "FILE.avsc");
	assert_int_equal(c->interactions_event_types.count, 0);
	assert_int_equal(c->kafka_count, 2);
	assert_string_equal(config_kafka(c, "security.protocol"), "plaintext");
	assert_null(config_kafka(c, "debug"));
	assert_int_equal(config_line(c, "kafka.security.protocol"), 6);
	assert_int_equal(config_line(c, "interactions.fields.item_id"), 7);
	assert_int_equal(config_line(c, "tasks[0].bottleneck"), 19);
	assert_int_equal(config_line(c, "create_topics"), 0);
	assert_int_equal(c->tasks_count, 1);
	assert_string_equal(c->tasks[0].name, "gender");
	assert_int_equal(c->tasks[0].labels.count, 2);
	assert_string_equal(c->tasks[0].labels.items[1], "M");
	assert_int_equal(c->join_grace_ms, 200);
	config_free(c);
}

static void print_values(const struct config *c, char *ret, size_t n)
{
	FILE *out = fmemopen(ret, n, "w");
	assert_non_null(out);
#define TEXT(field, ...) (void)fprintf(out, #field "=%s\n", c->field);
#define REQUIRED(field, ...)
#define WHOLE(field, ...) (void)fprintf(out, #field "=%lld\n", (long long)c->field);
#define FLAG(field, ...) (void)fprintf(out, #field "=%d\n", c->field);
#define LIST(field, ...) (void)fprintf(out, #field "=%zu\n", c->field.count);
#define SECTION(...)
#include "config/options.def"
#undef TEXT
#undef REQUIRED
#undef WHOLE
#undef FLAG
#undef LIST
#undef SECTION
	assert_int_equal(fclose(out), 0);
}

static void sample_gives_the_defaults(void **state)
{
	char *sample = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&sample, &length);
	assert_non_null(out);
	config_print_sample(out);
	assert_int_equal(fclose(out), 0);
	struct config *from_sample = parse(sample);
	struct config *from_nothing = parse(REQUIRED_KEYS);
	char a[8192], b[8192];
	print_values(from_sample, a, sizeof a);
	print_values(from_nothing, b, sizeof b);
	assert_string_equal(a, b);
	assert_int_equal(from_sample->tasks_count, 0);
	assert_string_equal(config_kafka(from_sample, "bootstrap.servers"), "127.0.0.1:9092");
	assert_string_equal(from_sample->state_dir, "/var/lib/peterd/state");
#define TEXT(field, key, ...) assert_int_not_equal(config_line(from_sample, key), 0);
#define REQUIRED TEXT
#define WHOLE TEXT
#define FLAG TEXT
#define LIST TEXT
#define SECTION(...)
#include "config/options.def"
#undef TEXT
#undef REQUIRED
#undef WHOLE
#undef FLAG
#undef LIST
#undef SECTION
	config_free(from_sample);
	config_free(from_nothing);
	free(sample);
}

static void nested_and_dotted_keys_are_the_same(void **state)
{
	struct config *c = parse("backbone: b\nstate_dir: s\nkafka.bootstrap.servers: h:1\n"
				 "kafka:\n  ssl:\n    ca.location: /ca\n    key:\n      pem: \"a\\nb\"\n"
				 "  socket.timeout.ms: 1000\n"
				 "interactions.fields:\n  user_id: actor.uid\n"
				 "interactions: {fields.timestamp: $record, event_types: [view, 3]}\n"
				 "sequences.keep: 65536\n"
				 "create_topics: true\n");
	assert_string_equal(config_kafka(c, "ssl.ca.location"), "/ca");
	assert_string_equal(config_kafka(c, "ssl.key.pem"), "a\nb");
	assert_string_equal(config_kafka(c, "socket.timeout.ms"), "1000");
	assert_int_equal(config_line(c, "kafka.ssl.key.pem"), 8);
	assert_string_equal(c->interactions_user_id, "actor.uid");
	assert_string_equal(c->interactions_timestamp, "$record");
	assert_string_equal(c->interactions_event_types.items[1], "3");
	assert_int_equal(c->sequences_keep, 65536);
	assert_true(c->create_topics);
	config_free(c);
}

static void empty_sections_are_empty(void **state)
{
	struct config *c = parse(REQUIRED_KEYS "interactions:\n  event_types:\nsequences:\ntasks:\n");
	assert_int_equal(c->interactions_event_types.count, 0);
	assert_int_equal(c->sequences_keep, 256);
	assert_int_equal(c->tasks_count, 0);
	config_free(c);
}

static void unknown_keys_name_the_nearest(void **state)
{
	refuses("group: g\nworker: 2\n", "f.yaml:2: worker: unknown option; did you mean workers?");
	refuses("sequences:\n  ttl_days: 3\n  kepe: 1\n",
		"f.yaml:3: sequences.kepe: unknown option; did you mean sequences.keep?");
	refuses("interval_ms: 100\n", "f.yaml:1: interval_ms: unknown option; did you mean transaction.interval_ms?");
	refuses("interaction: {topic: a}\n", "f.yaml:1: interaction: unknown option; did you mean interactions?");
	refuses("kafak:\n  a: b\n", "f.yaml:1: kafak: unknown option; did you mean kafka?");
	refuses("task: []\n", "f.yaml:1: task: unknown option; did you mean tasks?");
	refuses("\"gro\\nup\": 1\n", "f.yaml:1: gro?up: unknown option; did you mean group?");
	refuses("tasks:\n- name: t\n  kind: ranking\n", "f.yaml:3: tasks[0].kind: unknown key; did you mean name?");
}

static void duplicates_are_refused(void **state)
{
	refuses_more("group: a\nworkers: 1\ngroup: b\n", "f.yaml:6: group: stands twice, first on line 4");
	refuses_more("sequences: {keep: 9}\nsequences.keep: 9\n",
		     "f.yaml:5: sequences.keep: stands twice, first on line 4");
	refuses_more("labels: {topic: a}\nlabels:\n", "f.yaml:5: labels: stands twice, first on line 4");
	refuses("kafka:\n  bootstrap:\n    servers: a\n  bootstrap.servers: b\n",
		"f.yaml:4: kafka.bootstrap.servers: stands twice, first on line 3");
	refuses_more("tasks: []\ntasks:\n  - {name: a, type: ranking}\n",
		     "f.yaml:5: tasks: stands twice, first on line 4");
}

static void types_are_checked(void **state)
{
	refuses("workers: two\n", "f.yaml:1: workers: must be a whole number, found two");
	refuses("workers: 1.5\n", "f.yaml:1: workers: must be a whole number, found 1.5");
	refuses("workers: \"2\"\n", "f.yaml:1: workers: must be a whole number without quotes, found \"2\"");
	refuses("workers: 010\n", "f.yaml:1: workers: must be a whole number, found 010");
	refuses("workers: [1]\n", "f.yaml:1: workers: must be a whole number, not a list");
	refuses("workers:\n", "f.yaml:1: workers: has no value; a whole number is expected");
	refuses("\n\nworkers: 0\n", "f.yaml:3: workers: must be from 1 to 256 lanes, found 0");
	refuses("workers: 257\n", "f.yaml:1: workers: must be from 1 to 256 lanes, found 257");
	refuses("workers: -1\n", "f.yaml:1: workers: must be from 1 to 256 lanes, found -1");
	refuses("workers: 18446744073709551617\n",
		"f.yaml:1: workers: must be from 1 to 256 lanes, found 18446744073709551617");
	refuses("create_topics: yes\n", "f.yaml:1: create_topics: must be true or false, found yes");
	refuses("create_topics: \"true\"\n", "f.yaml:1: create_topics: must be true or false, found true");
	refuses("group: [a]\n", "f.yaml:1: group: must be a text, not a list");
	refuses("group: {a: b}\n", "f.yaml:1: group: must be a text, not a map");
	refuses("group: ~\n", "f.yaml:1: group: has no value; \"\" is the empty text");
	refuses("group: \"a\\tb\"\n", "f.yaml:1: group: holds a control character");
	refuses("interactions: a\n", "f.yaml:1: interactions: must be a map of options");
	refuses("interactions: {event_types: view}\n", "f.yaml:1: interactions.event_types: must be a list: [a, b]");
	refuses("- a\n", "f.yaml:1: configuration: must be a map of options");
	refuses("kafka: [a]\n", "f.yaml:1: kafka: must be a map of librdkafka properties");
	refuses("kafka:\n  debug: [a, b]\n",
		"f.yaml:2: kafka.debug: must be a text or a number; librdkafka's lists are \"a,b\"");
	refuses("kafka:\n  debug:\n", "f.yaml:2: kafka.debug: has no value");
}

static void required_options_are_required(void **state)
{
	refuses("", "f.yaml:1: backbone: missing; it must be given");
	refuses("# nothing\n---\n", "f.yaml:1: backbone: missing; it must be given");
	refuses("backbone: b\n", "f.yaml:1: state_dir: missing; it must be given");
	refuses("backbone: b\nstate_dir: s\n", "f.yaml:1: kafka: bootstrap.servers is missing; it must be given");
	refuses("backbone: b\nstate_dir: s\nkafka: {debug: all}\n",
		"f.yaml:3: kafka: bootstrap.servers is missing; it must be given");
	refuses("backbone: \"\"\nstate_dir: s\nkafka: {bootstrap.servers: h}\n",
		"f.yaml:1: backbone: must name a file");
}

static void owned_properties_are_refused(void **state)
{
	refuses("kafka:\n  group.id: x\n", "f.yaml:2: kafka.group.id: cannot be set: it is the option `group`");
	refuses("kafka: {isolation: {level: read_uncommitted}}\n",
		"f.yaml:1: kafka.isolation.level: cannot be set: exactly once rests on read_committed");
	static const char *const names[] = { "transactional.id",     "group.instance.id",
					     "enable.auto.commit",   "enable.auto.offset.store",
					     "enable.idempotence",   "partition.assignment.strategy",
					     "partitioner",          "auto.offset.reset",
					     "enable.partition.eof", "delivery.report.only.error",
					     "metadata.broker.list" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char text[128];
		struct config *config = NULL;
		struct error err = { 0 };
		(void)snprintf(text, sizeof text, "kafka: {%s: x}\n", names[i]);
		assert_int_equal(config_parse("f", text, strlen(text), &config, &err), STATUS_CONFIG);
		assert_non_null(strstr(err.text, "cannot be set: "));
	}
}

static void values_are_cross_checked(void **state)
{
	refuses_more("group: a b\n", "f.yaml:4: group: must be 1 to 200 of a-z A-Z 0-9 . _ -");
	refuses_more("instance: \"\"\n", "f.yaml:4: instance: must be 1 to 100 of a-z A-Z 0-9 . _ -");
	refuses_more("scores: {refresh: never}\n", "f.yaml:4: scores.refresh: must be on_event or on_patch");
	refuses_more("log_level: loud\n", "f.yaml:4: log_level: must be error, warning, info or debug");
	refuses_more("updates:\n  topic: a/b\n", "f.yaml:5: updates.topic: must be 1 to 249 of a-z A-Z 0-9 . _ -");
	refuses_more("updates: {topic: ..}\n", "f.yaml:4: updates.topic: is no name for a topic");
	refuses_more("updates: {topic: peterd.labels}\n",
		     "f.yaml:4: updates.topic: the topic peterd.labels is also labels.topic");
	refuses_more("interactions: {topic: peterd.changelog}\n",
		     "f.yaml:4: interactions.topic: the topic peterd.changelog is also topics.changelog");
	refuses_more(
		"schema_registry: {url: \"http://r\"}\n",
		"f.yaml:4: schema_registry.url: a schema registry is not supported by this version; leave it empty");
	refuses_more("interactions:\n  fields:\n    item_id: a..b\n",
		     "f.yaml:6: interactions.fields.item_id: must be a dotted path of field names");
	refuses_more("interactions: {fields: {user_id: $record}}\n",
		     "f.yaml:4: interactions.fields.user_id: must be a dotted path of field names");
	refuses_more(
		"http:\n  listen: \"nowhere:1\"\n",
		"f.yaml:5: http.listen: must be address:port with a numeric address (IPv6 in brackets) or localhost");
	refuses_more("http: {listen: \"127.0.0.1:70000\"}\n",
		     "f.yaml:4: http.listen: the port must be from 0 to 65535");
}

static void tasks_are_checked(void **state)
{
	struct config *c = parse(REQUIRED_KEYS "tasks:\n- {name: a, type: regression}\n"
					       "- {name: b, type: ranking, insertion: serial, bottleneck: 8}\n");
	assert_int_equal(c->tasks_count, 2);
	assert_string_equal(c->tasks[0].insertion, "side");
	assert_int_equal(c->tasks[0].bottleneck, 16);
	assert_string_equal(c->tasks[1].insertion, "serial");
	assert_int_equal(c->tasks[1].bottleneck, 8);
	assert_int_equal(c->tasks[1].line, 6);
	config_free(c);
	refuses("tasks: {a: b}\n", "f.yaml:1: tasks: must be a list of tasks");
	refuses("tasks:\n- a\n", "f.yaml:2: tasks[0]: must be a map: {name: ..., type: ...}");
	refuses("tasks:\n- type: ranking\n", "f.yaml:2: tasks[0].name: missing; a task needs it");
	refuses("tasks:\n- name: a\n", "f.yaml:2: tasks[0].type: missing; a task needs it");
	refuses("tasks:\n- name: a/b\n", "f.yaml:2: tasks[0].name: must be 1 to 100 of a-z A-Z 0-9 . _ -");
	refuses("tasks:\n- name: a\n  type: rank\n",
		"f.yaml:3: tasks[0].type: must be classification, ranking or regression, found rank; did you mean "
		"ranking?");
	refuses("tasks:\n- name: a\n  type: ranking\n  bottleneck: 0\n",
		"f.yaml:4: tasks[0].bottleneck: must be from 1 to 65536 units, found 0");
	refuses("tasks:\n- {name: a, type: ranking}\n- name: b\n  type: classification\n  labels: [x, y, x]\n",
		"f.yaml:5: tasks[1].labels: the label x stands twice");
	refuses("tasks:\n- name: b\n  type: classification\n  labels: [x]\n",
		"f.yaml:4: tasks[0].labels: a classification task needs two labels or more, or none: they come as they "
		"arrive");
	refuses("tasks:\n- name: b\n  labels: [x]\n  type: regression\n",
		"f.yaml:3: tasks[0].labels: a regression task has no labels, it predicts a number");
	refuses("tasks:\n- {name: a, type: ranking}\n- {name: b, type: ranking}\n- {name: a, type: ranking}\n",
		"f.yaml:4: tasks[2].name: the task a stands twice, first on line 2");
}

static void damaged_yaml_is_refused(void **state)
{
	refuses_starting("group: a\nworkers: [1\n", "f.yaml:3: not YAML: ");
	refuses_starting("group: a\n\tworkers: 1\n", "f.yaml:2: not YAML: ");
	refuses_starting("group: \xff\n", "f.yaml:1: not YAML: ");
	refuses("a: &x b\n", "f.yaml:1: anchors and tags are not used in a configuration");
	refuses("a: *x\n", "f.yaml:1: aliases are not used in a configuration");
	refuses("group: !!str a\n", "f.yaml:1: anchors and tags are not used in a configuration");
	refuses("group: a\n---\ngroup: b\n", "f.yaml:2: a second document: one is read");
	refuses("? [a]\n: b\n", "f.yaml:1: a key must be a text");
	refuses("\"\": b\n", "f.yaml:1: an empty key");
	refuses("group: \"a\\0b\"\n", "f.yaml:1: a NUL in a text");
	refuses("a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n", "f.yaml:1: nested too deeply");
}

static void limits_hold(void **state)
{
	enum { MANY = 1048577 };
	char *text = malloc(MANY);
	assert_non_null(text);
	memset(text, '#', MANY);
	struct config *config = NULL;
	struct error err = { 0 };
	assert_int_equal(config_parse("f.yaml", text, MANY, &config, &err), STATUS_CONFIG);
	assert_string_equal(err.text, "f.yaml:1: larger than 1048576 bytes");
	memset(text, 'k', 400);
	text[400] = ':';
	assert_int_equal(config_parse("f.yaml", text, 401, &config, &err), STATUS_CONFIG);
	assert_string_equal(err.text,
			    "f.yaml:1: kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...: too long for "
			    "a key");
	free(text);
}

static void files_are_loaded(void **state)
{
	struct config *c = NULL;
	struct error err = { 0 };
	assert_int_equal(config_load("/nonexistent/f.yaml", &c, &err), STATUS_NO_INPUT);
	assert_string_equal(err.text, "/nonexistent/f.yaml: cannot be read: No such file or directory");
	assert_int_equal(config_load("/", &c, &err), STATUS_CONFIG);
	assert_string_equal(err.text, "/: cannot be read: Is a directory");
	assert_int_equal(err.status, STATUS_CONFIG);
	char path[] = "/tmp/test_config.XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	static const char text[] = REQUIRED_KEYS "workers: 3\n";
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	assert_int_equal(close(fd), 0);
	assert_int_equal(config_load(path, &c, &err), STATUS_OK);
	assert_int_equal(c->workers, 3);
	assert_string_equal(c->path, path);
	assert_int_equal(config_fault(c, "workers", &err, "too %s", "many"), STATUS_CONFIG);
	char expected[128];
	(void)snprintf(expected, sizeof expected, "%s:4: workers: too many", path);
	assert_string_equal(err.text, expected);
	config_free(c);
	assert_int_equal(unlink(path), 0);
}

static void addresses_are_parsed(void **state)
{
	struct sockaddr_storage a;
	socklen_t n;
	struct error err;
	assert_int_equal(listen_parse("127.0.0.1:9464", &a, &n, &err), STATUS_OK);
	assert_int_equal(((struct sockaddr_in *)&a)->sin_port, htons(9464));
	assert_int_equal(a.ss_family, AF_INET);
	assert_int_equal(listen_parse("localhost:0", &a, &n, &err), STATUS_OK);
	assert_int_equal(((struct sockaddr_in *)&a)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(listen_parse("[::1]:65535", &a, &n, &err), STATUS_OK);
	assert_int_equal(a.ss_family, AF_INET6);
	assert_int_equal(n, sizeof(struct sockaddr_in6));
	static const char *const bad[] = {
		"",      "127.0.0.1", ":9464", "127.0.0.1:",   "127.0.0.1:65536", "127.0.0.1:-1",
		"::1:1", "[::1:1",    "[]:1",  "127.0.0.1:1 ", "example.org:80",  "[127.0.0.1]:1"
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (!listen_parse(bad[i], &a, &n, &err))
			fail_msg("%s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contract_sample_parses),
		cmocka_unit_test(sample_gives_the_defaults),
		cmocka_unit_test(nested_and_dotted_keys_are_the_same),
		cmocka_unit_test(empty_sections_are_empty),
		cmocka_unit_test(unknown_keys_name_the_nearest),
		cmocka_unit_test(duplicates_are_refused),
		cmocka_unit_test(types_are_checked),
		cmocka_unit_test(required_options_are_required),
		cmocka_unit_test(owned_properties_are_refused),
		cmocka_unit_test(values_are_cross_checked),
		cmocka_unit_test(tasks_are_checked),
		cmocka_unit_test(damaged_yaml_is_refused),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(files_are_loaded),
		cmocka_unit_test(addresses_are_parsed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
