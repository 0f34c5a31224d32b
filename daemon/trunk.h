/* The frozen trunk over cached users: brings their states up to their sequences and reads embeddings, in batches.
 *
 * A user whose state lacks a few events gets a column an event; one whose state is missing or void is rebuilt by one
 * batched pass over its window. One thread. */
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

/* What a cached user keeps: the backbone's state and the embedding read from it; 0: the backbone has no states. */
size_t trunk_state_bytes(const struct backbone *backbone);

#endif
