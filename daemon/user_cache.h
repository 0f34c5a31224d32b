/* The hot users of one lane: their sequences, and the trunk's states, in an LRU bounded in bytes.
 *
 * A user is *pinned* while the cache holds what the store does not have yet: it was changed by a batch that is not
 * written there. Only the others may be evicted; a miss reads the store. Of one who cools (daemon/thinning.h) a *husk*
 * stays: the time of the last update and whether another is owed, some 250 bytes, which count too; the contents are read
 * back when they are needed. Husks may take three quarters of the budget; beyond that those go that are owed nothing, and
 * their interval is not kept. One thread. */
#ifndef DAEMON_USER_CACHE_H
#define DAEMON_USER_CACHE_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/sequence.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct shard;

struct user {
	struct shard *shard;
	struct sequence sequence;
	int64_t newest_offset; /* of the newest interaction reflected; -1: none */
	void *state;           /* the trunk's; NULL: none */
	size_t state_bytes;    /* of `state` */
	uint32_t layout;       /* the cache's when `state` was given */
	uint32_t scored;  /* by which sets of patches its newest update is scored: refresh.h's number; 0: not known */
	uint32_t fresh;   /* newest events of the sequence that `state` does not reflect */
	bool stale;       /* `state` must be rebuilt: an event was placed before the newest */
	bool embedded;    /* behind `state` lies the embedding of exactly that state */
	uint64_t batch;   /* number of the newest batch that changed or published it; 0: none */
	uint64_t changed; /* number of the newest batch that changed its sequence */
	int64_t published_us; /* monotonic time of its last update; meaningful while cooling */
	bool cooling;         /* in the thinning queue */
	bool owed;            /* its newest state is not published */
	bool owed_recorded;   /* the changelog says so */
	bool husk;            /* its contents are in the store alone */
	size_t bytes;         /* counted against the budget */
	struct user *newer;   /* LRU neighbours, or those among the husks */
	struct user *older;
	struct user *cooling_next;
	struct user *cooling_previous;
	UT_hash_handle hh;  /* in its shard's table, by id */
	uint32_t id_length; /* bytes */
	char id[];          /* not terminated */
};

struct user_cache {
	size_t budget_bytes;
	size_t bytes;
	size_t users;
	uint64_t stored;     /* every batch up to this number is in the store: their users are not pinned */
	size_t state_bytes;  /* of one user's trunk state; 0: none kept */
	uint32_t layout;     /* counts what the trunk kept in a state: those of another layout are void */
	struct user *newest; /* LRU ends */
	struct user *oldest;
	size_t husks_bytes;       /* of `bytes` */
	struct user *newest_husk; /* in the order in which they became husks */
	struct user *oldest_husk;
	struct user *walk; /* where a refresh goes on among those with contents; NULL: nowhere */
	uint32_t scored;   /* which users' `scored` needs no refresh */
	bool passed_over;  /* somebody whose does went to the newest end, behind the walk */
	uint64_t evictions;
	size_t owed; /* users that are owed an update */
};

/* The user, most recently used now, perhaps a husk; NULL where it is not cached. */
struct user *user_cache_find(struct user_cache *c, struct shard *shard, struct slice id);

/* A new, empty user, which the caller fills. NULL: out of memory. */
struct user *user_cache_add(struct user_cache *c, struct shard *shard, struct slice id);

/* The same as a husk. */
struct user *user_cache_add_husk(struct user_cache *c, struct shard *shard, struct slice id);

/* A husk that the caller has filled is one no more, and most recently used now. */
void user_cache_revive(struct user_cache *c, struct user *u);

/* Frees the user's sequence and state. */
void user_cache_empty(struct user_cache *c, struct user *u);

/* Whether contents may be read back now: users that are no husks leave room for more. */
bool user_cache_has_room(const struct user_cache *c);

/* Forgets the cached user, who may be pinned; the caller has taken it off every list of its own. */
void user_cache_drop(struct user_cache *c, struct user *u);

/* From now on states are of so many bytes, and of another layout. Those there are stay counted as they are until
 * user_cache_give_state. */
void user_cache_set_states(struct user_cache *c, size_t state_bytes);

/* Gives the user room for the trunk's state, a void one where it had none of this layout; false: out of memory. */
bool user_cache_give_state(struct user_cache *c, struct user *u);

void user_cache_set_owed(struct user_cache *c, struct user *u, bool owed);

/* Counts the user's memory anew after its sequence changed. */
void user_cache_resize(struct user_cache *c, struct user *u);

/* Evicts the least recently used who are not pinned until the budget holds, or only the pinned are left. False: husks that
 * are owed an update take more than their share; they should be published before their time. */
bool user_cache_trim(struct user_cache *c);

static inline struct slice user_id(const struct user *u)
{
	return (struct slice){ (const uint8_t *)u->id, u->id_length };
}

#endif
