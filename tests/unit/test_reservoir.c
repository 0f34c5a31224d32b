/* The sample of past examples: bounded, newest ones mostly, and without those that were taken out. */
#include "model/reservoir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void add(struct reservoir *r, uint64_t number)
{
	struct error err;
	const struct reservoir_entry e = { .number = number, .user = number % 3, .length = sizeof number };
	assert_int_equal(reservoir_reserve(r, 1, &err), STATUS_OK);
	reservoir_add(r, &e, &number);
}

static void check_bytes(const struct reservoir *r)
{
	for (size_t i = 0; i < r->count; i++)
		assert_memory_equal(reservoir_bytes(r, i), &r->entries[i].number, sizeof(uint64_t));
}

/* Aggarwal's: of age t, a share of exp(-t / capacity) is there. */
static void newest_ones_stay(void **state)
{
	enum { CAPACITY = 1000, EXAMPLES = 20000 };
	struct reservoir r;
	size_t newest = 0, next = 0, older = 0;
	reservoir_init(&r, CAPACITY, 16, random_from(1, 1));
	for (uint64_t n = 0; n < EXAMPLES; n++) {
		add(&r, n);
		assert_true(r.count <= CAPACITY && r.allocated <= CAPACITY);
	}
	assert_in_range(r.count, CAPACITY - 5, CAPACITY);
	for (size_t i = 0; i < r.count; i++) {
		const uint64_t age = EXAMPLES - r.entries[i].number;
		newest += age <= CAPACITY;
		next += age > CAPACITY && age <= 2 * CAPACITY;
		older += age > 4 * CAPACITY;
	}
	assert_in_range(newest, 580, 685); /* 632 */
	assert_in_range(next, 185, 280);   /* 233 */
	assert_in_range(older, 3, 40);     /* 18 */
	check_bytes(&r);
	reservoir_close(&r);
}

static bool is_two(void *arg, const struct reservoir_entry *entry)
{
	return entry->user == *(const uint64_t *)arg;
}

static void those_taken_out_are_gone(void **state)
{
	struct reservoir r;
	uint64_t user = 2;
	reservoir_init(&r, 100, 8, random_from(2, 1));
	for (uint64_t n = 0; n < 300; n++)
		add(&r, n);
	const size_t before = r.count;
	const size_t removed = reservoir_remove(&r, is_two, &user);
	assert_in_range(removed, 15, 55);
	assert_int_equal(r.count, before - removed);
	assert_int_equal(reservoir_remove(&r, is_two, &user), 0);
	check_bytes(&r);
	for (uint64_t n = 300; n < 600; n++)
		add(&r, n);
	check_bytes(&r);
	reservoir_close(&r);
}

static void nothing_may_be_kept(void **state)
{
	struct reservoir r;
	reservoir_init(&r, 0, 8, random_from(3, 1));
	add(&r, 1);
	assert_int_equal(r.count, 0);
	reservoir_close(&r);
	reservoir_init(&r, 5, 8, random_from(3, 1));
	struct error err;
	const struct reservoir_entry absent = { .length = 8 };
	assert_int_equal(reservoir_reserve(&r, 1000, &err), STATUS_OK);
	assert_int_equal(r.allocated, 5);
	reservoir_add(&r, &absent, NULL);
	assert_false(r.entries[0].present);
	memset(reservoir_place(&r, 0), 1, 8);
	assert_int_equal(((const uint8_t *)reservoir_bytes(&r, 0))[7], 1);
	reservoir_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(newest_ones_stay),
		cmocka_unit_test(those_taken_out_are_gone),
		cmocka_unit_test(nothing_may_be_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
