/* Every loss against a naive twin in double, every derivative against the twin's finite differences. */
#include "model/loss.h"
#include "model/softmax.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIM = 7, ROWS_MOST = 2 * LOSS_SOFTMAX_ROWS + 3, CLASSES_MOST = 41, DRAWN = 23, FIRST = 3 };
enum kind { SOFTMAX, SAMPLED_UNIFORM, SAMPLED_LOG_UNIFORM, BPR, BCE, SQUARED };

#define SCALE 0.75F

/* One set of inputs, in double for the twin, and what the library made of them. */
struct problem {
	enum kind kind;
	size_t rows;
	uint32_t classes;
	bool bias;
	double h[ROWS_MOST * DIM], weight[CLASSES_MOST * DIM], b[CLASSES_MOST];
	uint32_t targets[ROWS_MOST], negatives[ROWS_MOST];
	float values[ROWS_MOST], row_weights[ROWS_MOST];
	uint32_t drawn[DRAWN];
	double drawn_probability[DRAWN];
	float d_h[ROWS_MOST * DIM], d_weight[CLASSES_MOST * DIM], d_b[CLASSES_MOST];
};

static void fill(struct problem *p, enum kind kind, size_t rows, uint32_t classes, bool bias)
{
	struct random_stream random = random_from(7, rows * 1000 + classes);
	memset(p, 0, sizeof *p);
	p->kind = kind;
	p->rows = rows;
	p->classes = classes;
	p->bias = bias;
	for (size_t i = 0; i < rows * DIM; i++)
		p->h[i] = (double)random_normal(&random);
	for (size_t i = 0; i < classes * DIM; i++)
		p->weight[i] = (double)random_normal(&random);
	for (size_t i = 0; i < classes && bias; i++)
		p->b[i] = (double)random_normal(&random);
	for (size_t r = 0; r < rows; r++) {
		p->targets[r] = random_below(&random, classes);
		if (kind == SAMPLED_UNIFORM || kind == SAMPLED_LOG_UNIFORM)
			p->targets[r] = FIRST + random_below(&random, classes - FIRST);
		p->negatives[r] = random_below(&random, classes);
		p->values[r] = random_normal(&random);
		p->row_weights[r] = r == 1 ? 0.0F : 0.5F + random_uniform(&random);
	}
	if (kind == SOFTMAX && rows > 2)
		p->targets[2] = UINT32_MAX;
}

static double score(const struct problem *p, size_t row, uint32_t class)
{
	double sum = p->b[class];
	for (size_t i = 0; i < DIM; i++)
		sum += p->h[row * DIM + i] * p->weight[class * DIM + i];
	return sum;
}

static double twin_sampled(const struct problem *p, size_t row)
{
	const uint32_t target = p->targets[row];
	double sum = exp(score(p, row, target));
	for (size_t i = 0; i < DRAWN; i++)
		if (p->drawn[i] != target)
			sum += exp(score(p, row, p->drawn[i])) / (DRAWN * p->drawn_probability[i]);
	return log(sum) - score(p, row, target);
}

static double twin_of_row(const struct problem *p, size_t row)
{
	const uint32_t target = p->targets[row];
	double sum = 0;
	switch (p->kind) {
	case SOFTMAX:
		if (target == UINT32_MAX)
			return 0;
		for (uint32_t i = 0; i < p->classes; i++)
			sum += exp(score(p, row, i));
		return log(sum) - score(p, row, target);
	case SAMPLED_UNIFORM:
	case SAMPLED_LOG_UNIFORM:
		return twin_sampled(p, row);
	case BPR:
		return log(1 + exp(score(p, row, p->negatives[row]) - score(p, row, target)));
	case BCE:
		return log(1 + exp(-score(p, row, target))) + log(1 + exp(score(p, row, p->negatives[row])));
	case SQUARED:
		return 0.5 * pow(score(p, row, 0) - (double)p->values[row], 2);
	}
	return (double)NAN;
}

static double twin(const struct problem *p)
{
	double sum = 0;
	for (size_t r = 0; r < p->rows; r++)
		sum += (double)p->row_weights[r] * twin_of_row(p, r);
	return sum;
}

static float *floats_of(const double *values, size_t n)
{
	float *copy = malloc(n * sizeof *copy);
	assert_non_null(copy);
	for (size_t i = 0; i < n; i++)
		copy[i] = (float)values[i];
	return copy;
}

