#include "tools/finetune.h"

#include "model/metrics.h"
#include "tools/finetune_private.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_PATCH = 1, STREAM_SPLIT, STREAM_TRUNK };

/* Which tensors of the trunk are trained. Its output layer has no part in tasks. */
static void mark_trained(struct finetune *f)
{
	struct network *net = f->input.trunk;
	for (size_t i = 0; i < net->table.count; i++) {
		struct parameter *t = &net->table.list[i];
		unsigned long block = 0;
		const bool in_block = strncmp(t->name, "blocks.", 7) == 0;
		if (in_block)
			block = strtoul(t->name + 7, NULL, 10);
		t->trained = f->trunk && strncmp(t->name, "output.", 7) != 0 &&
			     (f->options.train != FINETUNE_LAST ||
			      (in_block && block + f->options.last >= net->shape.blocks));
	}
}

static enum status make_patch(struct finetune *f, struct error *err)
{
	const struct task_data *data = f->input.data;
	struct random_stream random = random_from(f->options.tuner.seed, STREAM_PATCH);
	f->trunk = f->options.train == FINETUNE_LAST || f->options.train == FINETUNE_EVERYTHING ||
		   f->options.train == FINETUNE_SCRATCH;
	if (f->options.train == FINETUNE_SCRATCH) {
		struct random_stream trunk = random_from(f->options.tuner.seed, STREAM_TRUNK);
		network_randomise(f->input.trunk, &trunk);
	}
	mark_trained(f);
	return patch_new(&f->options.spec, f->input.trunk, f->input.task, (const char *const *)data->labels,
			 data->classes, &random, &f->patch, err);
}

/* The examples as the tuner takes them. */
static enum status make_examples(struct finetune *f, struct error *err)
{
	const struct task_data *data = f->input.data;
	enum status status = user_items_make(f->input.audience, f->input.vocabulary, &f->items, err);
	if (status)
		return status;
	f->examples = calloc(data->count + 1, sizeof *f->examples);
	if (!f->examples)
		return error_set_memory(err);
	for (size_t i = 0; i < data->count; i++) {
		const struct task_example *e = &data->examples[i];
		f->examples[i] = (struct tuner_example){ .items = f->items.items + f->items.begins[e->user],
							 .length = e->events,
							 .target = e->target,
							 .value = e->value,
							 .weight = e->weight };
	}
	return STATUS_OK;
}

/* Users, not examples, are kept out: nothing of them is trained with. */
static enum status split(struct finetune *f, struct error *err)
{
	const struct task_data *data = f->input.data;
	const size_t users = audience_users(f->input.audience);
	struct random_stream random = random_from(f->options.tuner.seed, STREAM_SPLIT);
	uint32_t *order = calloc(users + 1, sizeof *order);
	bool *seen = calloc(users + 1, sizeof *seen); /* has examples; then: is kept out */
	f->training = calloc(data->count + 1, sizeof *f->training);
	f->validation = calloc(data->count + 1, sizeof *f->validation);
	size_t count = 0;
	const bool good = order && seen && f->training && f->validation;
	for (size_t i = 0; good && i < data->count; i++) {
		const size_t user = data->examples[i].user;
		if (!seen[user])
			order[count++] = (uint32_t)user;
		seen[user] = true;
	}
	if (good) {
		random_shuffle(&random, order, count);
		memset(seen, 0, users * sizeof *seen);
		const size_t kept = (size_t)(f->options.validation * (double)count + 0.5);
		for (size_t i = 0; i < kept; i++)
			seen[order[i]] = true;
	}
	for (size_t i = 0; good && i < data->count; i++) {
		if (seen[data->examples[i].user])
			f->validation[f->validation_count++] = (uint32_t)i;
		else
			f->training[f->training_count++] = (uint32_t)i;
	}
	free(order);
	free(seen);
	return good ? STATUS_OK : error_set_memory(err);
}

