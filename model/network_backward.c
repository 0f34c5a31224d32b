#include "model/network_private.h"

#include "model/backbone.h"

#include <assert.h>
#include <string.h>

#define NONE UINT32_MAX

struct back {
	const struct network *net;
	const struct network_patch *patch;
	const struct network_pass *pass;
	const struct network_group *group;
	float *trunk;    /* gradients, NULL: none wanted */
	float *adapters; /* the same */
	bool embedding;  /* the table is trained */
	uint32_t lowest; /* convolution with a tensor that is trained, NONE: no such */
};

/* Where the gradient of a tensor of convolution c goes; NULL: it is not trained. */
static float *trunk_gradient(const struct back *b, uint32_t c, enum network_tensor tensor)
{
	const struct parameter *t = network_tensor(b->net, c, tensor);
	return b->trunk != NULL && t->trained ? b->trunk + t->offset : NULL;
}

static float *adapter_gradient(const struct back *b, const float *view)
{
	return b->adapters != NULL && view != NULL ? b->adapters + (view - b->patch->weights) : NULL;
}

static bool has_own_norm(const struct back *b, uint32_t c)
{
	return b->patch != NULL && c % 2 == 1 && b->patch->norm_weight[c / 2] != NULL;
}

static bool is_trained(const struct back *b, uint32_t c)
{
	if (b->adapters != NULL && (network_patched(b->patch, c) || has_own_norm(b, c)))
		return true;
	for (int i = 0; i < NETWORK_TENSORS; i++) {
		const bool replaced = has_own_norm(b, c) && (i == NETWORK_NORM_WEIGHT || i == NETWORK_NORM_BIAS);
		if (!replaced && trunk_gradient(b, c, (enum network_tensor)i) != NULL)
			return true;
	}
	return false;
}

static void find_lowest(struct back *b)
{
	b->embedding = b->trunk != NULL && network_embedding(b->net)->trained;
	b->lowest = b->embedding ? 0 : NONE;
	for (uint32_t c = b->pass->convolutions; !b->embedding && c-- > 0;)
		b->lowest = is_trained(b, c) ? c : b->lowest;
}

/* The loss's derivatives become the last stage's rows: the way back of network_read. */
static void seed(const struct back *b, const float *d_task, const float *d_every, float *row)
{
	const struct network_pass *pass = b->pass;
	const size_t d = pass->shape.channels;
	const size_t width = pass->width;
	const size_t lead = pass->shape.causal ? 0 : 1;
	const size_t events = network_event_rows(pass, b->group, pass->convolutions);
	float *tasks = row + events * width;
	memset(row, 0, (events + network_task_rows(pass, b->group)) * width * sizeof *row);
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const struct layers_span span = network_span(pass, s, pass->convolutions);
		const float *task = d_task == NULL ? NULL : d_task + (b->group->first + i) * d;
		const size_t first = span.first > lead ? span.first : lead;
		for (size_t p = first; d_every != NULL && p < span.end - lead; p++)
			memcpy(row + (p - span.first) * width, d_every + (s->offset + p - lead) * d, d * sizeof *row);
		if (task != NULL && pass->shape.causal) {
			memcpy(tasks + i * width, task, d * sizeof *row);
		} else if (task != NULL) {
			memcpy(row, task, d * sizeof *row);
			memcpy(row + (span.end - 1) * width, task, d * sizeof *row);
		}
		row += network_span_rows(span) * width;
	}
}

static void norm_back(const struct back *b, uint32_t c, size_t rows, const float *d_out, float *d_sum)
{
	const struct network_pass *pass = b->pass;
	const struct kernels_norm norm = network_norm(b->net, b->patch, pass, c);
	const bool own = has_own_norm(b, c);
	float *gamma =
		own ? adapter_gradient(b, b->patch->norm_weight[c / 2]) : trunk_gradient(b, c, NETWORK_NORM_WEIGHT);
	float *beta = own ? adapter_gradient(b, b->patch->norm_bias[c / 2]) : trunk_gradient(b, c, NETWORK_NORM_BIAS);
	float *bias = network_patched(b->patch, c) ? NULL : trunk_gradient(b, c, NETWORK_CONV_BIAS);
	if (gamma != NULL || beta != NULL || bias != NULL) {
		gamma = gamma == NULL ? pass->wasted : gamma;
		beta = beta == NULL ? pass->wasted + pass->width : beta;
		bias = bias == NULL ? pass->wasted + (size_t)2 * pass->width : bias;
	}
	pass->layers->norm_back(&norm, rows, pass->width, network_part(b->group, pass->normal[c], true, pass->width),
				network_part(b->group, pass->inverse[c], true, 1), d_out, d_sum, gamma, beta, bias);
}

/* d_sum: before the adapter's part was added and, serial, with what flows back through it. A parallel one's goes to
 * d_inputs [rows, width]. */
