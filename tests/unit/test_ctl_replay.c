/* peterctl replay on the development broker: labels with and without interactions, as they stand on the topics. */
#include "tools/ctl.h"

#include "base/clock.h"
#include "base/file.h"
#include "io/broker.h"
#include "io/client.h"
#include "io/label.h"
#include "io/task_record.h"
#include "io/topic_write.h"
#include "tools/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <librdkafka/rdkafka.h>

enum { PARTITIONS = 3, MOST = 16, WAIT_MS = 20000 };

static struct {
	struct broker *broker;
	struct config *config;
	char folder[64];
	char path[96];   /* of the configuration */
	char labels[96]; /* a file of them */
	char events[96];
	struct error err;
} fx;

static struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int begin(void **state)
{
	char yaml[512];
	memset(&fx, 0, sizeof fx);
	(void)strcpy(fx.folder, "/tmp/peterd-replay-XXXXXX");
	assert_non_null(mkdtemp(fx.folder));
	(void)snprintf(fx.path, sizeof fx.path, "%s/c.yaml", fx.folder);
	(void)snprintf(fx.labels, sizeof fx.labels, "%s/labels.csv", fx.folder);
	(void)snprintf(fx.events, sizeof fx.events, "%s/events.csv", fx.folder);
	assert_int_equal(broker_start(&fx.broker, &fx.err), STATUS_OK);
	(void)snprintf(yaml, sizeof yaml,
		       "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\"}\n"
		       "tasks:\n- {name: gender, type: classification}\n- {name: age, type: regression}\n",
		       broker_servers(fx.broker));
	write_file(fx.path, yaml);
	if (config_load(fx.path, &fx.config, &fx.err))
		fail_msg("%s", fx.err.text);
	assert_int_equal(broker_topic(fx.broker, fx.config->labels_topic, PARTITIONS, &fx.err), STATUS_OK);
	return 0;
}

static int end(void **state)
{
	config_free(fx.config);
	broker_stop(fx.broker);
	return file_remove_folder(fx.folder, &fx.err) == STATUS_OK ? 0 : -1;
}

static enum status replay(const char *const words[])
{
	char *argv[16] = { NULL };
	char copies[16][128];
	int argc = 1;
	(void)strcpy(copies[0], "replay");
	for (argc = 1; words[argc - 1]; argc++)
		(void)snprintf(copies[argc], sizeof copies[0], "%s", words[argc - 1]);
	for (int i = 0; i < argc; i++)
		argv[i] = copies[i];
	fx.err = (struct error){ 0 };
	return ctl_replay(argc, argv, &fx.err);
}

#define REPLAY(...) replay((const char *const[]){ __VA_ARGS__, "--config", fx.path, NULL })

/* What stands on a topic: the messages, which stay the reader's until it is closed. */
struct found {
	struct scan *scan;
	rd_kafka_message_t *messages[MOST];
	size_t count;
};

static struct found find(const char *topic)
{
	struct found f = { 0 };
	assert_int_equal(scan_open(fx.config, topic, SCAN_BEGINNING, true, &f.scan, &fx.err), STATUS_OK);
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)WAIT_MS * 1000;
	while (!scan_ended(f.scan)) {
		assert_true(clock_monotonic_us() < deadline_us && f.count < MOST);
		assert_int_equal(scan_next(f.scan, 100, &f.messages[f.count], &fx.err), STATUS_OK);
		f.count += f.messages[f.count] != NULL;
	}
	return f;
}

static void release(struct found *f)
{
	for (size_t i = 0; i < f->count; i++)
		rd_kafka_message_destroy(f->messages[i]);
	scan_close(f->scan);
}

static bool slice_is(struct slice s, const char *text)
{
	return s.length == strlen(text) && memcmp(s.data, text, s.length) == 0;
}

/* The label of that user and task, of which there is one, under its key. */
static struct label label_of(const struct found *f, const char *task, const char *user)
{
	struct label label = { 0 }, wanted = { 0 };
	size_t count = 0;
	for (size_t i = 0; i < f->count; i++) {
		const rd_kafka_message_t *m = f->messages[i];
		if (label_decode((struct slice){ m->payload, m->len }, -1, &label, &fx.err))
			fail_msg("%s", fx.err.text);
		if (!slice_is(label.user_id, user) || !slice_is(label.task, task))
			continue;
		assert_true(slice_is((struct slice){ m->key, m->key_len }, user));
		wanted = label;
		count++;
	}
	assert_int_equal(count, 1);
	return wanted;
}

