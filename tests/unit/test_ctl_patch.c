/* peterctl patch on the development broker: what it prints of records and versions, and what it says where there are none. */
#include "tools/ctl.h"

#include "base/file.h"
#include "io/broker.h"
#include "io/client.h"
#include "io/example.h"
#include "io/patch_topic.h"
#include "io/task_record.h"
#include "io/topic_write.h"
#include "model_fixture.h"
#include "patch_record_fixture.h"
#include "tools/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <math.h>
#include <pthread.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static const struct random_backbone shape = {
	.channels = 8, .kernel_size = 3, .dilations = "1,2", .causal = true, .seed = 1
};

static struct {
	struct broker *broker;
	struct config *config;
	rd_kafka_t *producer;
	struct patch_writer *writer;
	char folder[64];
	char path[96]; /* of the configuration */
	char backbone[96];
	char out[96]; /* what a command has printed */
	struct patch_plan plan;
	struct error err;
} fx;

static void write_config(void)
{
	FILE *file = fopen(fx.path, "w");
	assert_non_null(file);
	fprintf(file,
		"backbone: %s\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\"}\n"
		"tasks:\n- {name: gender, type: classification}\n- {name: fresh, type: regression}\n",
		fx.backbone, broker_servers(fx.broker));
	assert_int_equal(fclose(file), 0);
}

static int begin(void **state)
{
	memset(&fx, 0, sizeof fx);
	(void)strcpy(fx.folder, "/tmp/peterd-patch-XXXXXX");
	assert_non_null(mkdtemp(fx.folder));
	(void)snprintf(fx.path, sizeof fx.path, "%s/c.yaml", fx.folder);
	(void)snprintf(fx.out, sizeof fx.out, "%s/out", fx.folder);
	(void)snprintf(fx.backbone, sizeof fx.backbone, "%s/b", fx.folder);
	fixture_write(fx.backbone, &shape);
	assert_int_equal(broker_start(&fx.broker, &fx.err), STATUS_OK);
	write_config();
	if (config_load(fx.path, &fx.config, &fx.err))
		fail_msg("%s", fx.err.text);
	assert_int_equal(broker_topic(fx.broker, fx.config->patches_topic, 3, &fx.err), STATUS_OK);
	assert_int_equal(broker_topic(fx.broker, fx.config->tasks_topic, 1, &fx.err), STATUS_OK);
	assert_int_equal(broker_topic(fx.broker, fx.config->examples_topic, 2, &fx.err), STATUS_OK);
	assert_int_equal(client_producer(fx.config, "writer", &fx.producer, &fx.err), STATUS_OK);
	assert_null(rd_kafka_init_transactions(fx.producer, WAIT_MS));
	assert_int_equal(patch_writer_open(fx.config, fx.producer, NULL, NULL, WAIT_MS, &fx.writer, &fx.err),
			 STATUS_OK);
	patch_plan_begin(NULL, &fx.plan);
	return 0;
}

static int end(void **state)
{
	patch_writer_close(fx.writer);
	client_close_producer(fx.producer);
	config_free(fx.config);
	broker_stop(fx.broker);
	return file_remove_folder(fx.folder, &fx.err) == STATUS_OK ? 0 : -1;
}

/* A record in a transaction of its own, with those bytes, NULL: none. */
static void publish(struct patch_record *r, const char *bytes)
{
	char hash[HASH_HEX_LENGTH + 1];
	assert_int_equal(config_task_hash(&fx.config->tasks[0], hash, &fx.err), STATUS_OK);
	memcpy(r->definition, hash, sizeof hash);
	assert_null(rd_kafka_begin_transaction(fx.producer));
	if (patch_writer_write(fx.writer, &fx.plan, r, bytes ? slice_of(bytes) : (struct slice){ NULL, 0 }, &fx.err))
		fail_msg("%s", fx.err.text);
	rd_kafka_error_t *error = rd_kafka_commit_transaction(fx.producer, WAIT_MS);
	if (error)
		fail_msg("%s", rd_kafka_error_string(error));
}

