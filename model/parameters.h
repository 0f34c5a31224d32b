/* A network's parameters: named tensors that are views into one block of floats.
 *
 * Gradients, moments and copies are blocks of the same layout, so that to zero, add, clip, step, save and restore are
 * one loop each. A block is parameters_floats() floats, 64-byte aligned (parameters_block_new). Names and shapes are
 * those of the file (contract, "Model files"); only the weights of convolutions lie otherwise in the block:
 * [out, tap, in] where the file has [out, in, tap], so that a convolution is one matrix product with gathered rows. */
#ifndef MODEL_PARAMETERS_H
#define MODEL_PARAMETERS_H

#include "base/error.h"
#include "model/safetensors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parameter {
	char name[64];
	unsigned rank;
	uint64_t shape[3]; /* as in the file */
	size_t offset;     /* floats into the block; a multiple of 16 */
	size_t count;      /* floats */
	bool convolution;
	bool trained; /* false: no gradient is computed for it and no step taken */
};

struct parameters { /* a table; the floats are elsewhere */
	struct parameter *list;
	size_t count;
	size_t capacity;
	size_t floats; /* of a block */
};

/* Appends a tensor; *ret_offset receives its place. Errors: STATUS_MEMORY. */
enum status parameters_add(struct parameters *p, const char *name, unsigned rank, const uint64_t shape[],
			   bool convolution, size_t *ret_offset, struct error *err) MUST_CHECK;
void parameters_free(struct parameters *p);

const struct parameter *parameters_find(const struct parameters *p, const char *name); /* NULL: absent */
float *parameters_block_new(const struct parameters *p);                               /* zeroed; NULL: out of memory */
size_t parameters_trained(const struct parameters *p); /* floats of tensors with `trained` set */

/* Reads every tensor of the table into the block. Errors: STATUS_DATA naming the tensor (absent, other shape or type,
 * not finite). */
enum status parameters_load(const struct parameters *p, const struct safetensors *st, float *block,
			    struct error *err) MUST_CHECK;

/* Fills tensors[0 .. count-1] for safetensors_write. Convolutions are put into the file's order in *ret_scratch, which
 * the caller frees after writing; other tensors are views into the block. Errors: STATUS_MEMORY. */
enum status parameters_tensors(const struct parameters *p, const float *block, struct safetensors_tensor tensors[],
			       float **ret_scratch, struct error *err) MUST_CHECK;

#endif
