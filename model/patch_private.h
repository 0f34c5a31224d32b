/* What patch.c and patch_file.c share; nobody else includes it. */
#ifndef MODEL_PATCH_PRIVATE_H
#define MODEL_PATCH_PRIVATE_H

#include "model/patch.h"

/* A patch with spec, task (copied) and sizes, and without tensors. Errors: STATUS_DATA (a spec that does not fit the trunk),
 * STATUS_MEMORY. */
enum status patch_begin(const struct patch_spec *spec, const struct network *net, const char *task, struct patch **ret,
			struct error *err) MUST_CHECK;

/* Copies the labels and sets classes. Errors: STATUS_DATA (empty, equal), STATUS_MEMORY. */
enum status patch_set_labels(struct patch *p, const char *const labels[], uint32_t classes,
			     struct error *err) MUST_CHECK;

/* The table of the spec and of `classes`, without weights. Errors: STATUS_MEMORY. */
enum status patch_lay_out(struct patch *p, struct error *err) MUST_CHECK;

/* A zeroed block for the table, and the views into it. Errors: STATUS_MEMORY. */
enum status patch_allocate(struct patch *p, struct error *err) MUST_CHECK;

#endif