/* The next record of gender: a version whose bytes are "version N", live after it; its predecessor the one before. */
static struct patch_record version(uint64_t number, enum patch_decision decision)
{
	char bytes[32];
	(void)snprintf(bytes, sizeof bytes, "version %llu", (unsigned long long)number);
	struct patch_record r = record_of("gender", fx.plan.number, decision, bytes);
	r.version = number;
	r.labels_trained = 100 * number;
	r.timestamp_ms = INT64_C(1700000000000) + (int64_t)fx.plan.number;
	memcpy(r.predecessor, fx.plan.live, sizeof r.predecessor);
	return r;
}

static void publish_version(uint64_t number)
{
	static char accuracy[] = "live.recent.accuracy", better[] = "challenger.recent.accuracy",
		    odd[] = "live.all.loss";
	static struct patch_metric metrics[] = { { odd, NAN }, { accuracy, 0.5 }, { better, 0.625 } };
	char bytes[32];
	struct patch_record r = version(number, number > 1 ? PATCH_PROMOTED : PATCH_CREATED);
	(void)snprintf(bytes, sizeof bytes, "version %llu", (unsigned long long)number);
	if (number > 1) {
		r.metrics = metrics;
		r.metric_count = 3;
		r.has_gate = true;
		r.gate = (struct patch_gate){ .reason = PATCH_BETTER,
					      .parent = number - 1,
					      .count = 64,
					      .gain = 0.25,
					      .width = 0.125,
					      .over = NAN,
					      .over_log = NAN };
	}
	publish(&r, bytes);
}

/* Runs a command; what it printed is in `out`, NULL-terminated. */
static enum status patch(char *out, size_t size, const char *const words[])
{
	char *argv[16] = { NULL };
	char copies[16][128];
	int argc = 0;
	(void)snprintf(copies[argc], sizeof copies[0], "patch");
	argv[argc] = copies[argc];
	for (argc = 1; words[argc - 1]; argc++) {
		(void)snprintf(copies[argc], sizeof copies[0], "%s", words[argc - 1]);
		argv[argc] = copies[argc];
	}
	(void)fflush(stdout);
	const int kept = dup(STDOUT_FILENO);
	FILE *file = fopen(fx.out, "w+");
	assert_true(kept >= 0 && file && dup2(fileno(file), STDOUT_FILENO) >= 0);
	fx.err = (struct error){ 0 };
	const enum status status = ctl_patch(argc, argv, &fx.err);
	(void)fflush(stdout);
	assert_true(dup2(kept, STDOUT_FILENO) >= 0);
	(void)close(kept);
	rewind(file);
	out[fread(out, 1, size - 1, file)] = '\0';
	(void)fclose(file);
	return status;
}

#define PATCH(out, ...) patch(out, sizeof out, (const char *const[]){ __VA_ARGS__, "--config", fx.path, NULL })

static void assert_says(const char *out, const char *words)
{
	if (!strstr(out, words))
		fail_msg("%s is not in: %s", words, out);
}

static json_t *line_of(char **at)
{
	json_error_t why;
	char *line = *at, *newline = strchr(line, '\n');
	assert_non_null(newline);
	*newline = '\0';
	*at = newline + 1;
	json_t *object = json_loads(line, 0, &why);
	if (!object)
		fail_msg("%s: %s", why.text, line);
	return object;
}

