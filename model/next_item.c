#include "model/next_item.h"

#include "model/backbone.h"
#include "model/loss.h"
#include "model/softmax.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CASES_A_PASS = 32, POSITIONS_A_PASS = 8192, TOKENS = 2, SCORES_A_PASS = 1 << 22 };

struct part {
	struct network_pass *pass;
	size_t *offsets; /* [cases of a pass + 1] */
	uint32_t *items; /* [positions] */
	float *states;   /* [cases of a pass, d] */
	float *scores;   /* [cases of a pass, items] */
	bool *excluded;  /* [items] */
	bool *marks;     /* [items] */
};

struct job {
	const struct network *net;
	const struct next_item_case *cases;
	const struct next_item_options *options;
	size_t count;
	size_t numbered;
	uint32_t parts;
	size_t longest;   /* events of a case that are read at most */
	size_t positions; /* of a pass */
	size_t at_once;   /* cases of a pass */
	struct part *all;
	struct next_item_outcome *last;
	struct next_item_outcome *task;
	struct loss_head head;
};

static enum status part_new(const struct job *j, struct part *part, struct error *err)
{
	part->offsets = calloc(j->at_once + 1, sizeof *part->offsets);
	part->items = calloc(j->positions, sizeof *part->items);
	part->states = calloc(j->at_once, j->head.dim * sizeof *part->states);
	part->scores = calloc(j->at_once, j->head.classes * sizeof *part->scores);
	part->excluded = calloc(j->head.classes, sizeof *part->excluded);
	part->marks = calloc(j->head.classes, sizeof *part->marks);
	if (!part->offsets || !part->items || !part->states || !part->scores || !part->excluded || !part->marks)
		return error_set_memory(err);
	return network_pass_new(j->net, 0, j->positions + TOKENS * j->at_once, j->at_once, NETWORK_KEEP_NOTHING,
				&part->pass, err);
}

static void part_free(struct part *part)
{
	network_pass_free(part->pass);
	free(part->offsets);
	free(part->items);
	free(part->states);
	free(part->scores);
	free(part->excluded);
	free(part->marks);
}

static void exclude(struct part *part, const struct next_item_case *one, bool value)
{
	for (size_t i = 0; i < one->events; i++)
		part->excluded[one->history[i]] = value;
}

static bool all_finite(const float *values, size_t n)
{
	bool finite = true;
	for (size_t i = 0; i < n; i++)
		finite = finite & (isfinite(values[i]) != 0);
	return finite;
}

static struct next_item_outcome judge(const struct job *j, struct part *part, size_t number, float *scores)
{
	const struct next_item_case *one = &j->cases[number];
	const uint32_t classes = j->head.classes;
	struct next_item_outcome outcome = { UINT32_MAX, (double)NAN };
	float max = 0;
	if (one->target < BACKBONE_FIRST_ITEM)
		return outcome;
	if (!j->options->include_seen)
		exclude(part, one, true);
	memset(part->excluded, true, BACKBONE_FIRST_ITEM);
	if (j->options->negatives > 0) {
		struct random_stream random = random_from(j->options->seed, j->numbered + number);
		outcome.rank = metrics_sampled_rank(scores, classes, one->target, part->excluded, j->options->negatives,
						    &random, part->marks);
	} else {
		outcome.rank = metrics_rank(scores, classes, one->target, part->excluded);
	}
	exclude(part, one, false);
	if (!all_finite(scores + BACKBONE_FIRST_ITEM, classes - BACKBONE_FIRST_ITEM))
		return outcome;
	const double score = (double)scores[one->target];
	const double sum = (double)softmax_row(scores + BACKBONE_FIRST_ITEM, classes - BACKBONE_FIRST_ITEM, &max);
	outcome.log_loss = log(sum) - (score - (double)max);
	return outcome;
}

/* Outcomes of cases [first, first + n) by their states, [n, d]. */
static void judge_all(const struct job *j, struct part *part, size_t first, size_t n, const float *states,
		      struct next_item_outcome *out)
{
	loss_scores(&j->head, n, states, part->scores);
	for (size_t i = 0; i < n; i++)
		out[first + i] = judge(j, part, first + i, part->scores + i * j->head.classes);
}

/* The newest events' states, side by side; cases without events are no cases here. */
static void judge_last(const struct job *j, struct part *part, size_t first, size_t n)
{
	const size_t dim = j->head.dim;
	const float *every = network_pass_every(part->pass);
	for (size_t i = 0; i < n; i++) {
		if (part->offsets[i + 1] > part->offsets[i])
			memcpy(part->states + i * dim, every + (part->offsets[i + 1] - 1) * dim, dim * sizeof *every);
		else
			memset(part->states + i * dim, 0, dim * sizeof *every);
	}
	judge_all(j, part, first, n, part->states, j->last);
	for (size_t i = 0; i < n; i++)
		if (part->offsets[i + 1] == part->offsets[i])
			j->last[first + i] = (struct next_item_outcome){ UINT32_MAX, (double)NAN };
}

