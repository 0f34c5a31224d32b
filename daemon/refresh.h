/* scores.refresh: on_patch. After a swap of patches the updates of users with recent events are published again, the most
 * recently used first, some with each batch, so that the others' are not delayed.
 *
 * A pass goes over the cache's users (user_cache.h) from the newest on. One that is under way when the next swap comes goes on
 * to its end, so that it gets to everybody however often patches change; then the next begins. A refresh holds where it is in
 * the cache itself, which lets users move and go meanwhile. One thread. */
#ifndef DAEMON_REFRESH_H
#define DAEMON_REFRESH_H

#include "daemon/batch.h"
#include "daemon/user_cache.h"

struct refresh {
	struct user_cache *cache;
	int64_t window_ms; /* how recent an event must be; 0: nobody is refreshed */
	uint32_t begun;    /* number of the sets when the pass began */
	uint32_t done;     /* the same of the last pass that came to its end */
	bool passing;      /* a pass is under way */
};

/* Which number a version of the board of tasks has in users' `scored`: never 0. */
uint32_t refresh_number(uint64_t version);

/* How many users a batch may take on, by what one's scores took lately. */
size_t refresh_slice(double user_us);

/* Adds up to `at_most` users, of live shards, to the batch, to be scored by this version of the board. Cheap where nothing is
 * to be done. False: out of memory, which leaves the batch as it is. */
bool refresh_collect(struct refresh *r, struct batch *batch, uint64_t version, int64_t wall_ms, size_t at_most);

#endif
