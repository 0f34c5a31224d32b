#include "daemon/waiting.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct waiting_user {
	struct waiting_label *first, *last;
	UT_hash_handle hh;
	size_t length;
	char id[];
};

static struct waiting_user *find_user(const struct waiting *w, struct slice id)
{
	struct waiting_user *user = NULL;
	HASH_FIND(hh, w->users, id.data, id.length, user);
	return user;
}

static struct waiting_user *add_user(struct waiting *w, struct slice id)
{
	struct waiting_user *user = calloc(1, sizeof *user + id.length);
	if (!user)
		return NULL;
	user->length = id.length;
	memcpy(user->id, id.data, id.length);
	HASH_ADD_KEYPTR(hh, w->users, user->id, id.length, user);
	if (!user->hh.tbl) { /* uthash found no memory */
		free(user);
		return NULL;
	}
	return user;
}

/* Its copy of the record, decoded. */
static enum status decode(struct slice record, struct waiting_label **ret, struct error *err)
{
	struct waiting_label *label = calloc(1, sizeof *label + record.length);
	if (!label)
		return error_set_memory(err);
	label->length = record.length;
	if (record.length > 0)
		memcpy(label->bytes, record.data, record.length);
	enum status status = record_label_decode((struct slice){ label->bytes, label->length }, &label->record, err);
	if (!status && label_decode(label->record.value, label->record.appended_ms, &label->label, err) != REASON_NONE)
		status = error_prefix(err, "label at offset %lld", (long long)label->record.offset);
	if (status)
		free(label);
	else
		*ret = label;
	return status;
}

static void note_times(struct waiting *w, const struct waiting_label *label)
{
	if (w->count == 0 || label->record.until_ms < w->least_until_ms)
		w->least_until_ms = label->record.until_ms;
	if (w->count == 0 || label->record.deadline_ms < w->least_deadline_ms)
		w->least_deadline_ms = label->record.deadline_ms;
}

enum status waiting_add(struct waiting *w, struct slice record, struct error *err)
{
	struct waiting_label *label;
	enum status status = decode(record, &label, err);
	if (status)
		return status;
	label->user = find_user(w, label->label.user_id);
	if (!label->user)
		label->user = add_user(w, label->label.user_id);
	if (!label->user) {
		free(label);
		return error_set_memory(err);
	}
	note_times(w, label);
	label->previous = w->last;
	*(w->last ? &w->last->next : &w->first) = label;
	w->last = label;
	*(label->user->last ? &label->user->last->next_of_user : &label->user->first) = label;
	label->user->last = label;
	w->count++;
	w->bytes += sizeof *label + label->length;
	return STATUS_OK;
}

struct waiting_label *waiting_of(const struct waiting *w, struct slice user_id)
{
	const struct waiting_user *user = w->users ? find_user(w, user_id) : NULL;
	return user ? user->first : NULL;
}

struct waiting_label *waiting_over(struct waiting *w, int64_t stream_ms, bool at_end, int64_t wall_ms)
{
	size_t seen = 0;
	if (w->count == 0 || (stream_ms <= w->least_until_ms && !(at_end && wall_ms >= w->least_deadline_ms)))
		return NULL;
	for (struct waiting_label *label = w->first; label; label = label->next)
		if (stream_ms > label->record.until_ms || (at_end && wall_ms >= label->record.deadline_ms))
			return label;
	struct waiting times = { 0 }; /* those of labels that are gone were less */
	for (struct waiting_label *label = w->first; label; label = label->next, times.count = ++seen)
		note_times(&times, label);
	w->least_until_ms = times.least_until_ms;
	w->least_deadline_ms = times.least_deadline_ms;
	return NULL;
}

bool waiting_too_many(const struct waiting *w)
{
	return w->count > WAITING_LABELS || (w->bytes > WAITING_BYTES && w->count > 1);
}

static void leave_user(struct waiting *w, struct waiting_label *label)
{
	struct waiting_user *user = label->user;
	struct waiting_label *before = NULL;
	for (struct waiting_label *at = user->first; at != label; at = at->next_of_user)
		before = at;
	*(before ? &before->next_of_user : &user->first) = label->next_of_user;
	if (user->last == label)
		user->last = before;
	if (user->first)
		return;
	HASH_DEL(w->users, user);
	free(user);
}

void waiting_take(struct waiting *w, struct waiting_label *label)
{
	leave_user(w, label);
	*(label->previous ? &label->previous->next : &w->first) = label->next;
	*(label->next ? &label->next->previous : &w->last) = label->previous;
	label->next = label->previous = label->next_of_user = NULL;
	label->user = NULL;
	w->count--;
	w->bytes -= sizeof *label + label->length;
}

void waiting_clear(struct waiting *w)
{
	while (w->first) {
		struct waiting_label *label = w->first;
		waiting_take(w, label);
		free(label);
	}
	*w = (struct waiting){ 0 };
}
