/* Thinning of updates: at most one a user in updates.min_interval_ms, the last one always.
 *
 * A queue of *cooling* users, in the order in which they were published. When a user has cooled, an update that it is
 * owed becomes due. One thread; users in the queue are the cache's, perhaps husks, who stay in their place. */
#ifndef DAEMON_THINNING_H
#define DAEMON_THINNING_H

#include "daemon/user_cache.h"

struct thinning {
	int64_t interval_us; /* 0: no thinning */
	struct user *first;  /* published longest ago */
	struct user *last;
	bool (*read_back)(void *arg, struct user *u); /* fills a husk; false: not now, it stays where it is */
	void *read_back_arg;
};

/* Whether an update of `u` must wait. */
bool thinning_holds(const struct thinning *t, const struct user *u, int64_t now_us);

/* `u` was published now. */
void thinning_published(struct thinning *t, struct user *u, int64_t now_us);

/* `u` is owed an update since before this process: it is due at once. */
void thinning_overdue(struct thinning *t, struct user *u);

/* Takes users that have cooled off the queue; returns the next of them that is owed an update, with its contents, NULL for
 * none. With `hurry`, cooled or not: memory is short. */
struct user *thinning_due(struct thinning *t, int64_t now_us, bool hurry);

void thinning_remove(struct thinning *t, struct user *u); /* wherever it is; not being there is fine */

#endif
