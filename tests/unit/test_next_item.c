/* model/next_item: ranks against a plain computation, one user at a time, whatever the number of parts. */
#include "model/next_item.h"

#include "model/backbone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 40, CASES = 90, LONGEST = 50, CHANNELS = 16, K = 5 };

static uint32_t histories[CASES][LONGEST];
static struct next_item_case cases[CASES];

static struct network *random_network(bool causal)
{
	struct error err;
	struct network *net = NULL;
	struct random_stream random = random_from(5, causal);
	const struct network_shape shape = { .channels = CHANNELS,
					     .kernel_size = 3,
					     .blocks = 2,
					     .dilations = { 1, 2 },
					     .items = ITEMS + BACKBONE_FIRST_ITEM,
					     .window = causal ? 0 : 12,
					     .eps = 1e-8F,
					     .causal = causal,
					     .output = true };
	if (network_new(&shape, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	network_randomise(net, &random);
	for (size_t i = 0; i < net->table.floats; i++)
		net->weights[i] += 0.3F * random_normal(&random); /* no two scores alike */
	return net;
}

static void make_cases(void)
{
	struct random_stream random = random_from(6, 0);
	for (size_t i = 0; i < CASES; i++) {
		size_t events = 1 + random_below(&random, LONGEST);
		for (size_t e = 0; e < events; e++)
			histories[i][e] = BACKBONE_OOV + random_below(&random, ITEMS + 1);
		cases[i] = (struct next_item_case){ histories[i], events,
						    BACKBONE_FIRST_ITEM + random_below(&random, ITEMS) };
	}
}

static uint32_t plain_rank(const struct network *net, const struct next_item_case *one, const float *state)
{
	const float *weight = net->weights + parameters_find(&net->table, "output.weight")->offset;
	const float *bias = net->weights + parameters_find(&net->table, "output.bias")->offset;
	double scores[ITEMS + BACKBONE_FIRST_ITEM];
	uint32_t rank = 0;
	for (uint32_t item = BACKBONE_FIRST_ITEM; item < net->shape.items; item++) {
		scores[item] = (double)bias[item];
		for (uint32_t c = 0; c < CHANNELS; c++)
			scores[item] += (double)state[c] * (double)weight[item * CHANNELS + c];
	}
	for (size_t e = 0; e < one->events; e++)
		if (one->history[e] != one->target)
			scores[one->history[e]] = -INFINITY;
	for (uint32_t item = BACKBONE_FIRST_ITEM; item < net->shape.items; item++)
		rank += scores[item] > scores[one->target];
	return rank;
}

/* One user after the other, all positions. */
static struct next_item_result plain(const struct network *net)
{
	struct error err;
	struct network_pass *pass = NULL;
	struct next_item_result result = { { .k = K }, { .k = K } };
	if (network_pass_new(net, 0, LONGEST + 2, 1, NETWORK_KEEP_NOTHING, &pass, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < CASES; i++) {
		const size_t offsets[] = { 0, cases[i].events };
		const struct network_batch batch = {
			.sequences = 1, .offsets = offsets, .items = cases[i].history, .every = true
		};
		network_forward(net, NULL, pass, &batch);
		metrics_ranking_add(&result.task, plain_rank(net, &cases[i], network_pass_task(pass)));
		if (net->shape.causal)
			metrics_ranking_add(&result.last,
					    plain_rank(net, &cases[i],
						       network_pass_every(pass) + (cases[i].events - 1) * CHANNELS));
	}
	network_pass_free(pass);
	return result;
}

static void run_backwards(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	for (uint32_t i = parts; i-- > 0;)
		part(job, i);
}

static void as_computed_plainly(void **state)
{
	make_cases();
	for (int causal = 0; causal < 2; causal++) {
		struct network *net = random_network(causal);
		struct next_item_result expected = plain(net);
		assert_true(expected.task.hits > 0 && expected.task.hits < CASES);
		for (uint32_t parts = 1; parts < 5; parts++) {
			struct error err;
			struct next_item_result result;
			const struct parallel parallel = { .parts = parts, .run = run_backwards };
			assert_int_equal(next_item_rank(net, &parallel, cases, CASES, K, &result, &err), STATUS_OK);
			assert_memory_equal(&result, &expected, sizeof result);
		}
		network_free(net);
	}
}

/* The target of a user who has seen all there is: first, since nothing else is left. */
static void seen_items_are_left_out(void **state)
{
	struct error err;
	struct next_item_result result;
	uint32_t all[ITEMS];
	struct network *net = random_network(true);
	for (uint32_t i = 0; i < ITEMS; i++)
		all[i] = BACKBONE_FIRST_ITEM + i;
	const struct next_item_case one = { all, ITEMS, BACKBONE_FIRST_ITEM + 7 };
	assert_int_equal(next_item_rank(net, &parallel_none, &one, 1, K, &result, &err), STATUS_OK);
	assert_true(result.last.gain == 1 && result.task.gain == 1);
	assert_int_equal(next_item_rank(net, &parallel_none, &one, 0, K, &result, &err), STATUS_OK);
	assert_true(result.last.count == 0 && result.task.count == 0);
	network_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_computed_plainly),
		cmocka_unit_test(seen_items_are_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
