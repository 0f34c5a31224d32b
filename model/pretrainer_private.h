/* What the pretrainer's files share; nobody else includes it. */
#ifndef MODEL_PRETRAINER_PRIVATE_H
#define MODEL_PRETRAINER_PRIVATE_H

#include "model/pretrainer.h"

struct pretrainer_window {
	size_t begin;    /* its first event in sequences.items; the event after its last one exists */
	uint32_t events; /* 1 to options.window */
};

/* The windows of an epoch, in the order in which they are taken. */
struct pretrainer_windows {
	struct pretrainer_window *list;
	uint32_t *order;
	size_t count;
	size_t capacity;
};

/* Rows of states that meet the output layer, and what they are to name. */
struct pretrainer_rows {
	size_t count;
	uint32_t *from;    /* row of the network's states */
	uint32_t *targets; /* vocabulary indices */
	float *states;     /* [count, d] after dropout */
	float *scales;     /* [count, d] dropout's factors */
	float *gradient;   /* [count, d] */
	double loss;       /* summed by the part */
};

struct pretrainer_part {
	struct network_pass *pass;
	struct network_batch batch;
	size_t *offsets; /* of the batch; likewise items and cuts */
	uint32_t *items;
	uint32_t *cuts;
	struct pretrainer_rows events;
	struct pretrainer_rows tasks;
	float *d_every;
	float *d_task;
	float *scratch;   /* of the loss */
	float *gradients; /* a block */
};

struct pretrainer {
	struct pretrainer_options options;
	struct network *net;      /* borrowed: the weights that are trained */
	struct network *averaged; /* their running average; NULL: none is wanted */
	const struct pretrainer_sequences *sequences;
	struct parallel parallel;
	struct optimizer optimizer;
	size_t output_weight; /* offsets in a block */
	size_t output_bias;
	size_t embedding;
	struct pretrainer_part *parts; /* [parallel.parts] */
	size_t part_rows;              /* events of a part at most */
	struct pretrainer_windows windows;
	uint64_t epoch;        /* finished */
	bool cut;              /* windows are those of epoch `epoch` */
	size_t next;           /* window of the epoch */
	uint64_t steps;        /* tried, those skipped too: the number of a step's random stream */
	uint32_t bad_in_a_row; /* steps */
	uint64_t targets;      /* of an epoch */
	uint64_t first_steps;  /* of epoch 0 */
	struct pretrainer_sums sums;
	struct pretrainer_best best;
	float *best_weights; /* a block */

	/* of the step that runs */
	float event_scale;
	float task_scale;
};

/* Streams of the seed. */
enum pretrainer_stream { PRETRAINER_EPOCH, PRETRAINER_STEP, PRETRAINER_PART };
struct random_stream pretrainer_random(const struct pretrainer *p, enum pretrainer_stream kind, uint64_t number);

/* Number of events of a user that are trained on. */
size_t pretrainer_trained(const struct pretrainer_sequences *s, size_t user);

/* Cuts and shuffles the windows of the epoch p->epoch. */
enum status pretrainer_cut(struct pretrainer *p, struct error *err) MUST_CHECK;

enum status pretrainer_parts_new(struct pretrainer *p, struct error *err) MUST_CHECK;
void pretrainer_parts_free(struct pretrainer *p);

/* Spreads windows [first, last) of the epoch's order over the parts, with cuts, blanks and targets. */
void pretrainer_pack(struct pretrainer *p, size_t first, size_t last);

/* Forward, losses and backward of one part (struct parallel's `part`; job: the pretrainer). */
void pretrainer_run_part(void *job, uint32_t number);

#endif
