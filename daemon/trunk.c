#include "daemon/trunk.h"

#include "model/mean.h"

#include <assert.h>
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
	uint32_t dim;                              /* d */
	uint32_t window;                           /* newest events that an embedding reads */
	uint32_t reach;                            /* newest events that a rebuild reads */
	uint32_t *items;                           /* of windows to rebuild: [ROWS x reach] */
	float *embeddings;                         /* of one pass: [ROWS, d] */
	struct backbone_workspace *past_workspace; /* of pasts that are nobody's cached state; NULL before the first */
	uint32_t *past_items;                      /* [past_capacity] */
	size_t past_capacity;
	size_t embedding_at_bytes; /* where a user's embedding lies behind its state, */
	size_t kept_at_bytes;      /* and what is kept of levels behind that */
	uint32_t *levels;          /* those above 0 that states keep, each once */
	size_t levels_count;
	uint32_t *places;     /* [blocks + 1]: where a level is among them; in the memory of `levels` */
	uint32_t mean_window; /* events of a ring */
};

/* Behind a user's embedding, where levels are kept. Behind the sums floats follow: [count, d] at the task token, then the ring,
 * [mean_window, count, d]. */
struct kept {
	uint32_t next; /* row of the ring that the next event's columns take */
	uint32_t held; /* rows that hold an event's */
	double sums[]; /* [count + 1, d]: of the ring's rows, and of the same events' embeddings, which no ring holds */
};

/* Where the levels of one pass go: those of ROWS users at most. */
struct sinks {
	float *tasks[ROWS];
	float *columns[ROWS];
	struct backbone_levels levels;
};