static void adapter_back(const struct back *b, uint32_t c, size_t rows, float *d_sum, float *d_inputs)
{
	const struct network_pass *pass = b->pass;
	const struct layers_adapter adapter = network_adapter(b->net, b->patch, c);
	const struct layers_adapter_gradient gradient = {
		adapter_gradient(b, adapter.down_weight),
		adapter_gradient(b, adapter.down_bias),
		adapter_gradient(b, adapter.up_weight),
		adapter_gradient(b, adapter.up_bias),
	};
	const float *plain = network_part(b->group, pass->plain[c], true, pass->width);
	const float *inner = network_part(b->group, pass->inner[c], true, pass->bottleneck);
	float *bias = trunk_gradient(b, c, NETWORK_CONV_BIAS);
	if (b->patch->parallel)
		memset(d_inputs, 0, rows * pass->width * sizeof *d_inputs);
	pass->layers->gelu(rows * adapter.bottleneck, inner, pass->outer);
	layers_adapter_back(pass->layers, &adapter, rows, pass->width, plain, inner, pass->outer, d_sum,
			    b->patch->parallel ? d_inputs : d_sum, b->adapters == NULL ? NULL : &gradient);
	if (bias != NULL)
		pass->layers->column_sums(rows, pass->shape.channels, pass->width, d_sum, bias);
}

static void weight_back(const struct back *b, uint32_t c, const float *d_sum)
{
	const struct network_pass *pass = b->pass;
	const uint32_t taps = pass->shape.kernel_size;
	const uint32_t d = pass->shape.channels;
	const float *x = network_stage(pass, b->group, c);
	float *gradient = trunk_gradient(b, c, NETWORK_CONV_WEIGHT);
	if (gradient == NULL)
		return;
	size_t row = 0;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const struct layers_span in = network_span(pass, s, c);
		const struct layers_span out = network_span(pass, s, c + 1);
		layers_convolve_weights(pass->layers, &pass->convolution[c], d, in, x + row * pass->width, out, d_sum,
					gradient);
		row += network_span_rows(in);
		d_sum += network_span_rows(out) * pass->width;
	}
	if (!pass->shape.causal)
		return;
	network_take(pass, b->group, c, x);
	for (uint32_t tap = 0; tap < taps; tap++)
		layers_add_outer(pass->layers, b->group->count, d, pass->width, d_sum,
				 pass->taken + tap * b->group->count * pass->width, gradient + tap * d, taps * d);
}

/* The task tokens' columns on their way back: adds to the rows of stage c. */
static void tasks_back(const struct back *b, uint32_t c, const float *d_sum, float *d_in)
{
	const struct network_pass *pass = b->pass;
	const uint32_t taps = pass->shape.kernel_size;
	const size_t width = pass->width;
	const size_t step = b->group->count * width;
	const size_t tasks = network_event_rows(pass, b->group, c);
	for (uint32_t tap = 0; tap < taps; tap++)
		pass->kernels->product(b->group->count, d_sum, 1, 0,
				       pass->convolution[c].packed + (taps - 1 - tap) * width * width, 0, pass->width,
				       pass->taken + tap * step, 0);
	size_t row = 0;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		for (uint32_t tap = 0; tap < taps; tap++) {
			size_t from = 0;
			if (network_task_reads(pass, s, c, tap, row, tasks + i, &from))
				pass->layers->add(width, pass->taken + tap * step + i * width, d_in + from * width);
		}
		row += network_span_rows(network_span(pass, s, c));
	}
}

/* Rows of an earlier stage from those of a later one: zeros for positions that the later one does not have. */
static void widen(const struct back *b, uint32_t to_stage, uint32_t from_stage, const float *from, float *to)
{
	const struct network_pass *pass = b->pass;
	const size_t width = pass->width;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const size_t rows = network_span_rows(network_span(pass, s, from_stage));
		const size_t more = network_span_rows(network_span(pass, s, to_stage)) - rows;
		memset(to, 0, more * width * sizeof *to);
		memcpy(to + more * width, from, rows * width * sizeof *to);
		to += (more + rows) * width;
		from += rows * width;
	}
	memcpy(to, from, network_task_rows(pass, b->group) * width * sizeof *to);
}

/* Adds the rows of stage c + 1 to those of stage c. */
static void add_inputs(const struct back *b, uint32_t c, const float *from, float *to)
{
	const struct network_pass *pass = b->pass;
	const size_t width = pass->width;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const size_t rows = network_span_rows(network_span(pass, s, c + 1));
		to += network_span_rows(network_span(pass, s, c)) * width; /* both end at the same position */
		pass->layers->add(rows * width, from, to - rows * width);
		from += rows * width;
	}
	pass->layers->add(network_task_rows(pass, b->group) * width, from, to);
}

