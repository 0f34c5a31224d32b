#include "model/pretrainer_private.h"

#include "model/backbone.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BAD_STEPS_AT_MOST = 20, RANGE_FLOATS = 16, STREAM_SHIFT = 62 };

struct random_stream pretrainer_random(const struct pretrainer *p, enum pretrainer_stream kind, uint64_t number)
{
	return random_from(p->options.seed, (uint64_t)(kind + 1) << STREAM_SHIFT | number);
}

static enum status check_sequences(struct pretrainer *p, struct error *err)
{
	if (p->net->shape.items < BACKBONE_FIRST_ITEM + 2)
		return error_set(err, STATUS_DATA, "two items at least are needed, there is %" PRIu32,
				 p->net->shape.items - BACKBONE_FIRST_ITEM);
	for (size_t user = 0; user < p->sequences->users; user++) {
		size_t trained = pretrainer_trained(p->sequences, user);
		p->targets += trained > 0 ? trained - 1 : 0;
	}
	if (p->targets == 0)
		return error_set(err, STATUS_DATA, "no user has two events to learn from");
	return STATUS_OK;
}

/* Half an occurrence more each, for those that never occur. */
static enum status start_bias(struct pretrainer *p, struct error *err)
{
	const struct pretrainer_sequences *s = p->sequences;
	float *bias = p->net->weights + p->output_bias;
	uint32_t *counts = calloc(p->net->shape.items, sizeof *counts);
	if (!counts)
		return error_set_memory(err);
	for (size_t user = 0; user < s->users; user++)
		for (size_t i = 0; i < pretrainer_trained(s, user); i++)
			counts[s->items[s->offsets[user] + i]]++;
	for (uint32_t item = 0; item < p->net->shape.items; item++) {
		double count = item < BACKBONE_FIRST_ITEM ? 0 : counts[item];
		bias[item] = (float)log((count + 0.5) / ((double)p->targets + 0.5 * p->net->shape.items));
	}
	free(counts);
	return STATUS_OK;
}

static enum status new_average(struct pretrainer *p, struct error *err)
{
	if (!(p->options.average > 0))
		return STATUS_OK;
	enum status status = network_new(&p->net->shape, &p->averaged, err);
	if (!status)
		memcpy(p->averaged->weights, p->net->weights, p->net->table.floats * sizeof(float));
	return status;
}

/* Of few steps a long warm-up would be all there is; one stays, for the rate of the last of all is 0. */
static void set_schedule(struct pretrainer *p)
{
	struct optimizer_options *o = &p->options.optimizer;
	o->steps = p->options.cosine_epochs * p->first_steps;
	const uint64_t tenth = o->steps < 10 ? 1 : o->steps / 10;
	if (p->options.cosine_epochs > 0 && o->warm_up > tenth)
		o->warm_up = tenth;
}

static enum status start(struct pretrainer *p, struct error *err)
{
	p->output_weight = parameters_find(&p->net->table, "output.weight")->offset;
	p->output_bias = parameters_find(&p->net->table, "output.bias")->offset;
	p->embedding = parameters_find(&p->net->table, "item_embedding.weight")->offset;
	if (p->options.tied)
		memcpy(p->net->weights + p->output_weight, p->net->weights + p->embedding,
		       (size_t)p->net->shape.items * p->net->shape.channels * sizeof(float));
	enum status status = check_sequences(p, err);
	if (!status)
		status = start_bias(p, err);
	if (!status)
		status = pretrainer_cut(p, err);
	if (status)
		return status;
	p->first_steps = (p->windows.count + p->options.batch - 1) / p->options.batch;
	set_schedule(p);
	p->best_weights = parameters_block_new(&p->net->table);
	status = p->best_weights ? new_average(p, err) : error_set_memory(err);
	if (!status)
		status = optimizer_init(&p->optimizer, &p->options.optimizer, &p->net->table, err);
	if (!status)
		status = pretrainer_parts_new(p, err);
	return status;
}

enum status pretrainer_new(const struct pretrainer_options *options, struct network *net,
			   const struct pretrainer_sequences *sequences, const struct parallel *parallel,
			   struct pretrainer **ret, struct error *err)
{
	struct pretrainer *p = calloc(1, sizeof *p);
	if (!p)
		return error_set_memory(err);
	p->options = *options;
	p->net = net;
	p->sequences = sequences;
	p->parallel = *parallel;
	enum status status = start(p, err);
	if (status) {
		pretrainer_free(p);
		return status;
	}
	*ret = p;
	return STATUS_OK;
}

void pretrainer_free(struct pretrainer *p)
{
	if (!p)
		return;
	pretrainer_parts_free(p);
	optimizer_close(&p->optimizer);
	network_free(p->averaged);
	free(p->windows.list);
	free(p->windows.order);
	free(p->best_weights);
	free(p);
}

/* The floats of a block that part `number` works on: where it makes no difference who does. */
static void share_of_block(const struct pretrainer *p, uint32_t number, size_t *ret_begin, size_t *ret_end)
{
	size_t ranges = (p->net->table.floats + RANGE_FLOATS - 1) / RANGE_FLOATS;
	*ret_begin = ranges * number / p->parallel.parts * RANGE_FLOATS;
	*ret_end = ranges * (number + 1) / p->parallel.parts * RANGE_FLOATS;
	if (number + 1 == p->parallel.parts)
		*ret_end = p->net->table.floats;
}

