#include "model/network_private.h"

#include "model/backbone.h"

#include <assert.h>
#include <string.h>

static void look_up(const struct network *net, const struct network_pass *pass, const uint32_t *items, size_t count,
		    float *rows)
{
	const size_t d = pass->shape.channels;
	const float *table = net->weights + network_embedding(net)->offset;
	for (size_t i = 0; i < count; i++, rows += pass->width) {
		memcpy(rows, table + items[i] * d, d * sizeof *rows);
		memset(rows + d, 0, (pass->width - d) * sizeof *rows);
	}
}

static void embed(const struct network *net, const struct network_pass *pass, const struct network_group *group)
{
	static const uint32_t token[] = { BACKBONE_TCL };
	const bool causal = pass->shape.causal;
	float *row = network_stage(pass, group, 0);
	for (size_t i = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		const struct layers_span span = network_span(pass, s, 0);
		if (causal) {
			look_up(net, pass, s->items + span.first, network_span_rows(span), row);
		} else {
			look_up(net, pass, token, 1, row);
			look_up(net, pass, s->items, s->events, row + pass->width);
			look_up(net, pass, token, 1, row + (span.end - 1) * pass->width);
		}
		row += network_span_rows(span) * pass->width;
	}
	for (size_t i = 0; i < network_task_rows(pass, group); i++)
		look_up(net, pass, token, 1, row + i * pass->width);
}

void network_take(const struct network_pass *pass, const struct network_group *group, uint32_t c, const float *x)
{
	const size_t width = pass->width;
	const size_t step = group->count * width;
	const size_t tasks = network_event_rows(pass, group, c);
	for (size_t i = 0, row = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		for (uint32_t tap = 0; tap < pass->shape.kernel_size; tap++) {
			size_t from = 0;
			float *to = pass->taken + tap * step + i * width;
			if (network_task_reads(pass, s, c, tap, row, tasks + i, &from))
				memcpy(to, x + from * width, width * sizeof *to);
			else
				memset(to, 0, width * sizeof *to);
		}
		row += network_span_rows(network_span(pass, s, c));
	}
}

/* The task tokens' columns: y [tasks, width] from the group's rows x of stage c. */
static void convolve_tasks(const struct network_pass *pass, const struct network_group *group, uint32_t c,
			   const float *x, float *y)
{
	const size_t newest = pass->shape.kernel_size - 1;
	const size_t step = group->count * pass->width;
	const size_t matrix = (size_t)pass->width * pass->width;
	network_take(pass, group, c, x);
	pass->kernels->product(group->count, pass->taken + newest * step, pass->shape.kernel_size, -(ptrdiff_t)step,
			       pass->convolution[c].packed + newest * matrix, -(ptrdiff_t)matrix, pass->width, y, 0);
}

/* What a parallel adapter reads: the convolution's inputs at the positions of its outputs. */
static void copy_inputs(const struct network_pass *pass, const struct network_group *group, uint32_t c, const float *x,
			float *out)
{
	const size_t width = pass->width;
	for (size_t i = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		const struct layers_span in = network_span(pass, s, c);
		const size_t rows = network_span_rows(network_span(pass, s, c + 1));
		x += network_span_rows(in) * width; /* both end at the same position */
		memcpy(out, x - rows * width, rows * width * sizeof *out);
		out += rows * width;
	}
	memcpy(out, x, network_task_rows(pass, group) * width * sizeof *out);
}

static void adapt(const struct network *net, const struct network_patch *patch, const struct network_pass *pass,
		  const struct network_group *group, uint32_t c, size_t rows, float *y)
{
	const bool kept = pass->keep == NETWORK_KEEP_ALL;
	const struct layers_adapter adapter = network_adapter(net, patch, c);
	const float *bias = net->weights + network_tensor(net, c, NETWORK_CONV_BIAS)->offset;
	float *plain = network_part(group, pass->plain[c], kept, pass->width);
	float *inner = network_part(group, pass->inner[c], kept, pass->bottleneck);
	for (size_t r = 0; r < rows; r++)
		pass->layers->add(pass->shape.channels, bias, y + r * pass->width);
	if (patch->parallel)
		copy_inputs(pass, group, c, network_stage(pass, group, c), plain);
	else
		memcpy(plain, y, rows * pass->width * sizeof *y);
	layers_adapter(pass->layers, &adapter, rows, pass->width, plain, inner, pass->outer, y);
}

