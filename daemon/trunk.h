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

/* The same without reading embeddings: work done ahead of the cut. */
enum status trunk_advance(struct trunk *t, struct user *const users[], size_t n, struct error *err) MUST_CHECK;

#endif
