#include "io/audience.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct user {
	UT_hash_handle hh;
	size_t number; /* in audience.users */
	size_t begin;  /* its events in audience.events, once sorted */
	size_t end;
	size_t id_length;
	uint8_t id[];
};

struct row { /* one line of the file */
	struct event event;
	struct user *user;
};

struct audience {
	struct user *by_id;
	struct user **users; /* [users_count] */
	size_t users_count;
	size_t users_capacity;
	struct event *events; /* [events_count], user by user */
	size_t events_count;
};

struct rows {
	struct row *rows;
	size_t count;
	size_t capacity;
};

static struct user *find_or_add(struct audience *a, struct slice id)
{
	struct user *user = NULL;
	HASH_FIND(hh, a->by_id, id.data, id.length, user);
	if (user)
		return user;
	if (a->users_count == a->users_capacity) {
		size_t capacity = a->users_capacity ? 2 * a->users_capacity : 1024;
		struct user **users = realloc(a->users, capacity * sizeof(struct user *));
		if (!users)
			return NULL;
		a->users = users;
		a->users_capacity = capacity;
	}
	user = calloc(1, sizeof *user + id.length);
	if (!user)
		return NULL;
	memcpy(user->id, id.data, id.length);
	user->id_length = id.length;
	user->number = a->users_count;
	a->users[a->users_count++] = user;
	HASH_ADD_KEYPTR(hh, a->by_id, user->id, user->id_length, user);
	return user->hh.tbl ? user : NULL; /* NULL: uthash found no memory */
}

static enum status add_row(struct audience *a, struct rows *rows, const struct events_row *row, struct error *err)
{
	struct user *user = find_or_add(a, row->user_id);
	if (!user)
		return error_set_memory(err);
	if (rows->count == rows->capacity) {
		size_t capacity = rows->capacity ? 2 * rows->capacity : 65536;
		struct row *grown = realloc(rows->rows, capacity * sizeof *grown);
		if (!grown)
			return error_set_memory(err);
		rows->rows = grown;
		rows->capacity = capacity;
	}
	user->end++;
	struct event event = { hash_item(row->item_id.data, row->item_id.length), row->timestamp_ms };
	rows->rows[rows->count++] = (struct row){ event, user };
	return STATUS_OK;
}

/* Merge sort, stable, of [0, n) by time; `spare` has room for n. Files are in time order more often than not. */
static void sort_by_time(struct event *events, size_t n, struct event *spare)
{
	bool ordered = true;
	for (size_t i = 1; i < n && ordered; i++)
		ordered = events[i - 1].time_ms <= events[i].time_ms;
	if (ordered)
		return;
	size_t half = n / 2;
	sort_by_time(events, half, spare);
	sort_by_time(events + half, n - half, spare);
	memcpy(spare, events, half * sizeof *events);
	for (size_t left = 0, right = half, out = 0; left < half; out++)
		events[out] =
			right == n || spare[left].time_ms <= events[right].time_ms ? spare[left++] : events[right++];
}

/* Counting sort by user, keeping the order of the lines, then each user's by time. */
static enum status sort_rows(struct audience *a, const struct rows *rows, struct error *err)
{
	struct event *spare = calloc(rows->count + 1, sizeof *spare);
	a->events = calloc(rows->count + 1, sizeof *a->events);
	a->events_count = rows->count;
	if (!spare || !a->events) {
		free(spare);
		return error_set_memory(err);
	}
	size_t begin = 0;
	for (size_t i = 0; i < a->users_count; i++) {
		struct user *user = a->users[i];
		size_t count = user->end;
		user->begin = user->end = begin;
		begin += count;
	}
	for (size_t i = 0; i < rows->count; i++)
		a->events[rows->rows[i].user->end++] = rows->rows[i].event;
	for (size_t i = 0; i < a->users_count; i++)
		sort_by_time(a->events + a->users[i]->begin, a->users[i]->end - a->users[i]->begin, spare);
	free(spare);
	return STATUS_OK;
}

enum status audience_load(const char *path, struct audience **ret, struct error *err)
{
	return audience_load_observed(path, NULL, ret, err);
}

enum status audience_load_observed(const char *path, const struct audience_observer *observer, struct audience **ret,
				   struct error *err)
{
	struct events_file *file = NULL;
	struct rows rows = { 0 };
	struct audience *a = calloc(1, sizeof *a);
	if (!a)
		return error_set_memory(err);
	enum status status = events_file_open(path, &file, err);
	while (!status) {
		struct events_row row;
		bool found = false;
		status = events_file_next(file, &row, &found, err);
		if (!status && !found)
			break;
		if (!status)
			status = add_row(a, &rows, &row, err);
		if (!status && observer)
			status = observer->each(observer->arg, file, &row, err);
	}
	events_file_close(file);
	if (!status)
		status = sort_rows(a, &rows, err);
	free(rows.rows);
	if (status) {
		audience_free(a);
		return status;
	}
	*ret = a;
	return STATUS_OK;
}

void audience_free(struct audience *a)
{
	if (!a)
		return;
	HASH_CLEAR(hh, a->by_id);
	for (size_t i = 0; i < a->users_count; i++)
		free(a->users[i]);
	free(a->users);
	free(a->events);
	free(a);
}

size_t audience_users(const struct audience *a)
{
	return a->users_count;
}

size_t audience_events(const struct audience *a)
{
	return a->events_count;
}

struct slice audience_user(const struct audience *a, size_t user)
{
	return (struct slice){ a->users[user]->id, a->users[user]->id_length };
}

bool audience_find(const struct audience *a, struct slice id, size_t *ret_user)
{
	struct user *user = NULL;
	HASH_FIND(hh, a->by_id, id.data, id.length, user);
	if (user)
		*ret_user = user->number;
	return user != NULL;
}

const struct event *audience_sequence(const struct audience *a, size_t user, size_t *ret_length)
{
	*ret_length = a->users[user]->end - a->users[user]->begin;
	return a->events + a->users[user]->begin;
}