struct kernels_norm network_norm(const struct network *net, const struct network_patch *patch,
				 const struct network_pass *pass, uint32_t c)
{
	const bool own = patch != NULL && c % 2 == 1 && patch->norm_weight[c / 2] != NULL;
	const float *bias = net->weights + network_tensor(net, c, NETWORK_CONV_BIAS)->offset;
	return (struct kernels_norm){
		.bias = network_patched(patch, c) ? pass->zeros : bias, /* then it has been added already */
		.gamma = own ? patch->norm_weight[c / 2]
			     : net->weights + network_tensor(net, c, NETWORK_NORM_WEIGHT)->offset,
		.beta = own ? patch->norm_bias[c / 2]
			    : net->weights + network_tensor(net, c, NETWORK_NORM_BIAS)->offset,
		.mask = pass->mask,
		.channels = pass->shape.channels,
		.eps = pass->shape.eps,
	};
}

/* Norm, ReLU and residual of a block's second convolution; the residual's rows are those of an earlier stage. */
static void normalise_second(const struct network_pass *pass, const struct network_group *group, uint32_t c,
			     const struct kernels_norm *norm, float *sum, float *inverse)
{
	const size_t width = pass->width;
	const float *residual = network_stage(pass, group, c - 1);
	float *out = network_stage(pass, group, c + 1);
	for (size_t i = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		const size_t rows = network_span_rows(network_span(pass, s, c + 1));
		residual += network_span_rows(network_span(pass, s, c - 1)) * width;
		pass->layers->norm(norm, rows, pass->width, sum, residual - rows * width, inverse, out);
		sum += rows * width;
		out += rows * width;
		inverse += rows;
	}
	pass->layers->norm(norm, network_task_rows(pass, group), pass->width, sum, residual, inverse, out);
}

static void run_convolution(const struct network *net, const struct network_patch *patch,
			    const struct network_pass *pass, const struct network_group *group, uint32_t c)
{
	const size_t width = pass->width;
	const bool kept = pass->keep == NETWORK_KEEP_ALL;
	const struct kernels_norm norm = network_norm(net, patch, pass, c);
	const float *x = network_stage(pass, group, c);
	float *sum = network_part(group, pass->normal[c], kept, width);
	float *inverse = network_part(group, pass->inverse[c], kept, 1);
	size_t in_row = 0;
	size_t row = 0;
	for (size_t i = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		const struct layers_span in = network_span(pass, s, c);
		const struct layers_span out = network_span(pass, s, c + 1);
		layers_convolve(&pass->convolution[c], in, x + in_row * width, out, sum + row * width, false);
		in_row += network_span_rows(in);
		row += network_span_rows(out);
	}
	if (pass->shape.causal)
		convolve_tasks(pass, group, c, x, sum + row * width);
	row += network_task_rows(pass, group);
	if (network_patched(patch, c))
		adapt(net, patch, pass, group, c, row, sum);
	if (c % 2 == 1)
		normalise_second(pass, group, c, &norm, sum, inverse);
	else
		pass->layers->norm(&norm, row, pass->width, sum, NULL, inverse, network_stage(pass, group, c + 1));
}

void network_forward(const struct network *net, const struct network_patch *patch, struct network_pass *pass,
		     const struct network_batch *batch)
{
	const size_t matrices = (size_t)pass->shape.kernel_size * pass->width * pass->width;
	const bool events = batch->every || batch->newest > 0;
	assert(patch == NULL || patch->bottleneck <= pass->bottleneck);
	network_lay_out(pass, batch);
	for (uint32_t c = 0; c < pass->convolutions; c++)
		layers_pack(net->weights + network_tensor(net, c, NETWORK_CONV_WEIGHT)->offset, pass->shape.channels,
			    pass->shape.kernel_size, pass->width, pass->packed + c * matrices);
	if (events)
		memset(pass->every_states, 0, pass->events * pass->shape.channels * sizeof *pass->every_states);
	for (size_t i = 0; i < pass->group_count; i++) {
		const struct network_group *group = &pass->groups[i];
		embed(net, pass, group);
		for (uint32_t c = 0; c < pass->convolutions; c++)
			run_convolution(net, patch, pass, group, c);
		network_read(pass, group, pass->convolutions, pass->task, events ? pass->every_states : NULL);
	}
}
