/* One part of a step: packing its windows, forward, the two losses, backward. */
#include "model/pretrainer_private.h"

#include "model/backbone.h"
#include "model/loss.h"

#include <stdlib.h>
#include <string.h>

#define DRAW_BITS 16 /* of a random number, for one value's dropout */
#define DRAWS (64 / DRAW_BITS)
#define DRAW_RANGE (1U << DRAW_BITS)
#define ALIGNMENT_BYTES 64

static void *floats_new(size_t count)
{
	size_t bytes = (count * sizeof(float) + ALIGNMENT_BYTES) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
	return aligned_alloc(ALIGNMENT_BYTES, bytes);
}

static bool rows_new(struct pretrainer_rows *r, size_t most, size_t dim)
{
	r->from = calloc(most, sizeof *r->from);
	r->targets = calloc(most, sizeof *r->targets);
	r->states = floats_new(most * dim);
	r->scales = floats_new(most * dim + DRAWS);
	r->gradient = floats_new(most * dim);
	return r->from && r->targets && r->states && r->scales && r->gradient;
}

static void rows_free(struct pretrainer_rows *r)
{
	free(r->from);
	free(r->targets);
	free(r->states);
	free(r->scales);
	free(r->gradient);
}

static size_t scratch_floats(const struct pretrainer *p)
{
	if (p->options.loss == PRETRAINER_FULL)
		return (size_t)LOSS_SOFTMAX_ROWS * p->net->shape.items;
	return loss_sampled_floats(p->net->shape.channels, p->options.sampled);
}

static enum status part_new(struct pretrainer *p, struct pretrainer_part *part, struct error *err)
{
	size_t dim = p->net->shape.channels;
	size_t windows = p->options.batch;
	size_t tokens = p->net->shape.causal ? 1 : 2;
	part->offsets = calloc(windows + 1, sizeof *part->offsets);
	part->items = calloc(p->part_rows, sizeof *part->items);
	part->cuts = calloc(windows, sizeof *part->cuts);
	part->d_every = floats_new(p->part_rows * dim);
	part->d_task = floats_new(windows * dim);
	part->scratch = floats_new(scratch_floats(p));
	part->gradients = parameters_block_new(&p->net->table);
	bool rows = rows_new(&part->events, p->part_rows, dim) && rows_new(&part->tasks, windows, dim);
	if (!rows || !part->offsets || !part->items || !part->cuts || !part->d_every || !part->d_task ||
	    !part->scratch || !part->gradients)
		return error_set_memory(err);
	part->batch = (struct network_batch){
		.offsets = part->offsets,
		.items = part->items,
		.cuts = p->net->shape.causal ? part->cuts : NULL,
		.every = true,
	};
	return network_pass_new(p->net, 0, p->part_rows + tokens * windows, windows, NETWORK_KEEP_ALL, &part->pass,
				err);
}

enum status pretrainer_parts_new(struct pretrainer *p, struct error *err)
{
	/* A part is full when it has its share of the events: the last window may go beyond that. */
	size_t events = (size_t)p->options.batch * p->options.window;
	p->part_rows = events / p->parallel.parts + 1 + p->options.window;
	p->parts = calloc(p->parallel.parts, sizeof *p->parts);
	enum status status = p->parts ? STATUS_OK : error_set_memory(err);
	for (uint32_t i = 0; i < p->parallel.parts && !status; i++)
		status = part_new(p, &p->parts[i], err);
	return status;
}

void pretrainer_parts_free(struct pretrainer *p)
{
	for (uint32_t i = 0; p->parts && i < p->parallel.parts; i++) {
		struct pretrainer_part *part = &p->parts[i];
		network_pass_free(part->pass);
		rows_free(&part->events);
		rows_free(&part->tasks);
		free(part->offsets);
		free(part->items);
		free(part->cuts);
		free(part->d_every);
		free(part->d_task);
		free(part->scratch);
		free(part->gradients);
	}
	free(p->parts);
}

static void add_row(struct pretrainer_rows *r, size_t from, uint32_t target)
{
	if (target < BACKBONE_FIRST_ITEM)
		return;
	r->from[r->count] = (uint32_t)from;
	r->targets[r->count++] = target;
}

/* Next items: every event but the last is followed by the next one's name. */
static void pack_causal(const struct pretrainer *p, struct pretrainer_part *part, struct pretrainer_window window,
			size_t at, struct random_stream *random)
{
	const uint32_t *items = p->sequences->items + window.begin;
	size_t sequence = part->batch.sequences;
	for (uint32_t i = 0; i < window.events; i++)
		add_row(&part->events, at + i, items[i + 1]);
	part->cuts[sequence] = 1 + random_below(random, window.events);
	add_row(&part->tasks, sequence, items[part->cuts[sequence]]);
}

/* Gaps: one at least, where something is left to fill it from. */
static void pack_gaps(const struct pretrainer *p, struct pretrainer_part *part, struct pretrainer_window window,
		      size_t at, struct random_stream *random)
{
	const uint32_t *items = p->sequences->items + window.begin;
	uint32_t always = random_below(random, window.events);
	for (uint32_t i = 0; i < window.events && window.events > 1; i++) {
		if (random_uniform(random) >= p->options.blanks && i != always)
			continue;
		part->items[at + i] = BACKBONE_PAD;
		add_row(&part->events, at + i, items[i]);
	}
	add_row(&part->tasks, part->batch.sequences, items[window.events]);
}

