#include "model/random_backbone.h"

#include "base/random.h"
#include "model/backbone.h"
#include "model/safetensors.h"
#include "model/vocabulary_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PER_CONVOLUTION 4

struct tensors {
	struct safetensors_tensor *list;
	char (*names)[64];
	size_t count;
	size_t capacity;
	struct random_stream random; /* no mathematical library on the way: the same numbers on every machine */
	bool failed;                 /* an allocation did */
};

/* Uniform in [-1, 1). */
static float uniform(struct random_stream *random)
{
	return 2.0F * random_uniform(random) - 1.0F;
}

static float *add(struct tensors *t, const char *name, unsigned rank, const uint64_t shape[])
{
	size_t values = 1;
	for (unsigned i = 0; i < rank; i++)
		values *= (size_t)shape[i];
	float *data = t->count < t->capacity ? malloc(values * sizeof *data + 1) : NULL;
	if (data == NULL) {
		t->failed = true;
		return NULL;
	}
	struct safetensors_tensor *tensor = &t->list[t->count];
	(void)snprintf(t->names[t->count], sizeof t->names[0], "%s", name);
	tensor->name = t->names[t->count];
	tensor->type = SAFETENSORS_F32;
	tensor->rank = rank;
	memcpy(tensor->shape, shape, rank * sizeof shape[0]);
	tensor->data = data;
	tensor->bytes = values * sizeof *data;
	t->count++;
	return data;
}

/* Values uniform in centre +- range. */
static void add_floats(struct tensors *t, const char *name, unsigned rank, const uint64_t shape[], float centre,
		       float range)
{
	float *data = add(t, name, rank, shape);
	size_t values = data == NULL ? 0 : t->list[t->count - 1].bytes / sizeof *data;
	for (size_t i = 0; i < values; i++)
		data[i] = centre + range * uniform(&t->random);
}

/* 1 / sqrt(x) by Newton's steps: only +, - and *, hence the same on every machine. */
static float inverse_root(float x)
{
	float y = 1.0F;
	while (x * y * y > 1.0F)
		y *= 0.5F;
	for (int i = 0; i < 8; i++)
		y *= 1.5F - 0.5F * x * y * y;
	return y;
}

static void add_weights(struct tensors *t, const struct random_backbone *r, size_t items, size_t blocks)
{
	const uint64_t d = r->channels;
	const uint64_t table[] = { items + BACKBONE_FIRST_ITEM, d };
	const uint64_t matrix[] = { d, d, r->kernel_size };
	const float range = 1.7320508F * inverse_root((float)d * (float)r->kernel_size); /* variance 1 / inputs */
	char name[64];
	add_floats(t, "item_embedding.weight", 2, table, 0, 1.7320508F);
	for (size_t i = 0; i < 2 * blocks; i++) {
		(void)snprintf(name, sizeof name, "blocks.%zu.conv%zu.weight", i / 2, i % 2 + 1);
		add_floats(t, name, 3, matrix, 0, range);
		(void)snprintf(name, sizeof name, "blocks.%zu.conv%zu.bias", i / 2, i % 2 + 1);
		add_floats(t, name, 1, &d, 0, 0.1F);
		(void)snprintf(name, sizeof name, "blocks.%zu.norm%zu.weight", i / 2, i % 2 + 1);
		add_floats(t, name, 1, &d, 1, 0.2F);
		(void)snprintf(name, sizeof name, "blocks.%zu.norm%zu.bias", i / 2, i % 2 + 1);
		add_floats(t, name, 1, &d, 0, 0.2F);
	}
}

static enum status write_file(const char *path, const struct random_backbone *r, const struct tensors *t,
			      const char *vocabulary, struct error *err)
{
	char channels[16];
	char kernel_size[16];
	char window[16];
	(void)snprintf(channels, sizeof channels, "%" PRIu32, r->channels);
	(void)snprintf(kernel_size, sizeof kernel_size, "%" PRIu32, r->kernel_size);
	(void)snprintf(window, sizeof window, "%" PRIu32, r->window);
	struct safetensors_string metadata[13] = {
		{ "format", "peterd.backbone.v1" },
		{ "arch", "nextitnet" },
		{ "causal", r->causal ? "true" : "false" },
		{ "channels", channels },
		{ "kernel_size", kernel_size },
		{ "dilations", r->dilations },
		{ "layer_norm_eps", "1e-8" },
		{ "pad_index", "0" },
		{ "tcl_index", "1" },
		{ "oov_index", "2" },
		{ "weights", "random" },
	};
	size_t count = 11;
	if (!r->causal)
		metadata[count++] = (struct safetensors_string){ "window", window };
	if (vocabulary != NULL)
		metadata[count++] = (struct safetensors_string){ "vocabulary", vocabulary };
	return safetensors_write(path, t->list, t->count, metadata, count, err);
}

static enum status write_tensors(const char *path, const struct random_backbone *r, const char *const items[],
				 size_t item_count, size_t blocks, struct tensors *t, struct error *err)
{
	struct vocabulary_form vocabulary = { 0 };
	add_weights(t, r, item_count, blocks);
	if (t->failed)
		return error_set_memory(err);
	enum status status = vocabulary_form_make(items, item_count, &vocabulary, err);
	const size_t own = t->count;
	for (size_t i = 0; i < vocabulary.tensor_count; i++)
		t->list[t->count++] = vocabulary.tensors[i];
	if (status == STATUS_OK)
		status = write_file(path, r, t, vocabulary.text, err);
	t->count = own;
	vocabulary_form_free(&vocabulary);
	return status;
}

enum status random_backbone_write(const char *path, const struct random_backbone *r, const char *const items[],
				  size_t item_count, struct error *err)
{
	size_t blocks = 1;
	for (const char *at = r->dilations; *at != '\0'; at++)
		blocks += *at == ',';
	struct tensors t = { .capacity = 1 + VOCABULARY_TENSORS + 2 * PER_CONVOLUTION * blocks, .random = { r->seed } };
	t.list = calloc(t.capacity, sizeof t.list[0]);
	t.names = calloc(t.capacity, sizeof t.names[0]);
	enum status status = t.list == NULL || t.names == NULL
				     ? error_set_memory(err)
				     : write_tensors(path, r, items, item_count, blocks, &t, err);
	for (size_t i = 0; i < t.count; i++)
		free((void *)(uintptr_t)t.list[i].data);
	free(t.list);
	free(t.names);
	return status;
}
