/* Interactions: coercions, people's own schemas, the order of judgement, limits, damage. */
#include "io/interaction.h"

#include "base/clock.h"
#include "io/framing.h"
#include "io/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>

#define NOW_MS INT64_C(1700000000000)
#define DAY_MS INT64_C(86400000)

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static void put_text(struct buffer *b, const char *s)
{
	buffer_append_varint(b, (int64_t)strlen(s));
	buffer_append(b, s, strlen(s));
}

static struct slice bytes(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

static void assert_slice(struct slice found, const char *expected)
{
	assert_int_equal(found.length, strlen(expected));
	assert_memory_equal(found.data, expected, found.length);
}

static const struct interaction_fields own_fields = { "user_id", "item_id", "timestamp", "event_type" };

static struct interaction_decoder *decoder(const char *schema, const struct interaction_fields *fields)
{
	struct interaction_decoder *d = NULL;
	struct error err;
	if (interaction_decoder_new(schema, fields, &d, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return d;
}

static void refused(const char *schema, const struct interaction_fields *fields, const char *part)
{
	struct interaction_decoder *d = NULL;
	struct error err;
	assert_int_equal(interaction_decoder_new(schema, fields, &d, &err), STATUS_CONFIG);
	assert_null(d);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

/* Judges `value` in memory of just its size. */
static enum reason judge(const struct interaction_decoder *d, struct slice value, struct interaction *ret,
			 struct error *err)
{
	uint8_t *copy = malloc(value.length + 1);
	struct interaction i;
	memcpy(copy + 1, value.data, value.length);
	err->text[0] = '\0';
	enum reason reason =
		interaction_decode(d, (struct slice){ copy + 1, value.length }, NOW_MS, ret ? ret : &i, err);
	assert_int_equal(reason == REASON_NONE, err->text[0] == '\0');
	free(copy);
	return reason;
}

static void assert_judged(const struct interaction_decoder *d, struct slice value, enum reason reason, const char *part)
{
	struct error err;
	enum reason found = judge(d, value, NULL, &err);
	if (found != reason || !strstr(err.text, part))
		fail_msg("%s: \"%s\" and not %s: \"%s\"", reason_name(found), err.text, reason_name(reason), part);
}

static void own(struct buffer *b, struct slice user, struct slice item, int64_t time_ms)
{
	struct interaction i = { .user_id = user, .item_id = item, .timestamp_ms = time_ms };
	buffer_clear(b);
	interaction_encode(&i, b);
}

/* ---- our own record ---- */

static void test_own_record(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct interaction in = { .user_id = text("user"), .item_id = text("caf\xc3\xa9"), .timestamp_ms = NOW_MS };
	struct interaction out;
	struct buffer b = { 0 };
	struct error err;
	interaction_encode(&in, &b);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_slice(out.user_id, "user");
	assert_slice(out.item_id, "caf\xc3\xa9");
	assert_null(out.event_type.data);
	assert_int_equal(out.timestamp_ms, NOW_MS);
	in.event_type = text("");
	buffer_clear(&b);
	interaction_encode(&in, &b);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_non_null(out.event_type.data);
	assert_int_equal(out.event_type.length, 0);
	buffer_free(&b);
	interaction_decoder_free(d);
}

static const char *avro_text(avro_value_t *record, const char *name)
{
	avro_value_t field;
	const char *ret;
	size_t size;
	assert_int_equal(avro_value_get_by_name(record, name, &field, NULL), 0);
	if (avro_value_get_type(&field) == AVRO_UNION)
		assert_int_equal(avro_value_get_current_branch(&field, &field), 0);
	assert_int_equal(avro_value_get_string(&field, &ret, &size), 0);
	return ret;
}

/* What Avro C reads from our bytes, and writes again: the same bytes. */
static void test_own_record_is_avro(void **state)
{
	(void)state;
	struct interaction in = {
		.user_id = text("u1"), .item_id = text("i1"), .timestamp_ms = NOW_MS, .event_type = text("view")
	};
	struct buffer b = { 0 };
	avro_schema_t schema;
	avro_value_t value;
	avro_value_t field;
	int64_t time_ms;
	char again[64];
	interaction_encode(&in, &b);
	const char *json = schema_json("Interaction");
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &schema), 0);
	avro_value_iface_t *class = avro_generic_class_from_schema(schema);
	assert_int_equal(avro_generic_value_new(class, &value), 0);
	avro_reader_t reader = avro_reader_memory((const char *)b.data, (int64_t)b.length);
	assert_int_equal(avro_value_read(reader, &value), 0);
	assert_string_equal(avro_text(&value, "user_id"), "u1");
	assert_string_equal(avro_text(&value, "item_id"), "i1");
	assert_string_equal(avro_text(&value, "event_type"), "view");
	assert_int_equal(avro_value_get_by_name(&value, "timestamp", &field, NULL), 0);
	assert_int_equal(avro_value_get_long(&field, &time_ms), 0);
	assert_int_equal(time_ms, NOW_MS);
	avro_writer_t writer = avro_writer_memory(again, sizeof again);
	assert_int_equal(avro_value_write(writer, &value), 0);
	assert_int_equal(avro_writer_tell(writer), b.length);
	assert_memory_equal(again, b.data, b.length);
	avro_writer_free(writer);
	avro_reader_free(reader);
	avro_value_decref(&value);
	avro_value_iface_decref(class);
	avro_schema_decref(schema);
	buffer_free(&b);
}

/* ---- people's own schemas ---- */

static const char click_schema[] =
	"{\"type\":\"record\",\"name\":\"Click\",\"namespace\":\"com.acme\",\"fields\":["
	"{\"name\":\"id\",\"type\":{\"type\":\"fixed\",\"name\":\"Uuid\",\"size\":4}},"
	"{\"name\":\"tags\",\"type\":{\"type\":\"map\",\"values\":[\"null\",\"double\",{\"type\":\"array\",\"items\":"
	"\"Uuid\"}]}},"
	"{\"name\":\"actor\",\"default\":null,\"type\":[\"null\",{\"type\":\"record\",\"name\":\"Actor\",\"fields\":["
	"{\"name\":\"flags\",\"type\":{\"type\":\"array\",\"items\":\"boolean\"}},"
	"{\"name\":\"uid\",\"type\":[\"null\",\"long\",\"string\",\"boolean\"]},"
	"{\"name\":\"boss\",\"type\":[\"null\",\"Actor\"]}]}]},"
	"{\"name\":\"kind\",\"type\":{\"type\":\"enum\",\"name\":\"Kind\",\"symbols\":[\"VIEW\",\"BUY\"]}},"
	"{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}},"
	"{\"name\":\"film\",\"type\":\"int\"}]}";

static const struct interaction_fields click_fields = { "actor.uid", "film", "at", "kind" };

/* id, two tags, the head of actor: its flags are next to come. */
static void put_click_head(struct buffer *b)
{
	buffer_clear(b);
	buffer_append(b, "UUID", 4);
	buffer_append_varint(b, -2); /* a block with its size, which no reader need believe */
	buffer_append_varint(b, 3);
	put_text(b, "a");
	buffer_append_varint(b, 0);
	put_text(b, "b");
	buffer_append_varint(b, 2);
	buffer_append_varint(b, 1);
	buffer_append(b, "UUID", 4);
	buffer_append_varint(b, 0);
	buffer_append_varint(b, 0);
}

static void put_actor(struct buffer *b)
{
	buffer_append_varint(b, 1);
	buffer_append_varint(b, 2);
	buffer_append(b, "\0\1", 2);
	buffer_append_varint(b, 0);
}

/* boss, kind, at, film */
static void put_click_tail(struct buffer *b, int64_t kind, int64_t time_us)
{
	buffer_append_varint(b, 0);
	buffer_append_varint(b, kind);
	buffer_append_varint(b, time_us);
	buffer_append_varint(b, -7);
}

static void test_nested_record(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(click_schema, &click_fields);
	struct buffer b = { 0 };
	struct interaction out;
	struct error err;
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 1);
	buffer_append_varint(&b, INT64_MIN);
	put_click_tail(&b, 1, NOW_MS * 1000 + 999);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_slice(out.user_id, "-9223372036854775808");
	assert_slice(out.item_id, "-7");
	assert_slice(out.event_type, "BUY");
	assert_int_equal(out.timestamp_ms, NOW_MS);
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 2);
	put_text(&b, "u");
	put_click_tail(&b, 0, 0);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_slice(out.user_id, "u");
	assert_slice(out.event_type, "VIEW");
	assert_int_equal(out.timestamp_ms, 0);
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_branches(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(click_schema, &click_fields);
	struct buffer b = { 0 };
	put_click_head(&b);
	buffer_append_varint(&b, 0); /* no actor; a timestamp before 1970 is judged later */
	buffer_append_varint(&b, 1);
	buffer_append_varint(&b, -1);
	buffer_append_varint(&b, 5);
	assert_judged(d, bytes(&b), REASON_MISSING_FIELD, "user_id (actor.uid) is null");
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 0); /* uid null */
	put_click_tail(&b, 1, -1);
	assert_judged(d, bytes(&b), REASON_MISSING_FIELD, "user_id (actor.uid) is null");
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 3); /* uid boolean */
	buffer_append_byte(&b, 1);
	put_click_tail(&b, 1, -1);
	assert_judged(d, bytes(&b), REASON_SCHEMA, "user_id (actor.uid): the record's branch is of type boolean");
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 2);
	put_text(&b, "u");
	put_click_tail(&b, 1, -1);
	assert_judged(d, bytes(&b), REASON_TIMESTAMP, "timestamp (at): -1 ms is before 1970");
	put_click_head(&b);
	put_actor(&b);
	buffer_append_varint(&b, 2);
	put_text(&b, "u");
	put_click_tail(&b, 2, -1);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, "enum index");
	put_click_head(&b);
	buffer_append_varint(&b, 2);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, "union branch");
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_evolved_schema(void **state)
{
	(void)state;
	/* ours with the fields in another order, one more, and without event_type */
	struct interaction_decoder *d = decoder(
		"{\"type\":\"record\",\"name\":\"Interaction\",\"namespace\":\"peterd\",\"fields\":["
		"{\"name\":\"timestamp\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}},"
		"{\"name\":\"price\",\"type\":[\"null\",{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":"
		"9,\"scale\":2}]},"
		"{\"name\":\"item_id\",\"type\":\"string\"},{\"name\":\"user_id\",\"type\":[\"string\",\"null\"]}]}",
		&own_fields);
	struct buffer b = { 0 };
	struct interaction out;
	struct error err;
	buffer_append_varint(&b, NOW_MS);
	buffer_append_varint(&b, 1);
	put_text(&b, "\1\2");
	put_text(&b, "item");
	buffer_append_varint(&b, 0);
	put_text(&b, "user");
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_slice(out.user_id, "user");
	assert_slice(out.item_id, "item");
	assert_null(out.event_type.data);
	buffer_free(&b);
	interaction_decoder_free(d);
}

