/* The trainable network's forward: against the serving trunk, and against its formulas. */
#include "model_fixture.h"
#include "network_fixture.h"

#include <string.h>

#define SERVING_BOUND 1e-5
#define FORMULA_BOUND 1e-5 /* relative to the largest value */

static const struct random_backbone served[] = {
	{ 8, 3, "1,4,1,4", true, 0, 1 },   { 16, 2, "1,3,5", true, 0, 2 },   { 64, 3, "1,4,1,4,1,4,1,4", true, 0, 3 },
	{ 64, 4, "7,2", true, 0, 5 },      { 20, 3, "2,5", true, 0, 6 },     { 8, 1, "1", true, 0, 7 },
	{ 8, 3, "1,4,1,4", false, 40, 8 }, { 64, 2, "3,1,2", false, 30, 9 }, { 20, 4, "1,5", false, 25, 10 },
};

static void load_both(const struct random_backbone *r, struct backbone **b, struct network **net)
{
	struct error err;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, r);
	if (backbone_load(path, b, &err) != STATUS_OK || network_load(path, net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
}

static void check_served(const struct random_backbone *r, bool every, enum network_keep keep)
{
	struct backbone *b = NULL;
	struct network *net = NULL;
	load_both(r, &b, &net);
	struct backbone_workspace *ws = fixture_workspace(b);
	const uint32_t longest = backbone_window(b) + 1;
	const uint32_t lengths[] = { 0, 1, 2, 7, longest - 1, longest, longest + 50, 0, 30 };
	struct network_fixture *f = fixture_batch(net, lengths, sizeof lengths / sizeof lengths[0], every, 0, keep);
	float *expected = calloc(f->batch.sequences * r->channels, sizeof *expected);
	backbone_embed(b, ws, f->batch.sequences, f->batch.offsets, f->batch.items, NULL, expected);
	network_forward(net, NULL, f->pass, &f->batch);
	double scale = 1;
	for (size_t i = 0; i < f->batch.sequences * r->channels; i++)
		scale = fmax(scale, fabs((double)expected[i]));
	double difference = fixture_difference(network_pass_task(f->pass), expected, f->batch.sequences * r->channels);
	if (!(difference <= SERVING_BOUND))
		fail_msg("d = %u, %s: off by %g of %g", r->channels, r->dilations, difference, scale);
	free(expected);
	fixture_batch_free(f);
	backbone_workspace_free(ws);
	backbone_free(b);
	network_free(net);
}

static void test_serving(void **unused)
{
	for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
		check_served(&served[i], false, NETWORK_KEEP_NOTHING);
		check_served(&served[i], true, NETWORK_KEEP_ALL);
		check_served(&served[i], true, NETWORK_KEEP_LEVELS);
	}
}

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
	{ .channels = 33,
	  .kernel_size = 3,
	  .blocks = 2,
	  .dilations = { 4, 1 },
	  .items = 40,
	  .eps = 1e-5F,
	  .causal = true },
	{ .channels = 7, .kernel_size = 3, .blocks = 2, .dilations = { 1, 2 }, .items = 12, .window = 6, .eps = 1e-8F },
	{ .channels = 5,
	  .kernel_size = 4,
	  .blocks = 2,
	  .dilations = { 2, 1 },
	  .items = 12,
	  .window = 600,
	  .eps = 1e-8F },
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

/* The fourth closes a group by itself. */
static const uint32_t lengths[] = { 3, 0, 1, 550, 30, 9, 2, 61 };
#define SEQUENCES (sizeof lengths / sizeof lengths[0])

static void check_values(const char *what, const float *values, const double *expected, size_t count)
{
	double largest = 1;
	for (size_t i = 0; i < count; i++)
		largest = fmax(largest, fabs(expected[i]));
	for (size_t i = 0; i < count; i++) {
		if (!(fabs((double)values[i] - expected[i]) <= FORMULA_BOUND * largest))
			fail_msg("%s, value %zu: %g, expected %g", what, i, (double)values[i], expected[i]);
	}
}