static void list_has_every_record(void **state)
{
	char out[8192], *at = out, hash[HASH_HEX_LENGTH + 1];
	struct patch_record checkpoint;
	publish_version(1);
	publish_version(2);
	checkpoint = version(2, PATCH_CHECKPOINT);
	memcpy(checkpoint.patch, fx.plan.live, sizeof checkpoint.patch);
	publish(&checkpoint, NULL);
	publish_version(3);
	assert_int_equal(PATCH(out, "list", "--json"), STATUS_OK);
	static const char *const decisions[] = { "created", "promoted", "checkpoint", "promoted" };
	for (size_t i = 0; i < 4; i++) {
		json_t *r = line_of(&at);
		assert_string_equal(json_string_value(json_object_get(r, "task")), "gender");
		assert_string_equal(json_string_value(json_object_get(r, "decision")), decisions[i]);
		assert_int_equal(json_integer_value(json_object_get(r, "number")), i + 1);
		assert_true(json_is_null(json_object_get(r, "parent")));
		assert_true(json_is_integer(json_object_get(r, "timestamp")));
		assert_int_equal(json_is_null(json_object_get(r, "slot")), i == 2);
		json_decref(r);
	}
	assert_int_equal(*at, '\0');
	at = out;
	assert_int_equal(PATCH(out, "list", "gender", "--json"), STATUS_OK);
	for (size_t i = 0; i < 3; i++)
		json_decref(line_of(&at));
	json_t *r = line_of(&at);
	hash_sha256_hex("version 3", 9, hash);
	assert_string_equal(json_string_value(json_object_get(r, "patch")), hash);
	assert_int_equal(json_integer_value(json_object_get(r, "version")), 3);
	assert_int_equal(json_integer_value(json_object_get(r, "labels_trained")), 300);
	const json_t *metrics = json_object_get(r, "metrics"), *gate = json_object_get(r, "gate");
	assert_true(json_is_null(json_object_get(metrics, "live.all.loss")));
	assert_true(json_real_value(json_object_get(metrics, "live.recent.accuracy")) == 0.5);
	assert_true(json_real_value(json_object_get(gate, "gain")) == 0.25);
	assert_true(json_is_null(json_object_get(gate, "over")));
	json_decref(r);
	assert_int_equal(PATCH(out, "list"), STATUS_OK);
	assert_says(out, "time ");
	assert_says(
		out,
		"gender        3  promoted  better     300  accuracy  0.5000      0.6250  +0.2500 +- 0.1250 of 64\n");
	assert_null(strstr(out, "checkpoint"));
	assert_int_equal(PATCH(out, "list", "fresh"), STATUS_OK);
	assert_string_equal(out, "fresh: serves its identity patch (version 1); nothing learnt yet\n");
	assert_int_equal(PATCH(out, "list", "fresh", "--json"), STATUS_OK);
	assert_string_equal(out, "");
	assert_int_equal(PATCH(out, "list", "gendre"), STATUS_NO_INPUT);
	assert_string_equal(fx.err.text, "task gendre: there is no such task; did you mean gender?");
}

/* A record on the tasks topic. */
static void change_task(const char *name, struct slice value)
{
	const struct topic_change change = { slice_of(name), value, RD_KAFKA_PARTITION_UA };
	if (topic_write(fx.config, fx.config->tasks_topic, &change, 1, WAIT_MS, &fx.err))
		fail_msg("%s", fx.err.text);
}

/* A definition, in YAML. */
static void put_task(const char *name, const char *text)
{
	struct buffer value = { 0 };
	struct config *c = NULL;
	assert_int_equal(config_parse_tasks("t", text, strlen(text), &c, &fx.err), STATUS_OK);
	task_record_encode(&c->tasks[0], &value);
	change_task(name, (struct slice){ value.data, value.length });
	config_free(c);
	buffer_free(&value);
}

