/* The local store: a process's copy of its shards' user states, in one RocksDB database with a column family a shard.
 *
 * The store is a shortcut past the changelog, never the truth: one that is missing, stale, damaged or another
 * installation's is discarded, said so in the log, and rebuilt by restore (io/restore.h). It never runs ahead of the
 * committed transactions: the caller writes after a commit, one atomic batch with the position it reflects.
 *
 * Threads: store_open/close on one thread; a shard's calls from any one thread at a time, different shards at once;
 * every call may block on the disk. */
#ifndef IO_STORE_H
#define IO_STORE_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/record.h"

#include <stdbool.h>

struct store;
struct store_shard;
struct store_batch;

/* Opens `directory`/store, creating both. `identity` says whose state this is (group, topics); a store of another
 * identity, a damaged one, or one last written more than max_age_ms ago is removed with a warning and begun anew.
 * Errors: STATUS_UNAVAILABLE where another process holds its lock (try again), STATUS_IO (disk), STATUS_MEMORY. */
enum status store_open(const char *directory, const char *identity, size_t memory_bytes, int64_t max_age_ms,
		       struct store **ret, struct error *err) MUST_CHECK;
void store_close(struct store *s); /* NULL is fine; every shard is closed before */

/* Opens the shard of an interactions partition, empty where new. Errors: STATUS_IO, STATUS_DATA, STATUS_MEMORY. */
enum status store_shard_open(struct store *s, int32_t partition, struct store_shard **ret,
			     struct error *err) MUST_CHECK;
void store_shard_close(struct store_shard *shard);

/* Discards everything of the shard (it was damaged, or it is behind the log). Errors: STATUS_IO. */
enum status store_shard_reset(struct store_shard *shard, struct error *err) MUST_CHECK;

/* What the shard reflects; *ret_found false where it is new. Errors: STATUS_DATA (damaged: reset it), STATUS_IO. */
enum status store_shard_position(struct store_shard *shard, struct position *ret, bool *ret_found,
				 struct error *err) MUST_CHECK;

/* The value of a changelog key (user or owed), appended to *value. Errors: STATUS_DATA (damaged), STATUS_IO. */
enum status store_shard_get(struct store_shard *shard, struct slice key, struct buffer *value, bool *ret_found,
			    struct error *err) MUST_CHECK;

/* Calls `visit` for every user id that is owed an update. Errors: STATUS_DATA, STATUS_IO, or what `visit` returns. */
enum status store_shard_owed(struct store_shard *shard,
			     enum status (*visit)(void *arg, struct slice user_id, struct error *err), void *arg,
			     struct error *err) MUST_CHECK;

/* Walks users from `from` (exclusive; length 0: the first) for at most `most` of them; false in *ret_more at the end.
 * Errors as above. */
enum status store_shard_walk(struct store_shard *shard, struct slice from, size_t most,
			     enum status (*visit)(void *arg, struct slice user_id, struct slice value,
						  struct error *err),
			     void *arg, bool *ret_more, struct error *err) MUST_CHECK;

/* A batch collects changelog records, by changelog key, and is written whole with the position. A batch may be filled
 * by one thread and written by another. NULL from store_batch_new: out of memory. */
struct store_batch *store_batch_new(struct store_shard *shard);
void store_batch_put(struct store_batch *batch, struct slice key, struct slice value); /* value.data NULL: forget */
enum status store_batch_write(struct store_batch *batch, const struct position *position, struct error *err) MUST_CHECK;
void store_batch_free(struct store_batch *batch);

#endif
