/* The tasks topic on the development broker: read into a table, followed, written to. */
#include "io/task_topic.h"

#include "io/broker.h"
#include "io/task_record.h"
#include "io/topic_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>

enum { WAIT_MS = 20000 };

struct place {
	struct broker *broker;
	struct config *config;
};

static void open_place(struct place *p, int32_t partitions)
{
	char text[512];
	struct error err;
	assert_int_equal(broker_start(&p->broker, &err), STATUS_OK);
	int length = snprintf(text, sizeof text, "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\"}\n",
			      broker_servers(p->broker));
	assert_int_equal(config_parse("test.yaml", text, (size_t)length, &p->config, &err), STATUS_OK);
	if (partitions)
		assert_int_equal(broker_topic(p->broker, p->config->tasks_topic, partitions, &err), STATUS_OK);
}

static void close_place(struct place *p)
{
	config_free(p->config);
	broker_stop(p->broker);
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

/* A definition of this name and width; 0: a tombstone. */
static void put(struct place *p, const char *name, int bottleneck, int32_t partition)
{
	char yaml[128];
	struct buffer value = { 0 };
	struct config *c = NULL;
	struct error err;
	(void)snprintf(yaml, sizeof yaml, "name: %s\ntype: ranking\nbottleneck: %d\n", name,
		       bottleneck ? bottleneck : 1);
	assert_int_equal(config_parse_tasks("t", yaml, strlen(yaml), &c, &err), STATUS_OK);
	task_record_encode(&c->tasks[0], &value);
	const struct topic_change change = { text(name),
					     { bottleneck ? value.data : NULL, bottleneck ? value.length : 0 },
					     partition };
	if (topic_write(p->config, p->config->tasks_topic, &change, 1, WAIT_MS, &err))
		fail_msg("%s", err.text);
	config_free(c);
	buffer_free(&value);
}

static struct task_topic *open_topic(struct place *p)
{
	struct task_topic *t = NULL;
	struct error err;
	if (task_topic_open(p->config, NULL, WAIT_MS, &t, &err))
		fail_msg("%s", err.text);
	if (task_topic_catch_up(t, WAIT_MS, &err))
		fail_msg("%s", err.text);
	assert_true(task_topic_caught_up(t));
	return t;
}

static void an_empty_topic_is_read_at_once(void **state)
{
	struct place p;
	open_place(&p, 3);
	struct task_topic *t = open_topic(&p);
	assert_null(task_table_next(task_topic_table(t), NULL));
	task_topic_close(t);
	task_topic_close(NULL);
	close_place(&p);
}

static void the_newest_record_counts(void **state)
{
	struct place p;
	open_place(&p, 3);
	put(&p, "a", 2, RD_KAFKA_PARTITION_UA);
	put(&p, "b", 3, RD_KAFKA_PARTITION_UA);
	put(&p, "a", 4, RD_KAFKA_PARTITION_UA);
	put(&p, "b", 0, RD_KAFKA_PARTITION_UA);
	struct task_topic *t = open_topic(&p);
	const struct task_entry *a = task_table_find(task_topic_table(t), text("a"));
	const struct task_entry *b = task_table_find(task_topic_table(t), text("b"));
	assert_int_equal(a->state, TASK_VALID);
	assert_int_equal(a->task.bottleneck, 4);
	assert_int_equal(b->state, TASK_REMOVED);
	/* murmur2 of "a" and "b" over 3 partitions, as Java's clients have it: kafka's Utils.murmur2 & 0x7fffffff % 3 */
	assert_int_equal(a->place.partition, 1);
	assert_int_equal(b->place.partition, 2);
	task_topic_close(t);
	close_place(&p);
}

static void what_comes_later_is_followed(void **state)
{
	struct place p;
	struct error err;
	open_place(&p, 2);
	struct task_topic *t = open_topic(&p);
	const struct task_entry *entry = NULL;
	assert_int_equal(task_topic_poll(t, 0, &entry, &err), STATUS_OK);
	assert_null(entry);
	put(&p, "a", 7, 1);
	for (int i = 0; i < 400 && !entry; i++)
		assert_int_equal(task_topic_poll(t, 50, &entry, &err), STATUS_OK);
	assert_non_null(entry);
	assert_int_equal(entry->task.bottleneck, 7);
	assert_int_equal(entry->place.partition, 1);
	task_topic_close(t);
	close_place(&p);
}

static void a_missing_topic_says_what_makes_it(void **state)
{
	struct place p;
	struct task_topic *t = NULL;
	struct error err = { 0 };
	open_place(&p, 0);
	assert_int_equal(task_topic_open(p.config, NULL, WAIT_MS, &t, &err), STATUS_CONFIG);
	assert_string_equal(err.text, "topic peterd.tasks is missing (or may not be described): peterctl topics create "
				      "--config test.yaml makes it");
	assert_null(t);
	close_place(&p);
}

static void nobody_answers(void **state)
{
	static const char yaml[] = "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"127.0.0.1:1\"}\n";
	struct config *c = NULL;
	struct task_topic *t = NULL;
	struct error err = { 0 };
	assert_int_equal(config_parse("t", yaml, sizeof yaml - 1, &c, &err), STATUS_OK);
	assert_int_equal(task_topic_open(c, NULL, 300, &t, &err), STATUS_UNAVAILABLE);
	const struct topic_change change = { text("a"), { NULL, 0 }, 0 };
	assert_int_equal(topic_write(c, c->tasks_topic, &change, 1, 300, &err), STATUS_UNAVAILABLE);
	assert_non_null(strstr(err.text, "no answer in time"));
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_topic_is_read_at_once),
		cmocka_unit_test(the_newest_record_counts),
		cmocka_unit_test(what_comes_later_is_followed),
		cmocka_unit_test(a_missing_topic_says_what_makes_it),
		cmocka_unit_test(nobody_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
