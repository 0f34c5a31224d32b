/* What the files of fine-tuning share; nobody else includes it. */
#ifndef TOOLS_FINETUNE_PRIVATE_H
#define TOOLS_FINETUNE_PRIVATE_H

#include "tools/finetune.h"
#include "tools/user_rows.h"

struct finetune {
	struct finetune_options options;
	struct finetune_input input;
	const struct parallel *parallel;
	struct patch *patch;
	struct tuner *tuner;
	bool trunk; /* is trained */
	struct user_items items;
	struct tuner_example *examples; /* of input.data, in its order */
	float *states;                  /* what the examples' states point into; NULL: they are not computed before */
	double states_per_second;
	uint32_t *training;   /* indices of examples */
	uint32_t *validation; /* likewise */
	size_t training_count;
	size_t validation_count;
	float mean, scale; /* of regression labels: trained as (value - mean) / scale */
};

/* Whether a patch of this kind learns from states that never change, and they fit into memory. */
bool finetune_may_cache(const struct finetune *f);

/* Computes each distinct (user, events) once and points the examples there. Errors: STATUS_MEMORY. */
enum status finetune_cache_states(struct finetune *f, bool *ret_stopped, struct error *err) MUST_CHECK;

#endif
