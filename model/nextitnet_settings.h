/* What a NextItNet's file says of its shape. Shared by those that serve it and those that train it. */
#ifndef MODEL_NEXTITNET_SETTINGS_H
#define MODEL_NEXTITNET_SETTINGS_H

#include "base/error.h"
#include "model/safetensors.h"

#include <stdbool.h>
#include <stdint.h>

#define NEXTITNET_MAX_FIELD 65536 /* receptive field, positions */
#define NEXTITNET_MAX_BLOCKS 4096

struct nextitnet_settings { /* the metadata */
	uint32_t channels;
	uint32_t taps;
	float eps;
	bool causal;
	uint32_t window; /* non-causal only */
	uint32_t blocks;
	uint32_t dilations[NEXTITNET_MAX_BLOCKS];
};

/* Reads and checks them into zeroed *s. Errors: STATUS_DATA naming the key. */
enum status nextitnet_settings_read(const struct safetensors *st, struct nextitnet_settings *s,
				    struct error *err) MUST_CHECK;

/* Checks that every tensor of the trunk is there with its shape; `items`: V. Errors: STATUS_DATA naming the tensor. */
enum status nextitnet_settings_check(const struct safetensors *st, const struct nextitnet_settings *s, uint32_t items,
				     struct error *err) MUST_CHECK;

uint64_t nextitnet_field(const struct nextitnet_settings *s); /* positions */

/* "blocks.3.conv2.weight" of convolution 7, layer "conv", what "weight"; returns `name`. */
const char *nextitnet_tensor(char name[64], uint32_t convolution, const char *layer, const char *what);

#endif
