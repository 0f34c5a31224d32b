/* How well a network ranks users' next items: the full ranking over the catalogue, by the state of the newest event
 * and by that of the task token. Parts run as model/parallel.h says; results are the same for any number of them. */
#ifndef MODEL_NEXT_ITEM_H
#define MODEL_NEXT_ITEM_H

#include "base/error.h"
#include "model/metrics.h"
#include "model/network.h"
#include "model/parallel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct next_item_case {
	const uint32_t *history; /* vocabulary indices, oldest first; all of them count as seen */
	size_t events;
	uint32_t target; /* below BACKBONE_FIRST_ITEM: not an item that the network knows, and never found */
};

struct next_item_options {
	bool include_seen;  /* items of the history compete too */
	uint32_t negatives; /* against so many of the items, drawn anew for each case; 0: against all */
	uint64_t seed;      /* of the draws */
};

struct next_item_outcome { /* of one case */
	uint32_t rank;     /* UINT32_MAX: the target is not known, or there is no event to rank it from */
	double log_loss;   /* of the softmax over all items; NaN likewise, and where a score is not finite */
};

/* Ranks each target among the items that its history does not hold (special tokens are no items), from the newest
 * event's state (`last`, causal networks only) and from the task token's (`task`): [count] each, NULL: not wanted.
 * The network has an output layer. `numbered`: the first case's number in the draws' streams. Errors: STATUS_MEMORY. */
enum status next_item_outcomes(const struct network *net, const struct parallel *parallel,
			       const struct next_item_case cases[], size_t count, size_t numbered,
			       const struct next_item_options *options, struct next_item_outcome last[],
			       struct next_item_outcome task[], struct error *err) MUST_CHECK;

struct next_item_result {
	struct metrics_ranking last; /* from the newest event's state; causal networks only, else empty */
	struct metrics_ranking task; /* from the task token's */
};

/* Both, seen items left out, against all others, added up to the metrics at k in the order of the cases. Errors:
 * STATUS_MEMORY. */
enum status next_item_rank(const struct network *net, const struct parallel *parallel,
			   const struct next_item_case cases[], size_t count, uint32_t k, struct next_item_result *ret,
			   struct error *err) MUST_CHECK;

#endif
