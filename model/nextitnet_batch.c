/* Whole windows at once: a user's positions are the rows of the products, one user after the other.
 *
 * Only what the last position needs is computed: the output of a convolution is wanted from `after` positions before
 * the task token on, where `after` is how far all later convolutions look back, and from as many more on as there are
 * last events whose own columns are wanted too. The rings ask for no more: at any
 * later moment the task token stands further right, and so does everything that it reads. Rows before the first event
 * are zero at every layer; those of a window's front that would depend on events before the window are computed as if
 * there were none, and by the same argument no output ever reads them. */
#include "model/nextitnet.h"

#include "model/mean.h"

#include <assert.h>
#include <string.h>

struct window {
	const struct nextitnet *net;
	struct nextitnet_workspace *ws;
	const uint32_t *items;
	size_t events;
	size_t first;  /* position of the first event: 0, or 1 behind a leading task token */
	size_t count;  /* positions: the events and their task tokens */
	size_t newest; /* last events whose columns are wanted, at most `events` */
};

/* Where one user's states at levels go. */
struct sink {
	const uint32_t *levels; /* [count] */
	size_t count;
	uint32_t dim;
	float *tasks;   /* level i at i * step; NULL: not wanted */
	float *means;   /* alike */
	size_t step;    /* floats */
	float *columns; /* [newest, count, d]; NULL: not wanted */
};

static void look_up(const struct window *w)
{
	const size_t width = w->net->width;
	const size_t row_bytes = width * sizeof(float);
	const float *embedding = w->net->embedding;
	memcpy(w->ws->batch_x, embedding + BACKBONE_TCL * width, row_bytes);
	for (size_t i = 0; i < w->events; i++)
		memcpy(w->ws->batch_x + (w->first + i) * width, embedding + w->items[i] * width, row_bytes);
	memcpy(w->ws->batch_x + (w->count - 1) * width, embedding + BACKBONE_TCL * width, row_bytes);
}

/* A convolution that looks to the right sees zeros behind the last position. */
static void clear_behind(const struct window *w, float *x, uint32_t rows)
{
	memset(x + w->count * w->net->width, 0, (size_t)rows * w->net->width * sizeof(float));
}

/* What the older taps contribute to the positions from `start` on, added up as a ring does it, oldest first: a window and a
 * stream then agree to the last bit. */
static void carry_taps(const struct window *w, const struct nextitnet_convolution *c, const float *x, size_t start)
{
	const struct nextitnet *net = w->net;
	const size_t width = net->width;
	for (uint32_t lag = net->taps - 1; lag > 0; lag--)
		net->kernels->product(w->count - start,
				      x + (ptrdiff_t)(start * width) - (ptrdiff_t)((size_t)lag * c->dilation * width),
				      1, 0, c->weight + lag * width * width, 0, net->width, w->ws->batch_carry,
				      lag + 1 < net->taps);
}

static void convolve(const struct window *w, uint32_t index)
{
	const struct nextitnet *net = w->net;
	const struct nextitnet_convolution *c = &net->convolutions[index];
	const bool second = index % 2 == 1;
	const bool causal = w->first == 0;
	const size_t width = net->width;
	const size_t back = c->after + w->newest;
	const size_t start = causal && w->count - 1 > back ? w->count - 1 - back : 0;
	float *x = second ? w->ws->batch_y : w->ws->batch_x;
	float *y = second ? w->ws->batch_x : w->ws->batch_y;
	const float *carry = causal && net->taps > 1 ? w->ws->batch_carry : NULL;
	if (c->right > 0)
		clear_behind(w, x, c->right);
	if (carry != NULL)
		carry_taps(w, c, x, start);
	net->kernels->product(w->count - start, x + (start + c->right) * width, causal ? 1 : net->taps,
			      -(ptrdiff_t)(c->dilation * width), c->weight, (ptrdiff_t)(width * width), net->width,
			      w->ws->batch_sum, 0);
	for (size_t p = start; p < w->count; p++)
		net->kernels->column(&c->norm, net->width, w->ws->batch_sum + (p - start) * width,
				     carry == NULL ? NULL : carry + (p - start) * width, second ? y + p * width : NULL,
				     y + p * width);
}

/* The ring of a convolution: what the events contribute to the `span` positions after the last of them. The task token
 * stands on the first of these and contributes nothing. */
static void fill_ring(const struct window *w, uint32_t index, float *ring)
{
	const struct nextitnet *net = w->net;
	const struct nextitnet_convolution *c = &net->convolutions[index];
	const float *x = index % 2 == 1 ? w->ws->batch_y : w->ws->batch_x;
	const size_t width = net->width;
	float *sums = w->ws->batch_sum;
	memset(sums, 0, c->span * width * sizeof(float));
	for (uint32_t lag = net->taps - 1; lag > 0; lag--) {
		size_t reach = (size_t)lag * c->dilation; /* positions events .. events + reach - 1 see events */
		size_t skip = reach > w->events ? reach - w->events : 0; /* of these, the first see none yet */
		net->kernels->product(reach - skip, x + (w->events + skip - reach) * width, 1, 0,
				      c->weight + lag * width * width, 0, net->width, sums + skip * width, 1);
	}
	for (size_t i = 0; i < c->span; i++)
		memcpy(ring + (w->events + i) % c->span * width, sums + i * width, width * sizeof(float));
}

