#include "daemon/thinning.h"

bool thinning_holds(const struct thinning *t, const struct user *u, int64_t now_us)
{
	return u->cooling && now_us - u->published_us < t->interval_us;
}

static void append(struct thinning *t, struct user *u)
{
	u->cooling = true;
	u->cooling_next = NULL;
	u->cooling_previous = t->last;
	*(t->last ? &t->last->cooling_next : &t->first) = u;
	t->last = u;
}

static void prepend(struct thinning *t, struct user *u)
{
	u->cooling = true;
	u->cooling_previous = NULL;
	u->cooling_next = t->first;
	*(t->first ? &t->first->cooling_previous : &t->last) = u;
	t->first = u;
}

void thinning_published(struct thinning *t, struct user *u, int64_t now_us)
{
	thinning_remove(t, u);
	if (t->interval_us == 0)
		return;
	u->published_us = now_us;
	append(t, u);
}

void thinning_overdue(struct thinning *t, struct user *u)
{
	thinning_remove(t, u);
	u->published_us = INT64_MIN / 2;
	prepend(t, u);
}

struct user *thinning_due(struct thinning *t, int64_t now_us, bool hurry)
{
	while (t->first && (hurry || now_us - t->first->published_us >= t->interval_us)) {
		struct user *u = t->first;
		if (u->owed && u->husk && !t->read_back(t->read_back_arg, u))
			return NULL;
		thinning_remove(t, u);
		if (u->owed)
			return u;
	}
	return NULL;
}

void thinning_remove(struct thinning *t, struct user *u)
{
	if (!u->cooling)
		return;
	*(u->cooling_previous ? &u->cooling_previous->cooling_next : &t->first) = u->cooling_next;
	*(u->cooling_next ? &u->cooling_next->cooling_previous : &t->last) = u->cooling_previous;
	u->cooling = false;
	u->cooling_next = u->cooling_previous = NULL;
}
