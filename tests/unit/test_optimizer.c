/* Ten steps against an independent computation in NumPy (float64), and what a step must not do. */
#include "model/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* weight [2, 3], bias [3], and a frozen [2, 2] between them */
struct fixture {
	struct parameters table;
	struct optimizer optimizer;
	float *weights, *gradients, *anchor;
};

static void set_up(struct fixture *f, const struct optimizer_options *options)
{
	static const uint64_t shapes[3][2] = { { 2, 3 }, { 2, 2 }, { 3, 0 } };
	static const char *const names[3] = { "weight", "frozen", "bias" };
	struct error err;
	size_t offset;
	*f = (struct fixture){ 0 };
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(parameters_add(&f->table, names[i], i == 2 ? 1 : 2, shapes[i], false, &offset, &err),
				 STATUS_OK);
	f->table.list[1].trained = false;
	f->weights = parameters_block_new(&f->table);
	f->gradients = parameters_block_new(&f->table);
	f->anchor = parameters_block_new(&f->table);
	assert_true(f->weights && f->gradients && f->anchor);
	assert_int_equal(optimizer_init(&f->optimizer, options, &f->table, &err), STATUS_OK);
	for (size_t i = 0; i < f->table.floats; i++)
		f->weights[i] = f->anchor[i] = 0.125F * (float)((i % 16) + 1);
}

static void tear_down(struct fixture *f)
{
	optimizer_close(&f->optimizer);
	parameters_free(&f->table);
	free(f->weights);
	free(f->gradients);
	free(f->anchor);
}

/* The gradient at step 0 .. 9: as in the computation below. */
static void set_gradients(struct fixture *f, int step)
{
	for (size_t i = 0; i < f->table.floats; i++)
		f->gradients[i] = 0.25F * (float)((int)((i % 16) * 7 + (size_t)step * 3) % 11 - 5);
}

static void assert_near(double got, double wanted, double bound)
{
	if (!(fabs(got - wanted) <= bound))
		fail_msg("%.9g, expected %.9g", got, wanted);
}

/* Ten steps; weights, rates and norms as this makes them (NumPy, float64):
 *
 *	w = [0.125 * arange(1, 7), 0.125 * arange(1, 4)]; a = copies; m, v = zeros
 *	for t in range(1, 11):
 *		g = [0.25 * ((i * 7 + (t - 1) * 3) % 11 - 5) for i in range(len(w))] + proximal * (w - a)
 *		norm = sqrt(sum of g * g over both); g *= min(1, clip / norm) where clip > 0
 *		rate = peak * t / warm_up where t <= warm_up, else
 *		       low + (peak - low) * 0.5 * (1 + cos(pi * min(1, (t - warm_up) / (steps - warm_up))))
 *		m = 0.9 * m + 0.1 * g; v = 0.999 * v + 0.001 * g**2
 *		w[0] *= 1 - rate * decay
 *		w -= rate * (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.999**t)) + 1e-8) */
static void ten_steps(const struct optimizer_options *options, const double weights[9], const double rates[10],
		      const double norms[10])
{
	struct fixture f;
	set_up(&f, options);
	if (options->proximal > 0)
		f.optimizer.anchor = f.anchor;
	for (int step = 0; step < 10; step++) {
		double norm = 0;
		set_gradients(&f, step);
		assert_near((double)optimizer_rate(&f.optimizer), rates[step], 1e-8);
		assert_true(optimizer_step(&f.optimizer, &f.table, f.weights, f.gradients, &norm));
		assert_near(norm, norms[step], 3e-7);
	}
	assert_int_equal(f.optimizer.step, 10);
	for (size_t i = 0; i < 6; i++)
		assert_near((double)f.weights[f.table.list[0].offset + i], weights[i], 5e-7);
	for (size_t i = 0; i < 3; i++)
		assert_near((double)f.weights[f.table.list[2].offset + i], weights[6 + i], 5e-7);
	for (size_t i = 0; i < 4; i++) { /* frozen, whatever its gradients are */
		const size_t at = f.table.list[1].offset + i;
		assert_true(f.weights[at] == f.anchor[at]);
		assert_true(f.optimizer.mean[at] == 0.0F);
	}
	tear_down(&f);
}

