/* Training and scoring of one task: examples to losses, losses to one optimizer step. What `peterctl finetune` and the
 * daemon's learner call; no files, no clock, no threads but those that model/parallel.h lends.
 *
 * An example is a label and what is known of its user: the user's events, or states that were computed from them before
 * (side patches: a row of states, side.h; patches without adapters: the user embedding). With states there is no trunk at
 * all, and no network to give. Steps are deterministic: the same patch, options, examples and number of parts give the same
 * bits. What is random in a step depends on the seed, the optimizer's count of steps and the part only, so that training
 * can be taken up again.
 *
 * A tuner belongs to one thread at a time. It borrows patch, network and parallel. Nothing allocates after tuner_new. */
#ifndef MODEL_TUNER_H
#define MODEL_TUNER_H

#include "base/error.h"
#include "model/network.h"
#include "model/optimizer.h"
#include "model/parallel.h"
#include "model/patch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tuner_loss {
	TUNER_SOFTMAX, /* cross-entropy over all rows of the head */
	TUNER_SAMPLED, /* sampled softmax, `negatives` rows drawn uniformly for each part */
	TUNER_BPR,     /* one uniform negative each */
	TUNER_BCE,     /* likewise */
	TUNER_HARD,    /* BPR against the highest-scored of `negatives` uniform draws */
	TUNER_SQUARED, /* regression */
};

struct tuner_options {
	enum tuner_loss loss;
	uint32_t negatives; /* sampled, hard: 1 or more */
	float dropout;      /* share of the state's channels that the head does not see; 0: none */
	uint64_t seed;
	bool trunk; /* the network's tensors with `trained` set are trained too; the patch is one without adapters */
	struct optimizer_options optimizer; /* of the patch, and of the trunk by itself */
};

struct tuner_example {
	const float *state;    /* where the tuner has no network */
	const uint32_t *items; /* vocabulary indices, oldest first; the newest that matter are read */
	size_t length;
	uint32_t target; /* row of the head: classification and ranking */
	float value;     /* regression, in the units of the patch's output */
	float weight;    /* not negative, finite */
};

struct tuner_batch {
	const struct tuner_example *examples;
	const uint32_t *indices; /* [count] into examples; NULL: 0 .. count - 1 */
	size_t count;
};

struct tuner_sums {
	double loss;   /* sum of weight x loss */
	double weight; /* sum of weights */
};

struct tuner;

/* net: NULL where examples carry states. options: NULL for scoring only. at_once: examples of a step at most. Errors:
 * STATUS_MEMORY. */
enum status tuner_new(struct patch *patch, struct network *net, const struct tuner_options *options,
		      const struct parallel *parallel, size_t at_once, struct tuner **ret,
		      struct error *err) MUST_CHECK;
void tuner_free(struct tuner *t); /* NULL is fine; patch and network stay */

/* One step on the weighted mean of the batch's losses; batch->count <= at_once. False: the gradient was not finite or all
 * weights were 0, and nothing changed. */
bool tuner_step(struct tuner *t, const struct tuner_batch *batch, struct tuner_sums *ret);

/* The same losses without dropout and without a step, of any number of examples; negatives are the same in every call. */
void tuner_loss(struct tuner *t, const struct tuner_batch *batch, struct tuner_sums *ret);

/* Of any number of examples: the last state that the head reads, [count, d]; scores [count, C], probabilities for
 * classification, else the head's raw outputs. */
void tuner_embed(struct tuner *t, const struct tuner_batch *batch, float *out);
void tuner_scores(struct tuner *t, const struct tuner_batch *batch, float *out);

/* Rows for new labels (patch_grow); moments of the old rows move along. The anchor of a proximal pull is the caller's to
 * move. Errors: STATUS_DATA, the patch and the tuner as before; STATUS_MEMORY, the tuner may only be freed. */
enum status tuner_grow(struct tuner *t, const char *const labels[], uint32_t more, struct random_stream *random,
		       struct error *err) MUST_CHECK;

/* The patch's optimizer: its step, moments and anchor, for checkpoints. */
struct optimizer *tuner_optimizer(struct tuner *t);

/* The loss that a type is trained with where nothing is said, of a head of so many rows. */
enum tuner_loss tuner_default_loss(enum patch_type type, uint32_t classes);

const char *tuner_loss_name(enum tuner_loss loss);
bool tuner_loss_parse(const char *name, enum tuner_loss *ret);

#endif
