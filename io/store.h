/* The local store: a process's copy of its shards' user states, in one RocksDB database with a column family a shard.
 *
 * The store is a shortcut past the changelog, never the truth: one that is missing, stale, damaged or another
 * installation's is discarded, said so in the log, and rebuilt by restore (io/restore.h). It never runs ahead of the
 * committed transactions: the caller writes after a commit, one atomic batch with the position it reflects. A shard's
 * contents are always those of some moment of the changelog: a log of RocksDB's that lost its end (kill -9, power) is an
 * earlier moment, and restore goes on from there.
 *
 * In a column family: the changelog's keys and values (io/record.h), the shard's position under its changelog key, and
 * two kinds of our own, little-endian, each with a checksum (u32) at its end:
 *
 *     "\0written"      wall time (i64, ms) up to which the shard is sure to have seen every tombstone that the changelog
 *                      may have forgotten by now | number of the shard's last batch (u64)
 *     "\0batch" u8     number of the batch (u64); the byte is that number modulo 256
 *
 * The latter show a hole in the history: the last 256 batches must all be there. RocksDB checks the logs that it knows
 * to be complete; one that was closed a moment before a kill is not among them.
 *
 * STATUS_DATA from any call means that the shard's contents are lost or cannot be believed: it goes on saying so until
 * store_shard_reset, after which restore fills it again. Damage found by a write costs the whole database, that is every
 * shard. STATUS_IO (a full disk) loses nothing: the batch is not in the store, reads go on, and a later write of the same
 * batch succeeds once the disk has room.
 *
 * Threads: store_open/close on one thread; a shard is opened, reset and closed by one thread at a time, and may be read by
 * one while another writes a batch of it (a lane's loop and its worker); different shards at once;
 * every call may block on the disk. A `visit` may read the same shard, and write nothing. */
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
 * identity or a damaged one is removed with a warning and begun anew, and so is a shard last written more than
 * max_age_ms ago, here or in store_shard_open. `memory_bytes` bounds block cache and write buffers together (at least
 * 8 MiB are taken). Errors: STATUS_UNAVAILABLE where another process holds its lock (try again; nothing was touched),
 * STATUS_IO (disk), STATUS_MEMORY. */
enum status store_open(const char *directory, const char *identity, size_t memory_bytes, int64_t max_age_ms,
		       struct store **ret, struct error *err) MUST_CHECK;
void store_close(struct store *s); /* NULL is fine; every shard is closed before */

/* Opens the shard of an interactions partition, empty where new. Errors: STATUS_IO, STATUS_DATA, STATUS_MEMORY. */
enum status store_shard_open(struct store *s, int32_t partition, struct store_shard **ret,
			     struct error *err) MUST_CHECK;
void store_shard_close(struct store_shard *shard);

/* Discards everything of the shard (it was damaged, or it is behind the log). Errors: STATUS_IO. */
enum status store_shard_reset(struct store_shard *shard, struct error *err) MUST_CHECK;

/* What the shard reflects; *ret_found false where it is new. `interactions` is -1 in a shard whose restore broke off
 * before it met a position record. Errors: STATUS_DATA (damaged: reset it), STATUS_IO. */
enum status store_shard_position(struct store_shard *shard, struct position *ret, bool *ret_found,
				 struct error *err) MUST_CHECK;

/* The value of a changelog key, appended to *value. Errors: STATUS_DATA (damaged), STATUS_IO. */
enum status store_shard_get(struct store_shard *shard, struct slice key, struct buffer *value, bool *ret_found,
			    struct error *err) MUST_CHECK;

/* Calls `visit` for every user id that is owed an update. Errors: STATUS_DATA, STATUS_IO, or what `visit` returns. */
enum status store_shard_owed(struct store_shard *shard,
			     enum status (*visit)(void *arg, struct slice user_id, struct error *err), void *arg,
			     struct error *err) MUST_CHECK;

/* Calls `visit` for every label that waits, by offset, with its record (io/record.h). Errors as above. */
enum status store_shard_labels(struct store_shard *shard,
			       enum status (*visit)(void *arg, struct slice value, struct error *err), void *arg,
			       struct error *err) MUST_CHECK;

/* Walks users from `from` (exclusive; length 0: the first) for at most `most` of them; false in *ret_more at the end.
 * Errors as above. */
enum status store_shard_walk(struct store_shard *shard, struct slice from, size_t most,
			     enum status (*visit)(void *arg, struct slice user_id, struct slice value,
						  struct error *err),
			     void *arg, bool *ret_more, struct error *err) MUST_CHECK;

/* A batch collects changelog records, by changelog key, and is written whole with the position. A batch may be filled
 * by one thread and written by another. NULL from store_batch_new: out of memory. Errors of writing: STATUS_IO (the
 * batch may be written again), STATUS_DATA, STATUS_MEMORY (it was incomplete; nothing is written). */
struct store_batch *store_batch_new(struct store_shard *shard);
void store_batch_put(struct store_batch *batch, struct slice key, struct slice value); /* value.data NULL: forget */
enum status store_batch_write(struct store_batch *batch, const struct position *position, struct error *err) MUST_CHECK;
void store_batch_free(struct store_batch *batch);

/* The same for a shard that is being restored: position.changelog says where the changelog is to be read from next, and
 * the shard does not count as up to date (its age stays that of the last store_batch_write, or of the first batch). */
enum status store_batch_write_behind(struct store_batch *batch, const struct position *position,
				     struct error *err) MUST_CHECK;
size_t store_batch_bytes(const struct store_batch *batch); /* collected so far */

#endif
