/* Restore: brings a shard's local store up to the group's committed offset from the changelog.
 *
 * Reads the changelog partition under read_committed from where the store stands (position.changelog, or the start where
 * that is unknown) to the true end, the high watermark: with an open transaction before it the log seems to end at the
 * last stable offset, so restore waits until that transaction is decided. There its position record must equal
 * `committed`; where the group has no offset (-1: fresh, or expired) restore takes what position it finds.
 *
 * The end alone would not do (a commit marker may reach the changelog after the group's offsets), nor would the position
 * record alone (a transaction may change what is owed and leave the position as it is). The caller has fenced or outlived
 * whoever wrote to the partition before, and has read `committed` after that from stable offsets.
 *
 * What was read goes into the store in chunks of some MiB, each with the changelog offset that it reaches: after a crash
 * restore goes on from there. Such a store is a moment of the changelog, though not always one between transactions:
 * only restore reads on from it. A changelog that no longer holds the store's offset (truncated, made anew) empties the
 * shard and is read from its start. Blocking, for minutes with a large changelog: never on a loop. */
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
 * STATUS_UNAVAILABLE: *cancel became true, or the changelog partition may not be read or is known not to exist (the text
 * says which; try again). Broker outages, and a topic that librdkafka has not yet given up on, are waited out. Other errors: STATUS_DATA where log and offsets contradict
 * each other (the committed offset below the position record, or beyond the changelog's end; a damaged changelog
 * record; the text says which, and what to do), STATUS_IO (store: a full disk; try again), STATUS_CONFIG (properties),
 * STATUS_MEMORY. */
enum status restore_shard(const struct config *config, struct store_shard *shard, int32_t partition, int64_t committed,
			  const _Atomic bool *cancel, struct restore_progress *progress, struct position *ret,
			  bool *ret_found, struct error *err) MUST_CHECK;

#endif