static double call(struct problem *p, const struct loss_head *head, const float *h, const struct loss_gradient *g)
{
	struct random_stream random = random_from(3, 4), same = random;
	const enum loss_sampler sampler = p->kind == SAMPLED_UNIFORM ? LOSS_UNIFORM : LOSS_LOG_UNIFORM;
	float *scratch = malloc((loss_sampled_floats(DIM, DRAWN) + LOSS_SOFTMAX_ROWS * CLASSES_MOST) * sizeof *scratch);
	double loss = (double)NAN;
	assert_non_null(scratch);
	switch (p->kind) {
	case SOFTMAX:
		loss = loss_softmax(head, p->rows, h, p->targets, p->row_weights, scratch, g);
		break;
	case SAMPLED_UNIFORM:
	case SAMPLED_LOG_UNIFORM:
		loss_draw_classes(sampler, FIRST, p->classes, DRAWN, &same, p->drawn, p->drawn_probability);
		loss = loss_sampled_softmax(head, p->rows, h, p->targets, p->row_weights, sampler, FIRST, DRAWN,
					    &random, scratch, g);
		break;
	case BPR:
		loss = loss_bpr(head, p->rows, h, p->targets, p->negatives, p->row_weights, g);
		break;
	case BCE:
		loss = loss_bce(head, p->rows, h, p->targets, p->negatives, p->row_weights, g);
		break;
	case SQUARED:
		loss = loss_squared(head, p->rows, h, p->values, p->row_weights, g);
		break;
	}
	free(scratch);
	return loss;
}

/* The loss with gradients; the same without any, and with some of them left out. Gradients start at 1 where they are
 * added to, and at NaN where they are written. */
static double run(struct problem *p)
{
	float *h = floats_of(p->h, p->rows * DIM), *weight = floats_of(p->weight, p->classes * DIM);
	float *b = floats_of(p->b, p->classes);
	const struct loss_head head = { DIM, p->classes, weight, p->bias ? b : NULL };
	const struct loss_gradient all = { SCALE, p->d_h, p->d_weight, p->d_b };
	const struct loss_gradient none = { SCALE, NULL, NULL, NULL };
	for (size_t i = 0; i < CLASSES_MOST * DIM; i++)
		p->d_weight[i] = 1;
	for (size_t i = 0; i < CLASSES_MOST; i++)
		p->d_b[i] = 1;
	for (size_t i = 0; i < p->rows * DIM; i++)
		p->d_h[i] = NAN;
	double loss = call(p, &head, h, &all);
	assert_true(call(p, &head, h, NULL) == loss);
	assert_true(call(p, &head, h, &none) == loss);
	free(h);
	free(weight);
	free(b);
	return loss;
}

static void assert_near(double got, double wanted, double bound)
{
	if (!(fabs(got - wanted) <= bound * (1 + fabs(wanted))))
		fail_msg("%.9g, expected %.9g", got, wanted);
}

/* Central differences of the twin for parameters at *values, a few of many. */
static void check_slopes(struct problem *p, double *values, size_t n, const float *slopes, double start)
{
	const double step = 1e-5;
	const size_t stride = n > 200 ? n / 97 : 1;
	for (size_t i = 0; i < n; i += stride) {
		const double kept = values[i];
		values[i] = kept + step;
		double above = twin(p);
		values[i] = kept - step;
		double below = twin(p);
		values[i] = kept;
		assert_near((double)slopes[i] - start, (double)SCALE * (above - below) / (2 * step), 2e-5);
	}
}

static void check(enum kind kind, size_t rows, uint32_t classes, bool bias)
{
	struct problem *p = malloc(sizeof *p);
	assert_non_null(p);
	fill(p, kind, rows, classes, bias);
	double loss = run(p);
	assert_near(loss, twin(p), 1e-6);
	check_slopes(p, p->h, rows * DIM, p->d_h, 0);
	check_slopes(p, p->weight, classes * DIM, p->d_weight, 1);
	check_slopes(p, p->b, classes, p->d_b, 1);
	for (size_t i = classes; i < CLASSES_MOST; i++)
		assert_true(p->d_b[i] == 1.0F); /* nothing behind the head's rows */
	free(p);
}

static void softmax_and_its_slopes(void **state)
{
	check(SOFTMAX, 5, 2, true);
	check(SOFTMAX, 1, 1, true);
	check(SOFTMAX, 9, 41, true);
	check(SOFTMAX, 9, 40, false);
	check(SOFTMAX, ROWS_MOST, 17, true);
}

static void sampled_softmax_and_its_slopes(void **state)
{
	check(SAMPLED_UNIFORM, 9, 41, true);
	check(SAMPLED_UNIFORM, 9, 5, false); /* most draws are some row's target */
	check(SAMPLED_LOG_UNIFORM, 9, 41, true);
	check(SAMPLED_LOG_UNIFORM, ROWS_MOST, 30, true);
}

static void pairs_and_their_slopes(void **state)
{
	check(BPR, 9, 41, true);
	check(BPR, 300, 2, false); /* target and negative may be the same class */
	check(BCE, 9, 41, true);
	check(BCE, 300, 2, false);
}

static void squared_error_and_its_slopes(void **state)
{
	check(SQUARED, 9, 1, true);
	check(SQUARED, 9, 1, false);
}