static void labels_alone(void **state)
{
	const int64_t before_ms = clock_wall_ms();
	write_file(fx.labels, "task,user_id,label,timestamp,weight\n"
			      "gender,ann,F,1700000000000,2.5\n"
			      "age,ann,31.5,1700000000001,\n"
			      "other,bob,7,1700000000002,1\n"
			      "gender,bob,M,,\n");
	if (REPLAY("--labels", fx.labels))
		fail_msg("%s", fx.err.text);
	struct found f = find(fx.config->labels_topic);
	assert_int_equal(f.count, 4);
	const struct label ann = label_of(&f, "gender", "ann"), age = label_of(&f, "age", "ann");
	assert_true(slice_is(ann.text, "F") && ann.timestamp_ms == INT64_C(1700000000000));
	assert_true(ann.weight == 2.5F && age.weight == 1);
	assert_true(age.text.data == NULL && age.number == 31.5); /* the configuration has it as a regression */
	assert_true(slice_is(label_of(&f, "other", "bob").text, "7"));
	const struct label late = label_of(&f, "gender", "bob"); /* without a time: now */
	assert_true(late.timestamp_ms >= before_ms && late.timestamp_ms <= clock_wall_ms());
	release(&f);
}

static void of_one_task_and_numbers_all(void **state)
{
	write_file(fx.labels, "user_id\tlabel\ttimestamp\nann\t3\t5\nbob\t-4e2\t6\n");
	if (REPLAY("--labels", fx.labels, "--task", "spend", "--numeric-labels"))
		fail_msg("%s", fx.err.text);
	struct found f = find(fx.config->labels_topic);
	assert_int_equal(f.count, 2);
	assert_true(label_of(&f, "spend", "ann").number == 3);
	assert_true(label_of(&f, "spend", "bob").number == -400);
	release(&f);
}

/* Its definition there says whether labels are numbers, whatever the configuration says. */
static void the_tasks_topic_wins(void **state)
{
	static const char text[] = "name: age\ntype: classification\n";
	struct buffer value = { 0 };
	struct config *c = NULL;
	assert_int_equal(broker_topic(fx.broker, fx.config->tasks_topic, 1, &fx.err), STATUS_OK);
	assert_int_equal(config_parse_tasks("t", text, sizeof text - 1, &c, &fx.err), STATUS_OK);
	task_record_encode(&c->tasks[0], &value);
	const struct topic_change change = { slice_of("age"), { value.data, value.length }, RD_KAFKA_PARTITION_UA };
	assert_int_equal(topic_write(fx.config, fx.config->tasks_topic, &change, 1, WAIT_MS, &fx.err), STATUS_OK);
	config_free(c);
	buffer_free(&value);
	write_file(fx.labels, "task,user_id,label\nage,ann,31\n");
	assert_int_equal(REPLAY("--labels", fx.labels), STATUS_OK);
	struct found f = find(fx.config->labels_topic);
	assert_true(slice_is(label_of(&f, "age", "ann").text, "31"));
	release(&f);
}

static void what_is_missing_or_wrong_is_said(void **state)
{
	assert_int_equal(REPLAY("--rate", "5"), STATUS_USAGE);
	assert_string_equal(fx.err.text, "--events or --labels is missing; see --help");
	write_file(fx.labels, "task,user_id,label\nage,ann,31\nage,bob,old\n");
	assert_int_equal(REPLAY("--labels", fx.labels), STATUS_DATA);
	assert_non_null(strstr(fx.err.text, "0 interactions and 1 label taken from the files: "));
	assert_non_null(strstr(fx.err.text, "labels.csv: line 3: label old "));
	write_file(fx.events, "user_id,item_id,timestamp\nann,x,5\n");
	assert_int_equal(REPLAY("--labels", fx.labels, "--events", fx.events), STATUS_CONFIG); /* nobody made it */
	assert_non_null(strstr(fx.err.text, fx.config->interactions_topic));
	assert_int_equal(REPLAY("--labels", "/nonexistent/l"), STATUS_NO_INPUT);
}

/* A label without a time is of the moment after the newest interaction before it. */
static void labels_beside_interactions(void **state)
{
	assert_int_equal(broker_topic(fx.broker, fx.config->interactions_topic, PARTITIONS, &fx.err), STATUS_OK);
	write_file(fx.events, "user_id,item_id,timestamp\nann,x,1000\nbob,y,3000\n");
	write_file(fx.labels, "task,user_id,label,timestamp\ngender,ann,F,2000\ngender,bob,M,\n");
	assert_int_equal(REPLAY("--labels", fx.labels, "--events", fx.events), STATUS_OK);
	struct found f = find(fx.config->labels_topic), events = find(fx.config->interactions_topic);
	assert_true(f.count == 2 && events.count == 2);
	assert_int_equal(label_of(&f, "gender", "ann").timestamp_ms, 2000);
	assert_int_equal(label_of(&f, "gender", "bob").timestamp_ms, 3001);
	release(&f);
	release(&events);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(labels_alone),
		TEST(of_one_task_and_numbers_all),
		TEST(the_tasks_topic_wins),
		TEST(what_is_missing_or_wrong_is_said),
		TEST(labels_beside_interactions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
