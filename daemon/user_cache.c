#include "daemon/user_cache.h"

#include "daemon/shard.h"

#include <stdlib.h>
#include <string.h>

enum { CONTENTS_SHARE = 4 }; /* a quarter of the budget is never the husks' */

/* The two ends of the list that the user is in. */
static struct user **newest_of(struct user_cache *c, const struct user *u)
{
	return u->husk ? &c->newest_husk : &c->newest;
}

static struct user **oldest_of(struct user_cache *c, const struct user *u)
{
	return u->husk ? &c->oldest_husk : &c->oldest;
}

static void list_remove(struct user_cache *c, struct user *u)
{
	if (c->walk == u)
		c->walk = u->older;
	*(u->newer ? &u->newer->older : newest_of(c, u)) = u->older;
	*(u->older ? &u->older->newer : oldest_of(c, u)) = u->newer;
}

static void list_push(struct user_cache *c, struct user *u)
{
	struct user **newest = newest_of(c, u);
	u->newer = NULL;
	u->older = *newest;
	*(u->older ? &u->older->newer : oldest_of(c, u)) = u;
	*newest = u;
}

static size_t count_bytes(const struct user *u)
{
	return sizeof *u + u->id_length + u->sequence.capacity * sizeof *u->sequence.events +
	       (u->state ? u->state_bytes : 0);
}

void user_cache_resize(struct user_cache *c, struct user *u)
{
	size_t bytes = count_bytes(u);
	c->bytes += bytes - u->bytes;
	c->husks_bytes += u->husk ? bytes - u->bytes : 0;
	u->bytes = bytes;
}

struct user *user_cache_find(struct user_cache *c, struct shard *shard, struct slice id)
{
	struct user *u;
	HASH_FIND(hh, shard->users, id.data, id.length, u);
	if (u && !u->husk && u != c->newest) {
		c->passed_over = c->passed_over || u->scored != c->scored;
		list_remove(c, u);
		list_push(c, u);
	}
	return u;
}

static struct user *add(struct user_cache *c, struct shard *shard, struct slice id, bool husk)
{
	struct user *u = calloc(1, sizeof *u + id.length);
	if (!u)
		return NULL;
	u->shard = shard;
	u->newest_offset = -1;
	u->stale = true;
	u->husk = husk;
	u->id_length = (uint32_t)id.length;
	memcpy(u->id, id.data, id.length);
	HASH_ADD_KEYPTR(hh, shard->users, u->id, u->id_length, u);
	if (!u->hh.tbl) { /* the table could not grow */
		free(u);
		return NULL;
	}
	list_push(c, u);
	c->users++;
	user_cache_resize(c, u);
	return u;
}

struct user *user_cache_add(struct user_cache *c, struct shard *shard, struct slice id)
{
	return add(c, shard, id, false);
}

struct user *user_cache_add_husk(struct user_cache *c, struct shard *shard, struct slice id)
{
	return add(c, shard, id, true);
}

/* Takes the user from one list to the other. */
static void set_husk(struct user_cache *c, struct user *u, bool husk)
{
	list_remove(c, u);
	c->husks_bytes -= u->husk ? u->bytes : 0;
	u->husk = husk;
	c->husks_bytes += u->husk ? u->bytes : 0;
	list_push(c, u);
}

void user_cache_empty(struct user_cache *c, struct user *u)
{
	sequence_free(&u->sequence);
	free(u->state);
	u->state = NULL;
	u->newest_offset = -1;
	u->fresh = 0;
	u->stale = true;
	u->embedded = false;
	user_cache_resize(c, u);
}

void user_cache_revive(struct user_cache *c, struct user *u)
{
	set_husk(c, u, false);
}

static size_t contents_share(const struct user_cache *c)
{
	return c->budget_bytes / CONTENTS_SHARE;
}

bool user_cache_has_room(const struct user_cache *c)
{
	return c->bytes <= c->budget_bytes || c->bytes - c->husks_bytes < contents_share(c);
}

void user_cache_set_owed(struct user_cache *c, struct user *u, bool owed)
{
	c->owed = c->owed + owed - u->owed;
	u->owed = owed;
}

void user_cache_drop(struct user_cache *c, struct user *u)
{
	user_cache_set_owed(c, u, false);
	HASH_DEL(u->shard->users, u);
	list_remove(c, u);
	c->users--;
	c->bytes -= u->bytes;
	c->husks_bytes -= u->husk ? u->bytes : 0;
	sequence_free(&u->sequence);
	free(u->state);
	free(u);
}

void user_cache_set_states(struct user_cache *c, size_t state_bytes)
{
	c->state_bytes = state_bytes;
	c->layout++;
}

bool user_cache_give_state(struct user_cache *c, struct user *u)
{
	if (u->state && u->layout == c->layout)
		return true;
	free(u->state);
	u->state = aligned_alloc(64, (c->state_bytes + 63) / 64 * 64);
	u->state_bytes = c->state_bytes;
	u->layout = c->layout;
	u->stale = true;
	u->embedded = false;
	user_cache_resize(c, u);
	return u->state != NULL;
}

static void evict(struct user_cache *c, struct user *u)
{
	thinning_remove(u->shard->thinning, u);
	user_cache_drop(c, u);
}

/* Users with contents, the least recently used first: of those who cool a husk stays. */
static void evict_contents(struct user_cache *c)
{
	struct user *u = c->oldest;
	while (c->bytes > c->budget_bytes && u) {
		struct user *newer = u->newer;
		bool pinned = u->batch > c->stored;
		if (!pinned && (u->cooling || u->owed)) {
			user_cache_empty(c, u);
			set_husk(c, u, true);
			c->evictions++;
		} else if (!pinned) {
			evict(c, u);
			c->evictions++;
		}
		u = newer;
	}
}

static bool husks_fit(const struct user_cache *c)
{
	return c->husks_bytes <= c->budget_bytes - contents_share(c);
}

static void evict_husks(struct user_cache *c)
{
	while (c->bytes > c->budget_bytes && c->oldest_husk && !c->oldest_husk->cooling && !c->oldest_husk->owed)
		evict(c, c->oldest_husk);
	struct user *u = c->oldest_husk;
	while (!husks_fit(c) && u) {
		struct user *newer = u->newer;
		if (!u->owed)
			evict(c, u);
		u = newer;
	}
}

bool user_cache_trim(struct user_cache *c)
{
	evict_husks(c);
	if (c->bytes > c->budget_bytes) {
		evict_contents(c);
		evict_husks(c);
	}
	return husks_fit(c);
}
