/* Training steps of a task: what is learnt, what stays as it is, and the same bits for the same parts. */
#include "model/side.h"
#include "model/tuner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 8, BLOCKS = 2, USERS = 24, LENGTH = 40, CLASSES = 3, STATE = (BLOCKS + 1) * 2 * DIM };

static struct network *net;
static uint32_t items[USERS][LENGTH];
static struct tuner_example examples[USERS];
static const struct tuner_batch everything = { examples, NULL, USERS };

/* The user's class is the most frequent kind of item. */
static void make_examples(void)
{
	struct random_stream random = random_from(11, 1);
	for (uint32_t u = 0; u < USERS; u++) {
		for (uint32_t i = 0; i < LENGTH; i++)
			items[u][i] =
				3 + 6 * (u % CLASSES) + random_below(&random, random_below(&random, 4) ? 6 : 12) % 18;
		examples[u] = (struct tuner_example){ .items = items[u],
						      .length = u == 5 ? 0 : LENGTH - u,
						      .target = u % CLASSES,
						      .value = 3 + (float)(u % CLASSES),
						      .weight = u == 7 ? 0.5F : 1 };
	}
}

static struct network *copy_network(void)
{
	struct error err;
	struct network *copy = NULL;
	assert_int_equal(network_new(&net->shape, &copy, &err), STATUS_OK);
	memcpy(copy->weights, net->weights, net->table.floats * sizeof(float));
	return copy;
}

