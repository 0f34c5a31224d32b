/* Offline training of one task: labelled users to a patch and, for the baselines, to a changed trunk. Main thread, which
 * lends others through `parallel`. */
#ifndef TOOLS_FINETUNE_H
#define TOOLS_FINETUNE_H

#include "base/error.h"
#include "io/audience.h"
#include "model/parallel.h"
#include "model/patch.h"
#include "model/tuner.h"
#include "model/vocabulary.h"
#include "tools/task_data.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum finetune_train {
	FINETUNE_PATCH,      /* adapters and head */
	FINETUNE_HEAD,       /* the head alone */
	FINETUNE_LAST,       /* the trunk's last blocks, and the head */
	FINETUNE_EVERYTHING, /* the trunk, and the head */
	FINETUNE_SCRATCH,    /* the same from random weights */
};

struct finetune_options {
	struct patch_spec spec; /* without blocks where the trunk itself or nothing but the head is trained */
	enum finetune_train train;
	uint32_t last; /* blocks: FINETUNE_LAST */
	bool balanced; /* classes count alike, however many examples they have */
	struct tuner_options tuner;
	uint32_t epochs;   /* at most */
	uint32_t patience; /* end after so many, and 200 steps, without a better one; 0: never before `epochs` */
	uint32_t batch;
	float average; /* decay of the weights' running average, which a run yields; 0: the weights themselves */
	double validation; /* share of the users that is kept out of training; 0: none, and the last epoch's weights count */
	size_t cache_bytes; /* for the states of a frozen trunk; where they need more they are computed in every epoch */
	bool quiet;         /* otherwise an epoch is a line on stdout */
};

/* Files, read; borrowed as long as the run. */
struct finetune_input {
	const char *task;
	struct network *trunk; /* changed where its tensors are trained */
	const struct vocabulary *vocabulary;
	const struct audience *audience;
	const struct task_data *data; /* its labels become the head's rows */
};

struct finetune_result {
	size_t examples;            /* trained with */
	size_t validation_examples; /* kept out */
	uint32_t epochs;            /* run */
	uint32_t best_epoch;        /* whose weights they are */
	double best_loss;           /* of the validation's examples; NaN: none */
	size_t parameters;          /* trained */
	size_t trunk_parameters;    /* of the trunk, its output layer not counted */
	double states_per_second;   /* of the cache of states; 0: none was made */
	double examples_per_second; /* of the training steps alone */
	uint64_t skipped;           /* steps with a gradient that was not finite */
	bool stopped;               /* by a signal: nothing should be written */
};

struct finetune_metrics {               /* on the validation's examples, by weight of 1 each; NaN: not of this type */
	double accuracy, log_loss, auc; /* auc: of two classes, the second the positive one */
	double mrr, hits, gain;         /* at FINETUNE_RANKED, of the full ranking */
	double rmse, mae;
};
enum { FINETUNE_RANKED = 5 };

struct finetune;

/* Errors: STATUS_DATA (fewer than two classes, no examples), STATUS_MEMORY. */
enum status finetune_new(const struct finetune_options *options, const struct finetune_input *input,
			 const struct parallel *parallel, struct finetune **ret, struct error *err) MUST_CHECK;
void finetune_free(struct finetune *f); /* NULL is fine */

/* Trains, and takes the best epoch's weights. Errors: STATUS_DATA (no gradient of an epoch was finite), STATUS_MEMORY. */
enum status finetune_run(struct finetune *f, struct finetune_result *ret, struct error *err) MUST_CHECK;

/* Errors: STATUS_MEMORY. */
enum status finetune_measure(struct finetune *f, struct finetune_metrics *ret, struct error *err) MUST_CHECK;

/* After the run: in the labels' own units, until finetune_free. */
struct patch *finetune_patch(struct finetune *f);

#endif