/* Scores far apart: nothing overflows, and the loss of a lost row is the distance. */
static void far_scores(void **state)
{
	const float weight[2] = { 0, 500 }, h[1] = { 2 };
	const struct loss_head head = { 1, 2, weight, NULL };
	const uint32_t low[1] = { 0 }, high[1] = { 1 };
	float scratch[LOSS_SOFTMAX_ROWS * 2], d_h[1];
	const struct loss_gradient g = { 1, d_h, NULL, NULL };
	assert_near(loss_softmax(&head, 1, h, low, NULL, scratch, &g), 1000, 1e-6);
	assert_near((double)d_h[0], 500, 1e-6);
	assert_near(loss_softmax(&head, 1, h, high, NULL, scratch, &g), 0, 1e-6);
	assert_near((double)d_h[0], 0, 1e-6);
	assert_near(loss_bpr(&head, 1, h, low, high, NULL, &g), 1000, 1e-6);
	assert_near((double)d_h[0], 500, 1e-6);
	assert_near(loss_bce(&head, 1, h, high, low, NULL, &g), log(2), 1e-6);
}

/* NaN anywhere in a row's scores comes out, wherever it stands in the vectors. */
static void nan_comes_out(void **state)
{
	float scratch[LOSS_SOFTMAX_ROWS * CLASSES_MOST];
	for (uint32_t at = 0; at < CLASSES_MOST; at++) {
		float weight[CLASSES_MOST] = { 0 }, h[1] = { 1 };
		const struct loss_head head = { 1, CLASSES_MOST, weight, NULL };
		const uint32_t target[1] = { 5 };
		weight[at] = NAN;
		assert_true(isnan(loss_softmax(&head, 1, h, target, NULL, scratch, NULL)));
		weight[at] = INFINITY;
		assert_true(!isfinite(loss_softmax(&head, 1, h, target, NULL, scratch, NULL)));
	}
}

/* Over many draws the mean of what the logarithm is taken of is the full sum, and with many draws the loss and its
 * slopes are the full ones. */
static void expectation_of_the_sampled(enum loss_sampler sampler)
{
	enum { CLASSES = 30, MANY = 20000 };
	struct random_stream random = random_from(11, 12);
	float weight[CLASSES * DIM], bias[CLASSES], h[DIM], slopes[2][DIM];
	float *scratch = malloc(loss_sampled_floats(DIM, MANY) * sizeof *scratch);
	assert_non_null(scratch);
	for (size_t i = 0; i < CLASSES * DIM; i++)
		weight[i] = 0.5F * random_normal(&random);
	for (size_t i = 0; i < CLASSES; i++)
		bias[i] = random_normal(&random);
	for (size_t i = 0; i < FIRST; i++)
		bias[i] = -80; /* never drawn: of no weight in the full sum */
	for (size_t i = 0; i < DIM; i++)
		h[i] = random_normal(&random);
	const struct loss_head head = { DIM, CLASSES, weight, bias };
	const uint32_t target[1] = { 7 };
	const struct loss_gradient full = { 1, slopes[0], NULL, NULL }, drawn = { 1, slopes[1], NULL, NULL };
	float score_row[CLASSES], full_scratch[LOSS_SOFTMAX_ROWS * CLASSES];
	loss_scores(&head, 1, h, score_row);
	const double own = (double)score_row[7];
	const double wanted = loss_softmax(&head, 1, h, target, NULL, full_scratch, &full);
	double sum = 0;
	for (int i = 0; i < MANY; i++)
		sum += exp(own +
			   loss_sampled_softmax(&head, 1, h, target, NULL, sampler, FIRST, 4, &random, scratch, NULL));
	assert_near(sum / MANY / exp(own + wanted), 1, 0.01);
	const double loss =
		loss_sampled_softmax(&head, 1, h, target, NULL, sampler, FIRST, MANY, &random, scratch, &drawn);
	assert_near(loss, wanted, 0.01);
	for (size_t i = 0; i < DIM; i++)
		assert_near((double)slopes[1][i], (double)slopes[0][i], 0.01);
	free(scratch);
}

static void sampled_expects_the_full(void **state)
{
	expectation_of_the_sampled(LOSS_UNIFORM);
	expectation_of_the_sampled(LOSS_LOG_UNIFORM);
}

