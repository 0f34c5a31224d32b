/* Submitting dead letters again, exactly once (peterctl deadletter requeue).
 *
 * Which letters have gone out already is kept as consumer offsets in the brokers, one group a reason
 * ("<group>-requeue-<reason>"), committed in the transaction that carries the records: a filter by reason neither skips nor
 * repeats the others. One transactional id a group of daemons: of two that run at once the older is fenced. */
#ifndef TOOLS_REQUEUE_H
#define TOOLS_REQUEUE_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct requeue_counts {
	int64_t submitted; /* committed; in a dry run: would be */
	int64_t before;    /* by an earlier run */
	int64_t other;     /* of another reason than the one asked for */
	int64_t cut;       /* their value is not complete */
	int64_t foreign;   /* no dead letters by their headers */
};

/* Goes through the topic as it stands now. *ret is filled as far as it went, also on failure. Errors: STATUS_UNAVAILABLE,
 * STATUS_CONFIG (a topic is missing), STATUS_MEMORY. */
enum status requeue(const struct config *config, const char *reason, bool dry_run, struct requeue_counts *ret,
		    struct error *err) MUST_CHECK;

#endif
