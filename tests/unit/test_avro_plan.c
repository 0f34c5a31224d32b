/* Decode plans: data that no generic writer would write, and schemas that nobody should. */
#include "io/avro_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct avro_plan *plan_of(const char *schema)
{
	const struct plan_field field = { "field", "x", PLAN_ACCEPTS_WHOLE, false };
	struct avro_plan *plan = NULL;
	struct error err;
	if (avro_plan_new(schema, &field, 1, &plan, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return plan;
}

#define RECORD(types, a)                                                                                               \
	"{\"type\":\"record\",\"name\":\"R\",\"fields\":[" types "{\"name\":\"a\",\"type\":" a                         \
	"},{\"name\":\"x\",\"type\":\"int\"}]}"

static void assert_run(const char *schema, struct buffer *b, bool fine)
{
	struct avro_plan *plan = plan_of(schema);
	struct plan_value value;
	struct error err;
	bool found = avro_plan_run(plan, (struct slice){ b->data, b->length }, &value, &err);
	if (found != fine)
		fail_msg("%s: %s", schema, found ? "decoded" : err.text);
	if (fine) {
		assert_int_equal(value.kind, PLAN_WHOLE);
		assert_int_equal(value.whole, 77);
	}
	avro_plan_free(plan);
	buffer_clear(b);
}

/* Blocks: many, with sizes, absurd ones; the value at `x` behind them is found. */
static void test_blocks(void **state)
{
	static const int64_t absurd[] = { INT64_MAX, INT64_MIN, INT64_MIN + 1, INT64_MAX / 2, 1 << 20 };
	static const char *const arrays[] = {
		RECORD("", "{\"type\":\"array\",\"items\":\"long\"}"),
		RECORD("", "{\"type\":\"array\",\"items\":\"double\"}"),
		RECORD("", "{\"type\":\"map\",\"values\":\"null\"}"),
		RECORD("", "{\"type\":\"array\",\"items\":[\"null\"]}"),
	};
	struct buffer b = { 0 };
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		for (size_t k = 0; k < 5; k++) {
			buffer_append_varint(&b, absurd[k]);
			buffer_append(&b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
			assert_run(arrays[i], &b, false);
		}
	}
	for (int64_t block = 0; block < 3; block++) { /* two items, with and without a size, which may lie */
		buffer_append_varint(&b, block == 1 ? 2 : -2);
		if (block != 1)
			buffer_append_varint(&b, block == 0 ? 16 : -5);
		buffer_append(&b, "12345678abcdefgh", 16);
	}
	buffer_append_varint(&b, 0);
	buffer_append_varint(&b, 77);
	assert_run(arrays[1], &b, true);
	buffer_free(&b);
}

/* Items of no size: any count of them is legal and must cost nothing. */
static void test_items_of_no_size(void **state)
{
	static const char *const arrays[] = {
		RECORD("", "{\"type\":\"array\",\"items\":\"null\"}"),
		RECORD("", "{\"type\":\"array\",\"items\":{\"type\":\"fixed\",\"name\":\"F\",\"size\":0}}"),
		RECORD("", "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"E\",\"fields\":[]}}"),
		RECORD("", "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"E\",\"fields\":"
			   "[{\"name\":\"n\",\"type\":\"null\"}]}}"),
	};
	struct buffer b = { 0 };
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		for (size_t blocks = 0; blocks < 100; blocks++)
			buffer_append_varint(&b, INT64_MAX);
		buffer_append_varint(&b, 0);
		buffer_append_varint(&b, 77);
		assert_run(arrays[i], &b, true);
	}
	buffer_free(&b);
}

#define LIST                                                                                                           \
	"[\"null\",{\"type\":\"record\",\"name\":\"Node\",\"fields\":[{\"name\":\"v\",\"type\":\"boolean\"},"          \
	"{\"name\":\"next\",\"type\":[\"null\",\"Node\"]}]}]"
#define TREE                                                                                                           \
	"[\"null\",{\"type\":\"record\",\"name\":\"Node\",\"fields\":[{\"name\":\"left\",\"type\":[\"null\",\"Node\"]" \
	"},"                                                                                                           \
	"{\"name\":\"v\",\"type\":\"boolean\"}]}]"
#define NEST                                                                                                           \
	"[\"null\",{\"type\":\"record\",\"name\":\"Node\",\"fields\":[{\"name\":\"all\",\"type\":"                     \
	"{\"type\":\"array\",\"items\":\"Node\"}}]}]"

static void test_recursion(void **state)
{
	struct buffer b = { 0 };
	(void)state;
	for (size_t i = 0; i < 100000; i++) /* a list has no depth */
		buffer_append(&b, "\2\1", 2);
	buffer_append_byte(&b, 0);
	buffer_append_varint(&b, 77);
	assert_run(RECORD("", LIST), &b, true);
	for (size_t depth = 500; depth <= 600; depth += 100) { /* a tree has, and memory for it is bounded */
		for (size_t i = 0; i < depth; i++)
			buffer_append_byte(&b, 2);
		buffer_append_byte(&b, 0);
		for (size_t i = 0; i < depth; i++)
			buffer_append_byte(&b, 1);
		buffer_append_varint(&b, 77);
		assert_run(RECORD("", TREE), &b, depth == 500);
	}
	for (size_t i = 0; i < 1000000; i++) /* an array of one array of one array ... */
		buffer_append_byte(&b, 2);
	assert_run(RECORD("", NEST), &b, false);
	buffer_free(&b);
}

static void test_hostile_schemas(void **state)
{
	struct buffer b = { 0 };
	struct avro_plan *plan = NULL;
	struct error err;
	const struct plan_field field = { "field", "a.a.a.a.a.a", PLAN_ACCEPTS_WHOLE, false };
	(void)state;
	for (size_t i = 0; i < 300; i++) {
		static const char open[] = "{\"type\":\"array\",\"items\":";
		buffer_append(&b, open, sizeof open - 1);
	}
	buffer_append(&b, "\"int\"", 5);
	for (size_t i = 0; i < 300; i++)
		buffer_append_byte(&b, '}');
	buffer_append_byte(&b, 0);
	assert_int_equal(avro_plan_new((const char *)b.data, NULL, 0, &plan, &err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, "nested deeper than 200 levels"));
	buffer_clear(&b);
	/* a union of n records, each with that union at `a`: n^6 ways */
	static const char head[] = "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":[\"int\"";
	buffer_append(&b, head, sizeof head - 1);
	for (size_t i = 0; i < 40; i++) {
		char record[256];
		int n = snprintf(record, sizeof record,
				 ",{\"type\":\"record\",\"name\":\"R%zu\",\"fields\":[{\"name\":\"a\",\"type\":"
				 "[\"R\",\"R0\",\"R%zu\",\"int\"]}]}",
				 i, i);
		buffer_append(&b, record, (size_t)n);
	}
	buffer_append(&b, "]}]}", 5);
	assert_int_equal(avro_plan_new((const char *)b.data, &field, 1, &plan, &err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, "too large"));
	assert_null(plan);
	buffer_free(&b);
}

static void test_schema_errors(void **state)
{
	static const char *const bad[][2] = {
		{ RECORD("", "\"R\""), "record R contains itself without end" },
		{ RECORD("", "{\"type\":\"record\",\"name\":\"S\",\"fields\":[{\"name\":\"r\",\"type\":\"R\"}]}"),
		  "contains itself without end" },
		{ RECORD("", "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"A\"]}"),
		  "symbol A is there twice" },
		{ RECORD("{\"name\":\"x\",\"type\":\"int\"},", "\"int\""), "field x is there twice" },
		{ RECORD("", "[\"int\",[\"null\"]]"), "a union in a union" },
		{ RECORD("", "{\"type\":\"fixed\",\"name\":\"F\",\"size\":-1}"), "F has no size" },
		{ RECORD("", "{\"type\":\"fixed\",\"name\":\"F\",\"size\":99999999999}"), "F has no size" },
		{ RECORD("", "\"Nobody\""), "Avro" },
		{ RECORD("{\"name\":\"b\",\"type\":\"C\"},", "{\"type\":\"fixed\",\"name\":\"C\",\"size\":1}"),
		  "Avro" },
		{ RECORD("", "[]"), "Avro" },
		{ "[]", "Avro" },
		{ "7", "Avro" },
		{ "{}", "Avro" },
		{ "{\"type\":\"int\",\"type\":\"int\"}", "not JSON" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const struct plan_field field = { "field", "x", PLAN_ACCEPTS_WHOLE, false };
		struct avro_plan *plan = NULL;
		struct error err;
		assert_int_equal(avro_plan_new(bad[i][0], &field, 1, &plan, &err), STATUS_CONFIG);
		assert_null(plan);
		if (!strstr(err.text, bad[i][1]))
			fail_msg("\"%s\" does not say \"%s\"", err.text, bad[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),        cmocka_unit_test(test_items_of_no_size),
		cmocka_unit_test(test_recursion),     cmocka_unit_test(test_hostile_schemas),
		cmocka_unit_test(test_schema_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