static void pack_window(const struct pretrainer *p, struct pretrainer_part *part, struct pretrainer_window window,
			struct random_stream *random)
{
	const uint32_t *items = p->sequences->items + window.begin;
	size_t at = part->offsets[part->batch.sequences];
	for (uint32_t i = 0; i < window.events; i++) {
		bool hidden = p->options.unknown > 0 && random_uniform(random) < p->options.unknown;
		part->items[at + i] = hidden ? BACKBONE_OOV : items[i];
	}
	if (p->net->shape.causal)
		pack_causal(p, part, window, at, random);
	else
		pack_gaps(p, part, window, at, random);
	part->offsets[++part->batch.sequences] = at + window.events;
}

void pretrainer_pack(struct pretrainer *p, size_t first, size_t last)
{
	struct random_stream random = pretrainer_random(p, PRETRAINER_STEP, p->steps);
	size_t total = 0;
	size_t packed = 0;
	size_t targets = 0;
	size_t tasks = 0;
	for (size_t i = first; i < last; i++)
		total += p->windows.list[p->windows.order[i]].events;
	for (uint32_t number = 0; number < p->parallel.parts; number++) {
		struct pretrainer_part *part = &p->parts[number];
		part->batch.sequences = part->events.count = part->tasks.count = 0;
		while (first < last && packed * p->parallel.parts < total * (number + 1)) {
			struct pretrainer_window window = p->windows.list[p->windows.order[first++]];
			pack_window(p, part, window, &random);
			packed += window.events;
		}
		targets += part->events.count;
		tasks += part->tasks.count;
	}
	p->event_scale = targets > 0 ? 1 / (float)targets : 0;
	p->task_scale = tasks > 0 ? p->options.task_weight / (float)tasks : 0;
}

static void draw_scales(const struct pretrainer *p, struct pretrainer_rows *r, size_t dim, struct random_stream *random)
{
	uint32_t threshold = (uint32_t)(p->options.dropout * DRAW_RANGE);
	float kept = (float)DRAW_RANGE / (float)(DRAW_RANGE - threshold);
	for (size_t i = 0; i < r->count * dim; i += DRAWS) {
		uint64_t draws = random_next(random);
		for (size_t j = 0; j < DRAWS; j++, draws >>= DRAW_BITS)
			r->scales[i + j] = draws % DRAW_RANGE < threshold ? 0 : kept;
	}
}

/* States through dropout to the loss, and its derivatives back to where the states came from. all: rows there. */
static void name_targets(const struct pretrainer *p, struct pretrainer_part *part, struct pretrainer_rows *r,
			 const float *states, float *d_states, size_t all, float scale, struct random_stream *random)
{
	size_t dim = p->net->shape.channels;
	const struct loss_head head = { (uint32_t)dim, p->net->shape.items, p->net->weights + p->output_weight,
					p->net->weights + p->output_bias };
	const struct loss_gradient gradient = { scale, r->gradient, part->gradients + p->output_weight,
						part->gradients + p->output_bias };
	draw_scales(p, r, dim, random);
	for (size_t i = 0; i < r->count; i++)
		for (size_t c = 0; c < dim; c++)
			r->states[i * dim + c] = states[r->from[i] * dim + c] * r->scales[i * dim + c];
	if (p->options.loss == PRETRAINER_FULL)
		r->loss = loss_softmax(&head, r->count, r->states, r->targets, NULL, part->scratch, &gradient);
	else
		r->loss =
			loss_sampled_softmax(&head, r->count, r->states, r->targets, NULL,
					     p->options.loss == PRETRAINER_UNIFORM ? LOSS_UNIFORM : LOSS_LOG_UNIFORM,
					     BACKBONE_FIRST_ITEM, p->options.sampled, random, part->scratch, &gradient);
	memset(d_states, 0, all * dim * sizeof *d_states);
	for (size_t i = 0; i < r->count; i++)
		for (size_t c = 0; c < dim; c++)
			d_states[r->from[i] * dim + c] = r->gradient[i * dim + c] * r->scales[i * dim + c];
}

void pretrainer_run_part(void *job, uint32_t number)
{
	const struct pretrainer *p = job;
	struct pretrainer_part *part = &p->parts[number];
	struct random_stream random = pretrainer_random(p, PRETRAINER_PART, p->steps * p->parallel.parts + number);
	size_t sequences = part->batch.sequences;
	memset(part->gradients, 0, p->net->table.floats * sizeof *part->gradients);
	part->events.loss = part->tasks.loss = 0;
	if (sequences == 0)
		return;
	network_forward(p->net, NULL, part->pass, &part->batch);
	name_targets(p, part, &part->events, network_pass_every(part->pass), part->d_every, part->offsets[sequences],
		     p->event_scale, &random);
	name_targets(p, part, &part->tasks, network_pass_task(part->pass), part->d_task, sequences, p->task_scale,
		     &random);
	network_backward(p->net, NULL, part->pass, &part->batch, part->d_task, part->d_every, part->gradients, NULL);
}