/* Part 0's block becomes the sum of all, added in the order of the parts. */
static void add_gradients(void *job, uint32_t number)
{
	struct pretrainer *p = job;
	size_t begin;
	size_t end;
	float *restrict sum = p->parts[0].gradients;
	share_of_block(p, number, &begin, &end);
	for (uint32_t part = 1; part < p->parallel.parts; part++) {
		const float *restrict other = p->parts[part].gradients;
		for (size_t i = begin; i < end; i++)
			sum[i] += other[i];
	}
}

/* Equal tensors with equal gradients stay equal, whatever the optimizer. */
static void tie(struct pretrainer *p)
{
	float *restrict output = p->parts[0].gradients + p->output_weight;
	float *restrict embedding = p->parts[0].gradients + p->embedding;
	for (size_t i = 0; i < (size_t)p->net->shape.items * p->net->shape.channels; i++)
		output[i] = embedding[i] = output[i] + embedding[i];
}

/* The average's decay rises to what is asked for, or the random start would stay in it for long. */
static void move_average(void *job, uint32_t number)
{
	struct pretrainer *p = job;
	size_t begin;
	size_t end;
	float *restrict average = p->averaged->weights;
	const float *restrict weights = p->net->weights;
	float rising = (float)(p->optimizer.step + 1) / (float)(p->optimizer.step + 10);
	float way = 1 - (rising < p->options.average ? rising : p->options.average);
	share_of_block(p, number, &begin, &end);
	for (size_t i = begin; i < end; i++)
		average[i] += way * (weights[i] - average[i]);
}

static void run(const struct pretrainer *p, void (*part)(void *job, uint32_t number))
{
	p->parallel.run(p->parallel.arg, p->parallel.parts, part, (void *)(uintptr_t)p);
}

static void count_step(struct pretrainer *p)
{
	for (uint32_t i = 0; i < p->parallel.parts; i++) {
		const struct pretrainer_part *part = &p->parts[i];
		p->sums.loss += part->events.loss;
		p->sums.targets += (double)part->events.count;
		p->sums.task_loss += part->tasks.loss;
		p->sums.tasks += (double)part->tasks.count;
		p->sums.events += (double)part->offsets[part->batch.sequences];
	}
}

static enum status update(struct pretrainer *p, struct error *err)
{
	double norm;
	if (p->parallel.parts > 1)
		run(p, add_gradients);
	if (p->options.tied)
		tie(p);
	if (!optimizer_step(&p->optimizer, &p->net->table, p->net->weights, p->parts[0].gradients, &norm)) {
		p->sums.skipped++;
		if (++p->bad_in_a_row >= BAD_STEPS_AT_MOST)
			return error_set(err, STATUS_DATA,
					 "%u steps in a row had gradients that are not finite: a lower rate or a bound "
					 "on the gradient's norm may help",
					 p->bad_in_a_row);
		return STATUS_OK;
	}
	p->bad_in_a_row = 0;
	count_step(p);
	if (p->averaged)
		run(p, move_average);
	return STATUS_OK;
}

/* An epoch that taught nothing, or that the loss has left the numbers in. */
static enum status check_epoch(const struct pretrainer *p, struct error *err)
{
	const size_t steps = (p->windows.count + p->options.batch - 1) / p->options.batch;
	const bool none = p->sums.skipped >= (double)steps;
	if (!none && isfinite(p->sums.loss) && isfinite(p->sums.task_loss))
		return STATUS_OK;
	return error_set(err, STATUS_DATA,
			 "epoch %" PRIu64 ": %s: a lower rate or a bound on the gradient's norm may help", p->epoch,
			 none ? "no step had a finite gradient" : "the loss is not finite");
}

enum status pretrainer_step(struct pretrainer *p, bool *ret_ended, struct error *err)
{
	if (!p->cut) {
		enum status status = pretrainer_cut(p, err);
		if (status)
			return status;
		p->sums = (struct pretrainer_sums){ 0 };
	}
	size_t last = p->next + p->options.batch;
	last = last < p->windows.count ? last : p->windows.count;
	pretrainer_pack(p, p->next, last);
	run(p, pretrainer_run_part);
	enum status status = update(p, err);
	if (status)
		return status;
	p->steps++;
	p->next = last;
	*ret_ended = last == p->windows.count;
	if (*ret_ended) {
		p->epoch++;
		p->next = 0;
		p->cut = false;
		status = check_epoch(p, err);
	}
	return status;
}

uint64_t pretrainer_epochs(const struct pretrainer *p)
{
	return p->epoch;
}

uint64_t pretrainer_targets(const struct pretrainer *p)
{
	return p->targets;
}

uint64_t pretrainer_epoch_steps(const struct pretrainer *p)
{
	return p->first_steps;
}

const struct pretrainer_sums *pretrainer_sums(const struct pretrainer *p)
{
	return &p->sums;
}

float pretrainer_rate(const struct pretrainer *p)
{
	return optimizer_rate(&p->optimizer);
}

const struct network *pretrainer_network(const struct pretrainer *p)
{
	return p->averaged ? p->averaged : p->net;
}

bool pretrainer_judge(struct pretrainer *p, double value, bool task)
{
	if (p->best.epoch > 0 && !(value > p->best.value))
		return false;
	p->best = (struct pretrainer_best){ p->epoch, value, task };
	memcpy(p->best_weights, pretrainer_network(p)->weights, p->net->table.floats * sizeof *p->best_weights);
	return true;
}

const struct pretrainer_best *pretrainer_best(const struct pretrainer *p)
{
	return &p->best;
}

void pretrainer_restore_best(struct pretrainer *p)
{
	if (p->best.epoch > 0)
		memcpy(pretrainer_network(p)->weights, p->best_weights, p->net->table.floats * sizeof(float));
}
