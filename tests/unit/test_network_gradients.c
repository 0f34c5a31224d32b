/* The trainable network's backward against differences of its formulas, in double. */
#include "model_fixture.h"
#include "network_fixture.h"

#include <string.h>

#define STEP 1e-5
#define BOUND 2e-4 /* relative to the largest derivative of a tensor, and 1 */

static const struct network_shape shapes[] = {
	{ .channels = 6,
	  .kernel_size = 3,
	  .blocks = 2,
	  .dilations = { 1, 2 },
	  .items = 12,
	  .eps = 1e-8F,
	  .causal = true },
	{ .channels = 16,
	  .kernel_size = 2,
	  .blocks = 3,
	  .dilations = { 1, 3, 2 },
	  .items = 9,
	  .eps = 1e-8F,
	  .causal = true },
	{ .channels = 4, .kernel_size = 1, .blocks = 1, .dilations = { 1 }, .items = 8, .eps = 1e-6F, .causal = true },
	{ .channels = 7, .kernel_size = 3, .blocks = 2, .dilations = { 1, 2 }, .items = 12, .window = 6, .eps = 1e-8F },
	{ .channels = 5,
	  .kernel_size = 4,
	  .blocks = 2,
	  .dilations = { 2, 1 },
	  .items = 12,
	  .window = 20,
	  .eps = 1e-8F },
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static const uint32_t lengths[] = { 0, 1, 5, 9, 2 };
#define SEQUENCES (sizeof lengths / sizeof lengths[0])
#define EVENTS 17

struct problem {
	struct network *net;
	struct patch_fixture *patch; /* NULL: none */
	struct network_fixture *batch;
	struct reference reference;
	float *task_weights;  /* of the loss: a weighted sum of states */
	float *every_weights; /* NULL: the task tokens count alone */
	float *trunk;
	float *adapters;
};

static void open_problem(struct problem *p, const struct network_shape *shape, bool parallel, bool patched, bool every,
			 uint32_t newest, bool cuts)
{
	memset(p, 0, sizeof *p);
	p->net = fixture_network(shape, 3);
	p->patch = patched ? fixture_patch(p->net, parallel, 3) : NULL;
	p->batch = fixture_batch(p->net, lengths, SEQUENCES, every, newest, NETWORK_KEEP_ALL);
	p->batch->batch.cuts = cuts ? p->batch->cuts : NULL;
	p->reference.net = p->net;
	p->reference.weights = reference_copy(p->net->weights, p->net->table.floats);
	if (patched) {
		p->reference.patch = &p->patch->patch;
		p->reference.adapters = reference_copy(p->patch->weights, p->patch->floats);
		p->adapters = calloc(p->patch->floats, sizeof *p->adapters);
	}
	p->trunk = parameters_block_new(&p->net->table);
	p->task_weights = fixture_floats(SEQUENCES * shape->channels, 11);
	p->every_weights = every || newest > 0 ? fixture_floats(EVENTS * shape->channels, 12) : NULL;
}

static void close_problem(struct problem *p)
{
	fixture_batch_free(p->batch);
	fixture_patch_free(p->patch);
	network_free(p->net);
	free(p->reference.weights);
	free(p->reference.adapters);
	free(p->trunk);
	free(p->adapters);
	free(p->task_weights);
	free(p->every_weights);
}

/* Whether the state at an event is among what the batch asks for. */
static bool is_wanted(const struct problem *p, size_t sequence, uint32_t event)
{
	const struct network_batch *b = &p->batch->batch;
	const uint32_t cut = b->cuts == NULL ? lengths[sequence] : b->cuts[sequence];
	if (!p->net->shape.causal)
		return event + p->net->shape.window >= lengths[sequence];
	return b->every || (event < cut && event + b->newest >= cut);
}

static double loss(const struct problem *p)
{
	const struct network_batch *b = &p->batch->batch;
	const uint32_t d = p->net->shape.channels;
	const uint32_t window = p->net->shape.causal ? UINT32_MAX : p->net->shape.window;
	double *task = calloc(d, sizeof *task);
	double *every = calloc((size_t)EVENTS * d, sizeof *every);
	double sum = 0;
	for (size_t s = 0; s < SEQUENCES; s++) {
		const uint32_t skipped = lengths[s] > window ? lengths[s] - window : 0;
		const uint32_t events = lengths[s] - skipped;
		const uint32_t cut = b->cuts == NULL ? lengths[s] : b->cuts[s];
		reference_forward(&p->reference, b->items + b->offsets[s] + skipped, events, cut, p->net->shape.blocks,
				  task, every);
		for (uint32_t i = 0; i < d; i++)
			sum += (double)p->task_weights[s * d + i] * task[i];
		for (uint32_t e = skipped; p->every_weights != NULL && e < lengths[s]; e++) {
			for (uint32_t i = 0; is_wanted(p, s, e) && i < d; i++)
				sum += (double)p->every_weights[(b->offsets[s] + e) * d + i] *
				       every[(size_t)(e - skipped) * d + i];
		}
	}
	free(task);
	free(every);
	return sum;
}

static double difference(const struct problem *p, double *value)
{
	const double before = *value;
	*value = before + STEP;
	const double above = loss(p);
	*value = before - STEP;
	const double below = loss(p);
	*value = before;
	return (above - below) / (2 * STEP);
}

/* Some values of a tensor: all of a small one. */
static void check_tensor(const struct problem *p, const char *name, double *weights, const float *gradient,
			 size_t count, size_t stride)
{
	double largest = 1;
	for (size_t i = 0; i < count; i++)
		largest = fmax(largest, fabs((double)gradient[i]));
	for (size_t i = 0; i < count; i += stride) {
		const double expected = difference(p, &weights[i]);
		if (!(fabs((double)gradient[i] - expected) <= BOUND * largest))
			fail_msg("%s, value %zu of %zu: %g, expected %g", name, i, count, (double)gradient[i],
				 expected);
	}
}

static void check_gradients(const struct problem *p)
{
	network_forward(p->net, p->reference.patch, p->batch->pass, &p->batch->batch);
	network_backward(p->net, p->reference.patch, p->batch->pass, &p->batch->batch, p->task_weights,
			 p->every_weights, p->trunk, p->adapters);
	for (size_t i = 0; i < p->net->table.count; i++) {
		const struct parameter *t = &p->net->table.list[i];
		check_tensor(p, t->name, p->reference.weights + t->offset, p->trunk + t->offset, t->count,
			     t->count / 7 + 1);
	}
	if (p->patch != NULL)
		check_tensor(p, "adapters", p->reference.adapters, p->adapters, p->patch->floats,
			     p->patch->floats / 53 + 1);
}

static void test_trunk(void **unused)
{
	for (size_t i = 0; i < 4 * SHAPES; i++) {
		struct problem p;
		const bool every = i % 2 == 0;
		open_problem(&p, &shapes[i / 4], false, false, every, i % 4 == 1 ? 2 : 0,
			     i % 4 < 2 && shapes[i / 4].causal);
		check_gradients(&p);
		close_problem(&p);
	}
}

static void test_patches(void **unused)
{
	for (size_t i = 0; i < 4 * SHAPES; i++) {
		struct problem p;
		open_problem(&p, &shapes[i / 4], i % 2 == 1, true, i % 4 < 2, 0, i % 4 == 3 && shapes[i / 4].causal);
		check_gradients(&p);
		close_problem(&p);
	}
}

static bool is_zero(const float *floats, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (floats[i] != 0)
			return false;
	}
	return true;
}

