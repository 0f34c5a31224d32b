/* The frozen trunk over cached users: brings their states up to their sequences and reads embeddings, in batches.
 *
 * A user whose state lacks a few events gets a column an event; one whose state is missing or void is rebuilt by one
 * batched pass over its window.
 *
 * For side patches (model/side.h) a state also keeps the levels that live ones read: the last events' own columns, in a
 * ring, and the task token's. Sequences keep at least backbone_window() + mean_window events then; with fewer a state that
 * is rebuilt differs from one that was streamed. One thread. */
#ifndef DAEMON_TRUNK_H
#define DAEMON_TRUNK_H

#include "base/error.h"
#include "daemon/user_cache.h"
#include "model/backbone.h"

struct trunk;

/* `cache`: whose users these are, and whose budget their states count against. Errors: STATUS_MEMORY. */
enum status trunk_new(const struct backbone *backbone, struct user_cache *cache, struct trunk **ret,
		      struct error *err) MUST_CHECK;
void trunk_free(struct trunk *t); /* NULL is fine */

/* The embeddings of n distinct users with at least one event each, as of the ends of their sequences; out: [n, d]. Errors:
 * STATUS_MEMORY. */
enum status trunk_embed(struct trunk *t, struct user *const users[], size_t n, float *out,
			struct error *err) MUST_CHECK;

/* Work done ahead of the cut. `read`: embeddings too, which together with the last column costs a third less than by
 * themselves, but is in vain for a user who gets another event before the cut. */
enum status trunk_advance(struct trunk *t, struct user *const users[], size_t n, bool read,
			  struct error *err) MUST_CHECK;

/* What a side patch that reads `count` levels (model/side.h) sees of somebody with these events, [length], oldest first, the
 * newest of which are read: out [count, 2, d]. Errors: STATUS_MEMORY. */
enum status trunk_past_states(struct trunk *t, const struct event events[], size_t length, const uint32_t levels[],
			      size_t count, uint32_t mean_window, float *out, struct error *err) MUST_CHECK;

/* From now on states keep these levels (of backbone_side_states) of the last mean_window events, for trunk_side_states; count
 * 0: none. Level 0 costs nothing; each other mean_window + 1 times d floats a user. What was kept before is void where
 * this differs from it: users are rebuilt when they are next advanced. Errors: STATUS_MEMORY, all is as before. */
enum status trunk_keep_levels(struct trunk *t, const uint32_t levels[], size_t count, uint32_t mean_window,
			      struct error *err) MUST_CHECK;

/* backbone_side_states of n distinct users with at least one event each, as of the ends of their sequences; out:
 * [n, count, 2, d]. The levels are among those kept, mean_window at most the one kept. Errors: STATUS_MEMORY. */
enum status trunk_side_states(struct trunk *t, struct user *const users[], size_t n, const uint32_t levels[],
			      size_t count, uint32_t mean_window, float *out, struct error *err) MUST_CHECK;

/* What a cached user keeps of a trunk that keeps no levels: the backbone's state and the embedding read from it; 0: the
 * backbone has no states. */
size_t trunk_state_bytes(const struct backbone *backbone);

#endif
