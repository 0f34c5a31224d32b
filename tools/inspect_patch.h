/* What `peterctl inspect` says of a patch, with or without the backbone that it was made for. Main thread. */
#ifndef TOOLS_INSPECT_PATCH_H
#define TOOLS_INSPECT_PATCH_H

#include "base/error.h"
#include "model/patch.h"
#include "model/safetensors.h"

#include <jansson.h>
#include <stddef.h>

struct inspect_patch {
	struct patch *patch;
	size_t trunk_parameters; /* without the output layer; 0: no backbone was given */
};

/* Checks the file against the backbone's (backbone NULL: against itself). Errors: those of patch_load and trunk_file_load. */
enum status inspect_patch_load(const struct safetensors *st, const char *backbone, struct inspect_patch *ret,
			       struct error *err) MUST_CHECK;
void inspect_patch_close(struct inspect_patch *p); /* a zeroed one is fine */

void inspect_patch_print(const struct inspect_patch *p);
json_t *inspect_patch_json(const struct inspect_patch *p);

#endif
