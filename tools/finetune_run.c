/* The epochs of fine-tuning: steps, the validation's loss, the best weights. */
#include "tools/finetune_private.h"

#include "base/clock.h"
#include "tools/ctl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STREAM_EPOCHS = 1 << 20,
	STEPS_OF_PATIENCE = 200, /* at least: of few examples an epoch is a few steps */
};

/* Of the patch, and of the trunk where it is trained. */
struct copy {
	float *patch;
	float *trunk;
};

struct run {
	struct finetune *f;
	struct finetune_result *result;
	struct copy best;
	struct copy average; /* running, of the weights after each step */
	uint64_t steps;
	struct ctl_progress progress;
	double seconds;   /* of steps */
	uint64_t trained; /* examples */
};

/* Calls each(floats, block of the copy, weights in use). */
static void for_both(const struct finetune *f, const struct copy *c, float way,
		     void (*each)(size_t floats, float *copy, float *weights, float way))
{
	each(f->patch->table.floats, c->patch, f->patch->weights, way);
	if (f->trunk)
		each(f->input.trunk->table.floats, c->trunk, f->input.trunk->weights, way);
}

static void take(size_t floats, float *copy, float *weights, float way)
{
	(void)way;
	memcpy(copy, weights, floats * sizeof *copy);
}

static void give(size_t floats, float *copy, float *weights, float way)
{
	(void)way;
	memcpy(weights, copy, floats * sizeof *copy);
}

static void exchange(size_t floats, float *copy, float *weights, float way)
{
	(void)way;
	for (size_t i = 0; i < floats; i++) {
		const float held = copy[i];
		copy[i] = weights[i];
		weights[i] = held;
	}
}

static void approach(size_t floats, float *copy, float *weights, float way)
{
	for (size_t i = 0; i < floats; i++)
		copy[i] += way * (weights[i] - copy[i]);
}

static bool copy_init(const struct finetune *f, struct copy *c)
{
	c->patch = parameters_block_new(&f->patch->table);
	c->trunk = f->trunk ? parameters_block_new(&f->input.trunk->table) : NULL;
	if (!c->patch || (f->trunk && !c->trunk))
		return false;
	for_both(f, c, 0, take);
	return true;
}

static void copy_close(struct copy *c)
{
	free(c->patch);
	free(c->trunk);
}

/* The average's memory rises to what is asked for, or the start would stay in it for long. */
static void move_average(struct run *r)
{
	const float rising = (float)(1 + r->steps) / (float)(10 + r->steps);
	const float kept = rising < r->f->options.average ? rising : r->f->options.average;
	r->steps++;
	for_both(r->f, &r->average, 1 - kept, approach);
}

/* All steps of an epoch; the mean of their losses. */
static double train_epoch(struct run *r)
{
	struct finetune *f = r->f;
	const uint64_t before = r->trained;
	struct random_stream random = random_from(f->options.tuner.seed, STREAM_EPOCHS + (uint64_t)r->result->epochs);
	struct tuner_sums all = { 0 };
	random_shuffle(&random, f->training, f->training_count);
	const int64_t started_us = clock_monotonic_us();
	for (size_t first = 0; first < f->training_count && !ctl_stopping(); first += f->options.batch) {
		const size_t left = f->training_count - first;
		const struct tuner_batch batch = { f->examples, f->training + first,
						   left < f->options.batch ? left : f->options.batch };
		struct tuner_sums sums;
		if (!tuner_step(f->tuner, &batch, &sums))
			r->result->skipped++;
		else {
			all.loss += sums.loss;
			all.weight += sums.weight;
			move_average(r);
		}
		r->trained += batch.count;
		ctl_progress_show(&r->progress, (int64_t)r->trained);
	}
	r->seconds += (double)(clock_monotonic_us() - started_us) / 1e6;
	ctl_progress_note(&r->progress, "epoch %" PRIu32 ", loss %.4f", r->result->epochs, all.loss / all.weight);
	return r->trained > before ? all.loss / all.weight : (double)NAN;
}

/* The validation's loss of the averaged weights, which are kept where it is the least so far. */
static void judge(struct run *r)
{
	struct finetune *f = r->f;
	const struct tuner_batch batch = { f->examples, f->validation, f->validation_count };
	struct tuner_sums sums;
	for_both(f, &r->average, 0, exchange);
	tuner_loss(f->tuner, &batch, &sums);
	const double mean = sums.loss / sums.weight;
	const bool best = !(mean >= r->result->best_loss) && isfinite(mean);
	if (best) {
		r->result->best_loss = mean;
		r->result->best_epoch = r->result->epochs;
		for_both(f, &r->best, 0, take);
	}
	for_both(f, &r->average, 0, exchange);
	if (!f->options.quiet)
		printf(", validation %.4f%s", mean, best ? " (best)" : "");
}

