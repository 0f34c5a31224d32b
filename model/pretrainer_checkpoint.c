/* A run as a file. Blocks are stored as they lie in memory, one tensor each: a checkpoint is for the program that
 * wrote it, not for exchange. Settings that a run's bits depend on are stored as text and compared when it goes on. */
#include "model/pretrainer_private.h"

#include "base/hash.h"
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "peterd.checkpoint.v1"

enum {
	SETTINGS_AT_MOST = 40,
	TEXT = 80,
	BLOCKS = 5,
	STATE = 6,
	SUMS = sizeof(struct pretrainer_sums) / sizeof(double)
};

struct settings {
	struct safetensors_string list[SETTINGS_AT_MOST];
	char texts[SETTINGS_AT_MOST][TEXT];
	size_t count;
};

static void add(struct settings *s, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);

static void add(struct settings *s, const char *key, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(s->texts[s->count], TEXT, format, args);
	va_end(args);
	s->list[s->count] = (struct safetensors_string){ key, s->texts[s->count] };
	s->count++;
}

static void add_shape(struct settings *s, const struct network_shape *shape)
{
	char dilations[HASH_HEX_LENGTH + 1];
	hash_sha256_hex(shape->dilations, shape->blocks * sizeof shape->dilations[0], dilations);
	add(s, "items", "%" PRIu32, shape->items);
	add(s, "channels", "%" PRIu32, shape->channels);
	add(s, "kernel_size", "%" PRIu32, shape->kernel_size);
	add(s, "blocks", "%" PRIu32, shape->blocks);
	add(s, "dilations", "SHA-256 %.16s", dilations);
	add(s, "causal", "%s", shape->causal ? "true" : "false");
	add(s, "layer_norm_eps", "%.9g", (double)shape->eps);
}

static void add_optimizer(struct settings *s, const struct optimizer_options *o)
{
	add(s, "rate", "%.9g", (double)o->rate);
	add(s, "beta1", "%.17g", o->beta1);
	add(s, "beta2", "%.17g", o->beta2);
	add(s, "epsilon", "%.9g", (double)o->epsilon);
	add(s, "decay", "%.9g", (double)o->decay);
	add(s, "clip", "%.9g", (double)o->clip);
	add(s, "warm_up", "%" PRIu64, o->warm_up);
	add(s, "schedule_floor", "%.9g", (double)o->floor);
}

static void add_options(struct settings *s, const struct pretrainer_options *o)
{
	static const char *const losses[] = { "full", "uniform", "log-uniform" };
	add(s, "seed", "%" PRIu64, o->seed);
	add(s, "batch", "%" PRIu32, o->batch);
	add(s, "window", "%" PRIu32, o->window);
	add(s, "dropout", "%.9g", (double)o->dropout);
	add(s, "task_weight", "%.9g", (double)o->task_weight);
	add(s, "unknown", "%.9g", (double)o->unknown);
	add(s, "blanks", "%.9g", (double)o->blanks);
	add(s, "loss", "%s", losses[o->loss]);
	add(s, "sampled", "%" PRIu32, o->loss == PRETRAINER_FULL ? 0 : o->sampled);
	add(s, "tied", "%s", o->tied ? "true" : "false");
	add(s, "average", "%.9g", (double)o->average);
	add(s, "cosine_epochs", "%" PRIu64, o->cosine_epochs); /* before warm_up, which it bounds */
}

static void add_data(struct settings *s, const struct pretrainer *p)
{
	const struct pretrainer_sequences *sequences = p->sequences;
	char offsets[HASH_HEX_LENGTH + 1];
	char items[HASH_HEX_LENGTH + 1];
	size_t events = sequences->offsets[sequences->users];
	hash_sha256_hex(sequences->offsets, (sequences->users + 1) * sizeof *sequences->offsets, offsets);
	hash_sha256_hex(sequences->items, events * sizeof *sequences->items, items);
	add(s, "users", "%zu", sequences->users);
	add(s, "events", "%zu, SHA-256 %.16s %.16s", events, offsets, items);
	add(s, "hold_out", "%s", sequences->hold_out ? "true" : "false");
	add(s, "parts", "%" PRIu32, p->parallel.parts);
}