/* The states after `level` blocks of one sequence. */
static void check_sequence(const struct reference *r, const struct network_fixture *f, size_t number, uint32_t level,
			   const float *task, const float *every)
{
	const struct network_batch *b = &f->batch;
	const size_t d = r->net->shape.channels;
	const uint32_t window = r->net->shape.causal ? UINT32_MAX : r->net->shape.window;
	const uint32_t length = lengths[number];
	const uint32_t skipped = length > window ? length - window : 0;
	const uint32_t cut = b->cuts == NULL ? length : b->cuts[number];
	uint32_t from = skipped; /* the events whose states are wanted */
	uint32_t to = length;
	if (r->net->shape.causal && !b->every) {
		from = cut - (b->newest < cut ? b->newest : cut);
		to = cut;
	}
	double *expected = calloc(d, sizeof *expected);
	double *states = calloc((length + 1) * d, sizeof *states);
	reference_forward(r, b->items + b->offsets[number] + skipped, length - skipped, cut, level, expected, states);
	check_values("task", task + number * d, expected, d);
	if (every != NULL)
		check_values("every", every + (b->offsets[number] + from) * d, states + (from - skipped) * d,
			     (to - from) * d);
	free(expected);
	free(states);
}

static void check_formulas(const struct network_shape *shape, int patched, bool cuts, bool every, uint32_t newest,
			   enum network_keep keep)
{
	struct network *net = fixture_network(shape, 5);
	struct patch_fixture *patch = patched > 0 ? fixture_patch(net, patched == 2, 4) : NULL;
	struct network_fixture *f = fixture_batch(net, lengths, SEQUENCES, every, newest, keep);
	struct reference r = { .net = net, .weights = reference_copy(net->weights, net->table.floats) };
	const bool events = every || newest > 0;
	f->batch.cuts = cuts && shape->causal ? f->cuts : NULL;
	if (patch != NULL) {
		r.patch = &patch->patch;
		r.adapters = reference_copy(patch->weights, patch->floats);
	}
	network_forward(net, r.patch, f->pass, &f->batch);
	for (size_t i = 0; i < SEQUENCES; i++)
		check_sequence(&r, f, i, shape->blocks, network_pass_task(f->pass),
			       events ? network_pass_every(f->pass) : NULL);
	for (uint32_t level = 0; keep != NETWORK_KEEP_NOTHING && level <= shape->blocks; level++) {
		const float *task = network_pass_task_level(f->pass, level);
		const float *states = events ? network_pass_every_level(f->pass, level) : NULL;
		for (size_t i = 0; i < SEQUENCES; i++)
			check_sequence(&r, f, i, level, task, states);
	}
	free(r.weights);
	free(r.adapters);
	fixture_batch_free(f);
	fixture_patch_free(patch);
	network_free(net);
}

static void test_formulas(void **unused)
{
	for (size_t i = 0; i < SHAPES; i++) {
		check_formulas(&shapes[i], 0, false, false, 0, NETWORK_KEEP_NOTHING);
		check_formulas(&shapes[i], 0, true, true, 0, NETWORK_KEEP_LEVELS);
		check_formulas(&shapes[i], 0, true, false, 5, NETWORK_KEEP_LEVELS);
		check_formulas(&shapes[i], 1, true, true, 0, NETWORK_KEEP_ALL);
		check_formulas(&shapes[i], 1, false, false, 3, NETWORK_KEEP_NOTHING);
		check_formulas(&shapes[i], 2, false, false, 0, NETWORK_KEEP_ALL);
		check_formulas(&shapes[i], 2, true, true, 0, NETWORK_KEEP_NOTHING);
	}
}

