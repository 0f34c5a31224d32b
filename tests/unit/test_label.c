/* Label records against Avro C with the shipped schema. */
#include "io/label.h"

#include "io/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_branches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