/* The state at the task token; where there is one at both ends, their sum. */
static void copy_task(const struct window *w, uint32_t dim, float *out)
{
	const size_t width = w->net->width;
	memcpy(out, w->ws->batch_x + (w->count - 1) * width, dim * sizeof(float));
	for (uint32_t i = 0; w->first > 0 && i < dim; i++)
		out[i] += w->ws->batch_x[i];
}

/* Hands out batch_x, where it holds the states of one of the levels wanted. */
static void give_level(const struct window *w, const struct sink *sink, uint32_t level)
{
	const size_t width = w->net->width;
	const size_t dim = sink->dim;
	const float *newest = w->ws->batch_x + (w->first + w->events - w->newest) * width;
	for (size_t i = 0; i < sink->count; i++) {
		if (sink->levels[i] != level)
			continue;
		if (sink->tasks != NULL)
			copy_task(w, sink->dim, sink->tasks + i * sink->step);
		for (size_t e = 0; sink->columns != NULL && e < w->newest; e++)
			memcpy(sink->columns + (e * sink->count + i) * dim, newest + e * width, dim * sizeof(float));
		if (sink->means == NULL)
			continue;
		float *mean = sink->means + i * sink->step;
		memset(mean, 0, dim * sizeof *mean);
		for (size_t e = 0; e < w->newest; e++)
			mean_add(mean, newest + e * width, dim);
		mean_finish(mean, w->newest, dim);
	}
}

/* `state`: NULL, or to be filled; `read`: the last block's output is wanted. */
static void run(const struct window *w, void *state, bool read, const struct sink *sink)
{
	float *rings = state == NULL ? NULL : (float *)((char *)state + NEXTITNET_STATE_HEAD_BYTES);
	look_up(w);
	give_level(w, sink, 0);
	for (uint32_t i = 0; i < w->net->count; i++) {
		if (rings != NULL)
			fill_ring(w, i, rings + w->net->convolutions[i].ring_offset);
		if (read || i + 1 < w->net->count)
			convolve(w, i);
		if (i % 2 == 1)
			give_level(w, sink, i / 2 + 1);
	}
	if (state == NULL)
		return;
	memset(state, 0, NEXTITNET_STATE_HEAD_BYTES);
	((struct nextitnet_state *)state)->events = w->events;
}

/* The window of the events `begin` to `end` - 1 of items, where the columns of the last `newest` are wanted too. */
static struct window cut_out(const struct backbone *b, struct backbone_workspace *base, const uint32_t *items,
			     size_t begin, size_t end, uint32_t newest)
{
	struct nextitnet_workspace *ws = (struct nextitnet_workspace *)base;
	const size_t first = b->causal ? 0 : 1;
	const size_t most = (size_t)b->window + (b->causal ? newest : 0);
	const size_t events = end - begin < most ? end - begin : most;
	assert(newest <= ws->newest || !b->causal);
	return (struct window){
		.net = b->impl,
		.ws = ws,
		.items = items + end - events,
		.events = events,
		.first = first,
		.count = first + events + 1,
		.newest = events < newest ? events : newest,
	};
}

void nextitnet_embed(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		     const uint32_t items[], void *const states[], float *out, const struct backbone_levels *levels)
{
	const uint32_t newest = levels == NULL || levels->columns == NULL ? 0 : levels->newest;
	for (size_t user = 0; user < n; user++) {
		const struct window w = cut_out(b, ws, items, offsets[user], offsets[user + 1], newest);
		struct sink sink = { .dim = b->dim, .step = b->dim };
		if (levels != NULL) {
			sink.levels = levels->levels;
			sink.count = levels->count;
			sink.tasks = levels->tasks == NULL ? NULL : levels->tasks[user];
			sink.columns = levels->columns == NULL ? NULL : levels->columns[user];
		}
		run(&w, states == NULL ? NULL : states[user], out != NULL || levels != NULL, &sink);
		if (out != NULL)
			copy_task(&w, b->dim, out + user * b->dim);
	}
}

void nextitnet_side_states(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			   const uint32_t items[], uint32_t mean_window, const uint32_t levels[], size_t count,
			   float *out)
{
	for (size_t user = 0; user < n; user++, out += count * 2 * b->dim) {
		const struct window w = cut_out(b, ws, items, offsets[user], offsets[user + 1], mean_window);
		const struct sink sink = {
			.levels = levels,
			.count = count,
			.dim = b->dim,
			.tasks = out,
			.means = out + b->dim,
			.step = 2 * (size_t)b->dim,
		};
		run(&w, NULL, true, &sink);
	}
}
