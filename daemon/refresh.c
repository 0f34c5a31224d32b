#include "daemon/refresh.h"

#include "daemon/shard.h"

enum {
	LOOKS = 4096,     /* at users in one call: most of them need nothing in a second pass */
	SLICE_US = 10000, /* of a batch's work on users who are refreshed, */
	USER_US = 20,     /* each of whom takes so long at least */
};

uint32_t refresh_number(uint64_t version)
{
	const uint32_t number = (uint32_t)version;
	return number ? number : 1;
}

size_t refresh_slice(double user_us)
{
	return (size_t)(SLICE_US / (user_us > USER_US ? user_us : USER_US)) + 1;
}

static bool is_due(const struct refresh *r, const struct batch *batch, const struct user *u, int64_t wall_ms)
{
	const struct sequence *s = &u->sequence;
	return u->scored != r->cache->scored && u->batch != batch->number && s->length > 0 &&
	       u->shard->phase == SHARD_LIVE && wall_ms - s->events[s->length - 1].time_ms <= r->window_ms;
}

/* Whether there is a pass to go on with. */
static bool go_on(struct refresh *r)
{
	struct user_cache *c = r->cache;
	if (r->passing)
		return true;
	if (r->done == c->scored && !c->passed_over)
		return false;
	r->begun = c->scored;
	r->passing = true;
	c->passed_over = false;
	c->walk = c->newest;
	return true;
}

bool refresh_collect(struct refresh *r, struct batch *batch, uint64_t version, int64_t wall_ms, size_t at_most)
{
	struct user_cache *c = r->cache;
	if (r->window_ms == 0)
		return true;
	c->scored = refresh_number(version);
	if (!go_on(r))
		return true;
	size_t left = at_most;
	for (int looks = 0; looks < LOOKS && left > 0 && c->walk; looks++) {
		struct user *u = c->walk;
		if (is_due(r, batch, u, wall_ms)) {
			if (!batch_touch_shard(batch, u->shard) || !batch_touch_user(batch, u))
				return false;
			u->scored = c->scored;
			batch->refreshed++;
			left--;
		}
		c->walk = u->older;
	}
	if (!c->walk) {
		r->passing = false;
		r->done = r->begun;
	}
	return true;
}
