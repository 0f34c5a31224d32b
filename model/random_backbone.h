/* A backbone with random weights, for the demonstration, tests and benchmarks: its embeddings mean nothing, but differ
 * from user to user and are those of its seed on every machine. */
#ifndef MODEL_RANDOM_BACKBONE_H
#define MODEL_RANDOM_BACKBONE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random_backbone {
	uint32_t channels;
	uint32_t kernel_size;
	const char *dilations; /* of the blocks, comma list */
	bool causal;
	uint32_t window; /* events; of the non-causal form only */
	uint64_t seed;
};

/* Writes it for these item ids (UTF-8, distinct), atomically. Errors as safetensors_write. */
enum status random_backbone_write(const char *path, const struct random_backbone *r, const char *const items[],
				  size_t item_count, struct error *err) MUST_CHECK;

#endif
