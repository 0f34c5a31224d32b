/* Interactions in people's own schemas: paths, branches, coercions, times, and the fields that cannot be. */
#include "interaction_fixture.h"

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
	assert_judged(d, bytes(&b), REASON_TIMESTAMP, "before 1970: timestamp (at) is -1 ms");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nested_record),  cmocka_unit_test(test_branches),
		cmocka_unit_test(test_evolved_schema), cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_record_time),    cmocka_unit_test(test_configuration_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
