/* The patches topic on the development broker: versions written in transactions, read into a table, followed. */
#include "io/patch_topic.h"

#include "io/broker.h"
#include "io/client.h"
#include "patch_record_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>

enum { WAIT_MS = 20000, PARTITIONS = 3 };

struct place {
	struct broker *broker;
	struct config *config;
	rd_kafka_t *producer;
	struct patch_writer *writer;
	int drained;
};

static void open_place(struct place *p, bool topic)
{
	char text[512];
	struct error err;
	*p = (struct place){ 0 };
	assert_int_equal(broker_start(&p->broker, &err), STATUS_OK);
	int length = snprintf(text, sizeof text, "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\"}\n",
			      broker_servers(p->broker));
	assert_int_equal(config_parse("test.yaml", text, (size_t)length, &p->config, &err), STATUS_OK);
	if (topic)
		assert_int_equal(broker_topic(p->broker, p->config->patches_topic, PARTITIONS, &err), STATUS_OK);
}

static void drain(void *arg, int wait_ms)
{
	struct place *p = arg;
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(p->producer);
	rd_kafka_event_t *event = rd_kafka_queue_poll(reports, wait_ms);
	const rd_kafka_message_t *message;
	for (; event; event = rd_kafka_queue_poll(reports, 0)) {
		while ((message = rd_kafka_event_message_next(event)))
			assert_int_equal(message->err, RD_KAFKA_RESP_ERR_NO_ERROR);
		rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(reports);
	p->drained++;
}

static void open_writer(struct place *p)
{
	struct error err;
	assert_int_equal(client_producer(p->config, "writer", &p->producer, &err), STATUS_OK);
	assert_null(rd_kafka_init_transactions(p->producer, WAIT_MS));
	if (patch_writer_open(p->config, p->producer, drain, p, WAIT_MS, &p->writer, &err))
		fail_msg("%s", err.text);
}

static void close_place(struct place *p)
{
	patch_writer_close(p->writer);
	client_close_producer(p->producer);
	config_free(p->config);
	broker_stop(p->broker);
}

static void commit(struct place *p)
{
	rd_kafka_error_t *error = rd_kafka_commit_transaction(p->producer, WAIT_MS);
	if (error)
		fail_msg("%s", rd_kafka_error_string(error));
}

static struct slice text_bytes(size_t length, uint64_t seed)
{
	static uint8_t bytes[3 << 20];
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8) + seed);
	return (struct slice){ bytes, length };
}

/* One version in a transaction of its own. */
static void publish(struct place *p, struct patch_plan *plan, const char *task, enum patch_decision decision,
		    struct slice bytes)
{
	struct error err = { 0 };
	struct patch_record r = record_of(task, plan->number, decision, NULL);
	memcpy(r.predecessor, plan->live, sizeof r.predecessor);
	if (decision == PATCH_CHECKPOINT)
		memcpy(r.patch, plan->live, sizeof r.patch);
	else
		hash_sha256_hex(bytes.data, bytes.length, r.patch);
	assert_null(rd_kafka_begin_transaction(p->producer));
	if (patch_writer_write(p->writer, plan, &r, bytes, &err))
		fail_msg("%s", err.text);
	commit(p);
}

static struct patch_topic *open_topic(struct place *p)
{
	struct patch_topic *t = NULL;
	struct error err;
	if (patch_topic_open(p->config, true, WAIT_MS, &t, &err))
		fail_msg("%s", err.text);
	if (patch_topic_catch_up(t, WAIT_MS, &err))
		fail_msg("%s", err.text);
	assert_true(patch_topic_caught_up(t));
	return t;
}

static const struct patch_entry *entry_of(const struct patch_topic *t, const char *task)
{
	return patch_table_find(patch_topic_table(t), task);
}

static void expect_bytes(const struct patch_entry *e, const struct patch_slot *slot, struct slice bytes)
{
	struct buffer out = { 0 };
	struct error err;
	assert_non_null(slot);
	assert_int_equal(patch_entry_bytes(e, slot, &out, &err), STATUS_OK);
	assert_int_equal(out.length, bytes.length);
	assert_memory_equal(out.data, bytes.data, bytes.length);
	buffer_free(&out);
}

static void an_empty_topic_is_read_at_once(void **state)
{
	struct place p;
	open_place(&p, true);
	struct patch_topic *t = open_topic(&p);
	assert_null(patch_table_next(patch_topic_table(t), NULL));
	patch_topic_close(t);
	patch_topic_close(NULL);
	patch_writer_close(NULL);
	close_place(&p);
}

/* Larger than a message may be, then smaller in the same slots: the chunks in between go. */
static void versions_come_back(void **state)
{
	static const size_t sizes[] = { 1, 2500000, 524288, 524289, 40, 1100000, 60, 80 };
	struct place p;
	struct patch_plan plan;
	open_place(&p, true);
	open_writer(&p);
	patch_plan_begin(NULL, &plan);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		publish(&p, &plan, "a", i ? PATCH_PROMOTED : PATCH_CREATED, text_bytes(sizes[i], i));
		struct patch_topic *t = open_topic(&p);
		const struct patch_entry *e = entry_of(t, "a");
		expect_bytes(e, patch_entry_live(e), text_bytes(sizes[i], i));
		assert_int_equal(patch_entry_live(e)->chunks, (sizes[i] + 524287) / 524288);
		if (i)
			expect_bytes(e, patch_entry_predecessor(e), text_bytes(sizes[i - 1], i - 1));
		assert_int_equal(e->decision_count, i + 1);
		/* murmur2 of "a" over 3 partitions, as Java's clients have it */
		assert_int_equal(e->partition, 1);
		assert_int_equal(plan.partition, 1);
		patch_topic_close(t);
	}
	publish(&p, &plan, "a", PATCH_CHECKPOINT, text_bytes(700000, 99));
	struct patch_topic *t = open_topic(&p);
	const struct patch_entry *e = entry_of(t, "a");
	expect_bytes(e, patch_entry_checkpoint(e), text_bytes(700000, 99));
	patch_topic_close(t);
	close_place(&p);
}

