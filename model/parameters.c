#include "model/parameters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_BYTES 64
#define ALIGNMENT_FLOATS (ALIGNMENT_BYTES / sizeof(float))

enum status parameters_add(struct parameters *p, const char *name, unsigned rank, const uint64_t shape[],
			   bool convolution, size_t *ret_offset, struct error *err)
{
	if (p->count == p->capacity) {
		const size_t capacity = p->capacity == 0 ? 16 : 2 * p->capacity;
		struct parameter *list = reallocarray(p->list, capacity, sizeof *list);
		if (list == NULL)
			return error_set_memory(err);
		p->list = list;
		p->capacity = capacity;
	}
	struct parameter *t = &p->list[p->count++];
	*t = (struct parameter){ .rank = rank, .offset = p->floats, .count = 1 };
	(void)snprintf(t->name, sizeof t->name, "%s", name);
	for (unsigned i = 0; i < rank; i++) {
		t->shape[i] = shape[i];
		t->count *= (size_t)shape[i];
	}
	t->convolution = convolution;
	t->trained = true;
	p->floats += (t->count + ALIGNMENT_FLOATS - 1) / ALIGNMENT_FLOATS * ALIGNMENT_FLOATS;
	*ret_offset = t->offset;
	return STATUS_OK;
}

void parameters_free(struct parameters *p)
{
	free(p->list);
	*p = (struct parameters){ 0 };
}

const struct parameter *parameters_find(const struct parameters *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++) {
		if (strcmp(p->list[i].name, name) == 0)
			return &p->list[i];
	}
	return NULL;
}

float *parameters_block_new(const struct parameters *p)
{
	const size_t bytes = (p->floats > 0 ? p->floats : ALIGNMENT_FLOATS) * sizeof(float);
	float *block = aligned_alloc(ALIGNMENT_BYTES, bytes);
	if (block != NULL)
		memset(block, 0, bytes);
	return block;
}

size_t parameters_trained(const struct parameters *p)
{
	size_t floats = 0;
	for (size_t i = 0; i < p->count; i++)
		floats += p->list[i].trained ? p->list[i].count : 0;
	return floats;
}

/* [out, in, tap] of the file to [out, tap, in] of the block, for one output channel. */
static void to_block(const struct parameter *t, const float *file, float *block)
{
	const size_t in = (size_t)t->shape[1];
	const size_t taps = (size_t)t->shape[2];
	for (size_t i = 0; i < in; i++) {
		for (size_t tap = 0; tap < taps; tap++)
			block[tap * in + i] = file[i * taps + tap];
	}
}

static void to_file(const struct parameter *t, const float *block, float *file)
{
	const size_t in = (size_t)t->shape[1];
	const size_t taps = (size_t)t->shape[2];
	for (size_t i = 0; i < in; i++) {
		for (size_t tap = 0; tap < taps; tap++)
			file[i * taps + tap] = block[tap * in + i];
	}
}

static enum status load_convolution(const struct parameter *t, const struct safetensors *st, float *block,
				    struct error *err)
{
	const struct safetensors_tensor *from = NULL;
	const size_t row = (size_t)(t->shape[1] * t->shape[2]);
	if (safetensors_expect(st, t->name, t->rank, t->shape, &from, err) != STATUS_OK ||
	    safetensors_check_floats(from, err) != STATUS_OK)
		return err->status;
	float *scratch = malloc(row * sizeof *scratch);
	if (scratch == NULL)
		return error_set_memory(err);
	for (size_t out = 0; out < t->shape[0]; out++) {
		safetensors_copy_floats(from, out * row, row, scratch);
		to_block(t, scratch, block + t->offset + out * row);
	}
	free(scratch);
	return STATUS_OK;
}

enum status parameters_load(const struct parameters *p, const struct safetensors *st, float *block, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; status == STATUS_OK && i < p->count; i++) {
		const struct parameter *t = &p->list[i];
		if (t->convolution)
			status = load_convolution(t, st, block, err);
		else
			status = safetensors_read_floats(st, t->name, t->rank, t->shape, block + t->offset, err);
	}
	return status;
}

enum status parameters_tensors(const struct parameters *p, const float *block, struct safetensors_tensor tensors[],
			       float **ret_scratch, struct error *err)
{
	size_t floats = 1;
	for (size_t i = 0; i < p->count; i++)
		floats += p->list[i].convolution ? p->list[i].count : 0;
	float *scratch = malloc(floats * sizeof *scratch);
	if (scratch == NULL)
		return error_set_memory(err);
	float *at = scratch;
	for (size_t i = 0; i < p->count; i++) {
		const struct parameter *t = &p->list[i];
		const size_t row = t->convolution ? (size_t)(t->shape[1] * t->shape[2]) : 0;
		tensors[i] = (struct safetensors_tensor){ .name = t->name,
							  .type = SAFETENSORS_F32,
							  .rank = t->rank,
							  .data = t->convolution ? at : block + t->offset,
							  .bytes = t->count * sizeof(float) };
		memcpy(tensors[i].shape, t->shape, t->rank * sizeof t->shape[0]);
		for (size_t out = 0; row > 0 && out < t->shape[0]; out++, at += row)
			to_file(t, block + t->offset + out * row, at);
	}
	*ret_scratch = scratch;
	return STATUS_OK;
}
