/* A pass's memory, and where the rows of a batch lie in it. */
#include "model/network_private.h"

#include "model/backbone.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_BYTES 64
#define ALIGNMENT_FLOATS (ALIGNMENT_BYTES / sizeof(float))

/* Hands out a block front to back; with base NULL it only counts. */
struct arena {
	float *base;
	size_t floats;
};

static float *take(struct arena *arena, size_t floats)
{
	float *taken = arena->base == NULL ? NULL : arena->base + arena->floats;
	arena->floats += (floats + ALIGNMENT_FLOATS - 1) / ALIGNMENT_FLOATS * ALIGNMENT_FLOATS;
	return taken;
}

static void take_stages(struct network_pass *pass, struct arena *arena)
{
	const size_t floats = pass->row_capacity * pass->width;
	float *level[2] = { take(arena, floats), take(arena, floats) }; /* a block reads one and writes the other */
	float *hidden = take(arena, floats);
	for (uint32_t i = 0; i <= pass->convolutions; i++) {
		pass->kept[i] = pass->keep == NETWORK_KEEP_ALL || (pass->keep == NETWORK_KEEP_LEVELS && i % 2 == 0);
		pass->stage[i] = pass->kept[i] ? take(arena, floats) : i % 2 == 1 ? hidden : level[i / 2 % 2];
	}
}

static void take_convolutions(struct network_pass *pass, struct arena *arena)
{
	const size_t rows = pass->row_capacity;
	for (uint32_t c = 0; c < pass->convolutions; c++) {
		const bool own = pass->keep == NETWORK_KEEP_ALL || c == 0;
		pass->normal[c] = own ? take(arena, rows * pass->width) : pass->normal[0];
		pass->inverse[c] = own ? take(arena, rows) : pass->inverse[0];
		if (pass->bottleneck == 0)
			continue;
		pass->plain[c] = own ? take(arena, rows * pass->width) : pass->plain[0];
		pass->inner[c] = own ? take(arena, rows * pass->bottleneck) : pass->inner[0];
	}
}

static void take_all(struct network_pass *pass, struct arena *arena)
{
	const size_t rows = pass->row_capacity;
	const size_t width = pass->width;
	const size_t d = pass->shape.channels;
	const size_t taps = pass->shape.kernel_size;
	const size_t tasks =
		pass->sequence_capacity < NETWORK_GROUP_ROWS ? pass->sequence_capacity : NETWORK_GROUP_ROWS;
	pass->mask = take(arena, width);
	pass->zeros = take(arena, width);
	pass->packed = take(arena, pass->convolutions * taps * width * width);
	take_stages(pass, arena);
	take_convolutions(pass, arena);
	pass->outer = take(arena, rows * pass->bottleneck);
	pass->taken = take(arena, taps * tasks * width);
	for (int i = 0; i < NETWORK_BACK; i++)
		pass->back[i] = take(arena, pass->keep == NETWORK_KEEP_ALL ? rows * width : 0);
	pass->wasted = take(arena, 3 * width);
	pass->task = take(arena, pass->sequence_capacity * d);
	pass->every_states = take(arena, rows * d);
	pass->task_level = take(arena, pass->keep == NETWORK_KEEP_NOTHING ? 0 : pass->sequence_capacity * d);
	pass->every_level = take(arena, pass->keep == NETWORK_KEEP_NOTHING ? 0 : rows * d);
}

static void set_up(struct network_pass *pass)
{
	const struct network_shape *shape = &pass->shape;
	const size_t matrices = (size_t)shape->kernel_size * pass->width * pass->width;
	memset(pass->mask, 0, pass->width * sizeof *pass->mask);
	memset(pass->zeros, 0, pass->width * sizeof *pass->zeros);
	for (uint32_t i = 0; i < shape->channels; i++)
		pass->mask[i] = 1.0F;
	for (uint32_t c = pass->convolutions; c-- > 0;) {
		const uint32_t dilation = shape->dilations[c / 2] * (c % 2 + 1);
		const uint32_t span = (shape->kernel_size - 1) * dilation;
		pass->convolution[c] = (struct layers_convolution){
			.kernels = pass->kernels,
			.packed = pass->packed + c * matrices,
			.width = pass->width,
			.taps = shape->kernel_size,
			.dilation = dilation,
			.shift = -(ptrdiff_t)(shape->causal ? span : span / 2),
		};
		pass->reach[c] = pass->reach[c + 1] + span;
	}
}

enum status network_pass_new(const struct network *net, uint32_t bottleneck, size_t rows, size_t sequences,
			     enum network_keep keep, struct network_pass **ret, struct error *err)
{
	struct network_pass *pass = calloc(1, sizeof *pass);
	if (pass == NULL)
		return error_set_memory(err);
	pass->shape = net->shape;
	pass->width = (net->shape.channels + KERNELS_PANEL - 1) / KERNELS_PANEL * KERNELS_PANEL;
	pass->bottleneck = bottleneck;
	pass->convolutions = 2 * net->shape.blocks;
	pass->keep = keep;
	pass->row_capacity = rows;
	pass->sequence_capacity = sequences;
	pass->kernels = kernels_choose();
	pass->layers = layer_kernels_choose();
	pass->sequences = calloc(sequences + 1, sizeof *pass->sequences);
	pass->groups = calloc(sequences + 1, sizeof *pass->groups);
	struct arena arena = { 0 };
	take_all(pass, &arena);
	pass->floats = aligned_alloc(ALIGNMENT_BYTES, arena.floats * sizeof *pass->floats);
	if (pass->sequences == NULL || pass->groups == NULL || pass->floats == NULL) {
		network_pass_free(pass);
		return error_set_memory(err);
	}
	arena = (struct arena){ .base = pass->floats };
	take_all(pass, &arena);
	set_up(pass);
	*ret = pass;
	return STATUS_OK;
}

