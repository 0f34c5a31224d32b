/* The topics of a configuration on the development broker: reading, checking, producing to and scanning them. */
#include "io/topics.h"

#include "io/broker.h"
#include "tools/feed.h"
#include "tools/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct place {
	struct broker *broker;
	struct config *config;
};

static void open_place(struct place *p, const char *more)
{
	char text[1024];
	struct error err;
	assert_int_equal(broker_start(&p->broker, &err), STATUS_OK);
	int length = snprintf(text, sizeof text,
			      "backbone: b\nstate_dir: s\n"
			      "kafka: {bootstrap.servers: \"%s\", fetch.wait.max.ms: 5}\n%s",
			      broker_servers(p->broker), more);
	assert_int_equal(config_parse("test.yaml", text, (size_t)length, &p->config, &err), STATUS_OK);
}

static void close_place(struct place *p)
{
	config_free(p->config);
	broker_stop(p->broker);
}

static void make(struct place *p, enum topic topic, int32_t partitions)
{
	struct error err;
	assert_int_equal(broker_topic(p->broker, topic_name(p->config, topic), partitions, &err), STATUS_OK);
}

static void expect_refusal(struct place *p, const char *text)
{
	struct topics topics = { .partitions = { 77 } };
	struct error err = { 0 };
	assert_int_equal(topics_check(p->config, 10000, &topics, &err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, text));
	assert_int_equal(topics.partitions[0], 77);
}

static void what_the_daemon_needs(void **state)
{
	struct place p;
	struct topics topics;
	struct error err;
	open_place(&p, "");
	expect_refusal(&p, "topic peterd.interactions is missing");
	make(&p, TOPIC_INTERACTIONS, 3);
	make(&p, TOPIC_UPDATES, 3);
	make(&p, TOPIC_DEADLETTERS, 1);
	expect_refusal(&p, "topic peterd.changelog is missing");
	make(&p, TOPIC_CHANGELOG, 4);
	assert_int_equal(topics_check(p.config, 10000, &topics, &err), STATUS_OK); /* labels: a warning */
	assert_int_equal(topics.partitions[TOPIC_INTERACTIONS], 3);
	assert_int_equal(topics.partitions[TOPIC_LABELS], 0);
	assert_int_equal(topics.partitions[TOPIC_CHANGELOG], 4);
	make(&p, TOPIC_LABELS, 2);
	expect_refusal(&p, "peterd.interactions and peterd.labels must have the same number of partitions: 3 and 2");
	close_place(&p);
}

static void outputs_have_room_for_the_inputs_partitions(void **state)
{
	struct place p;
	open_place(&p, "updates: {topic: out}\n");
	make(&p, TOPIC_INTERACTIONS, 4);
	make(&p, TOPIC_UPDATES, 3);
	make(&p, TOPIC_CHANGELOG, 4);
	make(&p, TOPIC_DEADLETTERS, 1);
	expect_refusal(&p, "topic out has 3 partitions, fewer than the 4 of peterd.interactions");
	close_place(&p);
}

static void tasks_need_their_topics(void **state)
{
	struct place p;
	open_place(&p, "tasks:\n- {name: a, type: regression}\n");
	make(&p, TOPIC_INTERACTIONS, 1);
	make(&p, TOPIC_UPDATES, 1);
	make(&p, TOPIC_CHANGELOG, 1);
	make(&p, TOPIC_DEADLETTERS, 1);
	expect_refusal(&p, "topic peterd.labels is missing");
	close_place(&p);
}

/* The development broker never answers: an error that says so, in time. */
static void creation_without_an_answer(void **state)
{
	struct place p;
	struct topics topics;
	struct error err = { 0 };
	open_place(&p, "");
	assert_int_equal(topics_create(p.config, 2, 1000, &topics, &err), STATUS_UNAVAILABLE);
	assert_non_null(strstr(err.text, "creating topics"));
	close_place(&p);
}

static void nothing_to_create(void **state)
{
	struct place p;
	struct topics topics;
	struct error err;
	open_place(&p, "");
	assert_int_equal(topics_create_internal(p.config, 5000, &topics, &err), STATUS_CONFIG); /* no interactions */
	for (enum topic topic = TOPIC_INTERACTIONS; topic < TOPIC_COUNT; topic++)
		make(&p, topic, 2);
	assert_int_equal(topics_create_internal(p.config, 5000, &topics, &err), STATUS_OK);
	assert_int_equal(topics_create(p.config, 5, 5000, &topics, &err), STATUS_OK);
	assert_int_equal(topics.partitions[TOPIC_LABELS], 2);
	assert_false(topics.created[TOPIC_LABELS]);
	close_place(&p);
}

