/* The best of many scores, against sorting all of them. */
#include "model/top.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static const float *sorted_scores;

static int compare(const void *a, const void *b)
{
	const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const float x = isnan(sorted_scores[i]) ? -INFINITY : sorted_scores[i];
	const float y = isnan(sorted_scores[j]) ? -INFINITY : sorted_scores[j];
	if (x > y || x < y)
		return x > y ? -1 : 1;
	const int nans = (isnan(sorted_scores[i]) != 0) - (isnan(sorted_scores[j]) != 0);
	return nans ? nans : (i > j) - (i < j);
}

static void expect_top(const float *scores, uint32_t n, size_t k)
{
	uint32_t all[300], top[301];
	for (uint32_t i = 0; i < n; i++)
		all[i] = i;
	sorted_scores = scores;
	qsort(all, n, sizeof *all, compare);
	for (size_t i = 0; i <= 300; i++)
		top[i] = UINT32_MAX;
	const size_t count = top_scores(scores, n, k, top);
	assert_int_equal(count, k < n ? k : n);
	assert_memory_equal(top, all, count * sizeof *top);
	assert_int_equal(top[count], UINT32_MAX); /* nothing beyond */
}

static void the_best_come_first(void **state)
{
	struct random_stream random = random_from(1, 2);
	float scores[300];
	for (int round = 0; round < 400; round++) {
		const uint32_t n = random_below(&random, 301);
		const bool ties = round % 2 == 0;
		for (uint32_t i = 0; i < n; i++) {
			scores[i] = ties ? (float)random_below(&random, 7) : random_normal(&random);
			if (round % 5 == 0 && random_below(&random, 10) == 0)
				scores[i] = random_below(&random, 2) ? NAN : -INFINITY;
		}
		expect_top(scores, n, random_below(&random, 30));
	}
	for (uint32_t i = 0; i < 300; i++)
		scores[i] = (float)i; /* each better than all before */
	expect_top(scores, 300, 10);
	expect_top(scores, 300, 300);
	expect_top(scores, 0, 5);
	expect_top(scores, 5, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_best_come_first) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