void network_pass_free(struct network_pass *pass)
{
	if (pass == NULL)
		return;
	free(pass->floats);
	free(pass->groups);
	free(pass->sequences);
	free(pass);
}

static struct network_sequence cut_out(const struct network_pass *pass, const struct network_batch *batch,
				       size_t number)
{
	size_t first = batch->offsets[number];
	size_t events = batch->offsets[number + 1] - first;
	if (!pass->shape.causal && events > pass->shape.window) {
		first += events - pass->shape.window;
		events = pass->shape.window;
	}
	const uint32_t cut = batch->cuts == NULL ? (uint32_t)events : batch->cuts[number];
	assert(cut <= events);
	return (struct network_sequence){ batch->items + first, first - batch->offsets[0], (uint32_t)events, cut };
}

void network_lay_out(struct network_pass *pass, const struct network_batch *batch)
{
	assert(batch->sequences <= pass->sequence_capacity);
	pass->every = batch->every;
	pass->newest = batch->newest;
	pass->events = batch->offsets[batch->sequences] - batch->offsets[0];
	pass->sequence_count = batch->sequences;
	pass->group_count = 0;
	size_t rows = 0; /* of the groups so far */
	struct network_group *group = NULL;
	for (size_t i = 0; i < batch->sequences; i++) {
		pass->sequences[i] = cut_out(pass, batch, i);
		if (group == NULL || rows - group->row >= NETWORK_GROUP_ROWS) {
			group = &pass->groups[pass->group_count++];
			*group = (struct network_group){ .first = i, .row = rows };
		}
		group->count++;
		rows += network_span_rows(network_span(pass, &pass->sequences[i], 0)) + (pass->shape.causal ? 1 : 0);
	}
	assert(rows <= pass->row_capacity);
	assert(pass->events <= pass->row_capacity || (!batch->every && batch->newest == 0));
}

size_t network_event_rows(const struct network_pass *pass, const struct network_group *group, uint32_t stage)
{
	size_t rows = 0;
	for (size_t i = 0; i < group->count; i++)
		rows += network_span_rows(network_span(pass, &pass->sequences[group->first + i], stage));
	return rows;
}

static void read_task(const struct network_pass *pass, const float *row, const float *other, float *out)
{
	memcpy(out, row, pass->shape.channels * sizeof *out);
	for (uint32_t i = 0; other != NULL && i < pass->shape.channels; i++)
		out[i] += other[i];
}

void network_read(const struct network_pass *pass, const struct network_group *group, uint32_t stage, float *task,
		  float *every)
{
	const size_t d = pass->shape.channels;
	const size_t width = pass->width;
	const size_t lead = pass->shape.causal ? 0 : 1; /* task tokens before the first event */
	const float *row = network_stage(pass, group, stage);
	const float *tasks = row + network_event_rows(pass, group, stage) * width;
	for (size_t i = 0; i < group->count; i++) {
		const struct network_sequence *s = &pass->sequences[group->first + i];
		const struct layers_span span = network_span(pass, s, stage);
		const size_t first = span.first > lead ? span.first : lead;
		if (task != NULL && pass->shape.causal)
			read_task(pass, tasks + i * width, NULL, task + (group->first + i) * d);
		else if (task != NULL)
			read_task(pass, row, row + (span.end - 1) * width, task + (group->first + i) * d);
		for (size_t p = first; every != NULL && p < span.end - lead; p++)
			memcpy(every + (s->offset + p - lead) * d, row + (p - span.first) * width, d * sizeof *every);
		row += network_span_rows(span) * width;
	}
}

const float *network_pass_task(const struct network_pass *pass)
{
	return pass->task;
}

const float *network_pass_every(const struct network_pass *pass)
{
	return pass->every_states;
}

const float *network_pass_task_level(const struct network_pass *pass, uint32_t level)
{
	assert(pass->kept[2 * level]);
	for (size_t i = 0; i < pass->group_count; i++)
		network_read(pass, &pass->groups[i], 2 * level, pass->task_level, NULL);
	return pass->task_level;
}

const float *network_pass_every_level(const struct network_pass *pass, uint32_t level)
{
	assert(pass->kept[2 * level]);
	memset(pass->every_level, 0, pass->events * pass->shape.channels * sizeof *pass->every_level);
	for (size_t i = 0; i < pass->group_count; i++)
		network_read(pass, &pass->groups[i], 2 * level, NULL, pass->every_level);
	return pass->every_level;
}