/* Makes the training examples of each class weigh as much as those of any other. */
static enum status balance(struct finetune *f, struct error *err)
{
	const uint32_t classes = f->input.data->classes;
	double *weights = calloc((size_t)classes + 1, sizeof *weights);
	double all = 0;
	uint32_t present = 0;
	if (!weights)
		return error_set_memory(err);
	for (size_t i = 0; i < f->training_count; i++) {
		const struct tuner_example *e = &f->examples[f->training[i]];
		weights[e->target] += (double)e->weight;
		all += (double)e->weight;
	}
	for (uint32_t c = 0; c < classes; c++)
		present += weights[c] > 0;
	for (size_t i = 0; i < f->training_count; i++) {
		struct tuner_example *e = &f->examples[f->training[i]];
		if (e->weight > 0)
			e->weight = (float)((double)e->weight * all / (present * weights[e->target]));
	}
	free(weights);
	return STATUS_OK;
}

/* Regression learns labels of mean 0 and variance 1, so that one learning rate suits all of them. */
static void standardise(struct finetune *f)
{
	double weight = 0, sum = 0, squares = 0;
	for (size_t i = 0; i < f->training_count; i++) {
		const struct tuner_example *e = &f->examples[f->training[i]];
		weight += (double)e->weight;
		sum += (double)e->weight * (double)e->value;
	}
	const double mean = weight > 0 ? sum / weight : 0;
	for (size_t i = 0; i < f->training_count; i++) {
		const struct tuner_example *e = &f->examples[f->training[i]];
		squares += (double)e->weight * ((double)e->value - mean) * ((double)e->value - mean);
	}
	const double deviation = weight > 0 ? sqrt(squares / weight) : 0;
	f->mean = (float)mean;
	f->scale = deviation > 0 && isnormal((float)deviation) ? (float)deviation : 1;
	for (size_t i = 0; i < f->input.data->count; i++)
		f->examples[i].value = (f->examples[i].value - f->mean) / f->scale;
}

static enum status check(const struct finetune *f, struct error *err)
{
	const struct task_data *data = f->input.data;
	if (task_data_check(data, f->input.task, err))
		return err->status;
	if (f->options.spec.type != PATCH_REGRESSION && data->classes < 2)
		return error_set(err, STATUS_DATA, "task %s: all labels are %.64s, nothing can be told apart",
				 f->input.task, data->labels[0]);
	if (data->count > UINT32_MAX || audience_users(f->input.audience) > UINT32_MAX)
		return error_set(err, STATUS_DATA, "task %s: more than %u examples", f->input.task, UINT32_MAX);
	return STATUS_OK;
}

/* A batch of nothing but weights of about 0 would be no step. */
static enum status check_weights(const struct finetune *f, const uint32_t *indices, size_t count, const char *whose,
				 struct error *err)
{
	bool any = count == 0;
	for (size_t i = 0; i < count && !any; i++)
		any = f->examples[indices[i]].weight >= FLT_MIN;
	return any ? STATUS_OK
		   : error_set(err, STATUS_DATA, "task %s: all weights of the examples %s are 0, or almost",
			       f->input.task, whose);
}

static enum status prepare(struct finetune *f, struct error *err)
{
	enum status status = check(f, err);
	if (!status)
		status = make_patch(f, err);
	if (!status)
		status = make_examples(f, err);
	if (!status)
		status = split(f, err);
	if (!status && f->training_count == 0)
		status = error_set(err, STATUS_DATA, "task %s: all examples are kept for validation", f->input.task);
	if (!status)
		status = check_weights(f, f->training, f->training_count, "trained with", err);
	if (!status)
		status = check_weights(f, f->validation, f->validation_count, "kept for validation", err);
	if (!status && f->options.spec.type == PATCH_REGRESSION)
		standardise(f);
	if (!status && f->options.balanced)
		status = balance(f, err);
	return status;
}

enum status finetune_new(const struct finetune_options *options, const struct finetune_input *input,
			 const struct parallel *parallel, struct finetune **ret, struct error *err)
{
	struct finetune *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	f->options = *options;
	f->input = *input;
	f->parallel = parallel;
	f->scale = 1;
	enum status status = prepare(f, err);
	if (status)
		finetune_free(f);
	else
		*ret = f;
	return status;
}

void finetune_free(struct finetune *f)
{
	if (!f)
		return;
	tuner_free(f->tuner);
	patch_free(f->patch);
	user_items_free(&f->items);
	free(f->examples);
	free(f->states);
	free(f->training);
	free(f->validation);
	free(f);
}

struct patch *finetune_patch(struct finetune *f)
{
	return f->patch;
}
