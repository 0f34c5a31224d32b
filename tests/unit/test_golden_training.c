/* Forward, loss, every gradient and ten optimizer steps, against PyTorch's (tests/golden/peterrec.py). */
#include "model_fixture.h"
#include "model/loss.h"
#include "model/network.h"
#include "model/optimizer.h"
#include "model/patch.h"
#include "model/safetensors.h"
#include "model/side.h"

#include <string.h>

#define FORWARD_BOUND 1e-5 /* relative to the largest value of the tensor, as all */
#define GRADIENT_BOUND 3e-5
#define LOSS_BOUND 2e-5 /* of ten steps: what an early difference becomes */
#define STEPS_BOUND 3e-4

enum { USERS = 5, EVENTS = 27, CHANNELS = 8, ITEMS = 20, BOTTLENECK = 3, MEAN_WINDOW = 4, STEPS = 10, DRAWN = 6 };

static const size_t offsets[USERS + 1] = { 0, 5, 5, 17, 18, 27 };
static const uint32_t cuts[USERS] = { 3, 0, 12, 1, 4 }; /* of pre-training */

static const struct network_shape causal = {
	.channels = CHANNELS,
	.kernel_size = 3,
	.blocks = 3,
	.dilations = { 1, 2, 1 },
	.items = ITEMS,
	.eps = 1e-8F,
	.causal = true,
	.output = true,
};
static const struct network_shape noncausal = {
	.channels = CHANNELS,
	.kernel_size = 4,
	.blocks = 2,
	.dilations = { 1, 3 },
	.items = ITEMS,
	.window = 512,
	.eps = 1e-8F,
	.output = true,
};

enum loss_kind { SOFTMAX, UNIFORM, LOG_UNIFORM, BPR, BCE, SQUARED };

#define ALL 0xff
#define ADAM                                                                                                           \
	{                                                                                                              \
		.rate = 0.01F                                                                                          \
	}

/* The same table is in tests/golden/peterrec.py. classes 0: pre-training, no patch. */
static const struct golden_case {
	const char *name;
	const struct network_shape *shape;
	enum loss_kind loss;
	uint32_t classes;
	enum patch_insertion insertion;
	unsigned blocks; /* bits */
	bool first, second, norms;
	bool trunk; /* is trained too */
	struct optimizer_options optimizer;
} cases[] = {
	{ "causal_pretrain", &causal, SOFTMAX, 0, 0, 0, false, false, false, true, ADAM },
	{ "causal_uniform", &causal, UNIFORM, 0, 0, 0, false, false, false, true, ADAM },
	{ "causal_everything", &causal, SOFTMAX, 5, PATCH_SERIAL, 0, false, false, false, true, ADAM },
	{ "causal_head",
	  &causal,
	  LOG_UNIFORM,
	  9,
	  PATCH_SERIAL,
	  0,
	  false,
	  false,
	  false,
	  false,
	  { .rate = 0.02F, .clip = 0.1F } },
	{ "causal_serial", &causal, SOFTMAX, 5, PATCH_SERIAL, ALL, true, true, true, false, ADAM },
	{ "causal_serial_one",
	  &causal,
	  BPR,
	  9,
	  PATCH_SERIAL,
	  1 << 1,
	  false,
	  true,
	  false,
	  false,
	  { .rate = 0.01F, .decay = 0.1F } },
	{ "causal_parallel", &causal, BCE, 9, PATCH_PARALLEL, ALL, true, true, true, false, ADAM },
	{ "causal_parallel_all",
	  &causal,
	  UNIFORM,
	  9,
	  PATCH_PARALLEL,
	  ALL,
	  true,
	  false,
	  false,
	  true,
	  { .rate = 0.01F, .decay = 0.05F } },
	{ "causal_side",
	  &causal,
	  SOFTMAX,
	  5,
	  PATCH_SIDE,
	  ALL,
	  false,
	  false,
	  false,
	  false,
	  { .rate = 0.01F, .proximal = 0.1F } },
	{ "noncausal_gaps",
	  &noncausal,
	  SOFTMAX,
	  0,
	  0,
	  0,
	  false,
	  false,
	  false,
	  true,
	  { .rate = 0.01F, .decay = 0.1F, .clip = 0.5F } },
	{ "noncausal_log_uniform", &noncausal, LOG_UNIFORM, 0, 0, 0, false, false, false, true, ADAM },
	{ "noncausal_serial", &noncausal, SQUARED, 1, PATCH_SERIAL, ALL, true, false, false, false, ADAM },
	{ "noncausal_parallel", &noncausal, SOFTMAX, 5, PATCH_PARALLEL, 1 << 0, false, true, false, false, ADAM },
	{ "noncausal_side", &noncausal, BPR, 9, PATCH_SIDE, 1 << 0 | 1 << 2, false, false, false, false, ADAM },
};
#define CASES (sizeof cases / sizeof cases[0])

