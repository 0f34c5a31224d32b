/* What a ranking is worth: ties, NaN, exclusions, means with their errors, the area under the curve. */
#include "model/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_near(double got, double wanted)
{
	if (!(fabs(got - wanted) <= 1e-12))
		fail_msg("%.15g, expected %.15g", got, wanted);
}

static void ranks(void **state)
{
	const float scores[6] = { 1, 3, 2, 3, NAN, 0 };
	const bool excluded[6] = { false, true, false, false, false, true };
	assert_int_equal(metrics_rank(scores, 6, 1, NULL), 0);
	assert_int_equal(metrics_rank(scores, 6, 3, NULL), 1); /* a tie: the lower index first */
	assert_int_equal(metrics_rank(scores, 6, 2, NULL), 2);
	assert_int_equal(metrics_rank(scores, 6, 5, NULL), 4);
	assert_int_equal(metrics_rank(scores, 6, 4, NULL), 5);
	assert_int_equal(metrics_rank(scores, 6, 3, excluded), 0);
	assert_int_equal(metrics_rank(scores, 6, 0, excluded), 2);
	assert_int_equal(metrics_rank(scores, 6, 1, excluded), 0); /* the target is never left out */
	assert_int_equal(metrics_rank(scores, 6, 4, excluded), 3);
	assert_int_equal(metrics_rank(scores, 1, 0, NULL), 0);
}

static void numbers_that_are_none_rank_last(void **state)
{
	const float scores[5] = { NAN, -INFINITY, NAN, INFINITY, -INFINITY };
	const uint32_t expected[5] = { 3, 1, 4, 0, 2 };
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(metrics_rank(scores, 5, i, NULL), expected[i]);
}

/* A third of those that are not excluded stands before the target: so does a third of the drawn. */
static void drawn_negatives(void **state)
{
	enum { N = 401, TARGET = 100, DRAWN = 40, TIMES = 4000 };
	float scores[N];
	bool excluded[N] = { false }, marks[N] = { false }, none[N] = { false };
	struct random_stream random = random_from(1, 2);
	double sum = 0;
	for (int i = 0; i < N; i++) {
		scores[i] = (float)-i;
		excluded[i] = i > TARGET && i <= 200; /* 100 before the target, 200 behind, 100 left out */
	}
	for (int i = 0; i < TIMES; i++) {
		const uint32_t rank = metrics_sampled_rank(scores, N, TARGET, excluded, DRAWN, &random, marks);
		assert_true(rank <= DRAWN);
		sum += rank;
		assert_memory_equal(marks, none, sizeof marks);
	}
	assert_true(fabs(sum / TIMES - DRAWN / 3.0) < 0.2);
	assert_int_equal(metrics_sampled_rank(scores, N, TARGET, excluded, 300, &random, marks), 100);
	assert_true(metrics_sampled_rank(scores, N, TARGET, excluded, 299, &random, marks) >= 99);
	assert_int_equal(metrics_sampled_rank(scores, N, TARGET, excluded, 5000, &random, marks), 100);
	assert_int_equal(metrics_sampled_rank(scores, N, TARGET, NULL, 400, &random, marks), 100);
}

static void errors_of_means(void **state)
{
	assert_near(metrics_error(4, 12, 50), sqrt(14.0 / 3.0 / 4.0)); /* of 1, 2, 3, 6 */
	assert_near(metrics_error(2, 2, 2 - 1e-15), 0);                /* a variance that rounds below 0 */
	assert_true(isnan(metrics_error(1, 1, 1)));
	assert_true(isnan(metrics_error(0, 0, 0)));
	assert_true(isnan(metrics_error(3, (double)NAN, (double)NAN)));
}

static void rankings(void **state)
{
	struct metrics_ranking m = { .k = 3 };
	metrics_ranking_add(&m, 0);
	metrics_ranking_add(&m, 2);
	metrics_ranking_add(&m, 3); /* just too far */
	metrics_ranking_add(&m, UINT32_MAX);
	assert_int_equal(m.count, 4);
	assert_near(m.reciprocal, 1 + 1.0 / 3);
	assert_near(m.reciprocal_square, 1 + 1.0 / 9);
	assert_near(m.hits, 2);
	assert_near(m.gain, 1 + 1.0 / log2(4));
	assert_near(m.gain_square, 1 + 0.25);
	assert_near(metrics_error(m.count, m.hits, m.hits), sqrt(1.0 / 3 / 4));
}

static void areas(void **state)
{
	struct metrics_scored even[4] = { { 0.1F, false }, { 0.4F, false }, { 0.35F, true }, { 0.8F, true } };
	assert_near(metrics_auc(even, 4), 0.75); /* scikit-learn's example */
	struct metrics_scored ties[4] = { { 0.5F, true }, { 0.5F, false }, { 0.5F, true }, { 0.2F, false } };
	assert_near(metrics_auc(ties, 4), (1 + 1 + 0.5 + 0.5) / 4);
	struct metrics_scored lost[3] = { { NAN, true }, { 0, false }, { -INFINITY, false } };
	assert_near(metrics_auc(lost, 3), 0.25);
	struct metrics_scored alone[2] = { { 1, true }, { 2, true } };
	assert_true(isnan(metrics_auc(alone, 2)));
	assert_true(isnan(metrics_auc(alone, 0)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks),           cmocka_unit_test(numbers_that_are_none_rank_last),
		cmocka_unit_test(drawn_negatives), cmocka_unit_test(errors_of_means),
		cmocka_unit_test(rankings),        cmocka_unit_test(areas),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