/* Cases [first, first + n), whose events fit into a pass. */
static void rank_some(const struct job *j, struct part *part, size_t first, size_t n)
{
	const struct network_batch batch = {
		.sequences = n, .offsets = part->offsets, .items = part->items, .newest = j->last != NULL
	};
	for (size_t i = 0; i < n; i++) {
		const struct next_item_case *one = &j->cases[first + i];
		size_t events = one->events < j->longest ? one->events : j->longest;
		memcpy(part->items + part->offsets[i], one->history + one->events - events,
		       events * sizeof *part->items);
		part->offsets[i + 1] = part->offsets[i] + events;
	}
	network_forward(j->net, NULL, part->pass, &batch);
	if (j->task)
		judge_all(j, part, first, n, network_pass_task(part->pass), j->task);
	if (j->last)
		judge_last(j, part, first, n);
}

static void run_part(void *arg, uint32_t number)
{
	const struct job *j = arg;
	size_t first = j->count * number / j->parts;
	size_t end = j->count * (number + 1) / j->parts;
	while (first < end) {
		size_t n = 0;
		for (size_t positions = 0; first + n < end && n < j->at_once; n++) {
			size_t events = j->cases[first + n].events;
			positions += events < j->longest ? events : j->longest;
			if (positions > j->positions)
				break;
		}
		rank_some(j, &j->all[number], first, n);
		first += n;
	}
}

/* No case reads more than this: the receptive field of the newest event's state, or the window. */
static void measure(struct job *j)
{
	const struct network_shape *shape = &j->net->shape;
	size_t most = shape->causal ? network_field(shape) : shape->window;
	size_t rows = SCORES_A_PASS / j->head.classes;
	for (size_t i = 0; i < j->count; i++)
		if (j->cases[i].events > j->longest)
			j->longest = j->cases[i].events;
	j->longest = j->longest < most ? j->longest : most;
	j->positions = j->longest > POSITIONS_A_PASS ? j->longest : POSITIONS_A_PASS;
	j->at_once = rows < CASES_A_PASS ? rows + (rows == 0) : CASES_A_PASS;
}

enum status next_item_outcomes(const struct network *net, const struct parallel *parallel,
			       const struct next_item_case cases[], size_t count, size_t numbered,
			       const struct next_item_options *options, struct next_item_outcome last[],
			       struct next_item_outcome task[], struct error *err)
{
	struct job j = { .net = net,
			 .cases = cases,
			 .options = options,
			 .count = count,
			 .numbered = numbered,
			 .parts = parallel->parts,
			 .last = last,
			 .task = task };
	j.head = (struct loss_head){ net->shape.channels, net->shape.items,
				     net->weights + parameters_find(&net->table, "output.weight")->offset,
				     net->weights + parameters_find(&net->table, "output.bias")->offset };
	measure(&j);
	j.all = calloc(j.parts, sizeof *j.all);
	enum status status = j.all ? STATUS_OK : error_set_memory(err);
	for (uint32_t i = 0; i < j.parts && !status; i++)
		status = part_new(&j, &j.all[i], err);
	if (!status)
		parallel->run(parallel->arg, j.parts, run_part, &j);
	for (uint32_t i = 0; j.all && i < j.parts; i++)
		part_free(&j.all[i]);
	free(j.all);
	return status;
}

enum status next_item_rank(const struct network *net, const struct parallel *parallel,
			   const struct next_item_case cases[], size_t count, uint32_t k, struct next_item_result *ret,
			   struct error *err)
{
	const struct next_item_options options = { 0 };
	struct next_item_outcome *last = calloc(count + 1, sizeof *last);
	struct next_item_outcome *task = calloc(count + 1, sizeof *task);
	enum status status = last && task ? STATUS_OK : error_set_memory(err);
	if (!status)
		status = next_item_outcomes(net, parallel, cases, count, 0, &options, net->shape.causal ? last : NULL,
					    task, err);
	if (!status) {
		struct next_item_result result = { { .k = k }, { .k = k } };
		for (size_t i = 0; i < count; i++) {
			metrics_ranking_add(&result.task, task[i].rank);
			if (net->shape.causal)
				metrics_ranking_add(&result.last, last[i].rank);
		}
		*ret = result;
	}
	free(last);
	free(task);
	return status;
}
