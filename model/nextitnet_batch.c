/* Whole windows at once: a user's positions are the rows of the products, one user after the other.
 *
 * Only what the last position needs is computed: the output of a convolution is wanted from `after` positions before
 * the task token on, where `after` is how far all later convolutions look back. The rings ask for no more: at any
 * later moment the task token stands further right, and so does everything that it reads. Rows before the first event
 * are zero at every layer; those of a window's front that would depend on events before the window are computed as if
 * there were none, and by the same argument no output ever reads them. */
#include "model/nextitnet.h"

#include <string.h>

struct window {
	const struct nextitnet *net;
	struct nextitnet_workspace *ws;
	const uint32_t *items;
	size_t events;
	size_t first; /* position of the first event: 0, or 1 behind a leading task token */
	size_t count; /* positions: the events and their task tokens */
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
	const size_t start = causal && w->count - 1 > c->after ? w->count - 1 - c->after : 0;
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

static void run(const struct window *w, void *state, bool read)
{
	float *rings = state == NULL ? NULL : (float *)((char *)state + NEXTITNET_STATE_HEAD_BYTES);
	look_up(w);
	for (uint32_t i = 0; i < w->net->count; i++) {
		if (rings != NULL)
			fill_ring(w, i, rings + w->net->convolutions[i].ring_offset);
		if (read || i + 1 < w->net->count)
			convolve(w, i);
	}
	if (state == NULL)
		return;
	memset(state, 0, NEXTITNET_STATE_HEAD_BYTES);
	((struct nextitnet_state *)state)->events = w->events;
}

static void copy_embedding(const struct window *w, uint32_t dim, float *out)
{
	const size_t width = w->net->width;
	memcpy(out, w->ws->batch_x + (w->count - 1) * width, dim * sizeof(float));
	for (uint32_t i = 0; w->first > 0 && i < dim; i++)
		out[i] += w->ws->batch_x[i];
}

void nextitnet_embed(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		     const uint32_t items[], void *const states[], float *out)
{
	const size_t first = b->causal ? 0 : 1;
	for (size_t user = 0; user < n; user++) {
		size_t events = offsets[user + 1] - offsets[user];
		events = events < b->window ? events : b->window;
		struct window w = {
			.net = b->impl,
			.ws = (struct nextitnet_workspace *)ws,
			.items = items + offsets[user + 1] - events,
			.events = events,
			.first = first,
			.count = first + events + 1,
		};
		run(&w, states == NULL ? NULL : states[user], out != NULL);
		if (out != NULL)
			copy_embedding(&w, b->dim, out + user * b->dim);
	}
}