#define ONE_FIELD(type)                                                                                                \
	"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"u\",\"type\":\"string\"},{\"name\":\"i\","        \
	"\"type\":\"string\"},"                                                                                        \
	"{\"name\":\"t\",\"type\":" type "}]}"

static const struct interaction_fields short_fields = { "u", "i", "t", "event_type" };

static void assert_time(const char *schema, int64_t written, int64_t expected_ms)
{
	struct interaction_decoder *d = decoder(schema, &short_fields);
	struct buffer b = { 0 };
	struct interaction out;
	struct error err;
	put_text(&b, "u");
	put_text(&b, "i");
	buffer_append_varint(&b, written);
	enum reason reason = interaction_decode(d, bytes(&b), INT64_MAX, &out, &err);
	assert_int_equal(reason, expected_ms < 0 ? REASON_TIMESTAMP : REASON_NONE);
	if (reason == REASON_NONE)
		assert_int_equal(out.timestamp_ms, expected_ms);
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_timestamps(void **state)
{
	(void)state;
	assert_time(ONE_FIELD("\"long\""), NOW_MS, NOW_MS);
	assert_time(ONE_FIELD("\"int\""), INT32_MAX, INT32_MAX);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"our-own-thing\"}"), NOW_MS, NOW_MS);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}"), INT64_MAX, INT64_MAX);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}"), INT64_MIN, -1);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}"), 1999, 1);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}"), -1, -1);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}"), INT64_MIN, -1);
	assert_time(ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"timestamp-nanos\"}"), NOW_MS * 1000000 + 1, NOW_MS);
}

