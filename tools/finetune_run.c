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

struct run {
	struct finetune *f;
	struct finetune_result *result;
	float *best; /* the patch's weights, and the trunk's where they are trained */
	float *best_trunk;
	struct ctl_progress progress;
	double seconds;   /* of steps */
	uint64_t trained; /* examples */
};

static void keep(struct run *r)
{
	struct finetune *f = r->f;
	memcpy(r->best, f->patch->weights, f->patch->table.floats * sizeof *r->best);
	if (f->trunk)
		memcpy(r->best_trunk, f->input.trunk->weights, f->input.trunk->table.floats * sizeof *r->best_trunk);
	r->result->best_epoch = r->result->epochs;
}

static void take_best(struct run *r)
{
	struct finetune *f = r->f;
	memcpy(f->patch->weights, r->best, f->patch->table.floats * sizeof *r->best);
	if (f->trunk)
		memcpy(f->input.trunk->weights, r->best_trunk, f->input.trunk->table.floats * sizeof *r->best_trunk);
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
		}
		r->trained += batch.count;
		ctl_progress_show(&r->progress, (int64_t)r->trained);
	}
	r->seconds += (double)(clock_monotonic_us() - started_us) / 1e6;
	ctl_progress_note(&r->progress, "epoch %" PRIu32 ", loss %.4f", r->result->epochs, all.loss / all.weight);
	return r->trained > before ? all.loss / all.weight : (double)NAN;
}

/* One epoch, and whether it is the best. */
static enum status run_epoch(struct run *r, struct error *err)
{
	struct finetune *f = r->f;
	struct finetune_result *result = r->result;
	result->epochs++;
	const double loss = train_epoch(r);
	if (ctl_stopping())
		return STATUS_OK;
	if (!isfinite(loss))
		return error_set(err, STATUS_DATA,
				 "task %s: epoch %" PRIu32 ": no step had a finite gradient; lower --rate?",
				 f->input.task, result->epochs);
	ctl_progress_end(&r->progress, (int64_t)r->trained);
	if (!f->options.quiet)
		printf("epoch %" PRIu32 ": loss %.4f", result->epochs, loss);
	if (f->validation_count > 0) {
		const struct tuner_batch batch = { f->examples, f->validation, f->validation_count };
		struct tuner_sums sums;
		tuner_loss(f->tuner, &batch, &sums);
		const double mean = sums.loss / sums.weight;
		const bool best = !(mean >= result->best_loss) && isfinite(mean);
		if (best) {
			result->best_loss = mean;
			keep(r);
		}
		if (!f->options.quiet)
			printf(", validation %.4f%s", mean, best ? " (best)" : "");
	}
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
	if (r->result->best_epoch > 0)
		take_best(r);
	else
		r->result->best_epoch = r->result->epochs;
	if (f->patch->spec.type == PATCH_REGRESSION)
		patch_rescale(f->patch, f->scale, f->mean);
	r->result->examples_per_second = r->seconds > 0 ? (double)r->trained / r->seconds : 0;
	r->result->stopped = ctl_stopping();
	return STATUS_OK;
}

static enum status make_tuner(struct finetune *f, bool *ret_stopped, struct error *err)
{
	const bool cached = !f->trunk && (patch_head_only(f->patch) || f->patch->spec.insertion == PATCH_SIDE);
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
	r.best = parameters_block_new(&f->patch->table);
	r.best_trunk = parameters_block_new(&f->input.trunk->table);
	status = r.best && r.best_trunk ? train(&r, err) : error_set_memory(err);
	free(r.best);
	free(r.best_trunk);
	return status;
}
