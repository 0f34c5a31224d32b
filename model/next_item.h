/* How well a network ranks users' next items: the full ranking over the catalogue, by the state of the newest event and by
 * that of the task token. Parts run as model/parallel.h says; results are the same for any number of them. */
#ifndef MODEL_NEXT_ITEM_H
#define MODEL_NEXT_ITEM_H

#include "base/error.h"
#include "model/metrics.h"
#include "model/network.h"
#include "model/parallel.h"

#include <stddef.h>
#include <stdint.h>

struct next_item_case {
	const uint32_t *history; /* vocabulary indices, oldest first; all of them count as seen */
	size_t events;
	uint32_t target; /* at least BACKBONE_FIRST_ITEM */
};

struct next_item_result {
	struct metrics_ranking last; /* from the newest event's state; causal networks only, else empty */
	struct metrics_ranking task; /* from the task token's */
};

/* Ranks each target among the items that its history does not hold (special tokens are no items), and adds up the metrics
 * at k in the order of the cases. The network has an output layer. Errors: STATUS_MEMORY. */
enum status next_item_rank(const struct network *net, const struct parallel *parallel,
			   const struct next_item_case cases[], size_t count, uint32_t k, struct next_item_result *ret,
			   struct error *err) MUST_CHECK;

#endif
