#include "daemon/trunk.h"

#include <stdlib.h>
#include <string.h>

enum {
	ROWS = 64,           /* users a pass */
	COLUMNS_AT_MOST = 8, /* events that a user's state may lack before a rebuild is cheaper */
};

struct trunk {
	const struct backbone *backbone;
	struct user_cache *cache;
	struct backbone_workspace *workspace;
	uint32_t window; /* newest events that an embedding reads */
	uint32_t *items; /* of windows to rebuild: [ROWS x window] */
};

enum status trunk_new(const struct backbone *backbone, struct user_cache *cache, struct trunk **ret, struct error *err)
{
	struct trunk *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	t->backbone = backbone;
	t->cache = cache;
	t->window = backbone_window(backbone);
	t->items = reallocarray(NULL, (size_t)ROWS * (t->window ? t->window : 1), sizeof *t->items);
	enum status status = t->items ? backbone_workspace_new(backbone, &t->workspace, err) : error_set_memory(err);
	if (status != STATUS_OK) {
		trunk_free(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void trunk_free(struct trunk *t)
{
	if (!t)
		return;
	backbone_workspace_free(t->workspace);
	free(t->items);
	free(t);
}

static uint32_t item_at(const struct trunk *t, const struct user *u, uint32_t index)
{
	return backbone_item(t->backbone, u->sequence.events[index].item);
}

/* Appends the user's window to t->items at `at`; returns its length. */
static size_t copy_window(struct trunk *t, const struct user *u, size_t at)
{
	uint32_t length = u->sequence.length < t->window ? u->sequence.length : t->window;
	uint32_t first = u->sequence.length - length;
	for (uint32_t i = first; i < u->sequence.length; i++) {
		t->items[at++] = item_at(t, u, i);
	}
	return length;
}

/* One batched pass over the windows of n <= ROWS users. */
static void pass_windows(struct trunk *t, struct user *const users[], size_t n, float *out, bool keep)
{
	size_t offsets[ROWS + 1] = { 0 };
	void *states[ROWS];
	for (size_t i = 0; i < n; i++) {
		offsets[i + 1] = offsets[i] + copy_window(t, users[i], offsets[i]);
		states[i] = users[i]->state;
		users[i]->fresh = 0;
		users[i]->stale = !keep;
	}
	backbone_embed(t->backbone, t->workspace, n, offsets, t->items, keep ? states : NULL, out);
}

/* Rounds of columns: in round r every user that lacks more than r events gets its r-th missing one. */
static void push_columns(struct trunk *t, struct user *const users[], size_t n)
{
	for (uint32_t round = 0;; round++) {
		void *states[ROWS];
		uint32_t items[ROWS];
		size_t rows = 0;
		for (size_t i = 0; i < n; i++) {
			const struct user *u = users[i];
			if (u->fresh <= round)
				continue;
			states[rows] = u->state;
			items[rows++] = item_at(t, u, u->sequence.length - u->fresh + round);
		}
		if (rows == 0)
			break;
		backbone_push(t->backbone, t->workspace, rows, states, items);
	}
	for (size_t i = 0; i < n; i++)
		users[i]->fresh = 0;
}

/* Whether the state needs only a few columns more. */
static bool few_missing(const struct user *u)
{
	return !u->stale && u->fresh <= COLUMNS_AT_MOST && u->fresh <= u->sequence.length;
}

/* Makes a short sequence's void state a fresh one, so that columns can go on it. */
static bool begin_anew(struct trunk *t, struct user *u)
{
	if (!u->stale || u->sequence.length > COLUMNS_AT_MOST)
		return false;
	backbone_state_reset(t->backbone, u->state);
	u->stale = false;
	u->fresh = u->sequence.length;
	return true;
}

static enum status advance_rows(struct trunk *t, struct user *const users[], size_t n, struct error *err)
{
	struct user *columns[ROWS], *windows[ROWS];
	size_t columns_count = 0, windows_count = 0;
	for (size_t i = 0; i < n; i++) {
		struct user *u = users[i];
		if (!user_cache_give_state(t->cache, u))
			return error_set_memory(err);
		if (begin_anew(t, u) || few_missing(u))
			columns[columns_count++] = u;
		else
			windows[windows_count++] = u;
	}
	if (windows_count > 0)
		pass_windows(t, windows, windows_count, NULL, true);
	push_columns(t, columns, columns_count);
	return STATUS_OK;
}

static size_t rows_from(size_t at, size_t n)
{
	return n - at < ROWS ? n - at : ROWS;
}

enum status trunk_advance(struct trunk *t, struct user *const users[], size_t n, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t at = 0; at < n && t->cache->state_bytes > 0 && status == STATUS_OK; at += ROWS)
		status = advance_rows(t, users + at, rows_from(at, n), err);
	return status;
}

enum status trunk_embed(struct trunk *t, struct user *const users[], size_t n, float *out, struct error *err)
{
	size_t dim = backbone_dim(t->backbone);
	for (size_t at = 0; at < n; at += ROWS, out += ROWS * dim) {
		size_t rows = rows_from(at, n);
		if (t->cache->state_bytes == 0) {
			pass_windows(t, users + at, rows, out, false);
			continue;
		}
		enum status status = advance_rows(t, users + at, rows, err);
		if (status != STATUS_OK)
			return status;
		const void *states[ROWS];
		for (size_t i = 0; i < rows; i++)
			states[i] = users[at + i]->state;
		backbone_read(t->backbone, t->workspace, rows, states, out);
	}
	return STATUS_OK;
}
