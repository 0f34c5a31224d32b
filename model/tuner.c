#include "model/tuner.h"

#include "model/loss.h"
#include "model/tuner_private.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EVALUATION_STREAM 0x6576616c75617465 /* apart from those of the steps */
#define POSITIONS_AT_ONCE 8192               /* of a part: with a wide receptive field one sequence after the other */
#define SOFTMAX_ROWS_AT_MOST 4096            /* larger heads of ranking tasks are trained by samples */

static const char *const loss_names[] = { "softmax", "sampled", "bpr", "bce", "hard", "squared" };

const char *tuner_loss_name(enum tuner_loss loss)
{
	return loss_names[loss];
}

bool tuner_loss_parse(const char *name, enum tuner_loss *ret)
{
	for (size_t i = 0; i < sizeof loss_names / sizeof loss_names[0]; i++) {
		if (strcmp(loss_names[i], name) == 0) {
			*ret = (enum tuner_loss)i;
			return true;
		}
	}
	return false;
}

enum tuner_loss tuner_default_loss(enum patch_type type, uint32_t classes)
{
	if (type == PATCH_REGRESSION)
		return TUNER_SQUARED;
	return type == PATCH_RANKING && classes > SOFTMAX_ROWS_AT_MOST ? TUNER_SAMPLED : TUNER_SOFTMAX;
}

static enum status init(struct tuner *t, struct error *err)
{
	enum status status = STATUS_OK;
	t->parts = calloc(t->parallel->parts, sizeof *t->parts);
	if (t->parts == NULL)
		return error_set_memory(err);
	for (uint32_t i = 0; status == STATUS_OK && i < t->parallel->parts; i++)
		status = tuner_part_init(t, &t->parts[i], err);
	if (status == STATUS_OK && t->training)
		status = optimizer_init(&t->optimizer, &t->options.optimizer, &t->patch->table, err);
	if (status == STATUS_OK && t->training && t->options.trunk)
		status = optimizer_init(&t->trunk_optimizer, &t->options.optimizer, &t->net->table, err);
	return status;
}

/* Newest events that a state depends on. */
static size_t events_read(const struct tuner *t)
{
	if (t->net == NULL)
		return 0;
	if (!t->net->shape.causal)
		return t->net->shape.window;
	return tuner_reads_side(t) ? side_events(&t->net->shape, t->patch->spec.mean_window)
				   : network_field(&t->net->shape) - 1;
}

/* Examples that a part runs at once: as many as it ever has, but no more than keep the activations' memory bounded. */
static size_t piece_rows(const struct tuner *t)
{
	const size_t rows = (t->at_once + t->parallel->parts - 1) / t->parallel->parts;
	const size_t fit = t->net == NULL ? rows : POSITIONS_AT_ONCE / (t->window + 2);
	return rows < fit ? rows : fit > 0 ? fit : 1;
}

enum status tuner_new(struct patch *patch, struct network *net, const struct tuner_options *options,
		      const struct parallel *parallel, size_t at_once, struct tuner **ret, struct error *err)
{
	assert(net != NULL || patch_head_only(patch) || patch->spec.insertion == PATCH_SIDE);
	assert(options == NULL || !options->trunk || (net != NULL && patch_head_only(patch)));
	struct tuner *t = calloc(1, sizeof *t);
	if (t == NULL)
		return error_set_memory(err);
	t->patch = patch;
	t->net = net;
	t->training = options != NULL;
	t->options = options != NULL ? *options : (struct tuner_options){ .negatives = 1 };
	t->parallel = parallel;
	t->at_once = at_once;
	t->window = events_read(t);
	t->rows = piece_rows(t);
	enum status status = init(t, err);
	if (status == STATUS_OK)
		*ret = t;
	else
		tuner_free(t);
	return status;
}

void tuner_free(struct tuner *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; t->parts != NULL && i < t->parallel->parts; i++)
		tuner_part_close(&t->parts[i]);
	optimizer_close(&t->optimizer);
	optimizer_close(&t->trunk_optimizer);
	free(t->parts);
	free(t);
}

struct optimizer *tuner_optimizer(struct tuner *t)
{
	return &t->optimizer;
}

/* What one call of parallel->run is about. */
struct job {
	struct tuner *t;
	const struct tuner_batch *batch;
	size_t first; /* of the batch */
	size_t count; /* at most at_once */
	float scale;  /* of the gradients; 0: none */
	bool loss;
	uint64_t stream;   /* of random numbers, with the part's number behind it */
	float *embeddings; /* where wanted: rows `first` on */
	float *scores;
};

static void write_out(const struct job *job, const struct tuner_part *part, size_t first, size_t n)
{
	const struct patch *p = job->t->patch;
	const struct loss_head head = { p->channels, p->classes, p->weights + p->head_weight,
					p->weights + p->head_bias };
	if (job->embeddings != NULL)
		memcpy(job->embeddings + first * p->channels, part->hidden, n * p->channels * sizeof(float));
	if (job->scores == NULL || p->classes == 0)
		return;
	loss_scores(&head, n, part->hidden, job->scores + first * p->classes);
	if (p->spec.type == PATCH_CLASSIFICATION)
		loss_probabilities(n, p->classes, job->scores + first * p->classes);
}

