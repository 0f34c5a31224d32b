/* Label records: encoded against Avro C with the shipped schema, decoded back, and judged. */
#include "io/label.h"

#include "io/framing.h"
#include "io/schema.h"

#include <math.h>
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

/* Decodes with Avro C; every byte must be used. */
static void decode(const struct buffer *bytes, avro_value_t *ret, avro_value_iface_t **ret_iface)
{
	avro_schema_t schema;
	const char *json = schema_json("Label");
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &schema), 0);
	*ret_iface = avro_generic_class_from_schema(schema);
	assert_int_equal(avro_generic_value_new(*ret_iface, ret), 0);
	avro_reader_t reader = avro_reader_memory((const char *)bytes->data, (int64_t)bytes->length);
	assert_int_equal(avro_value_read(reader, ret), 0);
	char rest;
	assert_int_not_equal(avro_read(reader, &rest, 1), 0);
	avro_reader_free(reader);
	avro_schema_decref(schema);
}

static void expect_field(avro_value_t *record, const char *name, const char *expected)
{
	avro_value_t field;
	const char *got;
	size_t size;
	assert_int_equal(avro_value_get_by_name(record, name, &field, NULL), 0);
	assert_int_equal(avro_value_get_string(&field, &got, &size), 0);
	assert_string_equal(got, expected);
}

static void check(const struct label *label, int branch)
{
	struct buffer out = { 0 };
	avro_value_t record;
	avro_value_t field;
	avro_value_t value;
	avro_value_iface_t *iface;
	int64_t time_ms;
	float weight;
	int got;
	label_encode(label, &out);
	assert_false(out.failed);
	decode(&out, &record, &iface);
	expect_field(&record, "task", "gender");
	expect_field(&record, "user_id", "caf\xc3\xa9");
	assert_int_equal(avro_value_get_by_name(&record, "timestamp", &field, NULL), 0);
	assert_int_equal(avro_value_get_long(&field, &time_ms), 0);
	assert_int_equal(time_ms, label->timestamp_ms);
	assert_int_equal(avro_value_get_by_name(&record, "weight", &field, NULL), 0);
	assert_int_equal(avro_value_get_float(&field, &weight), 0);
	assert_true(weight == label->weight);
	assert_int_equal(avro_value_get_by_name(&record, "label", &field, NULL), 0);
	assert_int_equal(avro_value_get_discriminant(&field, &got), 0);
	assert_int_equal(got, branch);
	assert_int_equal(avro_value_get_current_branch(&field, &value), 0);
	if (branch == 0) {
		const char *string;
		size_t size;
		assert_int_equal(avro_value_get_string(&value, &string, &size), 0);
		assert_string_equal(string, "F");
	} else {
		double number;
		assert_int_equal(avro_value_get_double(&value, &number), 0);
		assert_true(number == label->number);
	}
	avro_value_decref(&record);
	avro_value_iface_decref(iface);
	buffer_free(&out);
}

static void both_branches(void **state)
{
	struct label label = { .task = text("gender"),
			       .user_id = text("caf\xc3\xa9"),
			       .timestamp_ms = INT64_C(1700000000123),
			       .text = text("F"),
			       .weight = 0.25F };
	check(&label, 0);
	label.text = (struct slice){ NULL, 0 };
	label.number = -3.5;
	label.timestamp_ms = 0;
	check(&label, 1);
}

#define NOW_MS INT64_C(1700000000000)

static struct label fine(void)
{
	return (struct label){
		.task = text("gender"), .user_id = text("u1"), .timestamp_ms = NOW_MS, .text = text("F"), .weight = 1.0F
	};
}

static struct slice encoded(const struct label *label, struct buffer *out)
{
	buffer_clear(out);
	label_encode(label, out);
	assert_false(out->failed);
	return (struct slice){ out->data, out->length };
}

static void assert_slice(struct slice got, const char *expected)
{
	assert_int_equal(got.length, strlen(expected));
	assert_memory_equal(got.data, expected, got.length);
}