static void test_record_time(void **state)
{
	(void)state;
	const struct interaction_fields fields = { "u", "i", "$record", "event_type" };
	struct interaction_decoder *d = decoder(ONE_FIELD("\"boolean\""), &fields);
	struct buffer b = { 0 };
	struct interaction out;
	struct error err;
	put_text(&b, "u");
	put_text(&b, "i");
	buffer_append_byte(&b, 1);
	assert_int_equal(interaction_decode(d, bytes(&b), 0, &out, &err), REASON_NONE);
	assert_int_equal(out.timestamp_ms, 0);
	assert_int_equal(interaction_decode(d, bytes(&b), NOW_MS, &out, &err), REASON_NONE);
	assert_int_equal(out.timestamp_ms, NOW_MS);
	assert_int_equal(interaction_decode(d, bytes(&b), -1, &out, &err), REASON_MISSING_FIELD);
	assert_string_equal(err.text, "timestamp ($record) is null");
	buffer_free(&b);
	interaction_decoder_free(d);
}

static void test_configuration_errors(void **state)
{
	(void)state;
	struct interaction_fields f = own_fields;
	refused("", &own_fields, "not JSON");
	refused("{\"type\":\"record\"", &own_fields, "line 1: not JSON");
	refused("{\"type\":\"recod\",\"name\":\"R\"}", &own_fields, "not an Avro schema");
	refused("\"string\"", &own_fields, "its path goes through the type string");
	f.user_id = "actor.uid";
	refused(NULL, &f, "interactions.fields.user_id: actor.uid: record peterd.Interaction has no such field");
	f.user_id = "user_id.name";
	refused(NULL, &f, "user_id.name: its path goes through the type string");
	f.user_id = "item_id";
	refused(NULL, &f, "another field has this path");
	for (size_t i = 0; i < 5; i++) {
		const char *const bad[] = { "", ".", ".user_id", "user_id.", "a..b" };
		f.user_id = bad[i];
		refused(NULL, &f, "is not a dotted path");
	}
	f = own_fields;
	f.event_type = "kind";
	refused(NULL, &f, "interactions.fields.event_type: kind: record peterd.Interaction has no such field");
	f = own_fields;
	f.timestamp = "user_id";
	f.user_id = "event_type";
	f.event_type = "timestamp";
	refused(NULL, &f, "interactions.fields.timestamp: user_id: its type is string");
	static const char *const no_time[] = {
		ONE_FIELD("\"double\""),
		ONE_FIELD("\"string\""),
		ONE_FIELD("\"null\""),
		ONE_FIELD("[\"null\",\"bytes\"]"),
		ONE_FIELD("{\"type\":\"int\",\"logicalType\":\"date\"}"),
		ONE_FIELD("{\"type\":\"long\",\"logicalType\":\"local-timestamp-millis\"}"),
		ONE_FIELD("{\"type\":\"array\",\"items\":\"long\"}"),
		ONE_FIELD("[\"null\",\"R\"]"),
	};
	for (size_t i = 0; i < sizeof no_time / sizeof no_time[0]; i++)
		refused(no_time[i], &short_fields, "interactions.fields.timestamp: t: its type is");
	f = (struct interaction_fields){ "u", "t", "$record", "event_type" };
	refused(ONE_FIELD("\"bytes\""), &f, "interactions.fields.item_id: t: its type is bytes");
	refused("{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"u\",\"type\":\"string\"},"
		"{\"name\":\"t\",\"type\":\"string\"},{\"name\":\"event_type\",\"type\":\"double\"}]}",
		&f, "interactions.fields.event_type: event_type: its type is double");
}