/* With `up` at zero, not a bit changes. */
static void test_fresh_patch(void **unused)
{
	for (size_t i = 0; i < 2 * SHAPES; i++) {
		struct network *net = fixture_network(&shapes[i / 2], 5);
		struct patch_fixture *patch = fixture_patch(net, i % 2 == 1, 4);
		struct network_fixture *f = fixture_batch(net, lengths, SEQUENCES, false, 0, NETWORK_KEEP_NOTHING);
		const size_t d = net->shape.channels;
		const size_t count = SEQUENCES * d;
		float *expected = calloc(count, sizeof *expected);
		for (uint32_t c = 0; c < 2 * net->shape.blocks; c++) {
			if (patch->patch.up_weight[c] == NULL)
				continue;
			memset(patch->weights + (patch->patch.up_weight[c] - patch->weights), 0, 4 * d * sizeof(float));
			memset(patch->weights + (patch->patch.up_bias[c] - patch->weights), 0, d * sizeof(float));
		}
		for (uint32_t block = 0; block < net->shape.blocks; block++)
			patch->patch.norm_weight[block] = patch->patch.norm_bias[block] = NULL;
		network_forward(net, NULL, f->pass, &f->batch);
		memcpy(expected, network_pass_task(f->pass), count * sizeof *expected);
		network_forward(net, &patch->patch, f->pass, &f->batch);
		assert_memory_equal(network_pass_task(f->pass), expected, count * sizeof *expected);
		free(expected);
		fixture_batch_free(f);
		fixture_patch_free(patch);
		network_free(net);
	}
}

/* Whatever else is in the batch, and whatever the pass did before: the same bits. */
static void test_company(void **unused)
{
	for (size_t i = 0; i < SHAPES; i++) {
		struct network *net = fixture_network(&shapes[i], 5);
		struct network_fixture *f = fixture_batch(net, lengths, SEQUENCES, true, 0, NETWORK_KEEP_NOTHING);
		const size_t d = net->shape.channels;
		float *task = calloc(SEQUENCES * d, sizeof *task);
		float *every = calloc(f->events * d, sizeof *every);
		network_forward(net, NULL, f->pass, &f->batch);
		memcpy(task, network_pass_task(f->pass), SEQUENCES * d * sizeof *task);
		memcpy(every, network_pass_every(f->pass), f->events * d * sizeof *every);
		for (size_t s = 0; s < SEQUENCES; s++) {
			const struct network_batch alone = { 1, f->offsets + s, f->items, NULL, true, 0 };
			network_forward(net, NULL, f->pass, &alone);
			assert_memory_equal(network_pass_task(f->pass), task + s * d, d * sizeof *task);
			assert_memory_equal(network_pass_every(f->pass), every + f->offsets[s] * d,
					    lengths[s] * d * sizeof *every);
		}
		free(task);
		free(every);
		fixture_batch_free(f);
		network_free(net);
	}
}

static void check_bad_shape(struct network_shape shape, const char *text)
{
	struct error err;
	struct network *net = NULL;
	assert_int_equal(network_new(&shape, &net, &err), STATUS_DATA);
	assert_null(net);
	if (strstr(err.text, text) == NULL)
		fail_msg("'%s' does not say '%s'", err.text, text);
}

static void test_bad_shapes(void **unused)
{
	const struct network_shape good = shapes[3];
	struct network_shape s = good;
	s.channels = 0;
	check_bad_shape(s, "channels is 0");
	s = good;
	s.kernel_size = 0;
	check_bad_shape(s, "kernel_size is 0");
	s = good;
	s.blocks = 0;
	check_bad_shape(s, "dilations has 0 entries");
	s.blocks = NETWORK_BLOCKS_AT_MOST + 1;
	check_bad_shape(s, "dilations has 257 entries");
	s = good;
	s.dilations[1] = 0;
	check_bad_shape(s, "a dilation is 0");
	s = good;
	s.dilations[1] = 20000;
	check_bad_shape(s, "the receptive field is 120007");
	s = good;
	s.items = 2;
	check_bad_shape(s, "there are 2 items");
	s = good;
	s.window = 0;
	check_bad_shape(s, "window is 0");
	s = good;
	s.eps = NAN;
	check_bad_shape(s, "layer_norm_eps");
	assert_int_equal(network_field(&good), 1 + 2 * 3 * (1 + 2));
}

