/* Column by column: one event of each of n users, the task token on top, or both at once. See nextitnet.h for the
 * rings. Users are rows; a chunk of them goes through all layers, so that a layer's weights are read once a chunk. */
#include "model/nextitnet.h"

#include <string.h>

#define CACHE_LINE_BYTES 64

/* What one pass advances or reads. Rows: task tokens first, then items. */
struct step {
	const struct backbone *b;
	const struct nextitnet *net;
	struct nextitnet_workspace *ws;
	size_t n;                             /* users */
	size_t tokens;                        /* n, or 0: no reading */
	size_t items;                         /* n, or 0: no pushing */
	void *const *states;                  /* written only where items is not 0 */
	const struct backbone_levels *levels; /* NULL: none */
	size_t first;                         /* of the users, in the arrays of `levels` */
};

static float *ring_of(const struct nextitnet_convolution *c, void *state)
{
	return (float *)((char *)state + NEXTITNET_STATE_HEAD_BYTES) + c->ring_offset;
}

static void prefetch_row(const float *row, uint32_t width)
{
	for (uint32_t i = 0; i < width; i += CACHE_LINE_BYTES / sizeof(float))
		__builtin_prefetch(row + i, 1);
}

/* Finds the ring's row of a user's next position in a convolution to come. The states of 100,000 users lie in memory,
 * not in a cache: the rows that will be touched are asked for while the layers before compute. */
static void prepare_ring(const struct step *s, uint32_t convolution, size_t user)
{
	if (convolution >= s->net->count || s->net->taps == 1)
		return;
	const struct nextitnet_convolution *c = &s->net->convolutions[convolution];
	const uint32_t width = s->net->width;
	float *ring = ring_of(c, s->states[user]);
	const uint32_t now = (uint32_t)(((const struct nextitnet_state *)s->states[user])->events % c->span);
	s->ws->rows[convolution % NEXTITNET_AHEAD][user] = now;
	prefetch_row(ring + (size_t)now * width, width);
	if (s->items == 0)
		return;
	if (s->tokens > 0 && c->dilation > 1) /* else it is the next row that gets a contribution */
		prefetch_row(ring + (size_t)(now + 1 < c->span ? now + 1 : 0) * width, width);
	for (uint32_t lag = 1, row = now; lag + 1 < s->net->taps; lag++) {
		row = row + c->dilation < c->span ? row + c->dilation : row + c->dilation - c->span;
		prefetch_row(ring + (size_t)row * width, width);
	}
}

static void multiply(const struct step *s, const struct nextitnet_convolution *c, const float *x)
{
	const struct nextitnet *net = s->net;
	const size_t matrix = (size_t)net->width * net->width;
	const float *items = x + s->tokens * net->width;
	float *y = s->ws->products;
	net->kernels->product(s->tokens + s->items, x, 1, 0, c->weight, 0, net->width, y, 0);
	y += (s->tokens + s->items) * net->width;
	for (uint32_t lag = 1; s->items > 0 && lag < net->taps; lag++, y += s->items * net->width)
		net->kernels->product(s->items, items, 1, 0, c->weight + lag * matrix, 0, net->width, y, 0);
}

static void convolve_user(const struct step *s, uint32_t index, size_t user, const float *residual, float *out)
{
	const struct kernels *kernels = s->net->kernels;
	const struct nextitnet_convolution *c = &s->net->convolutions[index];
	const uint32_t width = s->net->width;
	const size_t item = (s->tokens + user) * width;
	const size_t token = user * width;
	float *sums = s->ws->products;
	struct kernels_ring ring = {
		.rows = ring_of(c, s->states[user]),
		.row_count = c->span,
		.now = s->ws->rows[index % NEXTITNET_AHEAD][user],
		.dilation = c->dilation,
		.taps = s->net->taps,
	};
	if (s->items > 0) {
		kernels->advance(&c->norm, width, &ring, sums + item, s->items * width,
				 residual == NULL ? NULL : residual + item, out + item);
		ring.now = ring.now + 1 < ring.row_count ? ring.now + 1 : 0;
	}
	if (s->tokens > 0)
		kernels->column(&c->norm, width, sums + token,
				ring.row_count == 0 ? NULL : ring.rows + (size_t)ring.now * width,
				residual == NULL ? NULL : residual + token, out + token);
}

