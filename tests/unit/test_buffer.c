/* base/buffer: growth, failure, and varints of every length. */
#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static void bytes_are_kept_through_growth(void **state)
{
	struct buffer b = { 0 };
	for (int i = 0; i < 100000; i++)
		buffer_append_byte(&b, (uint8_t)(i * 7));
	assert_false(b.failed);
	assert_int_equal(b.length, 100000);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(b.data[i], (uint8_t)(i * 7));
	buffer_append(&b, NULL, 0);
	assert_int_equal(b.length, 100000);
	uint8_t *data = b.data;
	buffer_clear(&b);
	assert_int_equal(b.length, 0);
	assert_ptr_equal(b.data, data);
	buffer_free(&b);
	assert_null(b.data);
	buffer_free(NULL);
}

static void an_impossible_growth_fails_for_good(void **state)
{
	struct buffer b = { 0 };
	buffer_append(&b, "abc", 3);
	assert_null(buffer_extend(&b, SIZE_MAX - 8));
	assert_true(b.failed);
	assert_null(buffer_extend(&b, 1));
	buffer_append(&b, "d", 1);
	assert_int_equal(b.length, 3);
	buffer_clear(&b);
	assert_false(b.failed);
	buffer_append(&b, "d", 1);
	assert_int_equal(b.length, 1);
	buffer_free(&b);
}

static void varints_round_trip(void **state)
{
	for (unsigned shift = 0; shift < 64; shift++) {
		for (int d = -2; d <= 2; d++) {
			for (int sign = 0; sign < 2; sign++) {
				uint64_t bits = ((uint64_t)1 << shift) + (uint64_t)(int64_t)d;
				int64_t value = (int64_t)(sign ? 0 - bits : bits);
				int64_t back = 0;
				struct buffer b = { 0 };
				buffer_append_varint(&b, value);
				assert_true(b.length <= 10);
				const uint8_t *at = b.data;
				assert_true(varint_read(&at, b.data + b.length, &back));
				assert_int_equal(back, value);
				assert_ptr_equal(at, b.data + b.length);
				for (size_t cut = 0; cut < b.length; cut++) {
					at = b.data;
					assert_false(varint_read(&at, b.data + cut, &back));
				}
				buffer_free(&b);
			}
		}
	}
}

static void varints_are_avros(void **state)
{
	static const struct {
		int64_t value;
		uint8_t bytes[10];
		size_t length;
	} known[] = {
		{ 0, { 0 }, 1 },
		{ -1, { 1 }, 1 },
		{ 1, { 2 }, 1 },
		{ -64, { 0x7f }, 1 },
		{ 64, { 0x80, 0x01 }, 2 },
		{ INT64_MAX, { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, 10 },
		{ INT64_MIN, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, 10 },
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		struct buffer b = { 0 };
		buffer_append_varint(&b, known[i].value);
		assert_int_equal(b.length, known[i].length);
		assert_memory_equal(b.data, known[i].bytes, b.length);
		buffer_free(&b);
	}
}

static void endless_varints_are_refused(void **state)
{
	uint8_t bytes[16];
	int64_t value;
	memset(bytes, 0xff, sizeof bytes);
	const uint8_t *at = bytes;
	assert_false(varint_read(&at, bytes + sizeof bytes, &value));
	memset(bytes, 0x80, sizeof bytes);
	bytes[9] = 2; /* a 65th bit */
	at = bytes;
	assert_false(varint_read(&at, bytes + sizeof bytes, &value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_kept_through_growth),
		cmocka_unit_test(an_impossible_growth_fails_for_good),
		cmocka_unit_test(varints_round_trip),
		cmocka_unit_test(varints_are_avros),
		cmocka_unit_test(endless_varints_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
