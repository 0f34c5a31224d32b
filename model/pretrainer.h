/* Self-supervised pre-training of a trunk: what one step is, what an epoch is, and what is kept of a run.
 *
 * An epoch cuts every user's events into windows, with a phase of its own for those that do not fit into one, so that
 * each event after a user's first is a target once; the windows are shuffled and taken `batch` at a time.
 *
 * A causal network learns to name the next item at every position, and the task token, put in at one random cut of
 * every window, the item after the cut. A network that is not causal fills gaps (GRec, Yuan et al., WWW 2020, its
 * encoder): a share of the events is replaced by the blank (index 0's embedding) and named from both sides; its task
 * tokens, one at either end, learn to name the event after the window, which is what they will be asked for.
 *
 * Everything random comes from the seed and the numbers of epoch, step and part: nothing else has to be kept for a
 * run that goes on as if it had never stopped. The same seed and number of parts give the same bits. One thread;
 * parts run as model/parallel.h says. */
#ifndef MODEL_PRETRAINER_H
#define MODEL_PRETRAINER_H

#include "base/error.h"
#include "model/network.h"
#include "model/optimizer.h"
#include "model/parallel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pretrainer_loss { /* of the output layer (model/loss.h) */
		       PRETRAINER_FULL,
		       PRETRAINER_UNIFORM,     /* sampled softmax */
		       PRETRAINER_LOG_UNIFORM, /* likewise; the vocabulary is in falling frequency */
};

struct pretrainer_options {
	uint64_t seed;
	uint32_t batch;    /* windows a step, at most PRETRAINER_BATCH_AT_MOST */
	uint32_t window;   /* events of a window, targets not counted */
	float dropout;     /* share of a state's values that are 0 on their way to the output layer, below 1 */
	float task_weight; /* of the task tokens' mean loss beside the events' */
	float unknown;     /* share of the events shown as the out-of-vocabulary token, so that it learns its part */
	float blanks;      /* not causal: share of the events to be named */
	enum pretrainer_loss loss;
	uint32_t sampled; /* classes drawn for a part of a step; not PRETRAINER_FULL */
	bool tied;        /* item_embedding.weight and output.weight stay equal */
	float average;    /* decay of the weights' running average, which a run yields; 0: the weights themselves */
	uint64_t cosine_epochs; /* the rate falls to optimizer.floor over so many epochs; 0: it stays */
	struct optimizer_options
		optimizer; /* its `steps` come from cosine_epochs, of which `warm_up` is a tenth at most, or 1 */
};

enum { PRETRAINER_BATCH_AT_MOST = 1 << 16 };

/* Users' events as vocabulary indices, oldest first. Items below BACKBONE_FIRST_ITEM are seen, and never targets. */
struct pretrainer_sequences {
	size_t users;
	const size_t *offsets; /* [users + 1] into items; the first is 0 */
	const uint32_t *items;
	bool hold_out; /* the last event of users with three or more is for validation: neither seen nor a target */
};

struct pretrainer;

/* What an epoch has added up so far, for its readers. */
struct pretrainer_sums {
	double loss; /* of the events' targets, in nats */
	double targets;
	double task_loss; /* of the task tokens' */
	double tasks;
	double events;  /* seen */
	double skipped; /* steps, for a gradient that was not finite */
};

struct pretrainer_best {
	uint64_t epoch; /* after so many epochs; 0: none yet */
	double value;   /* the larger the better */
	bool task;      /* reached by the task token */
};

/* Starts a run from the network's weights, which it changes. The output layer's bias becomes the logarithm of the
 * items' frequencies at once: small steps would need thousands to get there. Borrows network, sequences, and
 * parallel's arg until pretrainer_free. The network has an output layer. Errors: STATUS_DATA (nothing to learn from: no user with two
 * events left, fewer than two items), STATUS_MEMORY. */
enum status pretrainer_new(const struct pretrainer_options *options, struct network *net,
			   const struct pretrainer_sequences *sequences, const struct parallel *parallel,
			   struct pretrainer **ret, struct error *err) MUST_CHECK;
void pretrainer_free(struct pretrainer *p); /* NULL is fine */

/* One step; *ret_ended is true where it was the epoch's last. Errors: STATUS_DATA: many steps in a row or all of an epoch
 * had gradients that were not finite, or the epoch's loss is not. */
enum status pretrainer_step(struct pretrainer *p, bool *ret_ended, struct error *err) MUST_CHECK;

uint64_t pretrainer_epochs(const struct pretrainer *p);      /* finished */
uint64_t pretrainer_targets(const struct pretrainer *p);     /* of an epoch, the task tokens' not counted */
uint64_t pretrainer_epoch_steps(const struct pretrainer *p); /* of the first epoch: others differ a little */
float pretrainer_rate(const struct pretrainer *p);           /* of the next step */

/* Since the epoch began; after its end, those of the whole of it. */
const struct pretrainer_sums *pretrainer_sums(const struct pretrainer *p);

/* The network that the run yields as it stands, for validation and to be written; until the next step or
 * pretrainer_free. */
const struct network *pretrainer_network(const struct pretrainer *p);

/* Notes the worth of pretrainer_network; true: the best so far, of which a copy is kept. */
bool pretrainer_judge(struct pretrainer *p, double value, bool task);
const struct pretrainer_best *pretrainer_best(const struct pretrainer *p);

/* pretrainer_network becomes the best one: the end of a run. Without a judgement nothing changes. */
void pretrainer_restore_best(struct pretrainer *p);

/* The whole run as a file (`format: peterd.checkpoint.v1`), atomically; and a fresh pretrainer made to go on from
 * one. A file of a run with other settings, data or parts is refused: STATUS_DATA, with what differs. Where it fails
 * the pretrainer is only good to be freed. Errors otherwise: those of safetensors_write and safetensors_open. */
enum status pretrainer_save(const struct pretrainer *p, const char *path, struct error *err) MUST_CHECK;
enum status pretrainer_load(struct pretrainer *p, const char *path, struct error *err) MUST_CHECK;

/* The number of parts that the run of a checkpoint has: another would give other bits. */
enum status pretrainer_saved_parts(const char *path, uint32_t *ret, struct error *err) MUST_CHECK;

#endif