static void run_part(void *arg, uint32_t number)
{
	const struct job *job = arg;
	struct tuner *t = job->t;
	struct tuner_part *part = &t->parts[number];
	const size_t begin = job->count * number / t->parallel->parts;
	const size_t n = job->count * (number + (size_t)1) / t->parallel->parts - begin;
	struct random_stream random = random_from(t->options.seed, job->stream * t->parallel->parts + number);
	if (job->scale > 0)
		memset(part->gradients, 0, t->patch->table.floats * sizeof(float));
	if (job->scale > 0 && t->options.trunk)
		memset(part->trunk, 0, t->net->table.floats * sizeof(float));
	for (size_t at = 0; at < n; at += t->rows) {
		const size_t rows = n - at < t->rows ? n - at : t->rows;
		tuner_part_forward(t, part, job->batch, job->first + begin + at, rows);
		write_out(job, part, job->first + begin + at, rows);
		if (job->loss)
			tuner_part_loss(t, part, job->batch, job->first + begin + at, rows, &random, job->scale);
		if (job->scale > 0)
			tuner_part_backward(t, part, rows);
	}
}

/* Runs the parts and adds up their sums, in order. */
static void run(struct job *job, struct tuner_sums *sums)
{
	struct tuner *t = job->t;
	for (uint32_t i = 0; i < t->parallel->parts; i++)
		t->parts[i].sums = (struct tuner_sums){ 0 };
	t->parallel->run(t->parallel->arg, t->parallel->parts, run_part, job);
	for (uint32_t i = 0; i < t->parallel->parts; i++) {
		sums->loss += t->parts[i].sums.loss;
		sums->weight += t->parts[i].sums.weight;
	}
}

/* The batch piece by piece; what a piece computes depends on the examples in it only. */
static void run_all(struct tuner *t, const struct tuner_batch *batch, struct job job, struct tuner_sums *sums)
{
	job.t = t;
	job.batch = batch;
	for (job.first = 0; job.first < batch->count; job.first += job.count) {
		const size_t left = batch->count - job.first;
		job.count = left < t->at_once ? left : t->at_once;
		run(&job, sums);
		job.stream++;
	}
}

static double total_weight(const struct tuner_batch *batch)
{
	double sum = 0;
	for (size_t i = 0; i < batch->count; i++)
		sum += (double)batch->examples[batch->indices == NULL ? i : batch->indices[i]].weight;
	return sum;
}

static void add_blocks(float *sum, const float *block, size_t floats)
{
	for (size_t i = 0; i < floats; i++)
		sum[i] += block[i];
}

bool tuner_step(struct tuner *t, const struct tuner_batch *batch, struct tuner_sums *ret)
{
	assert(t->training && batch->count <= t->at_once);
	const double weight = total_weight(batch);
	struct job job = { .t = t, .batch = batch, .count = batch->count, .loss = true, .stream = t->optimizer.step };
	double norm;
	*ret = (struct tuner_sums){ 0 };
	job.scale = (float)(1 / weight);
	if (!(weight > 0) || !isfinite(job.scale))
		return false;
	run(&job, ret);
	struct tuner_part *all = &t->parts[0];
	for (uint32_t i = 1; i < t->parallel->parts; i++) {
		add_blocks(all->gradients, t->parts[i].gradients, t->patch->table.floats);
		if (t->options.trunk)
			add_blocks(all->trunk, t->parts[i].trunk, t->net->table.floats);
	}
	if (!isfinite(ret->loss) ||
	    !optimizer_step(&t->optimizer, &t->patch->table, t->patch->weights, all->gradients, &norm))
		return false;
	return !t->options.trunk ||
	       optimizer_step(&t->trunk_optimizer, &t->net->table, t->net->weights, all->trunk, &norm);
}

void tuner_loss(struct tuner *t, const struct tuner_batch *batch, struct tuner_sums *ret)
{
	assert(t->training);
	*ret = (struct tuner_sums){ 0 };
	run_all(t, batch, (struct job){ .loss = true, .stream = EVALUATION_STREAM }, ret);
}

void tuner_embed(struct tuner *t, const struct tuner_batch *batch, float *out)
{
	struct tuner_sums ignored = { 0 };
	run_all(t, batch, (struct job){ .embeddings = out }, &ignored);
}

void tuner_scores(struct tuner *t, const struct tuner_batch *batch, float *out)
{
	struct tuner_sums ignored = { 0 };
	run_all(t, batch, (struct job){ .scores = out }, &ignored);
}

/* Parts and optimizer anew for the patch's new table; `old` is the one before. */
static enum status regrow(struct tuner *t, const struct parameters *old, struct error *err)
{
	struct optimizer before = t->optimizer;
	enum status status = STATUS_OK;
	t->optimizer = (struct optimizer){ 0 };
	for (uint32_t i = 0; status == STATUS_OK && i < t->parallel->parts; i++) {
		tuner_part_close(&t->parts[i]);
		status = tuner_part_init(t, &t->parts[i], err);
	}
	if (status == STATUS_OK && t->training)
		status = optimizer_init(&t->optimizer, &before.options, &t->patch->table, err);
	if (status == STATUS_OK && t->training) {
		t->optimizer.step = before.step;
		patch_move_block(old, &t->patch->table, before.mean, t->optimizer.mean);
		patch_move_block(old, &t->patch->table, before.square, t->optimizer.square);
	}
	optimizer_close(&before);
	return status;
}

enum status tuner_grow(struct tuner *t, const char *const labels[], uint32_t more, struct random_stream *random,
		       struct error *err)
{
	struct parameters old = t->patch->table;
	old.list = malloc(old.count * sizeof *old.list);
	if (old.list == NULL)
		return error_set_memory(err);
	memcpy(old.list, t->patch->table.list, old.count * sizeof *old.list);
	enum status status = patch_grow(t->patch, labels, more, random, err);
	if (status == STATUS_OK)
		status = regrow(t, &old, err);
	parameters_free(&old);
	return status;
}