/* Each class comes as often as its probability says, and the probabilities are a distribution. */
static void draws_follow_their_probabilities(void **state)
{
	enum { CLASSES = 12, MANY = 200000 };
	uint32_t *drawn = malloc(MANY * sizeof *drawn);
	double *probabilities = malloc(MANY * sizeof *probabilities);
	assert_non_null(drawn);
	assert_non_null(probabilities);
	for (enum loss_sampler sampler = LOSS_UNIFORM; sampler <= LOSS_LOG_UNIFORM; sampler++) {
		struct random_stream random = random_from(5, 6);
		double counts[CLASSES] = { 0 }, given[CLASSES] = { 0 }, total = 0;
		loss_draw_classes(sampler, FIRST, CLASSES, MANY, &random, drawn, probabilities);
		for (size_t i = 0; i < MANY; i++) {
			counts[drawn[i]] += 1.0 / MANY;
			given[drawn[i]] = probabilities[i];
		}
		for (size_t i = 0; i < CLASSES; i++) {
			assert_near(counts[i], given[i], 0.004);
			total += given[i];
		}
		assert_true(counts[FIRST - 1] == 0);
		assert_near(total, 1, 1e-12);
		assert_true((given[FIRST] > given[CLASSES - 1]) == (sampler == LOSS_LOG_UNIFORM));
	}
	free(drawn);
	free(probabilities);
}

static void negatives(void **state)
{
	enum { ROWS = 5000, CLASSES = 6 };
	const float weight[CLASSES] = { 5, 4, 3, 2, 1, 0 };
	const struct loss_head head = { 1, CLASSES, weight, NULL };
	static float h[ROWS];
	static uint32_t targets[ROWS], drawn[ROWS];
	struct random_stream random = random_from(1, 1);
	size_t counts[CLASSES] = { 0 };
	for (size_t r = 0; r < ROWS; r++) {
		h[r] = 1;
		targets[r] = 2;
	}
	loss_draw_negatives(&head, ROWS, h, targets, 1, &random, drawn);
	for (size_t r = 0; r < ROWS; r++)
		counts[drawn[r]]++;
	assert_int_equal(counts[2], 0);
	for (size_t i = 0; i < CLASSES; i++)
		assert_true(i == 2 || (counts[i] > 850 && counts[i] < 1150));
	memset(counts, 0, sizeof counts);
	loss_draw_negatives(&head, ROWS, h, targets, 3, &random, drawn);
	for (size_t r = 0; r < ROWS; r++)
		counts[drawn[r]]++;
	assert_int_equal(counts[2], 0);
	assert_near((double)counts[0] / ROWS, 1 - pow(0.8, 3), 0.03); /* the hardest wherever it is a candidate */
	assert_true(counts[0] > counts[1] && counts[1] > counts[3] && counts[3] > counts[4] && counts[4] > counts[5]);
}

static void probabilities_of_scores(void **state)
{
	const float weight[2] = { 1, -1 }, bias[2] = { 0.5F, 0.25F }, h[2] = { 0.1F, -30 };
	const struct loss_head head = { 1, 2, weight, bias };
	float out[4];
	loss_scores(&head, 2, h, out);
	assert_near((double)out[0], 0.6, 1e-6);
	assert_near((double)out[1], 0.15, 1e-6);
	assert_near((double)out[3], 30.25, 1e-6);
	loss_probabilities(2, 2, out);
	assert_near((double)out[0], 1 / (1 + exp(-0.45)), 1e-6);
	assert_near((double)out[0] + (double)out[1], 1, 1e-6);
	assert_near((double)out[3], 1, 1e-6);
	loss_scores(&head, 0, h, out);
}

/* The own exponential, in the vectors and behind them, over all that does not underflow. */
static void exponentials(void **state)
{
	enum { N = 67 };
	for (int step = 0; step <= 8733; step++) {
		const float x = -0.01F * (float)step;
		float row[N], max = 0;
		double terms = 0;
		for (size_t i = 0; i < N; i++)
			row[i] = 4;
		row[3] = row[N - 1] = x + 4;
		const float below = row[3] - 4; /* what is left of x's last bits */
		const double sum = (double)softmax_row(row, N, &max), wanted = exp((double)below);
		assert_true(max == 4);
		assert_true(row[4] == 1.0F);
		assert_true(fabs((double)row[3] - wanted) <= 2e-7 * wanted);
		assert_true(row[N - 1] == row[3]);
		for (size_t i = 0; i < N; i++)
			terms += (double)row[i];
		assert_near(sum, terms, 1e-6);
	}
	float row[2] = { 0, -INFINITY }, max = 0;
	assert_true(softmax_row(row, 2, &max) == 1.0F);
	assert_true(row[1] == 0.0F);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(softmax_and_its_slopes),
		cmocka_unit_test(sampled_softmax_and_its_slopes),
		cmocka_unit_test(pairs_and_their_slopes),
		cmocka_unit_test(squared_error_and_its_slopes),
		cmocka_unit_test(far_scores),
		cmocka_unit_test(nan_comes_out),
		cmocka_unit_test(sampled_expects_the_full),
		cmocka_unit_test(draws_follow_their_probabilities),
		cmocka_unit_test(negatives),
		cmocka_unit_test(probabilities_of_scores),
		cmocka_unit_test(exponentials),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