static void no_broker(void **state)
{
	static const char text[] = "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"127.0.0.1:1\"}\n";
	struct config *config;
	struct topics topics;
	struct error err = { 0 };
	assert_int_equal(config_parse("test.yaml", text, sizeof text - 1, &config, &err), STATUS_OK);
	assert_int_equal(topics_check(config, 500, &topics, &err), STATUS_UNAVAILABLE);
	config_free(config);
}

static struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

/* What is fed is found again, each key in one partition, in order; a bounded scan ends, one from the end starts there. */
static void feeding_and_scanning(void **state)
{
	enum { RECORDS = 500 };
	struct place p;
	struct feed *feed;
	struct scan *scan;
	struct error err;
	open_place(&p, "");
	make(&p, TOPIC_INTERACTIONS, 3);
	make(&p, TOPIC_LABELS, 3);
	assert_int_equal(feed_open(p.config, &feed, &err), STATUS_OK);
	for (int i = 0; i < RECORDS; i++) {
		char key[16];
		char value[16];
		(void)snprintf(key, sizeof key, "user-%d", i % 7);
		(void)snprintf(value, sizeof value, "%d", i);
		assert_int_equal(feed_put(feed, i % 5 == 0, slice_of(key), slice_of(value), &err), STATUS_OK);
	}
	assert_int_equal(feed_finish(feed, &err), STATUS_OK);
	assert_int_equal(feed_delivered(feed), RECORDS);
	feed_close(feed);
	int found = 0;
	int last[7] = { -1, -1, -1, -1, -1, -1, -1 };
	int partition[7] = { -1, -1, -1, -1, -1, -1, -1 };
	assert_int_equal(scan_open(p.config, "peterd.interactions", SCAN_BEGINNING, true, &scan, &err), STATUS_OK);
	while (!scan_ended(scan)) {
		rd_kafka_message_t *message;
		assert_int_equal(scan_next(scan, 100, &message, &err), STATUS_OK);
		if (!message)
			continue;
		char value[16] = "";
		memcpy(value, message->payload, message->len);
		int number = atoi(value);
		int user = ((const char *)message->key)[5] - '0';
		assert_int_equal(user, number % 7);
		assert_true(number > last[user]);
		assert_true(partition[user] < 0 || partition[user] == message->partition);
		last[user] = number;
		partition[user] = message->partition;
		found++;
		rd_kafka_message_destroy(message);
	}
	scan_close(scan);
	assert_int_equal(found, RECORDS - RECORDS / 5);
	assert_int_equal(scan_open(p.config, "peterd.labels", SCAN_END, true, &scan, &err), STATUS_OK);
	while (!scan_ended(scan)) {
		rd_kafka_message_t *message;
		assert_int_equal(scan_next(scan, 100, &message, &err), STATUS_OK);
		assert_null(message);
	}
	scan_close(scan);
	assert_int_equal(scan_open(p.config, "nowhere", SCAN_END, true, &scan, &err), STATUS_CONFIG);
	close_place(&p);
}

static void records_too_large(void **state)
{
	struct place p;
	struct feed *feed;
	struct error err;
	static uint8_t large[2000000];
	open_place(&p, "");
	make(&p, TOPIC_INTERACTIONS, 1);
	assert_int_equal(feed_open(p.config, &feed, &err), STATUS_OK);
	struct slice value = { large, sizeof large };
	assert_int_equal(feed_put(feed, false, slice_of("u"), value, &err), STATUS_DATA);
	feed_close(feed);
	close_place(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_daemon_needs),
		cmocka_unit_test(outputs_have_room_for_the_inputs_partitions),
		cmocka_unit_test(tasks_need_their_topics),
		cmocka_unit_test(creation_without_an_answer),
		cmocka_unit_test(nothing_to_create),
		cmocka_unit_test(no_broker),
		cmocka_unit_test(feeding_and_scanning),
		cmocka_unit_test(records_too_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
