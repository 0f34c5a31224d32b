/* The sequential test: how seldom it is wrong although it is asked after every label, and how soon it is right. */
#include "model/gate.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#define ALPHA 0.05

/* Labels until the evidence is there; 0: not within `most`. */
static uint64_t labels_until(double mean, double deviation, double scale, uint64_t most, struct random_stream *random)
{
	struct gate g;
	gate_start(&g, scale);
	while (g.count < most) {
		gate_add(&g, mean + deviation * (double)random_normal(random));
		if (gate_is_above(&g, ALPHA))
			return g.count;
	}
	return 0;
}

static void it_is_seldom_wrong(void **state)
{
	enum { RUNS = 400 };
	struct random_stream random = random_from(1, 1);
	int wrong = 0, late = 0;
	for (int run = 0; run < RUNS; run++) {
		wrong += labels_until(0, 1, 4, 1000, &random) > 0;
		struct gate_late g;
		gate_late_start(&g, 4);
		bool ever = false;
		for (int i = 0; i < 200; i++) {
			gate_late_add(&g, (double)random_normal(&random));
			ever = ever || gate_late_is_above(&g, ALPHA);
		}
		late += ever;
	}
	if (!(wrong <= RUNS * ALPHA) || !(late <= RUNS * ALPHA))
		fail_msg("%d and %d of %d runs were wrong", wrong, late, RUNS);
}

/* A drifting mean that is 0 on average must not be mistaken either: it is below first. */
static void it_is_soon_right(void **state)
{
	struct random_stream random = random_from(2, 1);
	double sum = 0;
	for (int run = 0; run < 50; run++) {
		const uint64_t n = labels_until(0.2, 1, 4, 5000, &random);
		assert_true(n > 0);
		sum += (double)n;
	}
	print_message("a mean of 0.2 deviations is seen after %g labels\n", sum / 50);
	assert_true(sum / 50 < 450);
	assert_in_range(labels_until(1, 0.1, 4, 100, &random), 1, 40);
}

static void the_interval_holds_the_mean(void **state)
{
	struct random_stream random = random_from(3, 1);
	int outside = 0;
	for (int run = 0; run < 200; run++) {
		struct gate g;
		bool ever = false;
		gate_start(&g, 4);
		for (int i = 1; i <= 300; i++) {
			gate_add(&g, 0.3 + (double)random_normal(&random));
			if (i % 20 == 0)
				ever = ever || !(fabs(gate_mean(&g) - 0.3) <= gate_width(&g, ALPHA));
		}
		outside += ever;
		assert_true(gate_width(&g, ALPHA) < 0.4);
	}
	assert_true(outside <= 200 * 2 * ALPHA);
}

static void bound_and_evidence_agree(void **state)
{
	struct random_stream random = random_from(4, 1);
	struct gate g;
	gate_start(&g, 2);
	assert_true(isinf(gate_width(&g, ALPHA)));
	for (int i = 0; i < 1500; i++) {
		gate_add(&g, -0.2 + (double)random_normal(&random));
		assert_int_equal(gate_is_below(&g, ALPHA), gate_mean(&g) + gate_width(&g, ALPHA) <= 0);
	}
	assert_true(gate_is_below(&g, ALPHA) && !gate_is_above(&g, ALPHA));
}

static void wild_ones_count_as_one(void **state)
{
	struct gate g, like;
	gate_start(&g, 1);
	gate_start(&like, 1);
	gate_add(&g, 1e300);
	gate_add(&like, 1);
	assert_memory_equal(&g, &like, sizeof g);
	gate_add(&g, NAN);
	gate_add(&like, -1);
	assert_memory_equal(&g, &like, sizeof g);
	struct gate_scale s = { 0 };
	gate_scale_add(&s, NAN);
	for (int i = 0; i < 100; i++)
		gate_scale_add(&s, 0.5);
	assert_true(fabs(gate_scale_of(&s, 9) - 1.5) < 0.1);
	assert_true(gate_scale_of(&(struct gate_scale){ 0 }, 9) == 9);
	for (int i = 0; i < 1000000 / 500; i++)
		gate_scale_add(&s, 0);
	assert_true(gate_scale_of(&s, 9) > 0);
}

/* 2,000 labels against it must not have to be made up for: a plain gate would need more than 6,000. */
static void a_late_rise_is_seen(void **state)
{
	struct random_stream random = random_from(5, 1);
	struct gate_late g;
	struct gate plain;
	gate_late_start(&g, 4);
	gate_start(&plain, 4);
	for (int i = 0; i < 2000; i++) {
		const double x = -0.3 + (double)random_normal(&random);
		gate_late_add(&g, x);
		gate_add(&plain, x);
	}
	assert_false(gate_late_is_above(&g, ALPHA));
	int n = 0;
	for (; n < 2000 && !gate_late_is_above(&g, ALPHA); n++) {
		const double x = 0.3 + (double)random_normal(&random);
		gate_late_add(&g, x);
		gate_add(&plain, x);
	}
	print_message("after 2000 labels of the opposite, seen after %d\n", n);
	assert_true(n < 600);
	assert_true(gate_late_mean(&g) > 0 && gate_mean(&plain) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_seldom_wrong),          cmocka_unit_test(it_is_soon_right),
		cmocka_unit_test(the_interval_holds_the_mean), cmocka_unit_test(bound_and_evidence_agree),
		cmocka_unit_test(wild_ones_count_as_one),      cmocka_unit_test(a_late_rise_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
