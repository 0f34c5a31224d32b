/* Side patches: the states that they read, the forward against its formula, the gradient against differences. */
#include "model/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 6, BLOCKS = 3, LEVELS = BLOCKS + 1, BOTTLENECK = 4, USERS = 5, STRIDE = LEVELS * 2 * DIM };

static struct network *net;

static struct patch *make_patch(const bool blocks[LEVELS], uint32_t mean_window)
{
	struct error err;
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 2);
	static const char *const labels[] = { "a", "b" };
	struct patch_spec spec = { .insertion = PATCH_SIDE, .bottleneck = BOTTLENECK, .mean_window = mean_window };
	memcpy(spec.blocks, blocks, LEVELS);
	if (patch_new(&spec, net, "t", labels, 2, &random, &p, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < p->table.floats; i++)
		p->weights[i] = 0.5F * random_normal(&random);
	return p;
}

static void fill(float *values, size_t count)
{
	struct random_stream random = random_from(8, 8);
	for (size_t i = 0; i < count; i++)
		values[i] = random_normal(&random);
}

static double gelu(double u)
{
	return 0.5 * u * (1 + tanh(0.7978845608028654 * (u + 0.044715 * u * u * u)));
}

/* The formula of the header for one user, in double. */
static void naive_forward(const struct patch *p, const double *weights, const float *states, double out[DIM])
{
	double z[DIM] = { 0 };
	for (uint32_t l = 0; l < LEVELS; l++) {
		const struct patch_side *at = &p->side[l];
		const float *h = states + l * 2 * DIM;
		double active[BOTTLENECK];
		for (uint32_t j = 0; j < BOTTLENECK && p->spec.blocks[l]; j++) {
			double u = weights[at->down_bias + j];
			for (uint32_t i = 0; i < DIM; i++)
				u += weights[at->down_weight + j * 2 * DIM + i] * ((double)h[i] + z[i]) +
				     weights[at->down_weight + j * 2 * DIM + DIM + i] * (double)h[DIM + i];
			active[j] = gelu(u);
		}
		for (uint32_t i = 0; i < DIM && p->spec.blocks[l]; i++) {
			z[i] += weights[at->up_bias + i];
			for (uint32_t j = 0; j < BOTTLENECK; j++)
				z[i] += weights[at->up_weight + i * BOTTLENECK + j] * active[j];
		}
	}
	for (uint32_t i = 0; i < DIM; i++)
		out[i] = z[i] + (double)states[BLOCKS * 2 * DIM + i];
}

/* Of rows of all levels those that the patch reads. */
static void pack(const struct patch *p, const float *states, float *out)
{
	for (size_t u = 0; u < USERS; u++) {
		for (uint32_t l = 0; l < LEVELS; l++) {
			if (!p->spec.blocks[l] && l < BLOCKS)
				continue;
			memcpy(out, states + u * STRIDE + (size_t)l * 2 * DIM, 2 * DIM * sizeof *out);
			out += 2 * DIM;
		}
	}
}

static double *widen(const struct patch *p)
{
	double *weights = calloc(p->table.floats, sizeof *weights);
	for (size_t i = 0; i < p->table.floats; i++)
		weights[i] = (double)p->weights[i];
	return weights;
}

static const bool all_levels[LEVELS] = { true, true, true, true };
static const bool some_levels[LEVELS] = { false, true, false, true };
static const bool inner_levels[LEVELS] = { true, false, true, false };

static void check_forward(const bool blocks[LEVELS])
{
	struct error err;
	struct side_pass *pass = NULL;
	float states[USERS * STRIDE];
	float packed[USERS * STRIDE];
	double expected[DIM];
	struct patch *p = make_patch(blocks, 4);
	double *weights = widen(p);
	fill(states, USERS * STRIDE);
	assert_int_equal(side_pass_new(p, USERS, &pass, &err), STATUS_OK);
	pack(p, states, packed);
	const float *out = side_forward(p, pass, USERS, packed);
	for (size_t u = 0; u < USERS; u++) {
		naive_forward(p, weights, states + u * STRIDE, expected);
		for (size_t i = 0; i < DIM; i++)
			assert_true(fabs((double)out[u * DIM + i] - expected[i]) <= 1e-5 * (1 + fabs(expected[i])));
	}
	free(weights);
	side_pass_free(pass);
	patch_free(p);
}

static void forward(void **state)
{
	check_forward(all_levels);
	check_forward(some_levels);
	check_forward(inner_levels);
}

/* The sum of factors x outputs, in double. */
static double naive_loss(const struct patch *p, const double *weights, const float *states, const float *factors)
{
	double sum = 0;
	double out[DIM];
	for (size_t u = 0; u < USERS; u++) {
		naive_forward(p, weights, states + u * STRIDE, out);
		for (size_t i = 0; i < DIM; i++)
			sum += out[i] * (double)factors[u * DIM + i];
	}
	return sum;
}

