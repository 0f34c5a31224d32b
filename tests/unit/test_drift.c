/* The detector of rising losses: how soon, how seldom for nothing, and where it says that it began. */
#include "model/drift.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

/* Skewed, as losses are: squares of normal ones. Mean 1, deviation about 1.4. */
static double loss(struct random_stream *random)
{
	const double x = (double)random_normal(random);
	return x * x;
}

/* Labels from a rise by so many deviations until it is flagged, after a thousand without; on average. */
static double delay(double rise, double *ret_onset)
{
	enum { RUNS = 30, BEFORE = 1000 };
	double sum = 0, onset = 0;
	for (int run = 0; run < RUNS; run++) {
		struct random_stream random = random_from(1, (uint64_t)run);
		struct drift d = { 0 };
		uint64_t n = 0;
		while (n < BEFORE)
			(void)drift_add(&d, loss(&random), n++);
		drift_clear(&d);
		while (!drift_add(&d, loss(&random) + 1.414 * rise, n++))
			assert_true(n < BEFORE + 20000);
		sum += (double)(n - BEFORE) / RUNS;
		onset += ((double)d.onset - BEFORE) / RUNS;
	}
	*ret_onset = onset;
	return sum;
}

static void a_rise_is_seen(void **state)
{
	static const struct {
		double rise;
		double most; /* labels */
	} cases[] = { { 2, 20 }, { 1, 50 }, { 0.5, 130 }, { 0.25, 800 } };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		double onset;
		const double labels = delay(cases[i].rise, &onset);
		print_message("a rise by %g deviations: flagged after %.0f labels, onset off by %.0f\n", cases[i].rise,
			      labels, onset);
		assert_true(labels < cases[i].most);
		assert_true(fabs(onset) < cases[i].most / 2);
	}
}

static void alike_is_no_drift(void **state)
{
	enum { LABELS = 400000 };
	struct random_stream random = random_from(9, 9);
	struct drift d = { 0 };
	int alarms = 0;
	for (uint64_t n = 0; n < LABELS; n++) {
		if (!drift_add(&d, (double)random_normal(&random), n))
			continue;
		alarms++;
		drift_clear(&d);
	}
	print_message("%d alarms in %d labels that are alike\n", alarms, LABELS);
	assert_in_range(alarms, 0, 60);
}

static void falling_losses_are_none(void **state)
{
	struct random_stream random = random_from(8, 8);
	struct drift d = { 0 };
	for (uint64_t n = 0; n < 5000; n++)
		assert_false(drift_add(&d, loss(&random) + 5 * exp(-(double)n / 800), n));
}

static void flags_stay_until_they_are_cleared(void **state)
{
	struct random_stream random = random_from(7, 7);
	struct drift d = { 0 };
	uint64_t n = 0;
	for (; n < 500; n++)
		(void)drift_add(&d, loss(&random), n);
	const double mean = d.mean;
	for (int i = 0; i < 10; i++) /* wild, and not even a number */
		(void)drift_add(&d, i % 2 ? NAN : 1e300, n++);
	assert_true(d.flagged);
	assert_true(drift_level(&d) >= 1);
	const double held = d.mean;
	assert_false(drift_add(&d, 5, n++));
	assert_true(d.mean == held);
	drift_clear(&d);
	assert_true(!d.flagged && !(drift_level(&d) > 0) && d.count > 400);
	assert_true(isfinite(d.mean) && isfinite(mean));
	drift_restart(&d);
	for (int i = 0; i < 100; i++) /* too few to know what is usual */
		assert_false(drift_add(&d, i < 50 ? 0 : 100, n++));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rise_is_seen),
		cmocka_unit_test(alike_is_no_drift),
		cmocka_unit_test(falling_losses_are_none),
		cmocka_unit_test(flags_stay_until_they_are_cleared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