static void without_versions_it_says_what_is_true(void **state)
{
	static const char refused[] = "the daemon refuses its definition: blocks: 7: the backbone's levels are 0 to 2";
	char out[2048], file[128], said[256];
	(void)snprintf(file, sizeof file, "%s/p", fx.folder);
	put_task("deep", "name: deep\ntype: classification\nblocks: [7]\n");
	(void)snprintf(said, sizeof said, "deep: %s\n", refused);
	assert_int_equal(PATCH(out, "list", "deep"), STATUS_OK);
	assert_string_equal(out, said);
	(void)snprintf(said, sizeof said, "task deep: %s", refused);
	assert_int_equal(PATCH(out, "show", "deep"), STATUS_DATA);
	assert_string_equal(fx.err.text, said);
	assert_int_equal(PATCH(out, "export", "deep", "--out", file), STATUS_DATA);
	assert_string_equal(fx.err.text, said);

	put_task("hue", "name: hue\ntype: classification\n");
	put_task("hue", "name: hue\ntype: classification\nbottleneck: 17\n");
	assert_int_equal(PATCH(out, "list", "hue"), STATUS_OK);
	assert_string_equal(out,
			    "hue: serves its identity patch (version 1); nothing learnt yet; a newer definition is "
			    "refused: bottleneck: 17: at most twice the backbone's 8 channels: it is to be narrow\n");
	assert_int_equal(PATCH(out, "show", "hue"), STATUS_NO_INPUT);
	assert_says(fx.err.text, "task hue: no version has been written yet: it serves its identity patch (version 1)");

	assert_int_equal(unlink(fx.backbone), 0);
	assert_int_equal(PATCH(out, "list", "deep"), STATUS_OK);
	(void)snprintf(said, sizeof said, "fits the backbone is for the daemon to say: %s: No such file", fx.backbone);
	assert_says(out, said);

	publish_version(1); /* of gender, whose newest definition no daemon takes */
	put_task("gender", "name: gender\ntype: classification\nblocks: [3]\n");
	fixture_write(fx.backbone, &shape);
	assert_int_equal(PATCH(out, "export", "gender", "--out", file), STATUS_DATA);
	assert_says(fx.err.text, "task gender: the daemon refuses its definition: blocks: 3: ");
	assert_int_equal(PATCH(out, "export", "gender", "--version", "1", "--out", file), STATUS_OK);
}

static void versions_are_exported_as_they_are(void **state)
{
	char out[2048], file[128], said[160];
	char read[32] = "";
	(void)snprintf(file, sizeof file, "%s/p", fx.folder);
	assert_int_equal(PATCH(out, "export", "gender", "--out", file), STATUS_NO_INPUT);
	assert_says(fx.err.text, "task gender: no version has been written yet");
	for (uint64_t number = 1; number <= 7; number++)
		publish_version(number);
	assert_int_equal(PATCH(out, "export", "gender", "--out", file), STATUS_OK);
	(void)snprintf(said, sizeof said, "gender: version 7 to %s, 9 bytes, SHA-256 ", file);
	assert_says(out, said);
	FILE *f = fopen(file, "r");
	assert_true(f && fread(read, 1, sizeof read, f) == 9 && !fclose(f));
	assert_string_equal(read, "version 7");
	assert_int_equal(PATCH(out, "export", "gender", "--version", "5", "--out", file), STATUS_OK);
	f = fopen(file, "r");
	assert_true(f && fread(read, 1, sizeof read, f) == 9 && !fclose(f));
	assert_string_equal(read, "version 5");
	assert_int_equal(PATCH(out, "export", "gender", "--version", "2", "--out", file), STATUS_NO_INPUT);
	assert_string_equal(fx.err.text,
			    "task gender: version 2 is not on the topic, or no more; there are versions 4, "
			    "5, 6 (predecessor), 7 (live)");
	assert_int_equal(PATCH(out, "export", "nobody", "--out", file), STATUS_NO_INPUT);
	assert_int_equal(PATCH(out, "export", "--out", file), STATUS_USAGE);
	assert_int_equal(PATCH(out, "export", "gender", "--out", fx.path), STATUS_USAGE);
	assert_int_equal(PATCH(out, "export", "gender", "--out", fx.backbone), STATUS_USAGE);
	assert_says(fx.err.text, "is the file of --config's backbone");
	assert_int_equal(PATCH(out, "export", "gender", "--out", "/nonexistent/p"), STATUS_IO);
}