static void describe(const struct pretrainer *p, struct settings *s)
{
	*s = (struct settings){ .count = 0 };
	add(s, "format", "%s", FORMAT);
	add_shape(s, &p->net->shape);
	add_options(s, &p->options);
	add_optimizer(s, &p->options.optimizer);
	add_data(s, p);
}

/* The numbers of a run, in the file's order; best.value and sums are stored beside them as F64. */
static void pack_state(const struct pretrainer *p, uint64_t state[STATE], double reals[1 + SUMS])
{
	const uint64_t numbers[STATE] = { p->epoch, p->next, p->steps, p->optimizer.step, p->best.epoch, p->best.task };
	memcpy(state, numbers, sizeof numbers);
	reals[0] = p->best.value;
	memcpy(reals + 1, &p->sums, sizeof p->sums);
}

static void unpack_state(struct pretrainer *p, const uint64_t state[STATE], const double reals[1 + SUMS])
{
	p->epoch = state[0];
	p->next = (size_t)state[1];
	p->steps = state[2];
	p->optimizer.step = state[3];
	p->best = (struct pretrainer_best){ state[4], reals[0], state[5] != 0 };
	memcpy(&p->sums, reals + 1, sizeof p->sums);
}

/* Names and places of the blocks; without an average there is one less. */
static size_t name_blocks(const struct pretrainer *p, const char *names[BLOCKS], float *blocks[BLOCKS])
{
	static const char *const all[BLOCKS] = { "weights", "mean", "square", "best", "average" };
	float *const places[BLOCKS] = { p->net->weights, p->optimizer.mean, p->optimizer.square, p->best_weights,
					p->averaged ? p->averaged->weights : NULL };
	memcpy(names, all, sizeof all);
	memcpy(blocks, places, sizeof places);
	return p->averaged ? BLOCKS : BLOCKS - 1;
}

enum status pretrainer_save(const struct pretrainer *p, const char *path, struct error *err)
{
	struct safetensors_tensor tensors[BLOCKS + 2];
	const char *names[BLOCKS];
	float *blocks[BLOCKS];
	uint64_t state[STATE];
	double reals[1 + SUMS];
	struct settings settings;
	size_t count = name_blocks(p, names, blocks);
	for (size_t i = 0; i < count; i++)
		tensors[i] = (struct safetensors_tensor){ .name = names[i],
							  .type = SAFETENSORS_F32,
							  .rank = 1,
							  .shape = { p->net->table.floats },
							  .data = blocks[i],
							  .bytes = p->net->table.floats * sizeof(float) };
	pack_state(p, state, reals);
	tensors[count++] = (struct safetensors_tensor){ .name = "state",
							.type = SAFETENSORS_U64,
							.rank = 1,
							.shape = { STATE },
							.data = state,
							.bytes = sizeof state };
	tensors[count++] = (struct safetensors_tensor){ .name = "sums",
							.type = SAFETENSORS_F64,
							.rank = 1,
							.shape = { 1 + SUMS },
							.data = reals,
							.bytes = sizeof reals };
	describe(p, &settings);
	return safetensors_write(path, tensors, count, settings.list, settings.count, err);
}

