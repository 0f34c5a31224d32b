/* Dead letters through librdkafka's mock cluster: what is produced is what a consumer reads. */
#include "io/deadletter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka_mock.h>

#define INPUT "interactions"
#define LETTERS "deadletters"
#define RECORD_MS INT64_C(1600000000000)

enum { WAIT_MS = 20000, MAX_BYTES = 20000 };

struct fixture {
	rd_kafka_t *producer;
	rd_kafka_t *consumer;
	rd_kafka_topic_t *letters;
	int64_t next_input; /* offsets */
	int64_t next_letter;
};

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char text[256];
	if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
		fail_msg("%s", text);
}

static int open_fixture(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	char text[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	set(conf, "test.mock.num.brokers", "1");
	set(conf, "socket.nagle.disable", "true");
	set(conf, "linger.ms", "0");
	char limit[16];
	(void)snprintf(limit, sizeof limit, "%d", MAX_BYTES);
	set(conf, "message.max.bytes", limit);
	f->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
	assert_non_null(f->producer);
	rd_kafka_mock_cluster_t *cluster = rd_kafka_handle_mock_cluster(f->producer);
	assert_int_equal(rd_kafka_mock_topic_create(cluster, INPUT, 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_mock_topic_create(cluster, LETTERS, 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
	f->letters = rd_kafka_topic_new(f->producer, LETTERS, NULL);
	conf = rd_kafka_conf_new();
	set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster));
	set(conf, "group.id", "test");
	set(conf, "fetch.wait.max.ms", "10");
	set(conf, "auto.offset.reset", "error");
	f->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
	assert_non_null(f->consumer);
	*state = f;
	return 0;
}

static int close_fixture(void **state)
{
	struct fixture *f = *state;
	rd_kafka_topic_destroy(f->letters);
	rd_kafka_consumer_close(f->consumer);
	rd_kafka_destroy(f->consumer);
	rd_kafka_destroy(f->producer);
	free(f);
	return 0;
}

static rd_kafka_message_t *read_one(struct fixture *f, const char *topic, int64_t *offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, 0)->offset = *offset;
	assert_int_equal(rd_kafka_assign(f->consumer, list), RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_message_t *message = rd_kafka_consumer_poll(f->consumer, WAIT_MS);
	assert_non_null(message);
	if (message->err)
		fail_msg("%s", rd_kafka_message_errstr(message));
	*offset = message->offset + 1;
	return message;
}

/* A record of the input topic as a consumer sees it; takes `headers`. */
static rd_kafka_message_t *input(struct fixture *f, const void *key, size_t key_bytes, const void *value,
				 size_t value_bytes, rd_kafka_headers_t *headers)
{
	const rd_kafka_vu_t parts[] = {
		{ .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = INPUT },
		{ .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = 0 },
		{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
		{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { (void *)(uintptr_t)key, key_bytes } },
		{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { (void *)(uintptr_t)value, value_bytes } },
		{ .vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = RECORD_MS },
		{ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
	};
	rd_kafka_error_t *err = rd_kafka_produceva(f->producer, parts, sizeof parts / sizeof parts[0]);
	if (err)
		fail_msg("%s", rd_kafka_error_string(err));
	assert_int_equal(rd_kafka_flush(f->producer, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
	return read_one(f, INPUT, &f->next_input);
}

static rd_kafka_message_t *letter(struct fixture *f, const rd_kafka_message_t *message, enum reason reason,
				  const char *detail)
{
	struct error err;
	if (deadletter_produce(f->producer, f->letters, message, reason, detail, MAX_BYTES, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(rd_kafka_flush(f->producer, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
	return read_one(f, LETTERS, &f->next_letter);
}

static size_t header_count(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	return rd_kafka_header_cnt(headers);
}

static void assert_header(const rd_kafka_message_t *message, const char *name, const char *expected)
{
	rd_kafka_headers_t *headers;
	const void *value;
	size_t length;
	assert_int_equal(rd_kafka_message_headers(message, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
	if (rd_kafka_header_get_last(headers, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail_msg("no header %s", name);
	assert_int_equal(length, strlen(expected));
	assert_memory_equal(value, expected, length);
}

static void assert_slice(struct slice found, const char *expected)
{
	assert_int_equal(found.length, strlen(expected));
	assert_memory_equal(found.data, expected, found.length);
}

static rd_kafka_headers_t *own_headers(void)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
	assert_int_equal(rd_kafka_header_add(headers, "trace", -1, "abc", 3), RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_header_add(headers, "trace", -1, "def", 3), RD_KAFKA_RESP_ERR_NO_ERROR);
	return headers;
}

static void test_letter(void **state)
{
	struct fixture *f = *state;
	struct deadletter_info info;
	struct error err;
	rd_kafka_timestamp_type_t type;
	rd_kafka_message_t *original = input(f, "user", 4, "\0damaged\xff", 9, own_headers());
	rd_kafka_message_t *dead = letter(f, original, REASON_UNDECODABLE, "cut at byte 3");
	assert_int_equal(dead->key_len, 4);
	assert_memory_equal(dead->key, "user", 4);
	assert_int_equal(dead->len, 9);
	assert_memory_equal(dead->payload, "\0damaged\xff", 9);
	assert_int_equal(rd_kafka_message_timestamp(dead, &type), RECORD_MS);
	char offset[24];
	(void)snprintf(offset, sizeof offset, "%lld", (long long)original->offset);
	assert_header(dead, "trace", "def");
	assert_header(dead, "__streams.errors.topic", INPUT);
	assert_header(dead, "__streams.errors.partition", "0");
	assert_header(dead, "__streams.errors.offset", offset);
	assert_header(dead, "__streams.errors.message", "cut at byte 3");
	assert_header(dead, "__streams.errors.exception", "org.apache.kafka.common.errors.SerializationException");
	assert_header(dead, "peterd.reason", "undecodable");
	assert_int_equal(header_count(dead), 8);
	assert_int_equal(deadletter_parse(dead, &info, &err), STATUS_OK);
	assert_slice(info.topic, INPUT);
	assert_int_equal(info.partition, 0);
	assert_int_equal(info.offset, original->offset);
	assert_slice(info.reason, "undecodable");
	assert_slice(info.detail, "cut at byte 3");
	assert_slice(info.exception, "org.apache.kafka.common.errors.SerializationException");
	assert_int_equal(info.truncated_bytes, -1);
	assert_int_equal(deadletter_parse(original, &info, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "__streams.errors.topic is missing"));
	rd_kafka_message_destroy(dead);
	rd_kafka_message_destroy(original);
}

/* A null value, an empty one and no key stay what they are. */
static void test_absent_and_empty(void **state)
{
	struct fixture *f = *state;
	rd_kafka_message_t *original = input(f, NULL, 0, NULL, 0, NULL);
	rd_kafka_message_t *dead = letter(f, original, REASON_MISSING_FIELD, "a tombstone without a key");
	assert_null(dead->key);
	assert_null(dead->payload);
	assert_header(dead, "peterd.reason", "missing_field");
	rd_kafka_message_destroy(dead);
	rd_kafka_message_destroy(original);
	original = input(f, "", 0, "", 0, NULL);
	dead = letter(f, original, REASON_UNDECODABLE, "empty");
	assert_non_null(dead->key);
	assert_non_null(dead->payload);
	assert_int_equal(dead->key_len + dead->len, 0);
	rd_kafka_message_destroy(dead);
	rd_kafka_message_destroy(original);
}

/* A dead letter that is submitted again, with all its headers, and fails again. */
static void test_again(void **state)
{
	struct fixture *f = *state;
	struct deadletter_info info;
	struct error err;
	rd_kafka_headers_t *headers;
	rd_kafka_message_t *original = input(f, "user", 4, "x", 1, own_headers());
	rd_kafka_message_t *dead = letter(f, original, REASON_UNDECODABLE, "first");
	assert_int_equal(rd_kafka_message_headers(dead, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_message_t *again = input(f, "user", 4, "x", 1, rd_kafka_headers_copy(headers));
	rd_kafka_message_t *twice = letter(f, again, REASON_TIMESTAMP, "second");
	assert_int_equal(header_count(twice), 8);
	assert_header(twice, "__streams.errors.message", "second");
	assert_header(twice, "__streams.errors.exception", "org.apache.kafka.common.errors.InvalidTimestampException");
	assert_int_equal(deadletter_parse(twice, &info, &err), STATUS_OK);
	assert_int_equal(info.offset, again->offset);
	headers = deadletter_own_headers(twice);
	assert_int_equal(rd_kafka_header_cnt(headers), 2);
	rd_kafka_headers_destroy(headers);
	rd_kafka_message_destroy(twice);
	rd_kafka_message_destroy(again);
	rd_kafka_message_destroy(dead);
	rd_kafka_message_destroy(original);
}

/* The input holds records that leave no room for our headers: the value is cut, then what else must be. */
static void test_cut(void **state)
{
	struct fixture *f = *state;
	struct deadletter_info info;
	struct error err;
	uint8_t *big = malloc(MAX_BYTES);
	static const size_t key_bytes[] = { 4, 4, 15000, 19500 };
	static const size_t header_bytes[] = { 0, 19000, 4700, 0 };
	for (size_t i = 0; i < MAX_BYTES; i++)
		big[i] = (uint8_t)(i % 251);
	for (size_t i = 0; i < 4; i++) {
		size_t value_bytes = MAX_BYTES - 200 - key_bytes[i] - header_bytes[i];
		rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
		if (header_bytes[i] > 0)
			assert_int_equal(rd_kafka_header_add(headers, "h", 1, big, (ssize_t)header_bytes[i]),
					 RD_KAFKA_RESP_ERR_NO_ERROR);
		rd_kafka_message_t *original = input(f, big, key_bytes[i], big, value_bytes, headers);
		rd_kafka_message_t *dead = letter(f, original, REASON_OVERSIZE, "too long");
		assert_int_equal(deadletter_parse(dead, &info, &err), STATUS_OK);
		assert_int_equal(info.truncated_bytes, value_bytes);
		assert_int_equal(dead->len < value_bytes, i != 2);
		assert_memory_equal(dead->payload ? dead->payload : big, big, dead->len);
		assert_memory_equal(dead->key, big, dead->key_len);
		if (i == 0)
			assert_true(dead->len > MAX_BYTES - 400);
		if (i < 3)
			assert_int_equal(dead->key_len, key_bytes[i]);
		assert_int_equal(header_count(dead), i == 1 ? 8 : 7); /* the third's own header had to go */
		rd_kafka_message_destroy(dead);
		rd_kafka_message_destroy(original);
	}
	free(big);
}

static void test_parse_errors(void **state)
{
	static const char *const bad[][2] = {
		{ "__streams.errors.partition", "" },
		{ "__streams.errors.partition", "x" },
		{ "__streams.errors.partition", "-1" },
		{ "__streams.errors.partition", "2147483648" },
		{ "__streams.errors.offset", "9223372036854775808" },
		{ "__streams.errors.offset", "1 " },
		{ "__streams.errors.topic", "" },
		{ "peterd.reason", "" },
		{ "peterd.truncated", "many" },
	};
	struct fixture *f = *state;
	rd_kafka_message_t *original = input(f, "user", 4, "x", 1, NULL);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct deadletter_info info;
		struct error err;
		rd_kafka_headers_t *headers = deadletter_headers(original, REASON_SCHEMA, "detail");
		assert_int_equal(rd_kafka_header_add(headers, bad[i][0], -1, bad[i][1], -1),
				 RD_KAFKA_RESP_ERR_NO_ERROR);
		rd_kafka_message_t *message = input(f, "user", 4, "x", 1, headers);
		assert_int_equal(deadletter_parse(message, &info, &err), STATUS_DATA);
		assert_non_null(strstr(err.text, bad[i][0]));
		rd_kafka_message_destroy(message);
	}
	rd_kafka_message_destroy(original);
}

static void test_names(void **state)
{
	(void)state;
	assert_true(deadletter_header_is_ours("peterd.reason"));
	assert_true(deadletter_header_is_ours("__streams.errors.offset"));
	assert_false(deadletter_header_is_ours("peterd.reasons"));
	assert_false(deadletter_header_is_ours(""));
	for (enum reason reason = REASON_NONE; reason < REASON_COUNT; reason++)
		assert_true(strlen(reason_name(reason)) > 3);
}

static void assert_same_letter(const rd_kafka_message_t *a, const rd_kafka_message_t *b)
{
	rd_kafka_headers_t *of_a, *of_b;
	rd_kafka_timestamp_type_t type;
	const char *name, *other;
	const void *value, *other_value;
	size_t length, other_length;
	assert_int_equal(a->key_len, b->key_len);
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->payload, b->payload, a->len);
	assert_int_equal(rd_kafka_message_timestamp(a, &type), rd_kafka_message_timestamp(b, &type));
	assert_int_equal(rd_kafka_message_headers(a, &of_a), RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_message_headers(b, &of_b), RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_header_cnt(of_a), rd_kafka_header_cnt(of_b));
	for (size_t i = 0; !rd_kafka_header_get_all(of_a, i, &name, &value, &length); i++) {
		assert_int_equal(rd_kafka_header_get_all(of_b, i, &other, &other_value, &other_length), 0);
		assert_string_equal(name, other);
		assert_int_equal(length, other_length);
		assert_int_equal(!value, !other_value);
		if (length > 0)
			assert_memory_equal(value, other_value, length);
	}
}

/* A record that was kept beyond its message makes the letter that the message makes. */
static void test_kept(void **state)
{
	struct fixture *f = *state;
	rd_kafka_timestamp_type_t type;
	struct error err;
	struct buffer headers = { 0 };
	rd_kafka_headers_t *own = own_headers();
	assert_int_equal(rd_kafka_header_add(own, "null", -1, NULL, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_header_add(own, "peterd.reason", -1, "older", -1), RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_message_t *original = input(f, "user", 4, "a value", 7, own);
	rd_kafka_message_t *expected = letter(f, original, REASON_UNKNOWN_USER, "detail");
	deadletter_save_headers(original, &headers);
	struct deadletter_kept kept = { .topic = INPUT,
					.partition = original->partition,
					.offset = original->offset,
					.time_ms = rd_kafka_message_timestamp(original, &type),
					.key = { original->key, original->key_len },
					.value = { original->payload, original->len },
					.headers = { headers.data, headers.length } };
	if (deadletter_produce_kept(f->producer, f->letters, &kept, REASON_UNKNOWN_USER, "detail", MAX_BYTES, &err))
		fail_msg("%s", err.text);
	assert_int_equal(rd_kafka_flush(f->producer, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_message_t *got = read_one(f, LETTERS, &f->next_letter);
	assert_same_letter(got, expected);
	kept.headers.length--;
	assert_int_equal(
		deadletter_produce_kept(f->producer, f->letters, &kept, REASON_UNKNOWN_USER, "", MAX_BYTES, &err),
		STATUS_DATA);
	buffer_free(&headers);
	rd_kafka_message_destroy(got);
	rd_kafka_message_destroy(expected);
	rd_kafka_message_destroy(original);
}

static void test_queue_full(void **state)
{
	struct fixture *f = *state;
	struct error err;
	char text[256];
	rd_kafka_message_t *original = input(f, "user", 4, "x", 1, own_headers());
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	set(conf, "queue.buffering.max.messages", "1");
	rd_kafka_t *alone = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text); /* no broker at all */
	rd_kafka_topic_t *topic = rd_kafka_topic_new(alone, LETTERS, NULL);
	assert_int_equal(deadletter_produce(alone, topic, original, REASON_SCHEMA, "", MAX_BYTES, &err), STATUS_OK);
	assert_int_equal(deadletter_produce(alone, topic, original, REASON_SCHEMA, "", MAX_BYTES, &err), STATUS_IO);
	assert_non_null(strstr(err.text, "dead letter of " INPUT "[0] offset "));
	assert_int_equal(rd_kafka_purge(alone, RD_KAFKA_PURGE_F_QUEUE), RD_KAFKA_RESP_ERR_NO_ERROR);
	(void)rd_kafka_flush(alone, 1000);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(alone);
	rd_kafka_message_destroy(original);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_letter),       cmocka_unit_test(test_absent_and_empty),
		cmocka_unit_test(test_again),        cmocka_unit_test(test_cut),
		cmocka_unit_test(test_parse_errors), cmocka_unit_test(test_names),
		cmocka_unit_test(test_queue_full),   cmocka_unit_test(test_kept),
	};
	return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
