/* Restore: brings a shard's local store up to the group's committed offset from the changelog.
 *
 * Reads the changelog partition under read_committed from where the store stands until its position record equals
 * `committed`. The log's end is no test for that: an open transaction of somebody else may stand before it; restore
 * waits for it. With `committed` -1 (the group has no offset: fresh, or expired) it reads to the true end (the high
 * watermark) and takes what position it finds. Blocking, for minutes with a large changelog: never on a loop. */
#ifndef IO_RESTORE_H
#define IO_RESTORE_H

#include "base/error.h"
#include "config/config.h"
#include "io/store.h"

#include <stdatomic.h>

struct restore_progress {
	_Atomic int64_t records; /* changelog records read */
	_Atomic int64_t lag;     /* records still ahead, an estimate; -1 unknown */
};

/* Catches up `shard` of interactions partition `partition`. On success *ret is the position to go on from, or
 * *ret_found is false where neither store nor changelog know of any (a fresh shard: read from the start).
 * Ends early with STATUS_UNAVAILABLE where *cancel becomes true. Broker outages are waited out, not errors.
 * Errors: STATUS_DATA where log and offsets contradict each other (committed below the position record, changelog
 * ends before the committed offset, a damaged changelog record; the text says which), STATUS_IO (store), STATUS_MEMORY. */
enum status restore_shard(const struct config *config, struct store_shard *shard, int32_t partition, int64_t committed,
			  const _Atomic bool *cancel, struct restore_progress *progress, struct position *ret,
			  bool *ret_found, struct error *err) MUST_CHECK;

#endif
