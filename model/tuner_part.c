/* One part of a batch: forward, loss, backward. */
#include "model/tuner_private.h"

#include "model/loss.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool tuner_reads_side(const struct tuner *t)
{
	return t->patch->spec.insertion == PATCH_SIDE && !patch_head_only(t->patch);
}

bool tuner_goes_back(const struct tuner *t)
{
	return t->training && t->net != NULL && !tuner_reads_side(t) &&
	       (t->options.trunk || !patch_head_only(t->patch));
}

/* The function of the loss in hand: sampled softmax of a head that is no larger than the sample is the full one. */
static enum tuner_loss effective_loss(const struct tuner *t)
{
	const bool whole = t->options.loss == TUNER_SAMPLED && t->patch->classes <= t->options.negatives + 1;
	return whole ? TUNER_SOFTMAX : t->options.loss;
}

static size_t scratch_floats(const struct tuner *t)
{
	switch (effective_loss(t)) {
	case TUNER_SOFTMAX:
		return (size_t)LOSS_SOFTMAX_ROWS * t->patch->classes;
	case TUNER_SAMPLED:
		return loss_sampled_floats(t->patch->channels, t->options.negatives);
	case TUNER_BPR:
	case TUNER_BCE:
	case TUNER_HARD:
	case TUNER_SQUARED:
		break;
	}
	return 0;
}

/* Floats, NULL only where out of memory. */
static float *floats_new(size_t count, bool *failed)
{
	float *memory = malloc((count > 0 ? count : 1) * sizeof *memory);
	*failed = *failed || memory == NULL;
	return memory;
}

static bool init_training(const struct tuner *t, struct tuner_part *part)
{
	const size_t hidden = t->rows * t->patch->channels;
	bool failed = false;
	part->d_hidden = floats_new(hidden, &failed);
	part->mask = floats_new(t->options.dropout > 0 ? hidden : 0, &failed);
	part->weights = floats_new(t->rows, &failed);
	part->values = floats_new(t->rows, &failed);
	part->scratch = floats_new(scratch_floats(t), &failed);
	part->targets = calloc(t->rows + 1, sizeof *part->targets);
	part->negatives = calloc(t->rows + 1, sizeof *part->negatives);
	part->gradients = parameters_block_new(&t->patch->table);
	part->trunk = t->options.trunk ? parameters_block_new(&t->net->table) : NULL;
	return !failed && part->targets != NULL && part->negatives != NULL && part->gradients != NULL &&
	       (!t->options.trunk || part->trunk != NULL);
}

static enum status init_network(const struct tuner *t, struct tuner_part *part, struct error *err)
{
	const enum network_keep keep = tuner_goes_back(t)    ? NETWORK_KEEP_ALL
				       : tuner_reads_side(t) ? NETWORK_KEEP_LEVELS
							     : NETWORK_KEEP_NOTHING;
	const bool adapters = t->patch->spec.insertion != PATCH_SIDE && !patch_head_only(t->patch);
	part->offsets = calloc(t->rows + 1, sizeof *part->offsets);
	part->items = calloc(t->rows * t->window + 1, sizeof *part->items);
	if (part->offsets == NULL || part->items == NULL)
		return error_set_memory(err);
	return network_pass_new(t->net, adapters ? t->patch->spec.bottleneck : 0, t->rows * (t->window + 2), t->rows,
				keep, &part->network, err);
}

enum status tuner_part_init(const struct tuner *t, struct tuner_part *part, struct error *err)
{
	const size_t state = side_state_floats(t->patch);
	bool failed = false;
	part->hidden = floats_new(t->rows * t->patch->channels, &failed);
	part->states = floats_new(tuner_reads_side(t) ? t->rows * state : 0, &failed);
	if (failed || (t->training && !init_training(t, part)))
		return error_set_memory(err);
	enum status status = t->net != NULL ? init_network(t, part, err) : STATUS_OK;
	if (status == STATUS_OK && tuner_reads_side(t))
		status = side_pass_new(t->patch, t->rows, &part->side, err);
	return status;
}

void tuner_part_close(struct tuner_part *part)
{
	network_pass_free(part->network);
	side_pass_free(part->side);
	free(part->offsets);
	free(part->items);
	free(part->states);
	free(part->hidden);
	free(part->d_hidden);
	free(part->mask);
	free(part->weights);
	free(part->values);
	free(part->targets);
	free(part->negatives);
	free(part->scratch);
	free(part->gradients);
	free(part->trunk);
	*part = (struct tuner_part){ 0 };
}

static const struct tuner_example *example_at(const struct tuner_batch *batch, size_t at)
{
	return &batch->examples[batch->indices == NULL ? at : batch->indices[at]];
}

static void gather_states(struct tuner_part *part, const struct tuner_batch *batch, size_t first, size_t n,
			  size_t width, float *out)
{
	for (size_t i = 0; i < n; i++) {
		const float *state = example_at(batch, first + i)->state;
		assert(state != NULL);
		memcpy(out + i * width, state, width * sizeof *out);
	}
}

