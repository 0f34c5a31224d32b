/* Example records: encoded against Avro C with the shipped schema, decoded back, and damaged. */
#include "io/example.h"

#include "io/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static const float states[] = { 0.5F, -1.25F };

static struct example some(void)
{
	return (struct example){ .task = text("gender"),
				 .definition = text("d1"),
				 .backbone = text("b1"),
				 .user_id = text("u1"),
				 .timestamp_ms = INT64_C(1700000000123),
				 .text = text("F"),
				 .weight = 0.25F,
				 .partition = 3,
				 .offset = 70000,
				 .events = text("\x02xyz"),
				 .states = { (const uint8_t *)states, sizeof states } };
}

static void assert_text(avro_value_t *record, const char *name, const char *expected)
{
	avro_value_t field;
	const char *got;
	size_t size;
	assert_int_equal(avro_value_get_by_name(record, name, &field, NULL), 0);
	assert_int_equal(avro_value_get_string(&field, &got, &size), 0);
	assert_string_equal(got, expected);
}

static void assert_bytes(avro_value_t *record, const char *name, struct slice expected)
{
	avro_value_t field;
	const void *got;
	size_t size;
	assert_int_equal(avro_value_get_by_name(record, name, &field, NULL), 0);
	assert_int_equal(avro_value_get_bytes(&field, &got, &size), 0);
	assert_int_equal(size, expected.length);
	if (size > 0)
		assert_memory_equal(got, expected.data, size);
}

/* Every byte must be used; ret_branch: of the label. */
static void assert_avro_reads(const struct example *e, int expected_branch)
{
	struct buffer out = { 0 };
	avro_schema_t schema;
	avro_value_t record, field;
	int64_t offset;
	int branch;
	char rest;
	const char *json = schema_json("Example");
	example_encode(e, &out);
	assert_false(out.failed);
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &schema), 0);
	avro_value_iface_t *iface = avro_generic_class_from_schema(schema);
	assert_int_equal(avro_generic_value_new(iface, &record), 0);
	avro_reader_t reader = avro_reader_memory((const char *)out.data, (int64_t)out.length);
	assert_int_equal(avro_value_read(reader, &record), 0);
	assert_int_not_equal(avro_read(reader, &rest, 1), 0);
	assert_text(&record, "task", "gender");
	assert_text(&record, "user_id", "u1");
	assert_bytes(&record, "events", e->events);
	assert_bytes(&record, "states", e->states);
	assert_int_equal(avro_value_get_by_name(&record, "offset", &field, NULL), 0);
	assert_int_equal(avro_value_get_long(&field, &offset), 0);
	assert_int_equal(offset, e->offset);
	assert_int_equal(avro_value_get_by_name(&record, "label", &field, NULL), 0);
	assert_int_equal(avro_value_get_discriminant(&field, &branch), 0);
	assert_int_equal(branch, expected_branch);
	avro_reader_free(reader);
	avro_value_decref(&record);
	avro_value_iface_decref(iface);
	avro_schema_decref(schema);
	buffer_free(&out);
}

static void avro_reads_what_it_encodes(void **state)
{
	struct example e = some();
	assert_avro_reads(&e, 1);
	e.kind = EXAMPLE_NUMBER;
	e.number = -3.5;
	assert_avro_reads(&e, 2);
	e.events = e.states = (struct slice){ NULL, 0 };
	e.kind = EXAMPLE_FORGET;
	assert_avro_reads(&e, 0);
	e.kind = EXAMPLE_ROLLBACK;
	assert_avro_reads(&e, 3);
}

static struct example decoded(const struct example *e, struct buffer *out)
{
	struct example got;
	struct error err;
	buffer_clear(out);
	example_encode(e, out);
	assert_int_equal(example_decode((struct slice){ out->data, out->length }, &got, &err), STATUS_OK);
	return got;
}

static void decodes_what_it_encodes(void **state)
{
	struct buffer out = { 0 };
	struct example e = some(), got = decoded(&e, &out);
	assert_int_equal(got.task.length, 6);
	assert_memory_equal(got.definition.data, "d1", 2);
	assert_memory_equal(got.backbone.data, "b1", 2);
	assert_memory_equal(got.text.data, "F", 1);
	assert_int_equal(got.timestamp_ms, e.timestamp_ms);
	assert_int_equal(got.partition, 3);
	assert_int_equal(got.offset, 70000);
	assert_int_equal(got.kind, EXAMPLE_TEXT);
	assert_true(got.weight == 0.25F);
	assert_int_equal(got.states.length, sizeof states);
	assert_memory_equal(got.states.data, states, sizeof states);
	e.kind = EXAMPLE_NUMBER;
	e.number = 1e-300;
	got = decoded(&e, &out);
	assert_int_equal(got.kind, EXAMPLE_NUMBER);
	assert_null(got.text.data);
	assert_true(got.number == 1e-300);
	e.kind = EXAMPLE_FORGET;
	assert_int_equal(decoded(&e, &out).kind, EXAMPLE_FORGET);
	e.kind = EXAMPLE_ROLLBACK;
	assert_int_equal(decoded(&e, &out).kind, EXAMPLE_ROLLBACK);
	buffer_free(&out);
}

static void refuses_damaged_bytes(void **state)
{
	struct buffer out = { 0 };
	struct example got, e = some();
	struct error err;
	example_encode(&e, &out);
	for (size_t length = 0; length < out.length; length++) {
		uint8_t *cut = malloc(length ? length : 1); /* a read beyond it is seen under a sanitizer */
		memcpy(cut, out.data, length);
		assert_int_equal(example_decode((struct slice){ cut, length }, &got, &err), STATUS_DATA);
		free(cut);
	}
	assert_int_equal(example_decode((struct slice){ NULL, 0 }, &got, &err), STATUS_DATA);
	buffer_append_byte(&out, 0);
	assert_int_equal(example_decode((struct slice){ out.data, out.length }, &got, &err), STATUS_DATA);
	e.states.length = 5;
	buffer_clear(&out);
	example_encode(&e, &out);
	assert_int_equal(example_decode((struct slice){ out.data, out.length }, &got, &err), STATUS_DATA);
	buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(avro_reads_what_it_encodes),
		cmocka_unit_test(decodes_what_it_encodes),
		cmocka_unit_test(refuses_damaged_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