static void adam(void **state)
{
	const struct optimizer_options options = { .rate = 0.1F, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8F };
	const double weights[9] = { 0.44125325, -0.04188402, 0.40736205,  0.37489088, 0.32794407,
				    1.088077,   0.44125325,  -0.04188402, 0.40736205 };
	const double rates[10] = { 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1 };
	const double norms[10] = { 2.5124689, 2.3048861, 2.1937411, 2.4874686, 2.3048861,
				   2.3717082, 2.3979158, 2.5248762, 2.1794495, 2.236068 };
	ten_steps(&options, weights, rates, norms);
}

static void everything_at_once(void **state)
{
	const struct optimizer_options options = { .rate = 0.1F,
						   .beta1 = 0.9,
						   .beta2 = 0.999,
						   .epsilon = 1e-8F,
						   .decay = 0.25F,
						   .clip = 1.5F,
						   .proximal = 0.5F,
						   .warm_up = 3,
						   .steps = 8,
						   .floor = 0.1F };
	const double weights[9] = { 0.27783946, 0.071399601, 0.33178833,  0.40093514, 0.45885633,
				    0.80237057, 0.3023194,   0.085498183, 0.37095755 };
	const double rates[10] = { 0.033333333, 0.066666667, 0.1,  0.091405765, 0.068905765,
				   0.041094235, 0.018594235, 0.01, 0.01,        0.01 };
	const double norms[10] = { 2.5124689, 2.2807369, 2.2921344, 2.5431903, 2.2151324,
				   2.4319771, 2.5007341, 2.5731993, 2.0405647, 2.3689387 };
	ten_steps(&options, weights, rates, norms);
}

/* A gradient that is not a number, or too large to square, leaves weights, moments and the step as they are. */
static void bad_gradients_change_nothing(void **state)
{
	const struct optimizer_options options = { .rate = 0.1F, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8F };
	const float bad[] = { NAN, INFINITY, -INFINITY, 1e30F };
	struct fixture f;
	double norm = 0;
	set_up(&f, &options);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		set_gradients(&f, 0);
		f.gradients[f.table.list[2].offset + 1] = bad[i];
		assert_false(optimizer_step(&f.optimizer, &f.table, f.weights, f.gradients, &norm));
		assert_true(!(norm < 1e18));
		assert_int_equal(f.optimizer.step, 0);
		assert_memory_equal(f.weights, f.anchor, f.table.floats * sizeof(float));
		assert_true(f.optimizer.mean[0] == 0.0F && f.optimizer.square[0] == 0.0F);
	}
	set_gradients(&f, 0);
	f.gradients[f.table.list[1].offset] = NAN; /* of a frozen tensor: nobody looks */
	assert_true(optimizer_step(&f.optimizer, &f.table, f.weights, f.gradients, &norm));
	tear_down(&f);
}

/* A norm that clipping brings down is no fault, however large. */
static void clipping_saves_large_gradients(void **state)
{
	const struct optimizer_options options = {
		.rate = 0.1F, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8F, .clip = 1
	};
	struct fixture f;
	double norm = 0;
	set_up(&f, &options);
	memset(f.gradients, 0, f.table.floats * sizeof(float));
	f.gradients[0] = 1e25F;
	assert_true(optimizer_step(&f.optimizer, &f.table, f.weights, f.gradients, &norm));
	assert_near(norm / 1e25, 1, 1e-6);
	assert_near((double)f.weights[0], 0.125 - 0.1, 1e-6);
	assert_near((double)f.optimizer.mean[0], 0.1, 1e-6);
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adam),
		cmocka_unit_test(everything_at_once),
		cmocka_unit_test(bad_gradients_change_nothing),
		cmocka_unit_test(clipping_saves_large_gradients),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