/* Only `prefix`'s tensors are trained: their gradients are what they were, and no other is touched. */
static void check_trained(struct problem *p, const char *prefix, const float *all)
{
	float *some = parameters_block_new(&p->net->table);
	for (size_t i = 0; i < p->net->table.count; i++)
		p->net->table.list[i].trained = strncmp(p->net->table.list[i].name, prefix, strlen(prefix)) == 0;
	network_backward(p->net, p->reference.patch, p->batch->pass, &p->batch->batch, p->task_weights,
			 p->every_weights, some, NULL);
	for (size_t i = 0; i < p->net->table.count; i++) {
		const struct parameter *t = &p->net->table.list[i];
		if (!t->trained)
			assert_true(is_zero(some + t->offset, t->count));
		else if (fixture_difference(some + t->offset, all + t->offset, t->count) > 0)
			fail_msg("%s alone: another gradient for %s", prefix, t->name);
	}
	free(some);
}

static void test_trained(void **unused)
{
	static const char *const prefixes[] = { "item_embedding",
						"blocks.0.conv1.weight",
						"blocks.0.conv1.bias",
						"blocks.0.conv2",
						"blocks.1.norm1.weight",
						"blocks.1.norm2.bias",
						"blocks.1.conv2.bias",
						"blocks.1",
						"output" };
	for (size_t i = 0; i < 4; i++) {
		struct problem p;
		open_problem(&p, &shapes[i / 2 * 3], i == 1, i % 2 == 1, true, 0, false);
		network_forward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch);
		network_backward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch, p.task_weights,
				 p.every_weights, p.trunk, p.adapters);
		for (size_t k = 0; k < sizeof prefixes / sizeof prefixes[0]; k++)
			check_trained(&p, prefixes[k], p.trunk);
		close_problem(&p);
	}
}

/* A frozen trunk: the adapters' gradients are the same, and gradients are added to what is there. */
static void test_frozen(void **unused)
{
	for (size_t i = 0; i < 2; i++) {
		struct problem p;
		open_problem(&p, &shapes[1], i == 1, true, false, 0, false);
		float *twice = calloc(p.patch->floats, sizeof *twice);
		network_forward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch);
		network_backward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch, p.task_weights, NULL,
				 p.trunk, p.adapters);
		for (int k = 0; k < 2; k++)
			network_backward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch, p.task_weights, NULL,
					 NULL, twice);
		for (size_t k = 0; k < p.patch->floats; k++)
			assert_true(fabs((double)twice[k] - 2 * (double)p.adapters[k]) <=
				    1e-5 * fmax(1, fabs((double)twice[k])));
		network_backward(p.net, p.reference.patch, p.batch->pass, &p.batch->batch, p.task_weights, NULL, NULL,
				 NULL);
		free(twice);
		close_problem(&p);
	}
}

/* Derivatives of the task tokens' states alone, or of the events' alone, add up to those of both. */
static void test_parts(void **unused)
{
	struct problem p;
	open_problem(&p, &shapes[0], false, false, true, 0, true);
	float *parts = parameters_block_new(&p.net->table);
	network_forward(p.net, NULL, p.batch->pass, &p.batch->batch);
	network_backward(p.net, NULL, p.batch->pass, &p.batch->batch, p.task_weights, p.every_weights, p.trunk, NULL);
	network_backward(p.net, NULL, p.batch->pass, &p.batch->batch, p.task_weights, NULL, parts, NULL);
	assert_true(fixture_difference(parts, p.trunk, p.net->table.floats) > 0.1);
	network_backward(p.net, NULL, p.batch->pass, &p.batch->batch, NULL, p.every_weights, parts, NULL);
	assert_true(fixture_difference(parts, p.trunk, p.net->table.floats) <= 1e-4);
	free(parts);
	close_problem(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trunk),  cmocka_unit_test(test_patches), cmocka_unit_test(test_trained),
		cmocka_unit_test(test_frozen), cmocka_unit_test(test_parts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