/* A decision before the two were compared on any label. */
static void without_labels_there_is_no_gain(void **state)
{
	char out[8192];
	publish_version(1);
	struct patch_record r = version(2, PATCH_PROMOTED);
	r.has_gate = true;
	r.gate = (struct patch_gate){ .reason = PATCH_NOT_WORSE, .over = NAN, .over_log = NAN, .width = INFINITY };
	publish(&r, "version 2");
	assert_int_equal(PATCH(out, "list"), STATUS_OK);
	assert_says(out, "promoted  not_worse ");
	assert_says(out, "  -\n");
	assert_int_equal(PATCH(out, "show", "gender"), STATUS_OK);
	assert_says(out, "not_worse, 0 labels, gain -\n");
}

static void show_has_the_numbers(void **state)
{
	char out[8192], *at = out;
	publish_version(1);
	publish_version(2);
	assert_int_equal(PATCH(out, "show", "gender"), STATUS_OK);
	assert_says(out, "gender: version 2, live\n");
	assert_says(out, "better, 64 labels, gain +0.250000 +- 0.125000\n");
	assert_says(out, "live.recent.accuracy  0.5\n");
	assert_says(out, "versions     1 (predecessor), 2 (live)\n");
	assert_int_equal(PATCH(out, "show", "gender", "--version", "1", "--json"), STATUS_OK);
	json_t *r = line_of(&at);
	assert_string_equal(json_string_value(json_object_get(r, "decision")), "created");
	assert_int_equal(json_array_size(json_object_get(r, "versions")), 2);
	assert_int_equal(json_array_size(json_object_get(r, "damaged")), 0);
	json_decref(r);
	assert_int_equal(PATCH(out, "show", "gender", "--version", "9"), STATUS_NO_INPUT);
	assert_int_equal(PATCH(out, "show"), STATUS_USAGE);
	assert_int_equal(PATCH(out, "shew", "gender"), STATUS_USAGE);
}

/* A chunk that came after its manifest. */
static void a_damaged_version_says_why(void **state)
{
	char out[2048], file[128], key_text[PATCH_KEY_SIZE];
	struct patch_key key = { .kind = PATCH_KEY_CHUNK, .task = slice_of("gender") };
	(void)snprintf(file, sizeof file, "%s/p", fx.folder);
	publish_version(1);
	for (uint32_t s = 0; s < PATCH_VERSION_SLOTS; s++)
		if (!strcmp(fx.plan.slots[s].sha256, fx.plan.live))
			key.slot = s;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(fx.producer, fx.config->patches_topic, NULL);
	const size_t length = patch_key_format(&key, key_text);
	char other[] = "other";
	assert_null(rd_kafka_begin_transaction(fx.producer));
	assert_int_equal(
		rd_kafka_produce(topic, fx.plan.partition, RD_KAFKA_MSG_F_COPY, other, 5, key_text, length, NULL), 0);
	assert_null(rd_kafka_commit_transaction(fx.producer, WAIT_MS));
	rd_kafka_topic_destroy(topic);
	assert_int_equal(PATCH(out, "export", "gender", "--out", file), STATUS_DATA);
	assert_says(fx.err.text,
		    "task gender: the live version 1 is not whole: slot 0: chunk 0 is newer than the manifest");
	assert_int_equal(PATCH(out, "show", "gender"), STATUS_OK);
	assert_says(out, "damaged      slot 0: chunk 0 is newer");
}

static void of_a_removed_task_nothing_serves(void **state)
{
	char out[8192], file[128];
	(void)snprintf(file, sizeof file, "%s/p", fx.folder);
	publish_version(1);
	publish_version(2);
	put_task("gender", "name: gender\ntype: classification\nbottleneck: 3\n");
	assert_int_equal(PATCH(out, "show", "gender"), STATUS_OK);
	assert_says(out, "  task         defined anew as ");
	change_task("gender", (struct slice){ NULL, 0 });
	assert_int_equal(PATCH(out, "show", "gender"), STATUS_OK);
	assert_says(out, "  task         removed: no version of it serves\n");
	assert_int_equal(PATCH(out, "rollback", "gender"), STATUS_NO_INPUT);
	assert_string_equal(fx.err.text, "task gender: it has been removed: no version of it serves");
	assert_int_equal(PATCH(out, "export", "gender", "--out", file), STATUS_OK);
	assert_int_equal(PATCH(out, "export", "gender", "--out", "-"), STATUS_USAGE);
	assert_string_equal(fx.err.text, "--out: - is standard input alone; for the output say /dev/stdout");
}