/* x and y: a block's input, and what is between its convolutions. The first convolution goes x -> y, the second
 * y -> x, with x as its residual. */
static void convolve(const struct step *s, uint32_t index)
{
	const struct nextitnet_convolution *c = &s->net->convolutions[index];
	const bool second = index % 2 == 1;
	float *x = s->ws->stream_x;
	float *y = s->ws->stream_y;
	multiply(s, c, second ? y : x);
	for (size_t user = 0; user < s->n; user++) {
		prepare_ring(s, index + NEXTITNET_AHEAD - 1, user);
		convolve_user(s, index, user, second ? x : NULL, second ? x : y);
	}
}

/* Hands out stream_x, where it holds the states of one of the levels wanted. */
static void give_level(const struct step *s, uint32_t level)
{
	const struct backbone_levels *l = s->levels;
	const uint32_t width = s->net->width;
	const uint32_t dim = s->b->dim;
	for (size_t i = 0; i < l->count; i++) {
		if (l->levels[i] != level)
			continue;
		for (size_t user = 0; l->tasks != NULL && user < s->tokens; user++)
			memcpy(l->tasks[s->first + user] + i * dim, s->ws->stream_x + user * width,
			       dim * sizeof(float));
		for (size_t user = 0; l->columns != NULL && user < s->items; user++)
			memcpy(l->columns[s->first + user] + i * dim, s->ws->stream_x + (s->tokens + user) * width,
			       dim * sizeof(float));
	}
}

static void run_chunk(const struct step *s, const uint32_t items[], float *out)
{
	const uint32_t width = s->net->width;
	const size_t row_bytes = width * sizeof(float);
	for (uint32_t i = 0; i < NEXTITNET_AHEAD - 1; i++) {
		for (size_t user = 0; user < s->n; user++)
			prepare_ring(s, i, user);
	}
	for (size_t row = 0; row < s->tokens; row++)
		memcpy(s->ws->stream_x + row * width, s->net->embedding + (size_t)BACKBONE_TCL * width, row_bytes);
	for (size_t row = 0; row < s->items; row++)
		memcpy(s->ws->stream_x + (s->tokens + row) * width, s->net->embedding + (size_t)items[row] * width,
		       row_bytes);
	if (s->levels != NULL)
		give_level(s, 0);
	for (uint32_t i = 0; i < s->net->count; i++) {
		convolve(s, i);
		if (s->levels != NULL && i % 2 == 1)
			give_level(s, i / 2 + 1);
	}
	for (size_t row = 0; row < s->items; row++)
		((struct nextitnet_state *)s->states[row])->events++;
	for (size_t row = 0; row < s->tokens; row++)
		memcpy(out + row * s->b->dim, s->ws->stream_x + row * width, s->b->dim * sizeof(float));
}

void nextitnet_step(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
		    const uint32_t items[], float *out, const struct backbone_levels *levels)
{
	for (size_t at = 0; at < n; at += NEXTITNET_CHUNK) {
		size_t rows = n - at < NEXTITNET_CHUNK ? n - at : NEXTITNET_CHUNK;
		struct step s = {
			.b = b,
			.net = b->impl,
			.ws = (struct nextitnet_workspace *)ws,
			.n = rows,
			.tokens = out == NULL ? 0 : rows,
			.items = items == NULL ? 0 : rows,
			.states = states + at,
			.levels = levels,
			.first = at,
		};
		run_chunk(&s, items == NULL ? NULL : items + at, out == NULL ? NULL : out + at * b->dim);
	}
}
