/* Interactions: our own record, plain and framed. */
#include "interaction_fixture.h"

#include "io/framing.h"
#include "io/schema.h"

#include <avro.h>

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
		cmocka_unit_test(test_framed_where_plain_is_expected),
		cmocka_unit_test(test_framed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