struct learned {                        /* one table, its weights and what training needs beside them */
	const struct parameters *table; /* NULL: not trained */
	float *weights;
	float *gradients;
	float *anchor;
	struct optimizer optimizer;
};

struct golden {
	const struct golden_case *c;
	const struct safetensors *file;
	struct network *net;
	struct network_pass *pass;
	struct patch *patch; /* NULL: pre-training */
	struct side_pass *side;
	struct learned trunk;
	struct learned adapters;
	struct network_batch batch;
	struct random_stream random; /* of the sampled losses */
	uint32_t items[EVENTS];
	uint32_t targets[USERS];
	uint32_t event_targets[EVENTS];
	uint32_t negatives[USERS];
	float weights[USERS];
	float values[USERS];
	float *states; /* side: [USERS, side_state_floats] */
	float *scratch;
	float d_task[USERS * CHANNELS];
	float d_every[EVENTS * CHANNELS];
};

#define MUST(call, err)                                                                                                \
	do {                                                                                                           \
		if ((call) != STATUS_OK)                                                                               \
			fail_msg("%s: %s", #call, (err).text);                                                         \
	} while (0)

/* Of a file's convolution [out, in, tap] the value at place `at` of the block's [out, tap, in]. */
static size_t in_file(const struct parameter *t, size_t at)
{
	if (!t->convolution)
		return at;
	const size_t in = (size_t)t->shape[1];
	const size_t taps = (size_t)t->shape[2];
	const size_t within = at % (in * taps);
	return at - within + within % in * taps + within / in;
}

static float *read_tensor(const struct golden *g, const char *prefix, const char *part, const struct parameter *t)
{
	struct error err;
	char name[160];
	float *values = calloc(t->count, sizeof *values);
	assert_non_null(values);
	(void)snprintf(name, sizeof name, "%s/%s/%s", prefix, part, t->name);
	MUST(safetensors_read_floats(g->file, name, t->rank, t->shape, values, &err), err);
	return values;
}

static void load_weights(const struct golden *g, const char *prefix, const struct parameters *table, float *block)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct parameter *t = &table->list[i];
		float *values = read_tensor(g, prefix, "weights", t);
		for (size_t k = 0; k < t->count; k++)
			block[t->offset + k] = values[in_file(t, k)];
		free(values);
	}
}

static void check(const struct golden *g, const char *what, const float *got, const float *expected, size_t count,
		  double bound)
{
	double scale = 0;
	for (size_t i = 0; i < count; i++)
		scale = fmax(scale, fabs((double)expected[i]));
	double difference = fixture_difference(got, expected, count);
	if (!(difference <= bound * scale))
		fail_msg("%s, %s: off by %g of %g", g->c->name, what, difference, scale);
}

static void check_block(const struct golden *g, const char *part, const struct learned *l, const float *block,
			double bound)
{
	for (size_t i = 0; l->table != NULL && i < l->table->count; i++) {
		const struct parameter *t = &l->table->list[i];
		float *values = read_tensor(g, g->c->name, part, t);
		float *ordered = calloc(t->count, sizeof *ordered);
		assert_non_null(ordered);
		for (size_t k = 0; k < t->count; k++)
			ordered[k] = values[in_file(t, k)];
		char what[96];
		(void)snprintf(what, sizeof what, "%s of %s", part, t->name);
		check(g, what, block + t->offset, ordered, t->count, bound);
		free(ordered);
		free(values);
	}
}

