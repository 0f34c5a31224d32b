/* Patches and their files: fresh ones change nothing, files come back as they went, and what is wrong is refused. */
#include "model/patch.h"
#include "model/side.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER_HASH "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct network *net;
static char path[] = "/tmp/peterd-test-XXXXXX";
static const char *const labels[] = { "F", "M", "\xc3\xa4 \"quoted\"" };

static struct patch_spec spec_of(enum patch_insertion insertion)
{
	const bool side = insertion == PATCH_SIDE;
	struct patch_spec spec = { .insertion = insertion, .bottleneck = 3, .mean_window = side ? 5 : 0 };
	for (uint32_t i = 0; i < net->shape.blocks + (side ? 1 : 0); i++)
		spec.blocks[i] = true;
	spec.first = spec.second = !side;
	return spec;
}

static struct patch *fresh(const struct patch_spec *spec)
{
	struct error err;
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 2);
	const bool named = spec->type != PATCH_REGRESSION;
	if (patch_new(spec, net, "gender", named ? labels : NULL, named ? 3 : 1, &random, &p, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return p;
}

/* A patch with random values everywhere, backbone and lineage set. */
static struct patch *filled(const struct patch_spec *spec)
{
	struct patch *p = fresh(spec);
	struct random_stream random = random_from(3, 4);
	for (size_t i = 0; i < p->table.count; i++) {
		for (size_t k = 0; k < p->table.list[i].count; k++)
			p->weights[p->table.list[i].offset + k] = random_normal(&random);
	}
	(void)snprintf(p->backbone, sizeof p->backbone, "%s", HASH);
	(void)snprintf(p->parent, sizeof p->parent, "%s", OTHER_HASH);
	p->version = 18446744073709551615U;
	return p;
}

static void save(const struct patch *p)
{
	struct error err;
	if (patch_save(p, path, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static void expect_same(const struct patch *a, const struct patch *b)
{
	assert_int_equal(a->table.count, b->table.count);
	assert_int_equal(a->classes, b->classes);
	assert_memory_equal(a->weights, b->weights, a->table.floats * sizeof(float));
	assert_string_equal(a->task, b->task);
	assert_string_equal(a->backbone, b->backbone);
	assert_string_equal(a->parent, b->parent);
	assert_true(a->version == b->version);
	assert_int_equal(a->spec.type, b->spec.type);
	assert_int_equal(a->spec.insertion, b->spec.insertion);
	assert_int_equal(a->spec.bottleneck, b->spec.bottleneck);
	assert_int_equal(a->spec.mean_window, b->spec.mean_window);
	assert_int_equal(a->spec.first, b->spec.first);
	assert_int_equal(a->spec.second, b->spec.second);
	assert_int_equal(a->spec.norms, b->spec.norms);
	assert_memory_equal(a->spec.blocks, b->spec.blocks, sizeof a->spec.blocks);
	assert_int_equal(a->labels != NULL, b->labels != NULL);
	for (uint32_t i = 0; a->labels != NULL && i < a->classes; i++)
		assert_string_equal(a->labels[i], b->labels[i]);
}

static void check_round_trip(const struct patch_spec *spec)
{
	struct error err;
	struct patch *p = filled(spec);
	struct patch *back = NULL;
	struct safetensors *st = NULL;
	bool unnamed = true;
	save(p);
	if (patch_load(path, net, HASH, &back, &unnamed, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_false(unnamed);
	expect_same(p, back);
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	assert_string_equal(back->hash, safetensors_hash(st));
	assert_string_equal(p->hash, "");
	char hash[HASH_HEX_LENGTH + 1];
	struct buffer bytes = { 0 };
	assert_int_equal(patch_encode(p, &bytes, &err), STATUS_OK);
	hash_sha256_hex(bytes.data, bytes.length, hash);
	buffer_free(&bytes);
	assert_string_equal(hash, safetensors_hash(st));
	memcpy(hash, back->hash, sizeof hash);
	safetensors_close(st);
	save(back);
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	assert_string_equal(hash, safetensors_hash(st));
	safetensors_close(st);
	patch_free(back);
	patch_free(p);
}

static void round_trips(void **state)
{
	for (int insertion = PATCH_SERIAL; insertion <= PATCH_SIDE; insertion++) {
		struct patch_spec spec = spec_of((enum patch_insertion)insertion);
		for (int type = PATCH_CLASSIFICATION; type <= PATCH_REGRESSION; type++) {
			spec.type = (enum patch_type)type;
			check_round_trip(&spec);
		}
		spec.blocks[0] = false;
		spec.norms = insertion != PATCH_SIDE;
		spec.first = false;
		check_round_trip(&spec);
		spec.second = false;
		check_round_trip(&spec);
		memset(spec.blocks, 0, sizeof spec.blocks);
		spec.norms = false;
		check_round_trip(&spec);
	}
}

static void unnamed_backbone(void **state)
{
	struct error err;
	struct patch_spec spec = spec_of(PATCH_SERIAL);
	struct patch *p = filled(&spec);
	struct patch *back = NULL;
	bool unnamed = false;
	p->backbone[0] = '\0';
	save(p);
	assert_int_equal(patch_load(path, net, HASH, &back, &unnamed, &err), STATUS_OK);
	assert_true(unnamed);
	patch_free(back);
	patch_free(p);
}

static void expect_refused(const char *hash, const char *why)
{
	struct error err = { 0 };
	struct patch *p = NULL;
	bool unnamed = false;
	enum status status = patch_load(path, net, hash, &p, &unnamed, &err);
	if (status != STATUS_DATA)
		fail_msg("not refused: %s", why);
	if (strstr(err.text, why) == NULL || strncmp(err.text, path, strlen(path)) != 0 || strchr(err.text, '\n'))
		fail_msg("'%s' does not say '%s'", err.text, why);
	assert_null(p);
}

/* The file with one metadata entry changed (value NULL: left out). */
static void rewrite_metadata(const char *key, const char *value)
{
	struct error err;
	struct safetensors *st = NULL;
	struct safetensors_string metadata[16];
	struct safetensors_tensor tensors[64];
	size_t count = 0;
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	for (size_t i = 0; i < safetensors_metadata_count(st); i++) {
		metadata[count] = safetensors_metadata_at(st, i);
		if (strcmp(metadata[count].key, key) != 0)
			count++;
	}
	if (value != NULL)
		metadata[count++] = (struct safetensors_string){ key, value };
	for (size_t i = 0; i < safetensors_count(st); i++)
		tensors[i] = *safetensors_at(st, i);
	assert_int_equal(safetensors_write(path, tensors, safetensors_count(st), metadata, count, &err), STATUS_OK);
	safetensors_close(st);
}

static void wrong_metadata(void **state)
{
	static const struct {
		const char *key;
		const char *value;
		const char *why;
	} cases[] = {
		{ "format", NULL, "metadata: format is missing" },
		{ "format", "peterd.backbone.v1", "expected peterd.patch.v1" },
		{ "task", NULL, "metadata: task is missing" },
		{ "task", "", "task: must be 1 to 100 of a-z A-Z 0-9 . _ -" },
		{ "task", "Bad Name!", "task: must be 1 to 100 of" },
		{ "task", "two\nlines", "task: must be 1 to 100 of" },
		{ "type", NULL, "metadata: type is missing" },
		{ "type", "sorting", "metadata: type is 'sorting', expected classification, ranking or regression" },
		{ "insertion", "above", "metadata: insertion is 'above', expected serial, parallel or side" },
		{ "insertion", "parallel\n", "metadata: insertion is 'parallel?'" },
		{ "insertion", "side", "metadata: mean_window is missing" },
		{ "bottleneck", NULL, "metadata: bottleneck is missing" },
		{ "bottleneck", "0", "bottleneck: 0, expected 1 to 65536" },
		{ "bottleneck", "4", "patches.0.1.down.weight: shape [3, 8], expected [4, 8]" },
		{ "bottleneck", "65537", "metadata: bottleneck is '65537'" },
		{ "blocks", "0,2", "metadata: blocks is '0,2', expected numbers below 2" },
		{ "blocks", "0,0", "metadata: blocks is '0,0': 0 stands twice" },
		{ "blocks", "0,", "metadata: blocks is '0,', expected a comma list" },
		{ "blocks", "-1", "metadata: blocks is '-1'" },
		{ "blocks", "99999999999999999999", "metadata: blocks is '99999999999999999999'" },
		{ "blocks", "0", "patches.1.1.down.bias: does not belong" },
		{ "blocks", "", "patches.0.1.down.bias: does not belong" },
		{ "backbone", OTHER_HASH, "metadata: made for the backbone " OTHER_HASH },
		{ "backbone", "abc", "metadata: backbone is 'abc', expected a SHA-256" },
		{ "parent", "abc", "metadata: parent is 'abc', expected a SHA-256" },
		{ "version", "-1", "metadata: version is '-1'" },
		{ "version", "1x", "metadata: version is '1x'" },
		{ "labels", NULL, "metadata: labels is missing" },
		{ "labels", "{}", "metadata: labels is no JSON array" },
		{ "labels", "[", "metadata: labels is no JSON array" },
		{ "labels", "[\"a\", \"b\"]", "metadata: labels has 2 entries, head.weight 3 rows" },
		{ "labels", "[\"a\", \"b\", \"c\", \"d\"]", "metadata: labels has 4 entries, head.weight 3 rows" },
		{ "labels", "[\"a\", \"b\", \"a\"]", "metadata: labels: 'a' stands twice" },
		{ "labels", "[\"a\", \"b\", \"\"]", "metadata: labels: one is empty" },
		{ "labels", "[\"a\", \"b\", null]", "metadata: labels: entry 2 is no string" },
		{ "type", "regression", "metadata: labels has 3 entries" },
	};
	struct patch_spec spec = spec_of(PATCH_SERIAL);
	struct patch *p = filled(&spec);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		save(p);
		rewrite_metadata(cases[i].key, cases[i].value);
		expect_refused(HASH, cases[i].why);
	}
	patch_free(p);
}

static void whole_numbers_are_labels(void **state)
{
	struct error err;
	struct patch_spec spec = spec_of(PATCH_SIDE);
	struct patch *p = filled(&spec);
	struct patch *back = NULL;
	bool unnamed = false;
	save(p);
	rewrite_metadata("labels", "[1, \"2\", -3]");
	if (patch_load(path, net, HASH, &back, &unnamed, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(patch_label(back, "1"), 0);
	assert_int_equal(patch_label(back, "2"), 1);
	assert_int_equal(patch_label(back, "-3"), 2);
	assert_int_equal(patch_label(back, "3"), UINT32_MAX);
	patch_free(back);
	patch_free(p);
}

/* The file with one tensor changed: its shape (0: as it is), or its first value; `rows` UINT64_MAX: left out. */
static void rewrite_tensor(const char *name, uint64_t rows, uint64_t columns, bool broken)
{
	struct error err;
	struct safetensors *st = NULL;
	struct safetensors_string metadata[16];
	struct safetensors_tensor tensors[64];
	float *copy = calloc(4096, sizeof *copy);
	size_t count = 0;
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	for (size_t i = 0; i < safetensors_metadata_count(st); i++)
		metadata[i] = safetensors_metadata_at(st, i);
	for (size_t i = 0; i < safetensors_count(st); i++) {
		struct safetensors_tensor *t = &tensors[count++];
		*t = *safetensors_at(st, i);
		if (strcmp(t->name, name) != 0)
			continue;
		if (rows == UINT64_MAX) {
			count--;
			continue;
		}
		memcpy(copy, t->data, t->bytes);
		copy[0] = broken ? NAN : copy[0];
		t->data = copy;
		t->shape[0] = rows > 0 ? rows : t->shape[0];
		t->shape[1] = columns > 0 ? columns : t->shape[1];
		t->bytes = t->shape[0] * (t->rank > 1 ? t->shape[1] : 1) * sizeof(float);
	}
	assert_int_equal(safetensors_write(path, tensors, count, metadata, safetensors_metadata_count(st), &err),
			 STATUS_OK);
	safetensors_close(st);
	free(copy);
}

static void wrong_tensors(void **state)
{
	static const struct {
		enum patch_insertion insertion;
		const char *name;
		uint64_t rows, columns;
		bool broken;
		const char *why;
	} cases[] = {
		{ PATCH_SERIAL, "patches.1.2.down.weight", 0, 9, false, "shape [3, 9], expected [3, 8]" },
		{ PATCH_SERIAL, "patches.1.2.up.weight", 9, 0, false, "shape [9, 3], expected [8, 3]" },
		{ PATCH_SERIAL, "patches.0.1.up.bias", 7, 0, false, "shape [7], expected [8]" },
		{ PATCH_SERIAL, "patches.0.1.up.bias", 0, 0, true, "patches.0.1.up.bias: value 0 is not finite" },
		{ PATCH_SERIAL, "patches.0.1.up.bias", UINT64_MAX, 0, false, "patches.0.1.up.bias: no such tensor" },
		{ PATCH_SERIAL, "patches.0.1.down.weight", UINT64_MAX, 0, false, "no such tensor" },
		{ PATCH_SERIAL, "head.weight", 4, 0, false, "labels has 3 entries, head.weight 4 rows" },
		{ PATCH_SERIAL, "head.weight", 0, 9, false, "head.weight: shape [3, 9], expected [3, 8]" },
		{ PATCH_SERIAL, "head.bias", 2, 0, false, "head.bias: shape [2], expected [3]" },
		{ PATCH_SERIAL, "head.weight", UINT64_MAX, 0, false, "head.weight: no such tensor" },
		{ PATCH_SERIAL, "head.weight", 0, 0, true, "head.weight: value 0 is not finite" },
		{ PATCH_SIDE, "side.2.down.weight", 0, 8, false, "shape [3, 8], expected [3, 16]" },
		{ PATCH_SIDE, "side.0.up.weight", 0, 0, true, "side.0.up.weight: value 0 is not finite" },
		{ PATCH_SIDE, "side.1.down.bias", UINT64_MAX, 0, false, "side.1.down.bias: no such tensor" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct patch_spec spec = spec_of(cases[i].insertion);
		struct patch *p = filled(&spec);
		save(p);
		rewrite_tensor(cases[i].name, cases[i].rows, cases[i].columns, cases[i].broken);
		expect_refused(HASH, cases[i].why);
		patch_free(p);
	}
}

static void another_network(void **state)
{
	struct error err = { 0 };
	struct network_shape shape = net->shape;
	struct network *other = NULL;
	struct patch *p = NULL;
	bool unnamed = false;
	struct patch_spec spec = spec_of(PATCH_PARALLEL);
	struct patch *made = filled(&spec);
	save(made);
	shape.channels = 6;
	assert_int_equal(network_new(&shape, &other, &err), STATUS_OK);
	assert_int_equal(patch_load(path, other, HASH, &p, &unnamed, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "patches.0.1.down.weight: shape [3, 8], expected [3, 6]"));
	patch_free(made);
	network_free(other);
}

/* Every length that is shorter than the file, and files that are no patches at all. */
static void truncated(void **state)
{
	struct patch_spec spec = spec_of(PATCH_SIDE);
	struct patch *p = filled(&spec);
	uint8_t bytes[16384];
	save(p);
	FILE *file = fopen(path, "rb");
	const size_t length = fread(bytes, 1, sizeof bytes, file);
	(void)fclose(file);
	assert_true(length > 1000 && length < sizeof bytes);
	for (size_t n = 0; n < length; n += n < 600 || n + 40 > length ? 1 : 7) {
		struct error err = { 0 };
		struct patch *back = NULL;
		bool unnamed = false;
		assert_int_equal(patch_load_memory("cut", bytes, n, net, HASH, &back, &unnamed, &err), STATUS_DATA);
		assert_memory_equal(err.text, "cut: ", 5);
	}
	patch_free(p);
}

static void missing_file(void **state)
{
	struct error err = { 0 };
	struct patch *p = NULL;
	bool unnamed = false;
	assert_int_equal(patch_load("/nonexistent/p", net, HASH, &p, &unnamed, &err), STATUS_NO_INPUT);
	struct patch_spec spec = spec_of(PATCH_SIDE);
	p = fresh(&spec);
	assert_int_equal(patch_save(p, "/nonexistent/p", &err), STATUS_IO);
	patch_free(p);
}

static void specs_that_do_not_fit(void **state)
{
	struct error err = { 0 };
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 1);
	static const char *const twice[] = { "a", "a" };
	struct patch_spec spec = spec_of(PATCH_SERIAL);
	spec.blocks[2] = true;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SIDE);
	spec.blocks[3] = true;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SIDE);
	spec.norms = true;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SIDE);
	spec.mean_window = 0;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SERIAL);
	spec.bottleneck = 0;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SERIAL);
	spec.first = spec.second = false;
	assert_int_equal(patch_new(&spec, net, "t", labels, 3, &random, &p, &err), STATUS_DATA);
	spec = spec_of(PATCH_SERIAL);
	assert_int_equal(patch_new(&spec, net, "t", twice, 2, &random, &p, &err), STATUS_DATA);
	spec.type = PATCH_REGRESSION;
	assert_int_equal(patch_new(&spec, net, "t", NULL, 2, &random, &p, &err), STATUS_DATA);
	assert_null(p);
}

static void default_blocks(void **state)
{
	bool blocks[NETWORK_BLOCKS_AT_MOST + 1] = { false };
	patch_default_blocks(PATCH_SIDE, 8, blocks);
	for (uint32_t i = 0; i <= NETWORK_BLOCKS_AT_MOST; i++)
		assert_int_equal(blocks[i], i == 0 || i == 8);
	blocks[0] = blocks[8] = false;
	patch_default_blocks(PATCH_SERIAL, 3, blocks);
	for (uint32_t i = 0; i <= NETWORK_BLOCKS_AT_MOST; i++)
		assert_int_equal(blocks[i], i < 3);
}

static void mean_window_is_named(void **state)
{
	struct patch_spec spec = spec_of(PATCH_SIDE);
	struct patch *p = filled(&spec);
	save(p);
	rewrite_metadata("mean_window", NULL);
	expect_refused(HASH, "metadata: mean_window is missing");
	save(p);
	rewrite_metadata("mean_window", "0");
	expect_refused(HASH, "metadata: mean_window is '0', expected a whole number from 1 to 65536");
	patch_free(p);
}

static void growth(void **state)
{
	struct error err;
	static const char *const more[] = { "x", "y" };
	static const char *const old[] = { "z", "M" };
	struct patch_spec spec = spec_of(PATCH_SERIAL);
	struct patch *p = filled(&spec);
	struct patch *before = filled(&spec);
	struct random_stream random = random_from(9, 9);
	float *moments = parameters_block_new(&p->table);
	for (size_t i = 0; i < p->table.floats; i++)
		moments[i] = (float)i;
	assert_int_equal(patch_grow(p, old, 2, &random, &err), STATUS_DATA);
	expect_same(p, before);
	assert_int_equal(patch_grow(p, more, 2, &random, &err), STATUS_OK);
	assert_int_equal(p->classes, 5);
	assert_string_equal(p->labels[1], "M");
	assert_string_equal(p->labels[4], "y");
	assert_true(p->adapters.weights == p->weights);
	assert_true(p->adapters.down_weight[3] > p->weights &&
		    p->adapters.down_weight[3] < p->weights + p->table.floats);
	assert_memory_equal(p->weights, before->weights, p->head_weight * sizeof(float));
	assert_memory_equal(p->weights + p->head_weight, before->weights + before->head_weight, 24 * sizeof(float));
	assert_memory_equal(p->weights + p->head_bias, before->weights + before->head_bias, 3 * sizeof(float));
	assert_true(p->weights[p->head_weight + 24] != 0 && p->weights[p->head_weight + 39] != 0);
	assert_true(p->weights[p->head_bias + 3] == 0 && p->weights[p->head_bias + 4] == 0);
	float *moved = parameters_block_new(&p->table);
	patch_move_block(&before->table, &p->table, moments, moved);
	assert_true(moved[p->head_weight + 23] == (float)(before->head_weight + 23) && moved[p->head_weight + 24] == 0);
	assert_true(moved[p->head_bias + 2] == (float)(before->head_bias + 2) && moved[p->head_bias + 3] == 0);
	save(p);
	struct patch *back = NULL;
	bool unnamed;
	assert_int_equal(patch_load(path, net, HASH, &back, &unnamed, &err), STATUS_OK);
	expect_same(p, back);
	free(moved);
	free(moments);
	patch_free(back);
	patch_free(before);
	patch_free(p);
}

static void growth_from_nothing(void **state)
{
	struct error err;
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 1);
	struct patch_spec spec = spec_of(PATCH_SIDE);
	spec.type = PATCH_RANKING;
	assert_int_equal(patch_new(&spec, net, "films", NULL, 0, &random, &p, &err), STATUS_OK);
	save(p);
	patch_free(p);
	bool unnamed;
	assert_int_equal(patch_load(path, net, HASH, &p, &unnamed, &err), STATUS_OK);
	assert_true(unnamed);
	assert_int_equal(p->classes, 0);
	assert_int_equal(patch_grow(p, labels, 2, &random, &err), STATUS_OK);
	assert_int_equal(patch_label(p, "M"), 1);
	patch_free(p);
}

static void rescaled_output(void **state)
{
	struct patch_spec spec = spec_of(PATCH_SIDE);
	spec.type = PATCH_REGRESSION;
	struct patch *p = filled(&spec);
	struct patch *before = filled(&spec);
	patch_rescale(p, 2, 3);
	assert_true(p->weights[p->head_weight + 7] == 2 * before->weights[p->head_weight + 7]);
	assert_true(p->weights[p->head_bias] == 2 * before->weights[p->head_bias] + 3);
	patch_free(before);
	patch_free(p);
}

/* Serial and parallel: the network with a fresh patch; side: what the head reads. The same bits as without. */
static void fresh_patches_change_nothing(void **state)
{
	struct error err;
	enum { SEQUENCES = 4 };
	static const size_t offsets[SEQUENCES + 1] = { 0, 0, 1, 20, 55 };
	uint32_t items[55];
	struct random_stream random = random_from(5, 5);
	struct network_pass *pass = NULL;
	float frozen[SEQUENCES * 8];
	for (size_t i = 0; i < 55; i++)
		items[i] = 3 + random_below(&random, net->shape.items - 3);
	const struct network_batch batch = { .sequences = SEQUENCES, .offsets = offsets, .items = items };
	assert_int_equal(network_pass_new(net, 3, 64, SEQUENCES, NETWORK_KEEP_LEVELS, &pass, &err), STATUS_OK);
	network_forward(net, NULL, pass, &batch);
	memcpy(frozen, network_pass_task(pass), sizeof frozen);
	for (int insertion = PATCH_SERIAL; insertion < PATCH_SIDE; insertion++) {
		struct patch_spec spec = spec_of((enum patch_insertion)insertion);
		spec.norms = true;
		struct patch *p = fresh(&spec);
		network_forward(net, &p->adapters, pass, &batch);
		assert_memory_equal(frozen, network_pass_task(pass), sizeof frozen);
		patch_free(p);
	}
	struct patch_spec spec = spec_of(PATCH_SIDE);
	struct patch *p = fresh(&spec);
	struct side_pass *side = NULL;
	float *states = calloc(SEQUENCES * side_state_floats(p), sizeof *states);
	side_states(net, pass, &batch, p, states);
	assert_int_equal(side_pass_new(p, SEQUENCES, &side, &err), STATUS_OK);
	assert_memory_equal(frozen, side_forward(p, side, SEQUENCES, states), sizeof frozen);
	free(states);
	side_pass_free(side);
	patch_free(p);
	network_pass_free(pass);
}

static int set_up(void **state)
{
	const struct network_shape shape = { .channels = 8,
					     .kernel_size = 3,
					     .blocks = 2,
					     .dilations = { 1, 2 },
					     .items = 23,
					     .eps = 1e-8F,
					     .causal = true };
	struct error err;
	struct random_stream random = random_from(7, 7);
	int fd = mkstemp(path);
	if (fd < 0 || close(fd) != 0 || network_new(&shape, &net, &err) != STATUS_OK)
		return -1;
	network_randomise(net, &random);
	return 0;
}

static int tear_down(void **state)
{
	network_free(net);
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(unnamed_backbone),
		cmocka_unit_test(wrong_metadata),
		cmocka_unit_test(whole_numbers_are_labels),
		cmocka_unit_test(wrong_tensors),
		cmocka_unit_test(another_network),
		cmocka_unit_test(truncated),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(specs_that_do_not_fit),
		cmocka_unit_test(default_blocks),
		cmocka_unit_test(mean_window_is_named),
		cmocka_unit_test(growth),
		cmocka_unit_test(growth_from_nothing),
		cmocka_unit_test(rescaled_output),
		cmocka_unit_test(fresh_patches_change_nothing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