/* ---- judgement ---- */

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
		"timestamp: 1700086400001 ms is more than a day after Kafka's record timestamp, 1700000000000 ms");
	own(&b, text("u"), text("i"), 0);
	assert_judged(d, bytes(&b), REASON_NONE, "");
	own(&b, text("u"), text("i"), -1);
	assert_judged(d, bytes(&b), REASON_TIMESTAMP, "timestamp: -1 ms is before 1970");
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
						     "timestamp (t): -5 ms",
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

/* ---- framing ---- */

static void test_framed_where_plain_is_expected(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	struct interaction in = { .user_id = text("u"), .item_id = text("i"), .timestamp_ms = NOW_MS };
	struct buffer b = { 0 };
	framing_append(0x01020304, &b);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, ""); /* nothing behind the header */
	interaction_encode(&in, &b);
	assert_judged(d, bytes(&b), REASON_SCHEMA, "framed with schema id 16909060, but schema_registry.url is empty");
	buffer_append_byte(&b, 0);
	assert_judged(d, bytes(&b), REASON_UNDECODABLE, "");
	buffer_free(&b);
	interaction_decoder_free(d);
}

static enum status resolve(void *arg, uint32_t schema_id, const struct interaction_decoder **ret, struct error *err)
{
	switch (schema_id) {
	case 1:
		*ret = arg;
		return STATUS_OK;
	case 2:
		return error_set(err, STATUS_DATA, "not known");
	case 3:
		return error_set(err, STATUS_CONFIG, "no such field");
	default:
		return error_set(err, STATUS_UNAVAILABLE, "connection refused");
	}
}