/* d_in of stage c from d_sum; where `add` is set d_in holds the residual's gradient already. */
static void input_back(const struct back *b, uint32_t c, const float *d_sum, float *d_in, bool add)
{
	const struct network_pass *pass = b->pass;
	const size_t width = pass->width;
	struct layers_convolution convolution = pass->convolution[c];
	convolution.shift = -convolution.shift - (ptrdiff_t)(convolution.taps - 1) * convolution.dilation;
	float *to = d_in;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const struct layers_span out = network_span(pass, s, c + 1);
		const struct layers_span in = network_span(pass, s, c);
		layers_convolve(&convolution, out, d_sum, in, to, add);
		d_sum += network_span_rows(out) * width;
		to += network_span_rows(in) * width;
	}
	if (!pass->shape.causal)
		return;
	if (!add)
		memset(to, 0, network_task_rows(pass, b->group) * width * sizeof *to);
	tasks_back(b, c, d_sum, d_in);
}

static bool goes_on(const struct back *b, uint32_t c)
{
	return c > b->lowest || b->embedding;
}

/* One convolution's way back from d_out of stage c + 1. d_in is written where something below is trained; where
 * `residual` is not NULL, it is the gradient of stage c + 2 and goes there too. d_sum may be d_out. */
static void convolution_back(const struct back *b, uint32_t c, const float *d_out, float *d_sum, float *d_in,
			     const float *residual)
{
	const struct network_pass *pass = b->pass;
	const size_t rows = network_event_rows(pass, b->group, c + 1) + network_task_rows(pass, b->group);
	const bool patched = network_patched(b->patch, c);
	float *d_inputs = pass->back[NETWORK_BACK - 1];
	norm_back(b, c, rows, d_out, d_sum);
	if (patched)
		adapter_back(b, c, rows, d_sum, d_inputs);
	weight_back(b, c, d_sum);
	if (!goes_on(b, c))
		return;
	if (residual != NULL)
		widen(b, c, c + 2, residual, d_in);
	input_back(b, c, d_sum, d_in, residual != NULL);
	if (patched && b->patch->parallel)
		add_inputs(b, c, d_inputs, d_in);
}

static void add_to_table(const struct back *b, uint32_t item, const float *row)
{
	const size_t d = b->pass->shape.channels;
	b->pass->layers->add(d, row, b->trunk + network_embedding(b->net)->offset + item * d);
}

static void embedding_back(const struct back *b, const float *row)
{
	const struct network_pass *pass = b->pass;
	const size_t lead = pass->shape.causal ? 0 : 1;
	for (size_t i = 0; i < b->group->count; i++) {
		const struct network_sequence *s = &pass->sequences[b->group->first + i];
		const struct layers_span span = network_span(pass, s, 0);
		for (size_t p = span.first; p < span.end; p++, row += pass->width) {
			const bool event = p >= lead && p < lead + s->events;
			add_to_table(b, event ? s->items[p - lead] : BACKBONE_TCL, row);
		}
	}
	for (size_t i = 0; i < network_task_rows(pass, b->group); i++, row += pass->width)
		add_to_table(b, BACKBONE_TCL, row);
}

static void group_back(const struct back *b, const float *d_task, const float *d_every)
{
	const struct network_pass *pass = b->pass;
	float *d_state = pass->back[0];
	float *d_before = pass->back[1];
	float *d_hidden = pass->back[2];
	float *d_sum = pass->back[3];
	seed(b, d_task, d_every, d_state);
	for (uint32_t c = pass->convolutions - 1; c < pass->convolutions && c + 1 > b->lowest; c -= 2) {
		convolution_back(b, c, d_state, d_sum, d_hidden, NULL);
		if (!goes_on(b, c))
			return;
		convolution_back(b, c - 1, d_hidden, d_hidden, d_before, d_state);
		float *swap = d_state;
		d_state = d_before;
		d_before = swap;
	}
	if (b->embedding)
		embedding_back(b, d_state);
}

void network_backward(const struct network *net, const struct network_patch *patch, struct network_pass *pass,
		      const struct network_batch *batch, const float *d_task, const float *d_every, float *trunk,
		      float *adapters)
{
	const size_t matrices = (size_t)pass->shape.kernel_size * pass->width * pass->width;
	struct back b = { .net = net, .patch = patch, .pass = pass, .trunk = trunk, .adapters = adapters };
	assert(pass->keep == NETWORK_KEEP_ALL && pass->sequence_count == batch->sequences);
	find_lowest(&b);
	if (b.lowest == NONE)
		return;
	memset(pass->wasted, 0, 3 * (size_t)pass->width * sizeof *pass->wasted);
	for (uint32_t c = b.lowest; c < pass->convolutions; c++) {
		if (goes_on(&b, c))
			layers_pack_back(net->weights + network_tensor(net, c, NETWORK_CONV_WEIGHT)->offset,
					 pass->shape.channels, pass->shape.kernel_size, pass->width,
					 pass->packed + c * matrices);
	}
	for (size_t i = 0; i < pass->group_count; i++) {
		b.group = &pass->groups[i];
		group_back(&b, d_task, d_every);
	}
}