static void decodes_what_it_encodes(void **state)
{
	struct buffer out = { 0 };
	struct label got;
	struct error err;
	struct label label = fine();
	assert_int_equal(label_decode(encoded(&label, &out), NOW_MS, &got, &err), REASON_NONE);
	assert_slice(got.task, "gender");
	assert_slice(got.user_id, "u1");
	assert_slice(got.text, "F");
	assert_int_equal(got.timestamp_ms, NOW_MS);
	assert_true(got.weight == 1.0F);
	label.text = (struct slice){ NULL, 0 };
	label.number = -0.1;
	label.weight = 0;
	assert_int_equal(label_decode(encoded(&label, &out), -1, &got, &err), REASON_NONE);
	assert_null(got.text.data);
	assert_true(got.number == -0.1);
	assert_true(got.weight == 0);
	buffer_free(&out);
}

static void assert_judged(const struct label *label, enum reason reason, const char *message)
{
	struct buffer out = { 0 };
	struct label got;
	struct error err;
	assert_int_equal(label_decode(encoded(label, &out), NOW_MS, &got, &err), reason);
	assert_string_equal(err.text, message);
	buffer_free(&out);
}

static void refuses_what_no_task_can_use(void **state)
{
	static char longest[1026];
	memset(longest, 'x', sizeof longest - 1);
	struct label label = fine();
	label.task = text("");
	assert_judged(&label, REASON_MISSING_FIELD, "task is empty");
	label = fine();
	label.user_id = (struct slice){ (uint8_t *)longest, 257 };
	assert_judged(&label, REASON_OVERSIZE, "user_id has 257 bytes, more than 256");
	label = fine();
	label.text = text(longest);
	assert_judged(&label, REASON_OVERSIZE, "label has 1025 bytes, more than 1024");
	label.text = text("\xff");
	assert_judged(&label, REASON_UNDECODABLE, "label is not UTF-8 without NUL");
	label = fine();
	label.timestamp_ms = -1;
	assert_judged(&label, REASON_TIMESTAMP, "before 1970: timestamp is -1 ms");
	label = fine();
	label.weight = -0.5F;
	assert_judged(&label, REASON_VALUE, "weight -0.5 is negative or not finite");
	label.weight = NAN;
	assert_judged(&label, REASON_VALUE, "weight nan is negative or not finite");
	label = fine();
	label.text = (struct slice){ NULL, 0 };
	label.number = INFINITY;
	assert_judged(&label, REASON_VALUE, "label is not a finite number");
}

static void refuses_damaged_bytes(void **state)
{
	struct buffer out = { 0 }, framed = { 0 };
	struct label got, label = fine();
	struct error err;
	struct slice whole = encoded(&label, &out);
	for (size_t length = 0; length < whole.length; length++) {
		uint8_t *cut = malloc(length + 1); /* a read beyond it is seen under a sanitizer */
		memcpy(cut, whole.data, length);
		cut = realloc(cut, length ? length : 1);
		assert_int_equal(label_decode((struct slice){ cut, length }, NOW_MS, &got, &err), REASON_UNDECODABLE);
		free(cut);
	}
	buffer_append_byte(&out, 0);
	assert_int_equal(label_decode((struct slice){ out.data, out.length }, NOW_MS, &got, &err), REASON_UNDECODABLE);
	framing_append(7, &framed);
	label_encode(&label, &framed);
	assert_int_equal(label_decode((struct slice){ framed.data, framed.length }, NOW_MS, &got, &err), REASON_SCHEMA);
	assert_string_equal(err.text, "framed with schema id 7, but schema_registry.url is empty");
	buffer_free(&out);
	buffer_free(&framed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_branches),
		cmocka_unit_test(decodes_what_it_encodes),
		cmocka_unit_test(refuses_what_no_task_can_use),
		cmocka_unit_test(refuses_damaged_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
