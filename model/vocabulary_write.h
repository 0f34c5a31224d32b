/* The two forms in which a backbone's file holds its catalogue (contract, "Model files"): a JSON array in the
 * metadata where it is small, two tensors where it is large. */
#ifndef MODEL_VOCABULARY_WRITE_H
#define MODEL_VOCABULARY_WRITE_H

#include "base/error.h"
#include "model/safetensors.h"

#include <stddef.h>
#include <stdint.h>

enum { VOCABULARY_TEXT_ITEMS = 10000, VOCABULARY_TENSORS = 2 };

struct vocabulary_form {
	char *text; /* the metadata `vocabulary`; NULL: the tensors stand for it */
	char *bytes;
	int64_t *offsets;
	struct safetensors_tensor tensors[VOCABULARY_TENSORS]; /* vocabulary.bytes and vocabulary.offsets */
	size_t tensor_count;                                   /* 0 or VOCABULARY_TENSORS */
};

/* Of these ids (UTF-8, distinct, from index 3 on): text for up to VOCABULARY_TEXT_ITEMS, tensors for more. Errors:
 * STATUS_MEMORY (also: an id is not UTF-8). */
enum status vocabulary_form_make(const char *const ids[], size_t count, struct vocabulary_form *ret,
				 struct error *err) MUST_CHECK;
void vocabulary_form_free(struct vocabulary_form *form); /* a zeroed one is fine */

#endif
