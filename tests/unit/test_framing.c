#include "io/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_round_trip(void **state)
{
	static const uint32_t ids[] = { 0, 1, 0x01020304, UINT32_MAX };
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct buffer b = { 0 };
		struct slice body;
		uint32_t id = 7;
		framing_append(ids[i], &b);
		assert_int_equal(b.length, FRAMING_HEADER_BYTES);
		buffer_append(&b, "datum", 5);
		assert_true(framing_parse((struct slice){ b.data, b.length }, &id, &body));
		assert_int_equal(id, ids[i]);
		assert_int_equal(body.length, 5);
		assert_memory_equal(body.data, "datum", 5);
		buffer_free(&b);
	}
}

/* The bytes that Confluent's serialisers write. */
static void test_bytes(void **state)
{
	struct buffer b = { 0 };
	(void)state;
	framing_append(100042, &b);
	assert_memory_equal(b.data, "\x00\x00\x01\x86\xca", 5);
	buffer_free(&b);
}

static void test_not_framed(void **state)
{
	struct slice body = { NULL, 77 };
	uint32_t id = 7;
	(void)state;
	assert_false(framing_parse((struct slice){ NULL, 0 }, &id, &body));
	assert_false(framing_parse((struct slice){ (const uint8_t *)"\0\0\0\1", 4 }, &id, &body));
	assert_false(framing_parse((struct slice){ (const uint8_t *)"\1\0\0\0\1x", 6 }, &id, &body));
	assert_int_equal(id, 7);
	assert_int_equal(body.length, 77);
	assert_true(framing_parse((struct slice){ (const uint8_t *)"\0\0\0\0\1", 5 }, &id, &body));
	assert_int_equal(body.length, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_not_framed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
