/* Which interactions are taken, and the first reason where one is not. */
#include "interaction_fixture.h"

#include "base/clock.h"

static void test_limits(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct buffer b = { 0 };
	uint8_t *long_id = malloc(2000);
	memset(long_id, 'x', 2000);
	own(&b, (struct slice){ long_id, 256 }, (struct slice){ long_id, 1024 }, NOW_MS);
	assert_judged(d, bytes(&b), REASON_NONE, "");
	own(&b, (struct slice){ long_id, 257 }, text("i"), NOW_MS);
	assert_judged(d, bytes(&b), REASON_OVERSIZE, "user_id has 257 bytes, more than 256");
	own(&b, text("u"), (struct slice){ long_id, 1025 }, NOW_MS);
	assert_judged(d, bytes(&b), REASON_OVERSIZE, "item_id has 1025 bytes, more than 1024");
	own(&b, text(""), text("i"), NOW_MS);
	assert_judged(d, bytes(&b), REASON_MISSING_FIELD, "user_id is empty");
	own(&b, text("u"), text(""), NOW_MS);
	assert_judged(d, bytes(&b), REASON_MISSING_FIELD, "item_id is empty");
	own(&b, text("u"), text("i"), NOW_MS + DAY_MS);
	assert_judged(d, bytes(&b), REASON_NONE, "");
	own(&b, text("u"), text("i"), NOW_MS + DAY_MS + 1);
	assert_judged(
		d, bytes(&b), REASON_TIMESTAMP,
		"more than a day after Kafka's record timestamp, 1700000000000 ms: timestamp is 1700086400001 ms");
	own(&b, text("u"), text("i"), 0);
	assert_judged(d, bytes(&b), REASON_NONE, "");
	own(&b, text("u"), text("i"), -1);
	assert_judged(d, bytes(&b), REASON_TIMESTAMP, "before 1970: timestamp is -1 ms");
	own(&b, text("u"), text("i"), INT64_MAX);
	assert_judged(d, bytes(&b), REASON_TIMESTAMP, "more than a day after");
	free(long_id);
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_wall_clock_where_kafka_has_no_time(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct buffer b = { 0 };
	struct interaction out;
	struct error err;
	own(&b, text("u"), text("i"), clock_wall_ms() + DAY_MS / 2);
	assert_int_equal(interaction_decode(d, bytes(&b), -1, &out, &err), REASON_NONE);
	own(&b, text("u"), text("i"), clock_wall_ms() + 2 * DAY_MS);
	assert_int_equal(interaction_decode(d, bytes(&b), -1, &out, &err), REASON_TIMESTAMP);
	assert_non_null(strstr(err.text, "the wall clock"));
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_texts(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t length;
		bool fine;
	} ids[] = {
		{ "plain ascii, longer than a word", 31, true },
		{ "\xc3\xa9", 2, true },
		{ "12345678\xe2\x82\xac", 11, true },
		{ "\xf0\x9f\x8d\xbf", 4, true },
		{ "\x01\x7f", 2, true },
		{ "a\0b", 3, false },
		{ "\0", 1, false },
		{ "12345678\0", 9, false },
		{ "1234567\0", 8, false },
		{ "\0abcdefgh", 9, false },
		{ "\x01\x00\x01\x01\x01\x01\x01\x01", 8, false },
		{ "\x80", 1, false },
		{ "\xc3", 1, false },
		{ "\xc0\xaf", 2, false },
		{ "\xed\xa0\x80", 3, false },
		{ "\xf4\x90\x80\x80", 4, false },
		{ "1234567\xff", 8, false },
	};
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct buffer b = { 0 };
	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		struct slice id = { (const uint8_t *)ids[i].bytes, ids[i].length };
		enum reason expected = ids[i].fine ? REASON_NONE : REASON_UNDECODABLE;
		own(&b, id, text("i"), NOW_MS);
		assert_judged(d, bytes(&b), expected, ids[i].fine ? "" : "user_id is not UTF-8 without NUL");
		own(&b, text("u"), id, NOW_MS);
		assert_judged(d, bytes(&b), expected, ids[i].fine ? "" : "item_id is not UTF-8 without NUL");
	}
	struct interaction typed = { .user_id = text("u"),
				     .item_id = text("i"),
				     .timestamp_ms = 1,
				     .event_type = { (const uint8_t *)"a\xff", 2 } };
	buffer_clear(&b);
	interaction_encode(&typed, &b);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, "event_type is not UTF-8");
	typed.event_type = (struct slice){ (const uint8_t *)"a\0", 2 };
	buffer_clear(&b);
	interaction_encode(&typed, &b);
	assert_judged(d, bytes(&b), REASON_NONE, "");
	buffer_free(&b);
	interaction_decoder_free(d);
}