static void a_rollback_needs_somewhere_to_go(void **state)
{
	char out[2048];
	publish_version(1);
	assert_int_equal(PATCH(out, "rollback", "gender"), STATUS_NO_INPUT);
	assert_string_equal(fx.err.text, "task gender: version 1 has no predecessor to go back to");
	publish_version(2);
	assert_int_equal(PATCH(out, "rollback", "gender", "--timeout-ms", "1500"), STATUS_UNAVAILABLE);
	assert_says(fx.err.text,
		    "task gender: no learner has answered in 1500 ms: is a peterd of group peterd running?");
}

/* What a learner does: waits for the request, writes the record, for the reason that arg points to. */
static void *answer(void *arg)
{
	const enum patch_reason *reason = arg;
	struct error err;
	struct scan *scan;
	struct example e = { 0 };
	rd_kafka_message_t *message = NULL;
	assert_int_equal(scan_open(fx.config, fx.config->examples_topic, SCAN_BEGINNING, false, &scan, &err),
			 STATUS_OK);
	for (int tries = 0; tries < 200 && !message; tries++)
		assert_int_equal(scan_next(scan, 100, &message, &err), STATUS_OK);
	assert_non_null(message);
	assert_int_equal(example_decode((struct slice){ message->payload, message->len }, &e, &err), STATUS_OK);
	assert_int_equal(e.kind, EXAMPLE_ROLLBACK);
	assert_int_equal(message->key_len, 6);
	assert_memory_equal(message->key, "gender", 6);
	assert_memory_equal(e.task.data, "gender", 6);
	assert_int_equal(e.definition.length, HASH_HEX_LENGTH);
	rd_kafka_message_destroy(message);
	scan_close(scan);
	struct patch_record r = version(1, PATCH_ROLLED_BACK);
	r.predecessor[0] = '\0';
	r.has_gate = true;
	r.gate = (struct patch_gate){ .reason = *reason, .parent = 2, .gain = NAN, .width = NAN };
	publish(&r, NULL);
	return NULL;
}

static void a_rollback_is_awaited(void **state)
{
	char out[2048];
	pthread_t learner;
	enum patch_reason reason = PATCH_ASKED;
	publish_version(1);
	publish_version(2);
	assert_int_equal(pthread_create(&learner, NULL, answer, &reason), 0);
	assert_int_equal(PATCH(out, "rollback", "gender"), STATUS_OK);
	pthread_join(learner, NULL);
	assert_says(out, "  gender  version 1 rolled_back, asked  100 labels");
}

static void a_rollback_that_was_overtaken_is_refused(void **state)
{
	char out[2048];
	pthread_t learner;
	enum patch_reason reason = PATCH_DRIFT;
	publish_version(1);
	publish_version(2);
	assert_int_equal(pthread_create(&learner, NULL, answer, &reason), 0);
	assert_int_equal(PATCH(out, "rollback", "gender"), STATUS_NO_INPUT);
	pthread_join(learner, NULL);
	assert_string_equal(fx.err.text, "task gender: version 1 went live in the meantime (rolled_back), and has no "
					 "predecessor to go back to");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(without_versions_it_says_what_is_true),    TEST(list_has_every_record),
		TEST(versions_are_exported_as_they_are),        TEST(show_has_the_numbers),
		TEST(without_labels_there_is_no_gain),          TEST(a_damaged_version_says_why),
		TEST(a_rollback_needs_somewhere_to_go),         TEST(a_rollback_is_awaited),
		TEST(a_rollback_that_was_overtaken_is_refused), TEST(of_a_removed_task_nothing_serves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
