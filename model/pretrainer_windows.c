/* An epoch's windows: which events are seen and named together. */
#include "model/pretrainer_private.h"

#include <stdlib.h>

size_t pretrainer_trained(const struct pretrainer_sequences *s, size_t user)
{
	size_t events = s->offsets[user + 1] - s->offsets[user];
	return events - (s->hold_out && events >= 3);
}

static bool add_window(struct pretrainer_windows *w, size_t begin, size_t events)
{
	if (w->count == w->capacity) {
		size_t capacity = w->capacity ? w->capacity + w->capacity / 2 : 1024;
		struct pretrainer_window *list = reallocarray(w->list, capacity, sizeof *list);
		if (list)
			w->list = list;
		uint32_t *order = list ? reallocarray(w->order, capacity, sizeof *order) : NULL;
		if (!order)
			return false;
		w->order = order;
		w->capacity = capacity;
	}
	w->order[w->count] = (uint32_t)w->count;
	w->list[w->count++] = (struct pretrainer_window){ begin, (uint32_t)events };
	return true;
}

/* The first window of a user who needs several has a random length, so that windows end elsewhere in every epoch. */
static bool cut_user(struct pretrainer *p, size_t user, struct random_stream *random)
{
	size_t begin = p->sequences->offsets[user];
	size_t trained = pretrainer_trained(p->sequences, user);
	size_t left = trained > 0 ? trained - 1 : 0; /* events that another one follows */
	size_t window = p->options.window;
	size_t events = left <= window ? left : 1 + random_below(random, p->options.window);
	while (left > 0) {
		if (!add_window(&p->windows, begin, events))
			return false;
		begin += events;
		left -= events;
		events = left < window ? left : window;
	}
	return true;
}

enum status pretrainer_cut(struct pretrainer *p, struct error *err)
{
	struct random_stream random = pretrainer_random(p, PRETRAINER_EPOCH, p->epoch);
	p->windows.count = 0;
	for (size_t user = 0; user < p->sequences->users; user++)
		if (!cut_user(p, user, &random))
			return error_set_memory(err);
	if (p->windows.count > UINT32_MAX)
		return error_set(err, STATUS_DATA, "an epoch of %zu windows is too long", p->windows.count);
	random_shuffle(&random, p->windows.order, p->windows.count);
	p->cut = true;
	return STATUS_OK;
}