/* One record with every fault, which are then mended one by one. */
static void test_order_of_judgement(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(
		"{\"type\":\"record\",\"name\":\"R\",\"fields\":["
		"{\"name\":\"u\",\"type\":[\"null\",\"string\"]},{\"name\":\"i\",\"type\":\"string\"},"
		"{\"name\":\"t\",\"type\":[\"long\",\"double\"]},{\"name\":\"event_type\",\"type\":\"string\"}]}",
		&short_fields);
	struct buffer b = { 0 };
	char item[1100];
	memset(item, 'x', sizeof item - 1);
	item[1099] = '\0';
	for (int step = 0; step < 7; step++) {
		static const enum reason expected[] = { REASON_UNDECODABLE, REASON_SCHEMA,      REASON_MISSING_FIELD,
							REASON_OVERSIZE,    REASON_UNDECODABLE, REASON_TIMESTAMP,
							REASON_NONE };
		static const char *const parts[] = { "left over",
						     "timestamp (t): the record's branch is of type double",
						     "user_id (u) is null",
						     "item_id (i) has 1099 bytes",
						     "event_type is not UTF-8",
						     "timestamp (t) is -5 ms",
						     "" };
		buffer_clear(&b);
		buffer_append_varint(&b, step < 3 ? 0 : 1);
		if (step >= 3)
			put_text(&b, "u");
		put_text(&b, step < 4 ? item : "i");
		buffer_append_varint(&b, step < 2 ? 1 : 0);
		if (step < 2)
			buffer_append(&b, "12345678", 8);
		else
			buffer_append_varint(&b, step < 6 ? -5 : 5);
		put_text(&b, step < 5 ? "\xff" : "view");
		if (step < 1)
			buffer_append_byte(&b, 0);
		assert_judged(d, bytes(&b), expected[step], parts[step]);
	}
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_damage(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct buffer b = { 0 };
	struct error err;
	assert_judged(d, (struct slice){ (const uint8_t *)"", 0 }, REASON_UNDECODABLE, "empty");
	assert_int_equal(interaction_decode(d, (struct slice){ NULL, 0 }, NOW_MS, &(struct interaction){ 0 }, &err),
			 REASON_UNDECODABLE);
	own(&b, text("user"), text("item"), NOW_MS);
	for (size_t cut = 0; cut < b.length; cut++)
		assert_judged(d, (struct slice){ b.data, cut }, REASON_UNDECODABLE, "");
	buffer_append_byte(&b, 0);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, "1 bytes are left over after");
	static const char *const hostile[] = {
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     /* user_id of -2^63 bytes */
		"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",     /* of 2^63 - 1 */
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",     /* no varint */
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", /* nor this */
	};
	for (size_t i = 0; i < 4; i++)
		assert_judged(d, text(hostile[i]), REASON_UNDECODABLE, "cut or bad string or bytes at byte 0");
	for (size_t bit = 0; bit < 8 * (b.length - 1); bit++) {
		own(&b, text("user"), text("item"), NOW_MS);
		b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		(void)judge(d, bytes(&b), NULL, &err);
	}
	buffer_free(&b);
	interaction_decoder_free(d);
}

/* The key of a tombstone is judged as a user_id is. */
static void test_tombstone_key(void **state)
{
	struct error err;
	uint8_t id[257];
	(void)state;
	memset(id, 'x', sizeof id);
	assert_int_equal(interaction_check_user_id((struct slice){ NULL, 0 }, &err), REASON_MISSING_FIELD);
	assert_int_equal(interaction_check_user_id(text(""), &err), REASON_MISSING_FIELD);
	assert_int_equal(interaction_check_user_id((struct slice){ id, 257 }, &err), REASON_OVERSIZE);
	assert_int_equal(interaction_check_user_id((struct slice){ id, 256 }, &err), REASON_NONE);
	assert_int_equal(interaction_check_user_id((struct slice){ (const uint8_t *)"a\0", 2 }, &err),
			 REASON_UNDECODABLE);
	assert_int_equal(interaction_check_user_id(text("\xff"), &err), REASON_UNDECODABLE);
	assert_int_equal(interaction_check_user_id(text("caf\xc3\xa9"), &err), REASON_NONE);
}

static void test_untouched_on_failure(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct interaction out;
	struct interaction before;
	struct buffer b = { 0 };
	struct error err;
	memset(&out, 0x5a, sizeof out);
	before = out;
	own(&b, text("u"), text("i"), -1);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_TIMESTAMP);
	assert_memory_equal(&out, &before, sizeof out);
	buffer_free(&b);
	interaction_decoder_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_wall_clock_where_kafka_has_no_time),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_order_of_judgement),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_tombstone_key),
		cmocka_unit_test(test_untouched_on_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