static struct patch *make_patch(enum patch_type type, enum patch_insertion insertion, bool head_only)
{
	struct error err;
	struct patch *p = NULL;
	static const char *const labels[] = { "a", "b", "c" };
	struct random_stream random = random_from(1, 2);
	struct patch_spec spec = { .type = type, .insertion = insertion, .bottleneck = 4, .mean_window = 6 };
	for (uint32_t i = 0; !head_only && i < BLOCKS + (insertion == PATCH_SIDE ? 1 : 0); i++)
		spec.blocks[i] = true;
	spec.first = spec.second = !head_only && insertion != PATCH_SIDE;
	const bool number = type == PATCH_REGRESSION;
	if (patch_new(&spec, net, "t", number ? NULL : labels, number ? 1 : CLASSES, &random, &p, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return p;
}

static struct tuner_options options_of(enum tuner_loss loss)
{
	return (struct tuner_options){
		.loss = loss,
		.negatives = loss == TUNER_SAMPLED ? 1 : 2, /* fewer than the other rows, so that there is sampling */
		.seed = 3,
		.optimizer = { .rate = 0.01F, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8F, .clip = 5 },
	};
}

static struct tuner *make_tuner(struct patch *p, struct network *n, const struct tuner_options *options,
				const struct parallel *parallel)
{
	struct error err;
	struct tuner *t = NULL;
	if (tuner_new(p, n, options, parallel, USERS, &t, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return t;
}

static void run_backwards(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	while (parts-- > 0)
		part(job, parts);
}

static const struct parallel five = { .parts = 5, .run = run_backwards };

static double mean_loss(struct tuner *t, const struct tuner_batch *batch)
{
	struct tuner_sums sums;
	tuner_loss(t, batch, &sums);
	return sums.loss / sums.weight;
}

static void check_learning(enum patch_type type, enum patch_insertion insertion, enum tuner_loss loss)
{
	struct patch *p = make_patch(type, insertion, false);
	struct tuner_options options = options_of(loss);
	float *frozen = malloc(net->table.floats * sizeof *frozen);
	memcpy(frozen, net->weights, net->table.floats * sizeof *frozen);
	options.dropout = 0.1F;
	struct tuner *t = make_tuner(p, net, &options, &five);
	const double before = mean_loss(t, &everything);
	struct tuner_sums sums;
	for (int i = 0; i < 60; i++)
		assert_true(tuner_step(t, &everything, &sums));
	assert_true(fabs(sums.weight - (USERS - 0.5)) < 1e-6);
	const double after = mean_loss(t, &everything);
	if (!(after < 0.8 * before)) /* with a drawn row in two of three cases: no faster */
		fail_msg("%s %s %s: loss %g, then %g", patch_type_name(type), patch_insertion_name(insertion),
			 tuner_loss_name(loss), before, after);
	assert_memory_equal(frozen, net->weights, net->table.floats * sizeof *frozen);
	assert_int_equal(tuner_optimizer(t)->step, 60);
	free(frozen);
	tuner_free(t);
	patch_free(p);
}

static void every_loss_is_learnt(void **state)
{
	for (int insertion = PATCH_SERIAL; insertion <= PATCH_SIDE; insertion++) {
		check_learning(PATCH_CLASSIFICATION, (enum patch_insertion)insertion, TUNER_SOFTMAX);
		check_learning(PATCH_REGRESSION, (enum patch_insertion)insertion, TUNER_SQUARED);
		for (int loss = TUNER_SOFTMAX; loss < TUNER_SQUARED; loss++)
			check_learning(PATCH_RANKING, (enum patch_insertion)insertion, (enum tuner_loss)loss);
	}
}

/* States that were computed before, against states computed on the way. */
static void cached_states_are_the_same(void **state)
{
	struct error err;
	struct network_pass *pass = NULL;
	static float states[USERS][STATE];
	size_t offsets[USERS + 1] = { 0 };
	uint32_t *packed = calloc(USERS * LENGTH, sizeof *packed);
	for (size_t u = 0; u < USERS; u++) {
		memcpy(packed + offsets[u], items[u], examples[u].length * sizeof *packed);
		offsets[u + 1] = offsets[u] + examples[u].length;
	}
	struct network_batch batch = { .sequences = USERS, .offsets = offsets, .items = packed };
	assert_int_equal(network_pass_new(net, 0, USERS * (LENGTH + 1), USERS, NETWORK_KEEP_LEVELS, &pass, &err),
			 STATUS_OK);
	struct patch *patches[2];
	for (size_t i = 0; i < 2; i++)
		patches[i] = make_patch(PATCH_CLASSIFICATION, PATCH_SIDE, false);
	side_states(net, pass, &batch, patches[0], states[0]);
	struct tuner_example cached[USERS];
	const struct tuner_options options = options_of(TUNER_SOFTMAX);
	memcpy(cached, examples, sizeof cached);
	for (size_t u = 0; u < USERS; u++)
		cached[u].state = states[u];
	const struct tuner_batch batches[] = { everything, { cached, NULL, USERS } };
	float scores[2][USERS * CLASSES];
	for (size_t i = 0; i < 2; i++) {
		struct tuner_sums sums;
		struct tuner *t = make_tuner(patches[i], i == 0 ? net : NULL, &options, &five);
		for (int step = 0; step < 5; step++)
			assert_true(tuner_step(t, &batches[i], &sums));
		tuner_scores(t, &batches[i], scores[i]);
		tuner_free(t);
	}
	for (size_t i = 0; i < USERS * CLASSES; i++)
		assert_true(fabsf(scores[0][i] - scores[1][i]) <= 1e-4F);
	for (size_t i = 0; i < 2; i++)
		patch_free(patches[i]);
	network_pass_free(pass);
	free(packed);
}

/* A head alone learns from embeddings just as from events. */
static void cached_embeddings_are_the_same(void **state)
{
	struct patch *a = make_patch(PATCH_CLASSIFICATION, PATCH_SIDE, true);
	struct patch *b = make_patch(PATCH_CLASSIFICATION, PATCH_SERIAL, true);
	const struct tuner_options options = options_of(TUNER_SOFTMAX);
	struct tuner *from_events = make_tuner(a, net, &options, &five);
	float embeddings[USERS][DIM];
	float scores[2][USERS * CLASSES];
	struct tuner_example cached[USERS];
	struct tuner_sums sums;
	tuner_embed(from_events, &everything, embeddings[0]);
	memcpy(cached, examples, sizeof cached);
	for (size_t u = 0; u < USERS; u++)
		cached[u].state = embeddings[u];
	const struct tuner_batch batch = { cached, NULL, USERS };
	struct tuner *from_states = make_tuner(b, NULL, &options, &five);
	for (int step = 0; step < 5; step++) {
		assert_true(tuner_step(from_events, &everything, &sums));
		assert_true(tuner_step(from_states, &batch, &sums));
	}
	tuner_scores(from_events, &everything, scores[0]);
	tuner_scores(from_states, &batch, scores[1]);
	for (size_t i = 0; i < USERS * CLASSES; i++)
		assert_true(fabsf(scores[0][i] - scores[1][i]) <= 1e-4F);
	tuner_free(from_events);
	tuner_free(from_states);
	patch_free(a);
	patch_free(b);
}

static float *trained_weights(const struct parallel *parallel, uint64_t seed, size_t floats)
{
	struct patch *p = make_patch(PATCH_RANKING, PATCH_PARALLEL, false);
	struct tuner_options options = options_of(TUNER_BPR);
	options.dropout = 0.2F;
	options.seed = seed;
	struct tuner *t = make_tuner(p, net, &options, parallel);
	struct tuner_sums sums;
	for (int i = 0; i < 4; i++)
		assert_true(tuner_step(t, &everything, &sums));
	float *copy = malloc(floats * sizeof *copy);
	memcpy(copy, p->weights, floats * sizeof *copy);
	tuner_free(t);
	patch_free(p);
	return copy;
}

static void forwards(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	for (uint32_t i = 0; i < parts; i++)
		part(job, i);
}

static void same_parts_same_bits(void **state)
{
	const struct parallel also_five = { .parts = 5, .run = forwards };
	struct patch *p = make_patch(PATCH_RANKING, PATCH_PARALLEL, false);
	const size_t floats = p->table.floats;
	float *a = trained_weights(&five, 3, floats);
	float *b = trained_weights(&also_five, 3, floats);
	float *c = trained_weights(&five, 4, floats);
	assert_memory_equal(a, b, floats * sizeof *a);
	assert_true(memcmp(a, c, floats * sizeof *a) != 0);
	free(a);
	free(b);
	free(c);
	patch_free(p);
}

/* More parts than examples, an order of their own, pieces smaller than the whole: the same up to rounding. */
static void parts_and_pieces_change_nothing(void **state)
{
	struct error err;
	uint32_t order[USERS];
	float whole[USERS * CLASSES];
	float pieces[USERS * CLASSES];
	struct patch *p = make_patch(PATCH_CLASSIFICATION, PATCH_SERIAL, false);
	struct tuner *one = make_tuner(p, net, NULL, &parallel_none);
	struct tuner *many = NULL;
	const struct parallel parts = { .parts = 7, .run = run_backwards };
	for (uint32_t i = 0; i < USERS; i++)
		order[i] = USERS - 1 - i;
	const struct tuner_batch reversed = { examples, order, USERS };
	assert_int_equal(tuner_new(p, net, NULL, &parts, 5, &many, &err), STATUS_OK);
	tuner_scores(one, &everything, whole);
	tuner_scores(many, &reversed, pieces);
	for (size_t u = 0; u < USERS; u++) {
		float sum = 0;
		for (size_t c = 0; c < CLASSES; c++) {
			const float score = whole[u * CLASSES + c];
			assert_true(fabsf(score - pieces[(USERS - 1 - u) * CLASSES + c]) <= 1e-5F);
			sum += score;
		}
		assert_true(fabsf(sum - 1) <= 1e-5F);
	}
	const struct tuner_batch nobody = { examples, NULL, 0 };
	tuner_scores(many, &nobody, pieces);
	tuner_free(one);
	tuner_free(many);
	patch_free(p);
}

/* Older events than the trunk can see are not read, whatever they are. */
static void only_the_newest_events_count(void **state)
{
	enum { LONG = 300 };
	const uint32_t field = network_field(&net->shape);
	uint32_t sequence[2][LONG];
	struct tuner_example two[2] = { { .items = sequence[0], .length = LONG, .weight = 1 },
					{ .items = sequence[1], .length = LONG, .weight = 1 } };
	const struct tuner_batch batch = { two, NULL, 2 };
	for (int insertion = PATCH_SERIAL; insertion <= PATCH_SIDE; insertion++) {
		const uint32_t read = field - 1 + (insertion == PATCH_SIDE ? 6 : 0);
		float scores[2 * CLASSES];
		assert_true(read + 1 < LONG);
		for (uint32_t i = 0; i < LONG; i++)
			sequence[0][i] = sequence[1][i] = 3 + i % 7;
		sequence[1][LONG - read - 1] = 12;
		struct patch *p = make_patch(PATCH_CLASSIFICATION, (enum patch_insertion)insertion, false);
		for (size_t i = 0; i < p->table.floats; i++)
			p->weights[i] += 0.1F;
		struct tuner *t = make_tuner(p, net, NULL, &parallel_none);
		tuner_scores(t, &batch, scores);
		assert_memory_equal(scores, scores + CLASSES, CLASSES * sizeof *scores);
		sequence[1][LONG - read] = 12;
		tuner_scores(t, &batch, scores);
		assert_true(memcmp(scores, scores + CLASSES, CLASSES * sizeof *scores) != 0);
		tuner_free(t);
		patch_free(p);
	}
}

static void trunk_tensors_that_are_trained(void **state)
{
	struct network *copy = copy_network();
	struct patch *p = make_patch(PATCH_CLASSIFICATION, PATCH_SIDE, true);
	struct tuner_options options = options_of(TUNER_SOFTMAX);
	options.trunk = true;
	for (size_t i = 0; i < copy->table.count; i++)
		copy->table.list[i].trained = strncmp(copy->table.list[i].name, "blocks.1.", 9) == 0;
	struct tuner *t = make_tuner(p, copy, &options, &five);
	const double before = mean_loss(t, &everything);
	struct tuner_sums sums;
	for (int i = 0; i < 60; i++)
		assert_true(tuner_step(t, &everything, &sums));
	assert_true(mean_loss(t, &everything) < 0.5 * before);
	for (size_t i = 0; i < copy->table.count; i++) {
		const struct parameter *tensor = &copy->table.list[i];
		const bool same = memcmp(copy->weights + tensor->offset, net->weights + tensor->offset,
					 tensor->count * sizeof(float)) == 0;
		assert_true(same == !tensor->trained);
	}
	tuner_free(t);
	patch_free(p);
	network_free(copy);
}

/* An example of weight 0 changes no bit, its state being finite. */
static void weights_count(void **state)
{
	struct tuner_example changed[USERS];
	const struct tuner_batch batch = { changed, NULL, USERS };
	const struct tuner_options options = options_of(TUNER_SOFTMAX);
	float weights[2][1024];
	for (uint32_t k = 0; k < 2; k++) {
		struct patch *p = make_patch(PATCH_CLASSIFICATION, PATCH_SERIAL, false);
		struct tuner *t = make_tuner(p, net, &options, &five);
		struct tuner_sums sums;
		memcpy(changed, examples, sizeof changed);
		changed[4].weight = 0;
		changed[4].target = k;
		assert_true(p->table.floats <= 1024);
		assert_true(tuner_step(t, &batch, &sums));
		assert_true(fabs(sums.weight - (USERS - 1.5)) < 1e-6);
		memcpy(weights[k], p->weights, p->table.floats * sizeof(float));
		if (k == 1)
			assert_memory_equal(weights[0], weights[1], p->table.floats * sizeof(float));
		for (size_t i = 0; i < USERS; i++)
			changed[i].weight = 0;
		assert_false(tuner_step(t, &batch, &sums));
		assert_memory_equal(weights[k], p->weights, p->table.floats * sizeof(float));
		tuner_free(t);
		patch_free(p);
	}
}

static void what_is_not_finite_changes_nothing(void **state)
{
	float states[2][STATE] = { { 0 } };
	struct tuner_example two[] = { { .state = states[0], .target = 0, .weight = 1 },
				       { .state = states[1], .target = 1, .weight = 1 } };
	const struct tuner_batch batch = { two, NULL, 2 };
	const struct tuner_options options = options_of(TUNER_SOFTMAX);
	struct patch *p = make_patch(PATCH_CLASSIFICATION, PATCH_SIDE, false);
	struct patch *before = make_patch(PATCH_CLASSIFICATION, PATCH_SIDE, false);
	struct tuner *t = make_tuner(p, NULL, &options, &parallel_none);
	struct tuner_sums sums;
	states[1][3] = NAN;
	assert_false(tuner_step(t, &batch, &sums));
	states[1][3] = INFINITY;
	assert_false(tuner_step(t, &batch, &sums));
	assert_memory_equal(p->weights, before->weights, p->table.floats * sizeof(float));
	assert_int_equal(tuner_optimizer(t)->step, 0);
	states[1][3] = 1;
	assert_true(tuner_step(t, &batch, &sums));
	tuner_free(t);
	patch_free(before);
	patch_free(p);
}

/* A head that begins without rows, as that of a task whose labels come as they arrive. */
static void heads_grow(void **state)
{
	struct error err;
	static const char *const names[] = { "a", "b", "c" };
	struct random_stream random = random_from(1, 1);
	struct patch *p = NULL;
	struct patch_spec spec = { .type = PATCH_RANKING, .insertion = PATCH_SIDE, .bottleneck = 4, .mean_window = 6 };
	spec.blocks[0] = spec.blocks[2] = true;
	const struct tuner_options options = options_of(TUNER_BPR);
	struct tuner_sums sums;
	struct tuner_example same[USERS];
	const struct tuner_batch batch = { same, NULL, USERS };
	assert_int_equal(patch_new(&spec, net, "t", NULL, 0, &random, &p, &err), STATUS_OK);
	struct tuner *t = make_tuner(p, net, &options, &five);
	memcpy(same, examples, sizeof same);
	for (size_t i = 0; i < USERS; i++)
		same[i].target = 0;
	assert_int_equal(tuner_grow(t, names, 1, &random, &err), STATUS_OK);
	(void)tuner_step(t, &batch, &sums); /* one row is neither right nor wrong */
	assert_true(sums.loss == 0);
	assert_int_equal(tuner_grow(t, names + 1, 1, &random, &err), STATUS_OK);
	for (size_t i = 0; i < USERS; i++)
		same[i].target = (uint32_t)i % 2;
	for (int i = 0; i < 20; i++)
		assert_true(tuner_step(t, &batch, &sums));
	const uint64_t step = tuner_optimizer(t)->step;
	float moment[DIM];
	memcpy(moment, tuner_optimizer(t)->mean + p->head_weight + DIM, sizeof moment);
	assert_int_equal(tuner_grow(t, names, 1, &random, &err), STATUS_DATA);
	assert_int_equal(p->classes, 2);
	assert_int_equal(tuner_grow(t, names + 2, 1, &random, &err), STATUS_OK);
	assert_int_equal(tuner_optimizer(t)->step, step);
	assert_memory_equal(moment, tuner_optimizer(t)->mean + p->head_weight + DIM, sizeof moment);
	assert_true(tuner_optimizer(t)->mean[p->head_weight + 2 * DIM] == 0);
	const double before = mean_loss(t, &everything);
	for (int i = 0; i < 60; i++)
		assert_true(tuner_step(t, &everything, &sums));
	assert_true(mean_loss(t, &everything) < 0.6 * before);
	tuner_free(t);
	patch_free(p);
}

static void names(void **state)
{
	enum tuner_loss loss = TUNER_SQUARED;
	assert_true(tuner_loss_parse("bce", &loss));
	assert_int_equal(loss, TUNER_BCE);
	assert_string_equal(tuner_loss_name(TUNER_HARD), "hard");
	assert_false(tuner_loss_parse("none", &loss));
	assert_int_equal(tuner_default_loss(PATCH_REGRESSION, 1), TUNER_SQUARED);
	assert_int_equal(tuner_default_loss(PATCH_CLASSIFICATION, 100000), TUNER_SOFTMAX);
	assert_int_equal(tuner_default_loss(PATCH_RANKING, 100), TUNER_SOFTMAX);
	assert_int_equal(tuner_default_loss(PATCH_RANKING, 100000), TUNER_SAMPLED);
}

static int set_up(void **state)
{
	const struct network_shape shape = { .channels = DIM,
					     .kernel_size = 3,
					     .blocks = BLOCKS,
					     .dilations = { 1, 4 },
					     .items = 23,
					     .eps = 1e-8F,
					     .causal = true };
	struct error err;
	struct random_stream random = random_from(7, 7);
	if (network_new(&shape, &net, &err) != STATUS_OK)
		return -1;
	network_randomise(net, &random);
	make_examples();
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
		cmocka_unit_test(every_loss_is_learnt),
		cmocka_unit_test(cached_states_are_the_same),
		cmocka_unit_test(cached_embeddings_are_the_same),
		cmocka_unit_test(same_parts_same_bits),
		cmocka_unit_test(parts_and_pieces_change_nothing),
		cmocka_unit_test(only_the_newest_events_count),
		cmocka_unit_test(trunk_tensors_that_are_trained),
		cmocka_unit_test(weights_count),
		cmocka_unit_test(what_is_not_finite_changes_nothing),
		cmocka_unit_test(heads_grow),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