enum status trunk_new(const struct backbone *backbone, struct user_cache *cache, struct trunk **ret, struct error *err)
{
	struct trunk *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	t->backbone = backbone;
	t->cache = cache;
	t->dim = backbone_dim(backbone);
	t->window = t->reach = backbone_window(backbone);
	t->embedding_at_bytes = backbone_state_bytes(backbone);
	t->kept_at_bytes = (trunk_state_bytes(backbone) + sizeof(double) - 1) / sizeof(double) * sizeof(double);
	t->items = reallocarray(NULL, (size_t)ROWS * (t->window ? t->window : 1), sizeof *t->items);
	t->embeddings = calloc((size_t)ROWS * t->dim, sizeof *t->embeddings);
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
	free(t->levels);
	backbone_workspace_free(t->past_workspace);
	free(t->past_items);
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

static struct kept *kept_of(const struct trunk *t, const struct user *u)
{
	return (struct kept *)((char *)u->state + t->kept_at_bytes);
}

/* Floats of one event's columns. */
static size_t row_floats(const struct trunk *t)
{
	return t->levels_count * t->dim;
}

static float *task_levels(const struct trunk *t, const struct user *u)
{
	return (float *)(kept_of(t, u)->sums + row_floats(t) + t->dim);
}

static float *ring_row(const struct trunk *t, const struct user *u, uint32_t row)
{
	return task_levels(t, u) + ((size_t)row + 1) * row_floats(t);
}

/* Where a pass of these users leaves levels; NULL: none are kept. */
static const struct backbone_levels *open_sinks(const struct trunk *t, struct user *const users[], size_t n,
						struct sinks *s)
{
	if (t->levels_count == 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		s->tasks[i] = task_levels(t, users[i]);
		s->columns[i] = ring_row(t, users[i], kept_of(t, users[i])->next);
	}
	s->levels = (struct backbone_levels){ t->levels, t->levels_count, t->mean_window, s->tasks, s->columns };
	return &s->levels;
}

static uint32_t item_at(const struct trunk *t, const struct user *u, uint32_t index)
{
	return backbone_item(t->backbone, u->sequence.events[index].item);
}

/* An empty ring. */
static void begin_ring(const struct trunk *t, struct user *u)
{
	if (t->levels_count == 0)
		return;
	kept_of(t, u)->next = kept_of(t, u)->held = 0;
	memset(kept_of(t, u)->sums, 0, (row_floats(t) + t->dim) * sizeof(double));
}

/* Adds an event, whose columns lie in this row of the ring, to the sums, or takes it out of them. */
static void count_event(const struct trunk *t, struct user *u, uint32_t index, uint32_t row, double sign)
{
	const float *columns = ring_row(t, u, row);
	const float *vector = backbone_vector(t->backbone, item_at(t, u, index));
	const size_t floats = row_floats(t);
	double *sums = kept_of(t, u)->sums;
	for (size_t i = 0; i < floats; i++)
		sums[i] += sign * (double)columns[i];
	for (size_t i = 0; i < t->dim; i++)
		sums[floats + i] += sign * (double)vector[i];
}

/* The sums of the last events before `end`, from the ring: whatever rounding had gathered in them is gone. */
static void sum_ring(const struct trunk *t, struct user *u, uint32_t end)
{
	const uint32_t next = kept_of(t, u)->next;
	const uint32_t events = end < t->mean_window ? end : t->mean_window;
	begin_ring(t, u);
	kept_of(t, u)->next = next;
	kept_of(t, u)->held = events;
	for (uint32_t i = 0; i < events; i++)
		count_event(t, u, end - events + i, (next + t->mean_window - events + i) % t->mean_window, 1);
}

/* The event at `index` is about to take the ring's next row. */
static void make_room(const struct trunk *t, struct user *u, uint32_t index)
{
	if (t->levels_count > 0 && index >= t->mean_window)
		count_event(t, u, index - t->mean_window, kept_of(t, u)->next, -1);
}

/* It has. */
static void take_row(const struct trunk *t, struct user *u, uint32_t index)
{
	struct kept *kept;
	if (t->levels_count == 0)
		return;
	kept = kept_of(t, u);
	count_event(t, u, index, kept->next, 1);
	kept->next = (kept->next + 1) % t->mean_window;
	kept->held += kept->held < t->mean_window;
	if (kept->next == 0)
		sum_ring(t, u, index + 1);
}

/* A window's last columns were put in, at most as many as it holds. */
static void take_window(const struct trunk *t, struct user *u, size_t columns)
{
	if (t->levels_count == 0)
		return;
	kept_of(t, u)->next = (uint32_t)(columns % t->mean_window);
	sum_ring(t, u, u->sequence.length);
}

static void keep_embeddings(struct trunk *t, struct user *const users[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		memcpy(embedding_of(t, users[i]), t->embeddings + i * t->dim, t->dim * sizeof(float));
		users[i]->embedded = true;
	}
}

/* Appends the user's window to t->items at `at`; returns its length. */
static size_t copy_window(struct trunk *t, const struct user *u, size_t at)
{
	uint32_t length = u->sequence.length < t->reach ? u->sequence.length : t->reach;
	uint32_t first = u->sequence.length - length;
	for (uint32_t i = first; i < u->sequence.length; i++) {
		t->items[at++] = item_at(t, u, i);
	}
	return length;
}

/* Those of n <= ROWS users, from the buffer's begin on. */
static void copy_windows(struct trunk *t, struct user *const users[], size_t n, size_t offsets[])
{
	offsets[0] = 0;
	for (size_t i = 0; i < n; i++)
		offsets[i + 1] = offsets[i] + copy_window(t, users[i], offsets[i]);
}

/* One batched pass over the windows of n <= ROWS users, which leaves their states and embeddings. */
static void pass_windows(struct trunk *t, struct user *const users[], size_t n)
{
	size_t offsets[ROWS + 1];
	void *states[ROWS];
	struct sinks sinks;
	copy_windows(t, users, n, offsets);
	for (size_t i = 0; i < n; i++) {
		states[i] = users[i]->state;
		users[i]->fresh = 0;
		users[i]->stale = false;
		begin_ring(t, users[i]);
	}
	backbone_embed_levels(t->backbone, t->workspace, n, offsets, t->items, states, t->embeddings,
			      open_sinks(t, users, n, &sinks));
	for (size_t i = 0; i < n; i++) {
		size_t events = offsets[i + 1] - offsets[i];
		take_window(t, users[i], events < t->mean_window ? events : t->mean_window);
	}
	keep_embeddings(t, users, n);
}

/* The next missing column of n <= ROWS users; `read`: it is their last, and the embedding is read with it. */
static void push_next(struct trunk *t, struct user *const users[], size_t n, bool read)
{
	void *states[ROWS];
	uint32_t items[ROWS];
	struct sinks sinks;
	for (size_t i = 0; i < n; i++) {
		struct user *u = users[i];
		states[i] = u->state;
		items[i] = item_at(t, u, u->sequence.length - u->fresh);
		make_room(t, u, u->sequence.length - u->fresh);
		u->fresh--;
		u->embedded = false;
	}
	backbone_step_levels(t->backbone, t->workspace, n, states, items, read ? t->embeddings : NULL,
			     open_sinks(t, users, n, &sinks));
	for (size_t i = 0; i < n; i++)
		take_row(t, users[i], users[i]->sequence.length - users[i]->fresh - 1);
	if (read)
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
	void *states[ROWS];
	struct sinks sinks;
	for (size_t i = 0; i < n; i++)
		states[i] = users[i]->state;
	backbone_step_levels(t->backbone, t->workspace, n, states, NULL, t->embeddings,
			     open_sinks(t, users, n, &sinks));
	keep_embeddings(t, users, n);
}

/* Whether the state needs only a few columns more. */
static bool few_missing(const struct user *u)
{
	return !u->stale && u->fresh <= COLUMNS_AT_MOST && u->fresh <= u->sequence.length;
}

/* Whether every event that the missing columns push out of the ring is still in the sequence, so that the sums can give it up.
 * With a window of fewer events than a state may lack, the sequence may have dropped it. */
static bool ring_follows(const struct trunk *t, const struct user *u)
{
	if (t->levels_count == 0)
		return true;
	const uint32_t free_rows = t->mean_window - kept_of(t, u)->held;
	return u->fresh <= free_rows || u->sequence.length - u->fresh + free_rows >= t->mean_window;
}

/* Makes a short sequence's void state a fresh one, so that columns can go on it. */
static bool begin_anew(struct trunk *t, struct user *u)
{
	if (!u->stale || u->sequence.length > COLUMNS_AT_MOST)
		return false;
	backbone_state_reset(t->backbone, u->state);
	begin_ring(t, u);
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
		if (!begin_anew(t, u) && (!few_missing(u) || !ring_follows(t, u)))
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
	size_t offsets[ROWS + 1];
	copy_windows(t, users, n, offsets);
	backbone_embed(t->backbone, t->workspace, n, offsets, t->items, NULL, out);
}

enum status trunk_embed(struct trunk *t, struct user *const users[], size_t n, float *out, struct error *err)
{
	for (size_t at = 0; at < n; at += ROWS) {
		size_t rows = rows_from(at, n);
		if (t->cache->state_bytes == 0) {
			embed_windows(t, users + at, rows, out + at * t->dim);
			continue;
		}
		enum status status = advance_rows(t, users + at, rows, true, err);
		if (status != STATUS_OK)
			return status;
		for (size_t i = at; i < at + rows; i++)
			memcpy(out + i * t->dim, embedding_of(t, users[i]), t->dim * sizeof(float));
	}
	return STATUS_OK;
}

static bool has_level(const uint32_t levels[], size_t count, uint32_t level)
{
	for (size_t i = 0; i < count; i++) {
		if (levels[i] == level)
			return true;
	}
	return false;
}

/* The levels above 0, each once, in order, and the place of each; returns how many. Without states none is kept. */
static size_t levels_to_keep(const struct trunk *t, const uint32_t levels[], size_t count, uint32_t *out,
			     uint32_t *places)
{
	size_t kept = 0;
	for (uint32_t level = 1; t->embedding_at_bytes > 0 && level <= backbone_blocks(t->backbone); level++) {
		if (!has_level(levels, count, level))
			continue;
		places[level] = (uint32_t)kept;
		out[kept++] = level;
	}
	return kept;
}

/* Takes `levels`, which are levels_to_keep. */
static enum status set_levels(struct trunk *t, uint32_t *levels, size_t count, uint32_t mean_window, struct error *err)
{
	const uint32_t newest = count > 0 ? mean_window : 0;
	const uint32_t reach = t->window + newest;
	uint32_t *items = reallocarray(NULL, (size_t)ROWS * (reach ? reach : 1), sizeof *items);
	enum status status =
		items ? backbone_workspace_reserve(t->backbone, t->workspace, newest, err) : error_set_memory(err);
	if (status != STATUS_OK) {
		free(items);
		free(levels);
		return status;
	}
	free(t->items);
	free(t->levels);
	t->items = items;
	t->levels = levels;
	t->places = levels + backbone_blocks(t->backbone);
	t->levels_count = count;
	t->reach = reach;
	const size_t sums_bytes = (row_floats(t) + t->dim) * sizeof(double);
	const size_t floats_bytes = ((size_t)mean_window + 1) * row_floats(t) * sizeof(float);
	user_cache_set_states(t->cache, count > 0 ? t->kept_at_bytes + sizeof(struct kept) + sums_bytes + floats_bytes
						  : trunk_state_bytes(t->backbone));
	return STATUS_OK;
}

enum status trunk_keep_levels(struct trunk *t, const uint32_t levels[], size_t count, uint32_t mean_window,
			      struct error *err)
{
	assert(count == 0 || mean_window > 0);
	const size_t blocks = backbone_blocks(t->backbone);
	uint32_t *kept = calloc(2 * blocks + 1, sizeof *kept);
	if (!kept)
		return error_set_memory(err);
	size_t kept_count = levels_to_keep(t, levels, count, kept, kept + blocks);
	bool same = kept_count == t->levels_count &&
		    (kept_count == 0 ||
		     (mean_window == t->mean_window && memcmp(kept, t->levels, kept_count * sizeof *kept) == 0));
	enum status status = STATUS_OK;
	if (same)
		free(kept);
	else
		status = set_levels(t, kept, kept_count, mean_window, err);
	if (status == STATUS_OK)
		t->mean_window = mean_window;
	return status;
}

/* Where a level lies in a row. */
static size_t level_at(const struct trunk *t, uint32_t level)
{
	const uint32_t place = t->places[level];
	assert(place < t->levels_count && t->levels[place] == level);
	return (size_t)place * t->dim;
}

/* Adds up one event's columns, which lie in this row of the ring; level 0 is the item's embedding. */
static void add_event(const struct trunk *t, uint32_t item, const float *row, const uint32_t levels[], size_t count,
		      float *means)
{
	for (size_t i = 0; i < count; i++, means += 2 * (size_t)t->dim)
		mean_add(means, levels[i] == 0 ? backbone_vector(t->backbone, item) : row + level_at(t, levels[i]),
			 t->dim);
}

/* What lies at the task token, before the means are filled in; out: [count, 2, d]. */
static void copy_task_levels(const struct trunk *t, const struct user *u, const uint32_t levels[], size_t count,
			     float *out)
{
	const size_t dim = t->dim;
	for (size_t i = 0; i < count; i++) {
		const float *task = levels[i] == 0 ? backbone_vector(t->backbone, BACKBONE_TCL)
						   : task_levels(t, u) + level_at(t, levels[i]);
		memcpy(out + 2 * i * dim, task, dim * sizeof *out);
	}
}

/* Means over as many events as the sums are of. */
static void means_of_sums(const struct trunk *t, const struct user *u, const uint32_t levels[], size_t count,
			  uint32_t events, float *out)
{
	const size_t dim = t->dim;
	const double share = 1.0 / (events > 0 ? events : 1);
	for (size_t i = 0; i < count; i++) {
		const size_t at = levels[i] == 0 ? row_floats(t) : level_at(t, levels[i]);
		const double *sum = kept_of(t, u)->sums + at;
		float *mean = out + (2 * i + 1) * dim;
		for (size_t k = 0; k < dim; k++)
			mean[k] = (float)(sum[k] * share);
	}
}

/* Means over fewer. The ring of a user may be far from any cache: it is read once, front to back. */
static void means_of_ring(const struct trunk *t, const struct user *u, const uint32_t levels[], size_t count,
			  uint32_t events, float *out)
{
	const size_t dim = t->dim;
	const bool embeddings = has_level(levels, count, 0);
	const bool ring = t->levels_count > 0;
	for (size_t i = 0; i < count; i++)
		memset(out + (2 * i + 1) * dim, 0, dim * sizeof *out);
	uint32_t row = ring ? (kept_of(t, u)->next + t->mean_window - events) % t->mean_window : 0;
	for (uint32_t e = u->sequence.length - events; e < u->sequence.length; e++) {
		add_event(t, embeddings ? item_at(t, u, e) : 0, ring ? ring_row(t, u, row) : NULL, levels, count,
			  out + dim);
		row = row + 1 < t->mean_window ? row + 1 : 0;
	}
	for (size_t i = 0; i < count; i++)
		mean_finish(out + (2 * i + 1) * dim, events, dim);
}

/* The states of a user who lacks nothing; out: [count, 2, d]. */
static void states_of(const struct trunk *t, const struct user *u, const uint32_t levels[], size_t count,
		      uint32_t mean_window, float *out)
{
	const uint32_t length = u->sequence.length;
	const uint32_t events = length < mean_window ? length : mean_window;
	copy_task_levels(t, u, levels, count, out);
	if (t->levels_count > 0 && (mean_window == t->mean_window || length <= mean_window))
		means_of_sums(t, u, levels, count, events, out);
	else
		means_of_ring(t, u, levels, count, events, out);
}

static void window_states(struct trunk *t, struct user *const users[], size_t n, const uint32_t levels[], size_t count,
			  uint32_t mean_window, float *out)
{
	size_t offsets[ROWS + 1];
	copy_windows(t, users, n, offsets);
	backbone_side_states(t->backbone, t->workspace, n, offsets, t->items, mean_window, levels, count, out);
}

enum status trunk_side_states(struct trunk *t, struct user *const users[], size_t n, const uint32_t levels[],
			      size_t count, uint32_t mean_window, float *out, struct error *err)
{
	const size_t floats = count * 2 * t->dim;
	assert(mean_window <= t->mean_window);
	for (size_t at = 0; at < n; at += ROWS) {
		size_t rows = rows_from(at, n);
		if (t->cache->state_bytes == 0) {
			window_states(t, users + at, rows, levels, count, mean_window, out + at * floats);
			continue;
		}
		enum status status = advance_rows(t, users + at, rows, true, err);
		if (status != STATUS_OK)
			return status;
		for (size_t i = at; i < at + rows; i++)
			states_of(t, users[i], levels, count, mean_window, out + i * floats);
	}
	return STATUS_OK;
}

/* Room for a past of `length` events whose last `mean_window` columns are averaged. */
static enum status reserve_past(struct trunk *t, size_t length, uint32_t mean_window, struct error *err)
{
	enum status status = STATUS_OK;
	if (!t->past_workspace)
		status = backbone_workspace_new(t->backbone, &t->past_workspace, err);
	if (status == STATUS_OK)
		status = backbone_workspace_reserve(t->backbone, t->past_workspace, mean_window, err);
	if (status != STATUS_OK || length <= t->past_capacity)
		return status;
	uint32_t *larger = reallocarray(t->past_items, length, sizeof *larger);
	if (!larger)
		return error_set_memory(err);
	t->past_items = larger;
	t->past_capacity = length;
	return STATUS_OK;
}

enum status trunk_past_states(struct trunk *t, const struct event events[], size_t length, const uint32_t levels[],
			      size_t count, uint32_t mean_window, float *out, struct error *err)
{
	const size_t offsets[] = { 0, length };
	enum status status = reserve_past(t, length, mean_window, err);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < length; i++)
		t->past_items[i] = backbone_item(t->backbone, events[i].item);
	backbone_side_states(t->backbone, t->past_workspace, 1, offsets, t->past_items, mean_window, levels, count,
			     out);
	return STATUS_OK;
}
