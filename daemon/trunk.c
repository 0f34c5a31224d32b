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
	uint32_t window;           /* newest events that an embedding reads */
	uint32_t *items;           /* of windows to rebuild: [ROWS x window] */
	float *embeddings;         /* of one pass: [ROWS, d] */
	size_t embedding_at_bytes; /* where a user's embedding lies behind its state */
};

enum status trunk_new(const struct backbone *backbone, struct user_cache *cache, struct trunk **ret, struct error *err)
{
	struct trunk *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	t->backbone = backbone;
	t->cache = cache;
	t->window = backbone_window(backbone);
	t->embedding_at_bytes = backbone_state_bytes(backbone);
	t->items = reallocarray(NULL, (size_t)ROWS * (t->window ? t->window : 1), sizeof *t->items);
	t->embeddings = calloc((size_t)ROWS * backbone_dim(backbone), sizeof *t->embeddings);
	enum status status = t->items && t->embeddings ? backbone_workspace_new(backbone, &t->workspace, err)
						       : error_set_memory(err);
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
	free(t->embeddings);
	free(t->items);
	free(t);
}

size_t trunk_state_bytes(const struct backbone *backbone)
{
	size_t bytes = backbone_state_bytes(backbone);
	return bytes == 0 ? 0 : bytes + backbone_dim(backbone) * sizeof(float);
}

static float *embedding_of(const struct trunk *t, const struct user *u)
{
	return (float *)((char *)u->state + t->embedding_at_bytes);
}

static void keep_embeddings(struct trunk *t, struct user *const users[], size_t n)
{
	size_t dim = backbone_dim(t->backbone);
	for (size_t i = 0; i < n; i++) {
		memcpy(embedding_of(t, users[i]), t->embeddings + i * dim, dim * sizeof(float));
		users[i]->embedded = true;
	}
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

/* One batched pass over the windows of n <= ROWS users, which leaves their states and embeddings. */
static void pass_windows(struct trunk *t, struct user *const users[], size_t n)
{
	size_t offsets[ROWS + 1] = { 0 };
	void *states[ROWS];
	for (size_t i = 0; i < n; i++) {
		offsets[i + 1] = offsets[i] + copy_window(t, users[i], offsets[i]);
		states[i] = users[i]->state;
		users[i]->fresh = 0;
		users[i]->stale = false;
	}
	backbone_embed(t->backbone, t->workspace, n, offsets, t->items, states, t->embeddings);
	keep_embeddings(t, users, n);
}

/* The next missing column of n <= ROWS users; `read`: it is their last, and the embedding is read with it. */
static void push_next(struct trunk *t, struct user *const users[], size_t n, bool read)
{
	void *states[ROWS];
	uint32_t items[ROWS];
	for (size_t i = 0; i < n; i++) {
		struct user *u = users[i];
		states[i] = u->state;
		items[i] = item_at(t, u, u->sequence.length - u->fresh);
		u->fresh--;
		u->embedded = false;
	}
	if (!read) {
		backbone_push(t->backbone, t->workspace, n, states, items);
		return;
	}
	backbone_push_read(t->backbone, t->workspace, n, states, items, t->embeddings);
	keep_embeddings(t, users, n);
}

/* Rounds of columns until none of the n <= ROWS users lacks one. */
static void push_columns(struct trunk *t, struct user *const users[], size_t n, bool read)
{
	size_t last_count, more_count;
	do {
		struct user *last[ROWS], *more[ROWS];
		last_count = more_count = 0;
		for (size_t i = 0; i < n; i++) {
			struct user *u = users[i];
			if (u->fresh == 1 && read)
				last[last_count++] = u;
			else if (u->fresh > 0)
				more[more_count++] = u;
		}
		if (more_count > 0)
			push_next(t, more, more_count, false);
		if (last_count > 0)
			push_next(t, last, last_count, true);
	} while (last_count + more_count > 0);
}

/* The embeddings of n <= ROWS users whose states lack nothing. */
static void read_states(struct trunk *t, struct user *const users[], size_t n)
{
	const void *states[ROWS];
	for (size_t i = 0; i < n; i++)
		states[i] = users[i]->state;
	backbone_read(t->backbone, t->workspace, n, states, t->embeddings);
	keep_embeddings(t, users, n);
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

static enum status advance_rows(struct trunk *t, struct user *const users[], size_t n, bool read, struct error *err)
{
	struct user *columns[ROWS], *windows[ROWS], *whole[ROWS];
	size_t columns_count = 0, windows_count = 0, whole_count = 0;
	for (size_t i = 0; i < n; i++) {
		struct user *u = users[i];
		if (!user_cache_give_state(t->cache, u))
			return error_set_memory(err);
		if (!begin_anew(t, u) && !few_missing(u))
			windows[windows_count++] = u;
		else if (u->fresh > 0)
			columns[columns_count++] = u;
		else if (read && !u->embedded)
			whole[whole_count++] = u;
	}
	if (windows_count > 0)
		pass_windows(t, windows, windows_count);
	push_columns(t, columns, columns_count, read);
	if (whole_count > 0)
		read_states(t, whole, whole_count);
	return STATUS_OK;
}

static size_t rows_from(size_t at, size_t n)
{
	return n - at < ROWS ? n - at : ROWS;
}

enum status trunk_advance(struct trunk *t, struct user *const users[], size_t n, bool read, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t at = 0; at < n && t->cache->state_bytes > 0 && status == STATUS_OK; at += ROWS)
		status = advance_rows(t, users + at, rows_from(at, n), read, err);
	return status;
}

/* Without states every embedding is a pass over the window. */
static void embed_windows(struct trunk *t, struct user *const users[], size_t n, float *out)
{
	size_t offsets[ROWS + 1] = { 0 };
	for (size_t i = 0; i < n; i++)
		offsets[i + 1] = offsets[i] + copy_window(t, users[i], offsets[i]);
	backbone_embed(t->backbone, t->workspace, n, offsets, t->items, NULL, out);
}

enum status trunk_embed(struct trunk *t, struct user *const users[], size_t n, float *out, struct error *err)
{
	size_t dim = backbone_dim(t->backbone);
	for (size_t at = 0; at < n; at += ROWS) {
		size_t rows = rows_from(at, n);
		if (t->cache->state_bytes == 0) {
			embed_windows(t, users + at, rows, out + at * dim);
			continue;
		}
		enum status status = advance_rows(t, users + at, rows, true, err);
		if (status != STATUS_OK)
			return status;
		for (size_t i = at; i < at + rows; i++)
			memcpy(out + i * dim, embedding_of(t, users[i]), dim * sizeof(float));
	}
	return STATUS_OK;
}
