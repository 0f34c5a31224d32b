/* What tuner.c and tuner_part.c share; nobody else includes it. */
#ifndef MODEL_TUNER_PRIVATE_H
#define MODEL_TUNER_PRIVATE_H

#include "model/side.h"
#include "model/tuner.h"

/* One part's memory. Every array is NULL where the tuner has no use for it. */
struct tuner_part {
	struct network_pass *network;
	struct side_pass *side;
	struct network_batch batch; /* what the last forward of the network read: the next two */
	size_t *offsets;            /* [rows + 1] */
	uint32_t *items;            /* [rows x window] */
	float *states;              /* [rows, state floats]: side patches */
	float *hidden;              /* [rows, d]: what the head reads */
	float *d_hidden;            /* [rows, d] */
	float *mask;                /* [rows, d]: of the dropout */
	float *weights;             /* [rows] of the examples */
	float *values;              /* [rows] */
	uint32_t *targets;          /* [rows] */
	uint32_t *negatives;        /* [rows] */
	float *scratch;             /* of the loss */
	float *gradients;           /* a block of the patch */
	float *trunk;               /* a block of the network */
	struct tuner_sums sums;
};

struct tuner {
	struct patch *patch;
	struct network *net;
	struct tuner_options options;
	bool training;
	const struct parallel *parallel;
	size_t at_once;
	size_t rows;   /* of a part */
	size_t window; /* newest events that a state depends on */
	struct optimizer optimizer;
	struct optimizer trunk_optimizer;
	struct tuner_part *parts; /* [parallel->parts] */
};

/* Whether the head reads a side network's output; whether the network's backward runs. */
bool tuner_reads_side(const struct tuner *t);
bool tuner_goes_back(const struct tuner *t);

enum status tuner_part_init(const struct tuner *t, struct tuner_part *part, struct error *err) MUST_CHECK;
void tuner_part_close(struct tuner_part *part);

/* Fills hidden from examples first .. first + n - 1 of the batch; n <= rows. */
void tuner_part_forward(const struct tuner *t, struct tuner_part *part, const struct tuner_batch *batch, size_t first,
			size_t n);

/* The loss of what forward left in hidden, into sums (added). scale > 0: derivatives of the sum times it, into d_hidden and
 * the head's gradients. */
void tuner_part_loss(const struct tuner *t, struct tuner_part *part, const struct tuner_batch *batch, size_t first,
		     size_t n, struct random_stream *random, float scale);

/* From d_hidden to the gradients of adapters and trunk. */
void tuner_part_backward(const struct tuner *t, struct tuner_part *part, size_t n);

#endif