static void test_random_start(void **unused)
{
	struct error err;
	struct network *net = NULL;
	struct network_shape shape = shapes[2];
	struct random_stream random = random_from(1, 2);
	shape.output = true;
	if (network_new(&shape, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < net->table.count; i++)
		assert_true(net->table.list[i].trained);
	assert_int_equal(parameters_find(&net->table, "output.weight")->count, 40 * 33);
	network_randomise(net, &random);
	const struct parameter *t = parameters_find(&net->table, "blocks.1.conv2.weight");
	double square = 0;
	for (size_t i = 0; i < t->count; i++)
		square += (double)net->weights[t->offset + i] * (double)net->weights[t->offset + i];
	assert_true(fabs(square / (double)t->count * 3 * 33 * 3 - 1) <= 0.1);
	assert_true(net->weights[parameters_find(&net->table, "blocks.0.norm1.weight")->offset + 32] == 1.0F);
	assert_true(net->weights[parameters_find(&net->table, "blocks.0.norm1.weight")->offset + 33] == 0.0F);
	network_free(net);
	network_free(NULL);
	network_pass_free(NULL);
}

/* A file of `blocks` blocks without an output layer. */
static void write_blocks(const char *path, uint32_t blocks)
{
	char dilations[2 * 300] = "1";
	for (uint32_t i = 1; i < blocks; i++)
		memcpy(dilations + 2 * i - 1, ",1", 3);
	const struct random_backbone r = { 1, 2, dilations, true, 0, 1 };
	fixture_write(path, &r);
}

static void test_files(void **unused)
{
	struct error err;
	struct network *net = NULL;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "not a model", 11), 11);
	(void)close(fd);
	assert_int_equal(network_load(path, &net, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, path));
	write_blocks(path, NETWORK_BLOCKS_AT_MOST + 1);
	assert_int_equal(network_load(path, &net, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "dilations has 257 entries, at most 256 can be trained"));
	write_blocks(path, NETWORK_BLOCKS_AT_MOST);
	if (network_load(path, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_false(net->shape.output);
	assert_int_equal(net->shape.items, FIXTURE_ITEMS + BACKBONE_FIRST_ITEM);
	network_free(net);
	(void)unlink(path);
	assert_int_equal(network_load(path, &net, &err), STATUS_NO_INPUT);
}

/* One reading of a file: what serves and what patches run on are the same. */
static void test_beside(void **unused)
{
	struct error err;
	struct network *net = NULL, *whole = NULL;
	struct backbone *b = NULL;
	char path[] = "/tmp/peterd-test-XXXXXX";
	const struct random_backbone r = {
		.channels = 8, .kernel_size = 3, .dilations = "1,2", .causal = true, .seed = 3
	};
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(network_load_beside(path, &b, &net, &err), STATUS_DATA);
	assert_null(b);
	assert_null(net);
	fixture_write(path, &r);
	if (network_load_beside(path, &b, &net, &err) != STATUS_OK || network_load(path, &whole, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(backbone_dim(b), net->shape.channels);
	assert_int_equal(backbone_items(b), net->shape.items);
	assert_false(net->shape.output);
	const struct parameter *p = parameters_find(&net->table, "blocks.1.conv2.weight");
	const struct parameter *q = parameters_find(&whole->table, "blocks.1.conv2.weight");
	assert_memory_equal(net->weights + p->offset, whole->weights + q->offset, p->count * sizeof(float));
	assert_null(parameters_find(&net->table, "output.weight"));
	backbone_free(b);
	network_free(net);
	network_free(whole);
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serving), cmocka_unit_test(test_formulas),   cmocka_unit_test(test_fresh_patch),
		cmocka_unit_test(test_company), cmocka_unit_test(test_bad_shapes), cmocka_unit_test(test_random_start),
		cmocka_unit_test(test_files),   cmocka_unit_test(test_beside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