static void check_backward(const bool blocks[LEVELS])
{
	struct error err;
	struct side_pass *pass = NULL;
	float states[USERS * STRIDE];
	float packed[USERS * STRIDE];
	float factors[USERS * DIM];
	struct patch *p = make_patch(blocks, 4);
	double *weights = widen(p);
	float *gradients = parameters_block_new(&p->table);
	fill(states, USERS * STRIDE);
	fill(factors, USERS * DIM);
	assert_int_equal(side_pass_new(p, USERS + 3, &pass, &err), STATUS_OK);
	pack(p, states, packed);
	(void)side_forward(p, pass, USERS, packed);
	for (size_t i = 0; i < p->table.floats; i++)
		gradients[i] = 1; /* what is there stays */
	side_backward(p, pass, USERS, packed, factors, gradients);
	for (size_t t = 0; t < p->table.count; t++) {
		for (size_t k = 0; k < p->table.list[t].count; k++) {
			const size_t at = p->table.list[t].offset + k;
			const double value = weights[at];
			weights[at] = value + 1e-6;
			const double above = naive_loss(p, weights, states, factors);
			weights[at] = value - 1e-6;
			const double slope = (above - naive_loss(p, weights, states, factors)) / 2e-6;
			weights[at] = value;
			if (!(fabs((double)gradients[at] - 1 - slope) <= 2e-4 * (1 + fabs(slope))))
				fail_msg("%s[%zu]: %g, expected %g", p->table.list[t].name, k,
					 (double)gradients[at] - 1, slope);
		}
	}
	free(gradients);
	free(weights);
	side_pass_free(pass);
	patch_free(p);
}

static void backward(void **state)
{
	check_backward(all_levels);
	check_backward(some_levels);
	check_backward(inner_levels);
}

static void no_users(void **state)
{
	struct error err;
	struct side_pass *pass = NULL;
	struct patch *p = make_patch(all_levels, 4);
	float *gradients = parameters_block_new(&p->table);
	assert_int_equal(side_pass_new(p, 0, &pass, &err), STATUS_OK);
	(void)side_forward(p, pass, 0, NULL);
	side_backward(p, pass, 0, NULL, gradients, gradients);
	for (size_t i = 0; i < p->table.floats; i++)
		assert_true(gradients[i] == 0);
	free(gradients);
	side_pass_free(pass);
	patch_free(p);
}

/* States against forwards that end at each of the levels and events that they speak of; and the events that
 * side_events() promises suffice. */
static void states_of_a_batch(void **state)
{
	enum { MEAN = 4, LENGTH = 60 };
	static const size_t offsets[] = { 0, 0, 1, 3, 3 + LENGTH };
	struct error err;
	struct network_pass *pass = NULL;
	struct random_stream random = random_from(4, 4);
	uint32_t items[3 + LENGTH];
	float *states = calloc(USERS * STRIDE, sizeof *states);
	float *again = calloc(4 * STRIDE, sizeof *again);
	float packed[USERS * STRIDE];
	struct patch *all = make_patch(all_levels, MEAN);
	struct patch *inner = make_patch(inner_levels, MEAN);
	for (size_t i = 0; i < 3 + LENGTH; i++)
		items[i] = 3 + random_below(&random, net->shape.items - 3);
	assert_int_equal(network_pass_new(net, 1, 3 + LENGTH + 4, 4, NETWORK_KEEP_LEVELS, &pass, &err), STATUS_OK);
	const struct network_batch batch = { .sequences = 4, .offsets = offsets, .items = items };
	side_states(net, pass, &batch, all, states);
	const float *table = net->weights + parameters_find(&net->table, "item_embedding.weight")->offset;
	for (size_t u = 0; u < 4; u++) {
		const size_t length = offsets[u + 1] - offsets[u];
		const size_t counted = length < MEAN ? length : MEAN;
		assert_memory_equal(states + u * STRIDE, table + DIM, DIM * sizeof(float));
		for (size_t i = 0; i < DIM; i++) {
			double sum = 0;
			for (size_t k = 0; k < counted; k++)
				sum += (double)table[items[offsets[u + 1] - 1 - k] * DIM + i];
			assert_true(fabs((double)states[u * STRIDE + DIM + i] -
					 sum / (double)(counted ? counted : 1)) <= 1e-6);
		}
	}
	const struct network_batch task = { .sequences = 4, .offsets = offsets, .items = items };
	network_forward(net, NULL, pass, &task);
	for (size_t u = 0; u < 4; u++) {
		for (size_t i = 0; i < DIM; i++)
			assert_true(fabs((double)states[u * STRIDE + (size_t)BLOCKS * 2 * DIM + i] -
					 (double)network_pass_task(pass)[u * DIM + i]) <= 1e-5);
	}
	const size_t events = side_events(&net->shape, MEAN);
	assert_int_equal(events, network_field(&net->shape) - 1 + MEAN);
	assert_true(events < LENGTH);
	const size_t tail[] = { 0, events };
	const struct network_batch last = { .sequences = 1, .offsets = tail, .items = items + 3 + LENGTH - events };
	side_states(net, pass, &last, all, again);
	for (size_t i = 0; i < STRIDE; i++)
		assert_true(fabs((double)again[i] - (double)states[3 * STRIDE + i]) <= 1e-5);
	assert_int_equal(side_state_floats(all), STRIDE);
	assert_int_equal(side_state_floats(inner), 3 * 2 * DIM);
	side_states(net, pass, &batch, inner, again);
	pack(inner, states, packed);
	assert_memory_equal(again, packed, 4 * 3 * 2 * DIM * sizeof *again);
	patch_free(all);
	patch_free(inner);
	free(again);
	free(states);
	network_pass_free(pass);
}

static int set_up(void **state)
{
	const struct network_shape shape = { .channels = DIM,
					     .kernel_size = 3,
					     .blocks = BLOCKS,
					     .dilations = { 1, 2, 1 },
					     .items = 23,
					     .eps = 1e-8F,
					     .causal = true };
	struct error err;
	struct random_stream random = random_from(7, 7);
	if (network_new(&shape, &net, &err) != STATUS_OK)
		return -1;
	network_randomise(net, &random);
	return 0;
}

static int tear_down(void **state)
{
	network_free(net);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forward),
		cmocka_unit_test(backward),
		cmocka_unit_test(no_users),
		cmocka_unit_test(states_of_a_batch),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