static enum status run_epoch(struct run *r, struct error *err)
{
	struct finetune *f = r->f;
	r->result->epochs++;
	const double loss = train_epoch(r);
	if (ctl_stopping())
		return STATUS_OK;
	if (!isfinite(loss))
		return error_set(err, STATUS_DATA,
				 "task %s: epoch %" PRIu32 ": no step had a finite gradient; lower --rate?",
				 f->input.task, r->result->epochs);
	ctl_progress_end(&r->progress, (int64_t)r->trained);
	if (!f->options.quiet)
		printf("epoch %" PRIu32 ": loss %.4f", r->result->epochs, loss);
	if (f->validation_count > 0)
		judge(r);
	if (!f->options.quiet) {
		printf("\n");
		(void)fflush(stdout);
	}
	return STATUS_OK;
}

static bool finished(const struct run *r)
{
	const struct finetune *f = r->f;
	const uint32_t waited = r->result->epochs - r->result->best_epoch;
	const size_t steps = waited * ((f->training_count - 1) / f->options.batch + 1);
	const bool stale = f->options.patience > 0 && f->validation_count > 0 && waited >= f->options.patience &&
			   steps >= STEPS_OF_PATIENCE;
	return r->result->epochs >= f->options.epochs || stale || ctl_stopping();
}

/* Weights that went astray may be finite still: the losses that they make are not. */
static enum status check_loss(struct run *r, struct error *err)
{
	enum { EXAMPLES = 1024 };
	struct finetune *f = r->f;
	const size_t some = f->training_count < EXAMPLES ? f->training_count : EXAMPLES;
	const struct tuner_batch batch = { f->examples, f->training, some };
	struct tuner_sums sums;
	const bool judged = f->validation_count > 0;
	tuner_loss(f->tuner, &batch, &sums);
	if (isfinite(sums.loss) && !(judged && !isfinite(r->result->best_loss)))
		return STATUS_OK;
	return error_set(err, STATUS_DATA,
			 "task %s: the trained weights give losses that are not finite; lower --rate?", f->input.task);
}

static enum status train(struct run *r, struct error *err)
{
	struct finetune *f = r->f;
	enum status status = STATUS_OK;
	ctl_progress_start(&r->progress, "examples", (int64_t)(f->training_count * f->options.epochs));
	do {
		status = run_epoch(r, err);
	} while (!status && !finished(r));
	ctl_progress_end(&r->progress, (int64_t)r->trained);
	if (status)
		return status;
	for_both(f, r->result->best_epoch > 0 ? &r->best : &r->average, 0, give);
	if (r->result->best_epoch == 0)
		r->result->best_epoch = r->result->epochs;
	r->result->stopped = ctl_stopping();
	if (!r->result->stopped && check_loss(r, err))
		return err->status;
	if (f->patch->spec.type == PATCH_REGRESSION)
		patch_rescale(f->patch, f->scale, f->mean);
	r->result->examples_per_second = r->seconds > 0 ? (double)r->trained / r->seconds : 0;
	return STATUS_OK;
}

static enum status make_tuner(struct finetune *f, bool *ret_stopped, struct error *err)
{
	const bool cached = finetune_may_cache(f);
	enum status status = cached ? finetune_cache_states(f, ret_stopped, err) : STATUS_OK;
	f->options.tuner.trunk = f->trunk;
	if (!status && !*ret_stopped)
		status = tuner_new(f->patch, cached ? NULL : f->input.trunk, &f->options.tuner, f->parallel,
				   f->options.batch, &f->tuner, err);
	return status;
}

static void count_parameters(const struct finetune *f, struct finetune_result *result)
{
	const struct parameters *trunk = &f->input.trunk->table;
	result->parameters = parameters_trained(&f->patch->table) + (f->trunk ? parameters_trained(trunk) : 0);
	for (size_t i = 0; i < trunk->count; i++)
		result->trunk_parameters += strncmp(trunk->list[i].name, "output.", 7) ? trunk->list[i].count : 0;
}

enum status finetune_run(struct finetune *f, struct finetune_result *ret, struct error *err)
{
	*ret = (struct finetune_result){ .examples = f->training_count,
					 .validation_examples = f->validation_count,
					 .best_loss = (double)NAN };
	struct run r = { .f = f, .result = ret };
	count_parameters(f, ret);
	enum status status = make_tuner(f, &ret->stopped, err);
	if (status || ret->stopped)
		return status;
	ret->states_per_second = f->states_per_second;
	const bool good = copy_init(f, &r.best) && copy_init(f, &r.average);
	status = good ? train(&r, err) : error_set_memory(err);
	copy_close(&r.best);
	copy_close(&r.average);
	return status;
}
