/* The states of a frozen trunk do not change while a patch beside it is trained: they are computed once. */
#include "tools/finetune_private.h"

#include "base/clock.h"
#include "model/side.h"
#include "tools/ctl.h"

#include <stdlib.h>
#include <string.h>

enum { SEQUENCES_AT_MOST = 32, POSITIONS_AT_MOST = 8192 }; /* of one part at once */

struct cache {
	struct finetune *f;
	bool side;
	size_t window;    /* newest events that a state depends on */
	size_t at_once;   /* sequences of one part */
	size_t width;     /* floats of a state */
	uint32_t *firsts; /* [states] of them, one a state */
	size_t states;
	size_t begin; /* of this run: states begin .. begin + count - 1 */
	size_t count;
	struct part {
		struct network_pass *pass;
		size_t offsets[SEQUENCES_AT_MOST + 1];
		uint32_t *items;
	} * parts;
};

/* For qsort, which has no argument of its own. */
struct key {
	size_t user;
	size_t events;
	uint32_t example;
};

static int by_state(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	if (x->user != y->user)
		return x->user < y->user ? -1 : 1;
	if (x->events != y->events)
		return x->events < y->events ? -1 : 1;
	return x->example < y->example ? -1 : 1;
}

/* Which examples share a state. Leaves the state's number in each example's place of `numbers`. */
static enum status find_states(struct cache *c, uint32_t *numbers, struct error *err)
{
	const struct task_data *data = c->f->input.data;
	struct key *keys = malloc((data->count + 1) * sizeof *keys);
	if (!keys)
		return error_set_memory(err);
	for (size_t i = 0; i < data->count; i++)
		keys[i] = (struct key){ data->examples[i].user, data->examples[i].events, (uint32_t)i };
	qsort(keys, data->count, sizeof *keys, by_state);
	for (size_t i = 0; i < data->count; i++) {
		if (i == 0 || keys[i].user != keys[i - 1].user || keys[i].events != keys[i - 1].events)
			c->firsts[c->states++] = keys[i].example;
		numbers[keys[i].example] = (uint32_t)c->states - 1;
	}
	free(keys);
	return STATUS_OK;
}

static enum status open_parts(struct cache *c, struct error *err)
{
	const struct network *net = c->f->input.trunk;
	const enum network_keep keep = c->side ? NETWORK_KEEP_LEVELS : NETWORK_KEEP_NOTHING;
	enum status status = STATUS_OK;
	c->parts = calloc(c->f->parallel->parts, sizeof *c->parts);
	if (!c->parts)
		return error_set_memory(err);
	for (uint32_t i = 0; i < c->f->parallel->parts && !status; i++) {
		c->parts[i].items = malloc((c->at_once * c->window + 1) * sizeof *c->parts[i].items);
		status = !c->parts[i].items ? error_set_memory(err)
					    : network_pass_new(net, 0, c->at_once * (c->window + 2), c->at_once, keep,
							       &c->parts[i].pass, err);
	}
	return status;
}

static void compute_part(void *job, uint32_t number)
{
	struct cache *c = job;
	struct part *part = &c->parts[number];
	const struct network *net = c->f->input.trunk;
	const size_t parts = c->f->parallel->parts;
	const size_t begin = c->begin + c->count * number / parts;
	const size_t n = c->begin + c->count * (number + (size_t)1) / parts - begin;
	struct network_batch batch = { .sequences = n, .offsets = part->offsets, .items = part->items };
	float *out = c->f->states + begin * c->width;
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		const struct tuner_example *e = &c->f->examples[c->firsts[begin + i]];
		const size_t length = e->length < c->window ? e->length : c->window;
		memcpy(part->items + part->offsets[i], e->items + e->length - length, length * sizeof *part->items);
		part->offsets[i + 1] = part->offsets[i] + length;
	}
	if (c->side) {
		side_states(net, part->pass, &batch, c->f->patch, out);
		return;
	}
	network_forward(net, NULL, part->pass, &batch);
	memcpy(out, network_pass_task(part->pass), n * c->width * sizeof *out);
}

static void compute(struct cache *c, bool *ret_stopped)
{
	const struct parallel *parallel = c->f->parallel;
	const int64_t started_us = clock_monotonic_us();
	struct ctl_progress progress;
	ctl_progress_start(&progress, "states", (int64_t)c->states);
	for (c->begin = 0; c->begin < c->states && !ctl_stopping(); c->begin += c->count) {
		const size_t left = c->states - c->begin;
		const size_t most = c->at_once * parallel->parts;
		c->count = left < most ? left : most;
		parallel->run(parallel->arg, parallel->parts, compute_part, c);
		ctl_progress_show(&progress, (int64_t)(c->begin + c->count));
	}
	ctl_progress_end(&progress, (int64_t)c->states);
	const double seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
	c->f->states_per_second = seconds > 0 ? (double)c->states / seconds : 0;
	*ret_stopped = ctl_stopping();
}

static enum status fill(struct cache *c, uint32_t *numbers, bool *ret_stopped, struct error *err)
{
	struct finetune *f = c->f;
	enum status status = find_states(c, numbers, err);
	if (!status)
		status = open_parts(c, err);
	if (status)
		return status;
	f->states = reallocarray(NULL, c->states + 1, c->width * sizeof *f->states);
	if (!f->states)
		return error_set_memory(err);
	compute(c, ret_stopped);
	for (size_t i = 0; i < f->input.data->count; i++)
		f->examples[i].state = f->states + numbers[i] * c->width;
	return STATUS_OK;
}

static size_t state_floats(const struct finetune *f)
{
	return patch_head_only(f->patch) ? f->patch->channels : side_state_floats(f->patch);
}

bool finetune_may_cache(const struct finetune *f)
{
	const bool beside = patch_head_only(f->patch) || f->patch->spec.insertion == PATCH_SIDE;
	return !f->trunk && beside &&
	       f->input.data->count <= f->options.cache_bytes / (state_floats(f) * sizeof(float));
}

enum status finetune_cache_states(struct finetune *f, bool *ret_stopped, struct error *err)
{
	const struct network_shape *shape = &f->input.trunk->shape;
	struct cache c = { .f = f, .side = !patch_head_only(f->patch) };
	uint32_t *numbers = calloc(f->input.data->count + 1, sizeof *numbers);
	c.firsts = calloc(f->input.data->count + 1, sizeof *c.firsts);
	c.window = c.side          ? side_events(shape, f->patch->spec.mean_window)
		   : shape->causal ? network_field(shape) - 1
				   : shape->window;
	c.at_once = POSITIONS_AT_MOST / (c.window + 2);
	c.at_once = c.at_once < 1 ? 1 : c.at_once < SEQUENCES_AT_MOST ? c.at_once : SEQUENCES_AT_MOST;
	c.width = state_floats(f);
	enum status status = numbers && c.firsts ? fill(&c, numbers, ret_stopped, err) : error_set_memory(err);
	for (uint32_t i = 0; c.parts && i < f->parallel->parts; i++) {
		network_pass_free(c.parts[i].pass);
		free(c.parts[i].items);
	}
	free(c.parts);
	free(c.firsts);
	free(numbers);
	return status;
}