static void test_framed(void **state)
{
	(void)state;
	struct interaction_decoder *d = decoder(NULL, &own_fields);
	const struct interaction_resolver resolver = { resolve, d };
	struct interaction in = { .user_id = text("u"), .item_id = text("i"), .timestamp_ms = NOW_MS };
	struct interaction out;
	enum reason reason;
	struct error err;
	static const enum reason expected[] = { REASON_NONE, REASON_SCHEMA, REASON_SCHEMA };
	for (uint32_t id = 1; id <= 4; id++) {
		struct buffer b = { 0 };
		framing_append(id, &b);
		interaction_encode(&in, &b);
		enum status status = interaction_decode_framed(&resolver, bytes(&b), NOW_MS, &out, &reason, &err);
		assert_int_equal(status, id == 4 ? STATUS_UNAVAILABLE : STATUS_OK);
		if (id < 4)
			assert_int_equal(reason, expected[id - 1]);
		if (id == 1)
			assert_slice(out.user_id, "u");
		if (id == 2)
			assert_string_equal(err.text, "schema id 2: not known");
		buffer_free(&b);
	}
	static const char *const damaged[] = { "", "\0\0\0\1", "\1\0\0\0\1abc", "\0\0\0\0\1" };
	static const size_t lengths[] = { 0, 4, 8, 5 };
	for (size_t i = 0; i < 4; i++) {
		struct slice value = { (const uint8_t *)damaged[i], lengths[i] };
		assert_int_equal(interaction_decode_framed(&resolver, value, NOW_MS, &out, &reason, &err), STATUS_OK);
		assert_int_equal(reason, REASON_UNDECODABLE);
	}
	interaction_decoder_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_record),
		cmocka_unit_test(test_own_record_is_avro),
		cmocka_unit_test(test_nested_record),
		cmocka_unit_test(test_branches),
		cmocka_unit_test(test_evolved_schema),
		cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_record_time),
		cmocka_unit_test(test_configuration_errors),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_wall_clock_where_kafka_has_no_time),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_order_of_judgement),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_tombstone_key),
		cmocka_unit_test(test_untouched_on_failure),
		cmocka_unit_test(test_framed_where_plain_is_expected),
		cmocka_unit_test(test_framed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
