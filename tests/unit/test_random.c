/* base/random. */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#define DRAWS 100000

static void test_splitmix(void **unused)
{
	struct random_stream r = { 1234567 }; /* the values that the authors' code gives for this seed */
	assert_int_equal(random_next(&r), 6457827717110365317u);
	assert_int_equal(random_next(&r), 3203168211198807973u);
	assert_int_equal(random_next(&r), 9817491932198370423u);
}

static void test_streams(void **unused)
{
	struct random_stream a = random_from(1, 0);
	struct random_stream b = random_from(1, 1);
	struct random_stream c = random_from(2, 0);
	struct random_stream again = random_from(1, 0);
	for (int i = 0; i < 100; i++) {
		const uint64_t value = random_next(&a);
		assert_true(value != random_next(&b));
		assert_true(value != random_next(&c));
		assert_int_equal(value, random_next(&again));
	}
	struct random_stream stored = a; /* taken up again */
	assert_int_equal(random_next(&a), random_next(&stored));
}

static void test_below(void **unused)
{
	struct random_stream r = random_from(3, 0);
	uint32_t counts[10] = { 0 };
	for (int i = 0; i < DRAWS; i++)
		counts[random_below(&r, 10)]++;
	for (int i = 0; i < 10; i++)
		assert_in_range(counts[i], DRAWS / 10 - 500, DRAWS / 10 + 500); /* five deviations */
	uint32_t low = 0;
	for (int i = 0; i < DRAWS; i++) /* of 3 2^30 values the first 2^30 would be drawn twice as often */
		low += random_below(&r, 3U << 30) < 1U << 30;
	assert_in_range(low, DRAWS / 3 - 800, DRAWS / 3 + 800);
	assert_int_equal(random_below(&r, 1), 0);
}

static void test_uniform_and_normal(void **unused)
{
	struct random_stream r = random_from(4, 0);
	double sum = 0;
	double normal = 0;
	double square = 0;
	double beyond = 0;
	for (int i = 0; i < DRAWS; i++) {
		const float u = random_uniform(&r);
		const float n = random_normal(&r);
		assert_true(u >= 0 && u < 1);
		sum += (double)u;
		normal += (double)n;
		square += (double)n * (double)n;
		beyond += fabsf(n) > 2 ? 1 : 0;
	}
	assert_true(fabs(sum / DRAWS - 0.5) <= 0.005);
	assert_true(fabs(normal / DRAWS) <= 0.015);
	assert_true(fabs(square / DRAWS - 1) <= 0.025);
	assert_true(fabs(beyond / DRAWS - 0.0455) <= 0.005);
}

static void test_shuffle(void **unused)
{
	struct random_stream r = random_from(5, 0);
	uint32_t places[4][4] = { 0 }; /* value, where it came to lie */
	for (int i = 0; i < DRAWS; i++) {
		uint32_t values[4] = { 0, 1, 2, 3 };
		random_shuffle(&r, values, 4);
		for (int k = 0; k < 4; k++)
			places[values[k]][k]++;
	}
	for (int i = 0; i < 16; i++)
		assert_in_range(places[i / 4][i % 4], DRAWS / 4 - 800, DRAWS / 4 + 800);
	random_shuffle(&r, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splitmix),           cmocka_unit_test(test_streams), cmocka_unit_test(test_below),
		cmocka_unit_test(test_uniform_and_normal), cmocka_unit_test(test_shuffle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