/* What people know a setting as: an option of `peterctl pretrain`, where it is one. */
static const char *name_for_people(const char *key)
{
	static const char *const names[][2] = {
		{ "channels", "--channels" },
		{ "kernel_size", "--kernel-size" },
		{ "blocks", "--dilations, blocks:" },
		{ "dilations", "--dilations" },
		{ "causal", "--non-causal, causal:" },
		{ "seed", "--seed" },
		{ "batch", "--batch" },
		{ "window", "--window" },
		{ "dropout", "--dropout" },
		{ "task_weight", "--task-weight" },
		{ "unknown", "--unknown" },
		{ "blanks", "--blanks" },
		{ "loss", "--loss" },
		{ "sampled", "--sampled" },
		{ "tied", "--tied" },
		{ "average", "--average" },
		{ "cosine_epochs", "--schedule cosine --epochs" },
		{ "rate", "--rate" },
		{ "decay", "--decay" },
		{ "clip", "--clip" },
		{ "warm_up", "--warm-up" },
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i][0], key) == 0)
			return names[i][1];
	return key;
}

static enum status compare(const struct pretrainer *p, const struct safetensors *st, struct error *err)
{
	struct settings ours;
	describe(p, &ours);
	for (size_t i = 0; i < ours.count; i++) {
		const char *theirs = safetensors_metadata(st, ours.list[i].key);
		if (!theirs || strcmp(theirs, ours.list[i].value) != 0)
			return error_set(err, STATUS_DATA, "made with %s %.80s, and this run has %s",
					 name_for_people(ours.list[i].key), theirs ? theirs : "(none)",
					 ours.list[i].value);
	}
	return STATUS_OK;
}

static enum status read_numbers(const struct safetensors *st, const char *name, enum safetensors_type type,
				size_t count, void *out, struct error *err)
{
	const uint64_t shape[] = { count };
	const struct safetensors_tensor *t = NULL;
	enum status status = safetensors_expect(st, name, 1, shape, &t, err);
	if (!status && t->type != type)
		status = error_set(err, STATUS_DATA, "%s: type %s, expected %s", name, safetensors_type_name(t->type),
				   safetensors_type_name(type));
	if (!status)
		memcpy(out, t->data, t->bytes);
	return status;
}

static enum status read_run(struct pretrainer *p, const struct safetensors *st, struct error *err)
{
	const char *names[BLOCKS];
	float *blocks[BLOCKS];
	uint64_t state[STATE];
	double reals[1 + SUMS];
	const uint64_t shape[] = { p->net->table.floats };
	size_t count = name_blocks(p, names, blocks);
	enum status status = compare(p, st, err);
	for (size_t i = 0; i < count && !status; i++)
		status = safetensors_read_floats(st, names[i], 1, shape, blocks[i], err);
	if (!status)
		status = read_numbers(st, "state", SAFETENSORS_U64, STATE, state, err);
	if (!status)
		status = read_numbers(st, "sums", SAFETENSORS_F64, 1 + SUMS, reals, err);
	if (status)
		return status;
	unpack_state(p, state, reals);
	p->cut = false;
	if (p->next > 0)
		status = pretrainer_cut(p, err);
	if (!status && p->next > 0 && p->next >= p->windows.count)
		status = error_set(err, STATUS_DATA, "state: window %zu of %zu", p->next, p->windows.count);
	return status;
}

enum status pretrainer_load(struct pretrainer *p, const char *path, struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open(path, &st, err);
	if (status)
		return status;
	status = read_run(p, st, err);
	safetensors_close(st);
	return status ? safetensors_blame(path, err) : STATUS_OK;
}

enum status pretrainer_saved_parts(const char *path, uint32_t *ret, struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open(path, &st, err);
	if (status)
		return status;
	const char *format = safetensors_metadata(st, "format");
	const char *text = safetensors_metadata(st, "parts");
	char *end = NULL;
	unsigned long parts = text ? strtoul(text, &end, 10) : 0;
	if (!format || strcmp(format, FORMAT) != 0 || !text || *end || parts < 1 || parts > UINT16_MAX) {
		(void)error_set(err, STATUS_DATA, "no checkpoint of a pre-training");
		status = safetensors_blame(path, err);
	} else {
		*ret = (uint32_t)parts;
	}
	safetensors_close(st);
	return status;
}