static void check_states(const struct golden *g, const char *name, unsigned rank, const uint64_t shape[],
			 const float *got)
{
	struct error err;
	char full[96];
	float expected[4 * EVENTS * CHANNELS];
	size_t count = 1;
	for (unsigned i = 0; i < rank; i++)
		count *= (size_t)shape[i];
	(void)snprintf(full, sizeof full, "%s/%s", g->c->name, name);
	MUST(safetensors_read_floats(g->file, full, rank, shape, expected, &err), err);
	check(g, name, got, expected, count, FORWARD_BOUND);
}

static bool read_numbers(const struct golden *g, const char *name, size_t count, uint32_t *out)
{
	char full[96];
	(void)snprintf(full, sizeof full, "%s/%s", g->c->name, name);
	const struct safetensors_tensor *t = safetensors_find(g->file, full);
	if (t == NULL)
		return false;
	assert_int_equal(t->type, SAFETENSORS_I64);
	assert_int_equal(t->bytes, count * sizeof(int64_t));
	for (size_t i = 0; i < count; i++) {
		int64_t value = 0;
		memcpy(&value, (const char *)t->data + i * sizeof value, sizeof value);
		out[i] = (uint32_t)value;
	}
	return true;
}

static void read_inputs(struct golden *g)
{
	struct error err;
	const uint64_t shape = USERS;
	char name[96];
	assert_true(read_numbers(g, "items", EVENTS, g->items));
	assert_true(read_numbers(g, "targets", USERS, g->targets));
	assert_true(read_numbers(g, "negatives", USERS, g->negatives) == (g->c->loss == BPR || g->c->loss == BCE));
	assert_true(read_numbers(g, "event_targets", EVENTS, g->event_targets) == (g->c->classes == 0));
	(void)snprintf(name, sizeof name, "%s/weights", g->c->name);
	MUST(safetensors_read_floats(g->file, name, 1, &shape, g->weights, &err), err);
	(void)snprintf(name, sizeof name, "%s/values", g->c->name);
	if (g->c->loss == SQUARED)
		MUST(safetensors_read_floats(g->file, name, 1, &shape, g->values, &err), err);
}

