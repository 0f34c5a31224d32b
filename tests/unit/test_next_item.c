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

/* The loss of the whole output layer, in double. */
static double plain_loss(const struct network *net, uint32_t target, const float *state)
{
	const float *weight = net->weights + parameters_find(&net->table, "output.weight")->offset;
	const float *bias = net->weights + parameters_find(&net->table, "output.bias")->offset;
	double sum = 0, own = 0;
	for (uint32_t item = BACKBONE_FIRST_ITEM; item < net->shape.items; item++) {
		double score = (double)bias[item];
		for (uint32_t c = 0; c < CHANNELS; c++)
			score += (double)state[c] * (double)weight[item * CHANNELS + c];
		sum += exp(score);
		own = item == target ? score : own;
	}
	return log(sum) - own;
}

static void losses_of_outcomes(void **state)
{
	struct error err;
	struct next_item_outcome last[CASES], task[CASES];
	const struct next_item_options options = { 0 };
	struct network_pass *pass = NULL;
	struct network *net = random_network(true);
	make_cases();
	assert_int_equal(next_item_outcomes(net, &parallel_none, cases, CASES, 0, &options, last, task, &err),
			 STATUS_OK);
	assert_int_equal(network_pass_new(net, 0, LONGEST + 2, 1, NETWORK_KEEP_NOTHING, &pass, &err), STATUS_OK);
	for (size_t i = 0; i < CASES; i++) {
		const size_t offsets[] = { 0, cases[i].events };
		const struct network_batch batch = {
			.sequences = 1, .offsets = offsets, .items = cases[i].history, .every = true
		};
		network_forward(net, NULL, pass, &batch);
		const float *newest = network_pass_every(pass) + (cases[i].events - 1) * CHANNELS;
		assert_true(fabs(task[i].log_loss - plain_loss(net, cases[i].target, network_pass_task(pass))) < 1e-4);
		assert_true(fabs(last[i].log_loss - plain_loss(net, cases[i].target, newest)) < 1e-4);
	}
	network_pass_free(pass);
	network_free(net);
}

/* Seen items that compete push targets down; drawn negatives are as the seed and the case's number say, whatever the
 * parts and wherever the list was cut. */
static void other_rankings(void **state)
{
	struct error err;
	struct next_item_outcome plain[CASES], seen[CASES], drawn[CASES], pieces[CASES];
	const struct next_item_options none = { 0 }, include = { .include_seen = true };
	const struct next_item_options negatives = { .negatives = 7, .seed = 3 };
	const struct parallel parallel = { .parts = 3, .run = run_backwards };
	struct network *net = random_network(true);
	size_t lower = 0, fewer = 0;
	make_cases();
	assert_int_equal(next_item_outcomes(net, &parallel, cases, CASES, 0, &none, plain, NULL, &err), STATUS_OK);
	assert_int_equal(next_item_outcomes(net, &parallel, cases, CASES, 0, &include, seen, NULL, &err), STATUS_OK);
	assert_int_equal(next_item_outcomes(net, &parallel, cases, CASES, 0, &negatives, drawn, NULL, &err), STATUS_OK);
	assert_int_equal(next_item_outcomes(net, &parallel, cases, 50, 0, &negatives, pieces, NULL, &err), STATUS_OK);
	assert_int_equal(next_item_outcomes(net, &parallel_none, cases + 50, CASES - 50, 50, &negatives, pieces + 50,
					    NULL, &err),
			 STATUS_OK);
	for (size_t i = 0; i < CASES; i++) {
		assert_true(seen[i].rank >= plain[i].rank);
		assert_true(drawn[i].rank <= plain[i].rank && drawn[i].rank <= 7);
		assert_int_equal(drawn[i].rank, pieces[i].rank);
		lower += seen[i].rank > plain[i].rank;
		fewer += drawn[i].rank < plain[i].rank;
	}
	assert_true(lower > CASES / 2 && fewer > CASES / 2);
	network_free(net);
}

/* A target that the network does not know is never found; nor is any from the newest event where there is none. */
static void nothing_to_rank(void **state)
{
	struct error err;
	struct next_item_outcome last[3], task[3];
	const struct next_item_options options = { 0 };
	const uint32_t history[] = { 3, 4 };
	const struct next_item_case odd[3] = { { history, 2, BACKBONE_OOV }, { history, 0, 5 }, { history, 2, 6 } };
	struct network *net = random_network(true);
	assert_int_equal(next_item_outcomes(net, &parallel_none, odd, 3, 0, &options, last, task, &err), STATUS_OK);
	assert_true(last[0].rank == UINT32_MAX && task[0].rank == UINT32_MAX);
	assert_true(isnan(last[0].log_loss) && isnan(task[0].log_loss));
	assert_true(last[1].rank == UINT32_MAX && isnan(last[1].log_loss));
	assert_true(task[1].rank < ITEMS && isfinite(task[1].log_loss));
	assert_true(last[2].rank < ITEMS && isfinite(last[2].log_loss));
	network_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_computed_plainly), cmocka_unit_test(seen_items_are_left_out),
		cmocka_unit_test(losses_of_outcomes),  cmocka_unit_test(other_rankings),
		cmocka_unit_test(nothing_to_rank),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
