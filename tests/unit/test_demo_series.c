/* Means over time: of any stretch, when there is nothing, and when the past has become coarse. */
#include "tools/demo_series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void stretches_have_means(void **state)
{
	struct demo_series *s = calloc(1, sizeof *s);
	assert_true(isnan(demo_series_mean(s, 0, 10)));
	for (int i = 0; i < 10; i++)
		demo_series_add(s, i + 0.5, 2.0 * i, 2);
	assert_true(demo_series_mean(s, 0, 10) == 4.5);
	assert_true(demo_series_mean(s, 8, 10) == 8.5);
	assert_true(isnan(demo_series_mean(s, 10, 20)));
	free(s);
}

static void long_ago_is_coarser_and_all_there(void **state)
{
	struct demo_series *s = calloc(1, sizeof *s);
	for (int i = 0; i < 4 * DEMO_SERIES_POINTS; i++)
		demo_series_add(s, i, i < 2 * DEMO_SERIES_POINTS, 1);
	assert_true(s->width_s == 4);
	assert_true(demo_series_mean(s, 0, 4 * DEMO_SERIES_POINTS) == 0.5);
	assert_true(demo_series_mean(s, 0, 2 * DEMO_SERIES_POINTS) == 1);
	assert_true(demo_series_mean(s, 2 * DEMO_SERIES_POINTS, 4 * DEMO_SERIES_POINTS) == 0);
	free(s);
}

static void bars_rise_with_the_mean(void **state)
{
	char text[DEMO_SERIES_TEXT];
	struct demo_series *s = calloc(1, sizeof *s);
	for (int i = DEMO_SERIES_BARS; i < 2 * DEMO_SERIES_BARS; i++)
		demo_series_add(s, i, 100.0 * i, 100);
	(void)demo_series_bars(s, 2 * DEMO_SERIES_BARS, DEMO_SERIES_BARS, 2 * DEMO_SERIES_BARS - 1, text);
	assert_memory_equal(text, "            ▁", 12 + 3);
	assert_string_equal(text + strlen(text) - 3, "█");
	(void)demo_series_bars(s, 2 * DEMO_SERIES_BARS, 2 * DEMO_SERIES_BARS - 1, DEMO_SERIES_BARS, text);
	assert_string_equal(text + strlen(text) - 3, "▁");
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stretches_have_means),
		cmocka_unit_test(long_ago_is_coarser_and_all_there),
		cmocka_unit_test(bars_rise_with_the_mean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