static void make_patch(struct golden *g)
{
	static const char *const labels[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8" };
	const struct golden_case *c = g->c;
	struct patch_spec spec = {
		.type = c->loss == SQUARED   ? PATCH_REGRESSION
			: c->loss == SOFTMAX ? PATCH_CLASSIFICATION
					     : PATCH_RANKING,
		.insertion = c->insertion,
		.bottleneck = BOTTLENECK,
		.mean_window = MEAN_WINDOW,
		.first = c->first,
		.second = c->second,
		.norms = c->norms,
	};
	struct error err;
	struct random_stream random = random_from(1, 1);
	const uint32_t places = c->shape->blocks + (c->insertion == PATCH_SIDE ? 1 : 0);
	for (uint32_t i = 0; i < places; i++)
		spec.blocks[i] = (c->blocks >> i & 1) != 0;
	MUST(patch_new(&spec, g->net, "golden", c->loss == SQUARED ? NULL : labels, c->classes, &random, &g->patch,
		       &err),
	     err);
	load_weights(g, c->name, &g->patch->table, g->patch->weights);
}

static void learn(struct learned *l, const struct parameters *table, float *weights,
		  const struct optimizer_options *given)
{
	struct error err;
	struct optimizer_options options = *given;
	options.beta1 = 0.9;
	options.beta2 = 0.999;
	options.epsilon = 1e-8F;
	l->table = table;
	l->weights = weights;
	l->gradients = parameters_block_new(table);
	l->anchor = parameters_block_new(table);
	assert_true(l->gradients != NULL && l->anchor != NULL);
	memcpy(l->anchor, weights, table->floats * sizeof *weights);
	MUST(optimizer_init(&l->optimizer, &options, table, &err), err);
	l->optimizer.anchor = options.proximal > 0 ? l->anchor : NULL;
}

static void open_golden(struct golden *g, const struct safetensors *file, const struct golden_case *c)
{
	struct error err;
	*g = (struct golden){ .c = c, .file = file };
	MUST(network_new(c->shape, &g->net, &err), err);
	load_weights(g, c->shape->causal ? "causal" : "noncausal", &g->net->table, g->net->weights);
	if (c->classes > 0)
		make_patch(g);
	if (c->insertion == PATCH_SIDE && c->classes > 0) {
		g->states = calloc(USERS * side_state_floats(g->patch), sizeof *g->states);
		assert_non_null(g->states);
		MUST(side_pass_new(g->patch, USERS, &g->side, &err), err);
	}
	MUST(network_pass_new(g->net, BOTTLENECK, EVENTS + 2 * USERS, USERS, true, &g->pass, &err), err);
	const size_t scratch = LOSS_SOFTMAX_ROWS * ITEMS + loss_sampled_floats(CHANNELS, DRAWN);
	g->scratch = calloc(scratch, sizeof *g->scratch);
	assert_non_null(g->scratch);
	read_inputs(g);
	g->batch = (struct network_batch){
		.sequences = USERS,
		.offsets = offsets,
		.items = g->items,
		.cuts = c->shape->causal && c->classes == 0 ? cuts : NULL,
		.every = true,
	};
	if (c->trunk)
		learn(&g->trunk, &g->net->table, g->net->weights, &c->optimizer);
	if (g->patch != NULL)
		learn(&g->adapters, &g->patch->table, g->patch->weights, &c->optimizer);
}

static void close_learned(struct learned *l)
{
	if (l->table != NULL)
		optimizer_close(&l->optimizer);
	free(l->gradients);
	free(l->anchor);
}

static void close_golden(struct golden *g)
{
	close_learned(&g->trunk);
	close_learned(&g->adapters);
	network_pass_free(g->pass);
	side_pass_free(g->side);
	patch_free(g->patch);
	network_free(g->net);
	free(g->states);
	free(g->scratch);
}

/* What the head reads: [USERS, d]. */
static const float *forward(struct golden *g)
{
	if (g->side != NULL) {
		side_states(g->net, g->pass, &g->batch, g->patch, g->states);
		return side_forward(g->patch, g->side, USERS, g->states);
	}
	network_forward(g->net, g->patch == NULL ? NULL : &g->patch->adapters, g->pass, &g->batch);
	return network_pass_task(g->pass);
}

static void backward(struct golden *g)
{
	if (g->side != NULL) {
		side_backward(g->patch, g->side, USERS, g->states, g->d_task, g->adapters.gradients);
		return;
	}
	network_backward(g->net, g->patch == NULL ? NULL : &g->patch->adapters, g->pass, &g->batch, g->d_task,
			 g->patch == NULL ? g->d_every : NULL, g->trunk.gradients, g->adapters.gradients);
}

static double loss_of(struct golden *g, const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		      const float *row_weights, const struct loss_gradient *d)
{
	const uint32_t first = g->patch == NULL ? BACKBONE_FIRST_ITEM : 0;
	switch (g->c->loss) {
	case SOFTMAX:
		return loss_softmax(head, n, h, targets, row_weights, g->scratch, d);
	case UNIFORM:
		return loss_sampled_softmax(head, n, h, targets, row_weights, LOSS_UNIFORM, first, DRAWN, &g->random,
					    g->scratch, d);
	case LOG_UNIFORM:
		return loss_sampled_softmax(head, n, h, targets, row_weights, LOSS_LOG_UNIFORM, first, DRAWN,
					    &g->random, g->scratch, d);
	case BPR:
		return loss_bpr(head, n, h, targets, g->negatives, row_weights, d);
	case BCE:
		return loss_bce(head, n, h, targets, g->negatives, row_weights, d);
	case SQUARED:
		return loss_squared(head, n, h, g->values, row_weights, d);
	}
	return NAN;
}

/* Forward, loss and gradients. A task: the mean over users. Pre-training: the mean over the events that have a target,
 * and 0.05 of the mean over the task tokens. */
static double pass_once(struct golden *g)
{
	const bool pretraining = g->patch == NULL;
	const struct learned *l = pretraining ? &g->trunk : &g->adapters;
	const struct parameter *weight = parameters_find(l->table, pretraining ? "output.weight" : "head.weight");
	const struct parameter *bias = parameters_find(l->table, pretraining ? "output.bias" : "head.bias");
	assert_true(weight != NULL && bias != NULL);
	const struct loss_head head = { CHANNELS, (uint32_t)weight->shape[0], l->weights + weight->offset,
					l->weights + bias->offset };
	struct loss_gradient d = { (pretraining ? 0.05F : 1.0F) / USERS, g->d_task, l->gradients + weight->offset,
				   l->gradients + bias->offset };
	if (g->trunk.table != NULL)
		memset(g->trunk.gradients, 0, g->trunk.table->floats * sizeof(float));
	if (g->adapters.table != NULL)
		memset(g->adapters.gradients, 0, g->adapters.table->floats * sizeof(float));
	double loss =
		(pretraining ? 0.05 : 1.0) / USERS * loss_of(g, &head, USERS, forward(g), g->targets, g->weights, &d);
	if (pretraining) {
		uint32_t counted = 0;
		for (size_t i = 0; i < EVENTS; i++)
			counted += g->event_targets[i] != UINT32_MAX;
		d.scale = 1.0F / (float)counted;
		d.states = g->d_every;
		loss += loss_of(g, &head, EVENTS, network_pass_every(g->pass), g->event_targets, NULL, &d) / counted;
	}
	backward(g);
	return loss;
}

static void check_levels(struct golden *g)
{
	float users[4 * USERS * CHANNELS];
	float events[4 * EVENTS * CHANNELS];
	const uint64_t levels = g->c->shape->blocks + 1;
	for (uint32_t l = 0; l < levels; l++) {
		memcpy(users + l * USERS * CHANNELS, network_pass_task_level(g->pass, l),
		       USERS * CHANNELS * sizeof *users);
		memcpy(events + l * EVENTS * CHANNELS, network_pass_every_level(g->pass, l),
		       EVENTS * CHANNELS * sizeof *events);
	}
	check_states(g, "token_levels", 3, (const uint64_t[]){ levels, USERS, CHANNELS }, users);
	check_states(g, "event_levels", 3, (const uint64_t[]){ levels, EVENTS, CHANNELS }, events);
}

static void test_forward_and_gradients(void **state)
{
	const struct safetensors *file = *state;
	for (size_t i = 0; i < CASES; i++) {
		struct golden g;
		open_golden(&g, file, &cases[i]);
		check_states(&g, "task", 2, (const uint64_t[]){ USERS, CHANNELS }, forward(&g));
		if (g.c->loss == SOFTMAX)
			check_levels(&g);
		g.random = random_from(7, 0);
		(void)pass_once(&g);
		check_block(&g, "gradients", &g.trunk, g.trunk.gradients, GRADIENT_BOUND);
		check_block(&g, "gradients", &g.adapters, g.adapters.gradients, GRADIENT_BOUND);
		close_golden(&g);
	}
}

static void step(const struct golden *g, struct learned *l)
{
	double norm = 0;
	if (l->table != NULL && !optimizer_step(&l->optimizer, l->table, l->weights, l->gradients, &norm))
		fail_msg("%s: a gradient is not finite", g->c->name);
}

static void test_ten_steps(void **state)
{
	const struct safetensors *file = *state;
	struct error err;
	for (size_t i = 0; i < CASES; i++) {
		struct golden g;
		char name[96];
		const uint64_t steps = STEPS;
		float losses[STEPS];
		float expected[STEPS];
		open_golden(&g, file, &cases[i]);
		g.random = random_from(7, 0);
		for (size_t k = 0; k < STEPS; k++) {
			losses[k] = (float)pass_once(&g);
			step(&g, &g.trunk);
			step(&g, &g.adapters);
		}
		(void)snprintf(name, sizeof name, "%s/losses", g.c->name);
		MUST(safetensors_read_floats(file, name, 1, &steps, expected, &err), err);
		check(&g, "losses", losses, expected, STEPS, LOSS_BOUND);
		check_block(&g, "after", &g.trunk, g.trunk.weights, STEPS_BOUND);
		check_block(&g, "after", &g.adapters, g.adapters.weights, STEPS_BOUND);
		close_golden(&g);
	}
}

static int open_file(void **state)
{
	struct error err;
	struct safetensors *file = NULL;
	if (safetensors_open("tests/golden/training.safetensors", &file, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	*state = file;
	return 0;
}

static int close_file(void **state)
{
	safetensors_close(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward_and_gradients),
		cmocka_unit_test(test_ten_steps),
	};
	return cmocka_run_group_tests(tests, open_file, close_file);
}