static void gather_items(const struct tuner *t, struct tuner_part *part, const struct tuner_batch *batch, size_t first,
			 size_t n)
{
	part->offsets[0] = 0;
	for (size_t i = 0; i < n; i++) {
		const struct tuner_example *e = example_at(batch, first + i);
		const size_t length = e->length < t->window ? e->length : t->window;
		if (length > 0)
			memcpy(part->items + part->offsets[i], e->items + e->length - length,
			       length * sizeof *part->items);
		part->offsets[i + 1] = part->offsets[i] + length;
	}
	part->batch = (struct network_batch){ .sequences = n, .offsets = part->offsets, .items = part->items };
}

static const struct network_patch *adapters(const struct tuner *t)
{
	return t->patch->spec.insertion == PATCH_SIDE || patch_head_only(t->patch) ? NULL : &t->patch->adapters;
}

void tuner_part_forward(const struct tuner *t, struct tuner_part *part, const struct tuner_batch *batch, size_t first,
			size_t n)
{
	const size_t dim = t->patch->channels;
	const size_t width = side_state_floats(t->patch);
	const bool side = tuner_reads_side(t);
	if (t->net != NULL)
		gather_items(t, part, batch, first, n);
	if (t->net == NULL)
		gather_states(part, batch, first, n, side ? width : dim, side ? part->states : part->hidden);
	else if (side)
		side_states(t->net, part->network, &part->batch, t->patch, part->states);
	else
		network_forward(t->net, adapters(t), part->network, &part->batch);
	if (side)
		memcpy(part->hidden, side_forward(t->patch, part->side, n, part->states), n * dim * sizeof(float));
	else if (t->net != NULL)
		memcpy(part->hidden, network_pass_task(part->network), n * dim * sizeof(float));
}

static void gather_labels(struct tuner_part *part, const struct tuner_batch *batch, size_t first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct tuner_example *e = example_at(batch, first + i);
		part->weights[i] = e->weight;
		part->targets[i] = e->target;
		part->values[i] = e->value;
		part->sums.weight += (double)e->weight;
	}
}

/* Inverted dropout (Srivastava et al. 2014): what is kept is scaled up, so that nothing changes when there is none. */
static void drop(const struct tuner *t, struct tuner_part *part, size_t n, struct random_stream *random)
{
	const float kept = 1.0F / (1.0F - t->options.dropout);
	for (size_t i = 0; i < n * t->patch->channels; i++) {
		part->mask[i] = random_uniform(random) < t->options.dropout ? 0.0F : kept;
		part->hidden[i] *= part->mask[i];
	}
}

/* Of which the highest-scored is the hard negative: as many as there are other classes are nearly all of them. */
static uint32_t draws(const struct tuner *t)
{
	const uint32_t others = t->patch->classes > 2 ? t->patch->classes - 1 : 1;
	if (t->options.loss != TUNER_HARD)
		return 1;
	return t->options.negatives < others ? t->options.negatives : others;
}

static double run_loss(const struct tuner *t, struct tuner_part *part, size_t n, struct random_stream *random,
		       const struct loss_gradient *gradient)
{
	const struct patch *p = t->patch;
	const struct loss_head head = { p->channels, p->classes, p->weights + p->head_weight,
					p->weights + p->head_bias };
	const enum tuner_loss loss = effective_loss(t);
	const float *h = part->hidden;
	if (loss == TUNER_SQUARED)
		return loss_squared(&head, n, h, part->values, part->weights, gradient);
	if (loss == TUNER_SOFTMAX)
		return loss_softmax(&head, n, h, part->targets, part->weights, part->scratch, gradient);
	if (loss == TUNER_SAMPLED)
		return loss_sampled_softmax(&head, n, h, part->targets, part->weights, LOSS_UNIFORM, 0,
					    t->options.negatives, random, part->scratch, gradient);
	loss_draw_negatives(&head, n, h, part->targets, draws(t), random, part->negatives);
	if (loss == TUNER_BCE)
		return loss_bce(&head, n, h, part->targets, part->negatives, part->weights, gradient);
	return loss_bpr(&head, n, h, part->targets, part->negatives, part->weights, gradient);
}

void tuner_part_loss(const struct tuner *t, struct tuner_part *part, const struct tuner_batch *batch, size_t first,
		     size_t n, struct random_stream *random, float scale)
{
	const size_t floats = n * t->patch->channels;
	const struct loss_gradient gradient = { scale, part->d_hidden, part->gradients + t->patch->head_weight,
						part->gradients + t->patch->head_bias };
	const bool step = scale > 0;
	const bool alone = t->patch->spec.type != PATCH_REGRESSION && t->patch->classes < 2;
	gather_labels(part, batch, first, n);
	if (step)
		memset(part->d_hidden, 0, floats * sizeof *part->d_hidden);
	if (n == 0 || alone) /* one row is neither right nor wrong */
		return;
	if (step && t->options.dropout > 0)
		drop(t, part, n, random);
	part->sums.loss += run_loss(t, part, n, random, step ? &gradient : NULL);
	if (step && t->options.dropout > 0) {
		for (size_t i = 0; i < floats; i++)
			part->d_hidden[i] *= part->mask[i];
	}
}

void tuner_part_backward(const struct tuner *t, struct tuner_part *part, size_t n)
{
	if (n == 0)
		return;
	if (tuner_reads_side(t))
		side_backward(t->patch, part->side, n, part->states, part->d_hidden, part->gradients);
	else if (tuner_goes_back(t))
		network_backward(t->net, adapters(t), part->network, &part->batch, part->d_hidden, NULL, part->trunk,
				 adapters(t) == NULL ? NULL : part->gradients);
}