static void what_comes_later_is_followed(void **state)
{
	struct place p;
	struct patch_plan a, b;
	struct patch_change change = { 0 };
	struct error err;
	bool got = false;
	open_place(&p, true);
	open_writer(&p);
	patch_plan_begin(NULL, &a);
	patch_plan_begin(NULL, &b);
	b.partition = 0; /* where a topic that has grown has them */
	struct patch_topic *t = open_topic(&p);
	assert_int_equal(patch_topic_poll(t, 0, &got, &change, &err), STATUS_OK);
	assert_false(got);
	publish(&p, &a, "a", PATCH_CREATED, text_bytes(50, 1));
	publish(&p, &b, "b", PATCH_CREATED, text_bytes(60, 2));
	int decisions = 0;
	for (int i = 0; i < 400 && decisions < 2; i++) {
		assert_int_equal(patch_topic_poll(t, 50, &got, &change, &err), STATUS_OK);
		assert_true(!got || (change.entry && !change.refusal));
		decisions += got && change.kind == PATCH_KEY_DECISION;
	}
	expect_bytes(entry_of(t, "a"), patch_entry_live(entry_of(t, "a")), text_bytes(50, 1));
	expect_bytes(entry_of(t, "b"), patch_entry_live(entry_of(t, "b")), text_bytes(60, 2));
	assert_int_equal(entry_of(t, "b")->partition, 0);
	patch_topic_close(t);
	close_place(&p);
}

/* A queue that holds less than a version: its reports are served while it is written. */
static void a_full_queue_is_drained(void **state)
{
	struct place p;
	struct patch_plan plan;
	char text[512];
	struct error err;
	open_place(&p, true);
	config_free(p.config);
	int length = snprintf(text, sizeof text,
			      "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\", "
			      "queue.buffering.max.kbytes: 1000, message.max.bytes: 100000, batch.size: 2000000, "
			      "linger.ms: 200}\n", /* nothing goes out before the queue is full */
			      broker_servers(p.broker));
	assert_int_equal(config_parse("test.yaml", text, (size_t)length, &p.config, &err), STATUS_OK);
	open_writer(&p);
	patch_plan_begin(NULL, &plan);
	publish(&p, &plan, "a", PATCH_CREATED, text_bytes(3 << 20, 3));
	assert_true(p.drained > 0);
	struct patch_topic *t = open_topic(&p);
	const struct patch_entry *e = entry_of(t, "a");
	expect_bytes(e, patch_entry_live(e), text_bytes(3 << 20, 3));
	assert_int_equal(patch_entry_live(e)->chunks, ((3 << 20) + 74999) / 75000);
	patch_topic_close(t);
	close_place(&p);
}

static void what_is_refused_changes_no_plan(void **state)
{
	struct place p;
	struct patch_plan plan, before;
	struct error err = { 0 };
	open_place(&p, true);
	open_writer(&p);
	patch_plan_begin(NULL, &plan);
	before = plan;
	struct patch_record r = record_of("a", plan.number, PATCH_PROMOTED, "other bytes");
	assert_null(rd_kafka_begin_transaction(p.producer));
	assert_int_equal(patch_writer_write(p.writer, &plan, &r, text_bytes(10, 0), &err), STATUS_BUG);
	struct patch_cut *cuts = calloc(400000, sizeof *cuts); /* 1.2 MB of them */
	r.cuts = cuts;
	r.cut_count = 400000;
	assert_int_equal(patch_writer_write(p.writer, &plan, &r, (struct slice){ NULL, 0 }, &err), STATUS_DATA);
	assert_memory_equal(&plan, &before, sizeof plan);
	assert_null(rd_kafka_abort_transaction(p.producer, WAIT_MS));
	free(cuts);
	close_place(&p);
}

static void a_missing_topic_says_what_makes_it(void **state)
{
	struct place p;
	struct patch_topic *t = NULL;
	struct error err = { 0 };
	open_place(&p, false);
	assert_int_equal(patch_topic_open(p.config, true, WAIT_MS, &t, &err), STATUS_CONFIG);
	assert_string_equal(err.text, "topic peterd.patches is missing (or may not be described): peterctl topics "
				      "create --config test.yaml makes it");
	assert_null(t);
	assert_int_equal(client_producer(p.config, "writer", &p.producer, &err), STATUS_OK);
	assert_int_equal(patch_writer_open(p.config, p.producer, NULL, NULL, WAIT_MS, &p.writer, &err), STATUS_CONFIG);
	close_place(&p);
}

static void nobody_answers(void **state)
{
	static const char yaml[] = "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"127.0.0.1:1\"}\n";
	struct config *c = NULL;
	struct patch_topic *t = NULL;
	struct error err = { 0 };
	assert_int_equal(config_parse("t", yaml, sizeof yaml - 1, &c, &err), STATUS_OK);
	assert_int_equal(patch_topic_open(c, true, 300, &t, &err), STATUS_UNAVAILABLE);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_topic_is_read_at_once),
		cmocka_unit_test(versions_come_back),
		cmocka_unit_test(what_comes_later_is_followed),
		cmocka_unit_test(a_full_queue_is_drained),
		cmocka_unit_test(what_is_refused_changes_no_plan),
		cmocka_unit_test(a_missing_topic_says_what_makes_it),
		cmocka_unit_test(nobody_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
