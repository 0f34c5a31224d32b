#include "daemon/user_cache.h"

#include "daemon/shard.h"

#include <stdlib.h>
#include <string.h>

static void lru_remove(struct user_cache *c, struct user *u)
{
	*(u->newer ? &u->newer->older : &c->newest) = u->older;
	*(u->older ? &u->older->newer : &c->oldest) = u->newer;
}

static void lru_push(struct user_cache *c, struct user *u)
{
	u->newer = NULL;
	u->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = u;
	c->newest = u;
}

static size_t count_bytes(const struct user_cache *c, const struct user *u)
{
	return sizeof *u + u->id_length + u->sequence.capacity * sizeof *u->sequence.events +
	       (u->state ? c->state_bytes : 0);
}

void user_cache_resize(struct user_cache *c, struct user *u)
{
	c->bytes -= u->bytes;
	u->bytes = count_bytes(c, u);
	c->bytes += u->bytes;
}

struct user *user_cache_find(struct user_cache *c, struct shard *shard, struct slice id)
{
	struct user *u;
	HASH_FIND(hh, shard->users, id.data, id.length, u);
	if (u && u != c->newest) {
		lru_remove(c, u);
		lru_push(c, u);
	}
	return u;
}

struct user *user_cache_add(struct user_cache *c, struct shard *shard, struct slice id)
{
	struct user *u = calloc(1, sizeof *u + id.length);
	if (!u)
		return NULL;
	u->shard = shard;
	u->newest_offset = -1;
	u->id_length = (uint32_t)id.length;
	memcpy(u->id, id.data, id.length);
	HASH_ADD_KEYPTR(hh, shard->users, u->id, u->id_length, u);
	if (!u->hh.tbl) { /* the table could not grow */
		free(u);
		return NULL;
	}
	lru_push(c, u);
	c->users++;
	user_cache_resize(c, u);
	return u;
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
	lru_remove(c, u);
	c->users--;
	c->bytes -= u->bytes;
	sequence_free(&u->sequence);
	free(u->state);
	free(u);
}

bool user_cache_give_state(struct user_cache *c, struct user *u)
{
	if (u->state)
		return true;
	u->state = aligned_alloc(64, (c->state_bytes + 63) / 64 * 64);
	if (!u->state)
		return false;
	u->stale = true;
	user_cache_resize(c, u);
	return true;
}

static bool pinned(const struct user_cache *c, const struct user *u)
{
	return u->batch > c->stored || u->owed;
}

bool user_cache_trim(struct user_cache *c)
{
	struct user *u = c->oldest;
	while (c->bytes > c->budget_bytes && u) {
		struct user *newer = u->newer;
		if (!pinned(c, u)) {
			thinning_remove(u->shard->thinning, u);
			user_cache_drop(c, u);
			c->evictions++;
		}
		u = newer;
	}
	return c->bytes <= c->budget_bytes;
}
