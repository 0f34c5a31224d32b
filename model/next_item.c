#include "model/next_item.h"

#include "model/backbone.h"
#include "model/loss.h"

#include <stdlib.h>
#include <string.h>

enum { CASES_A_PASS = 32, POSITIONS_A_PASS = 8192, TOKENS = 2 };

struct part {
	struct network_pass *pass;
	size_t *offsets; /* [CASES_A_PASS + 1] */
	uint32_t *items; /* [positions] */
	float *states;   /* [CASES_A_PASS, d]: the newest events' */
	float *scores;   /* [items] */
	bool *excluded;  /* [items] */
};

struct job {
	const struct network *net;
	const struct next_item_case *cases;
	size_t count;
	uint32_t parts;
	size_t longest;   /* events of a case that are read at most */
	size_t positions; /* of a pass */
	struct part *all;
	uint32_t *last; /* [count] ranks */
	uint32_t *task;
	struct loss_head head;
};

static enum status part_new(const struct job *j, struct part *part, struct error *err)
{
	part->offsets = calloc(CASES_A_PASS + 1, sizeof *part->offsets);
	part->items = calloc(j->positions, sizeof *part->items);
	part->states = calloc(CASES_A_PASS, j->head.dim * sizeof *part->states);
	part->scores = calloc(j->head.classes, sizeof *part->scores);
	part->excluded = calloc(j->head.classes, sizeof *part->excluded);
	if (!part->offsets || !part->items || !part->states || !part->scores || !part->excluded)
		return error_set_memory(err);
	return network_pass_new(j->net, 0, j->positions + (size_t)TOKENS * CASES_A_PASS, CASES_A_PASS,
				NETWORK_KEEP_NOTHING, &part->pass, err);
}

static void part_free(struct part *part)
{
	network_pass_free(part->pass);
	free(part->offsets);
	free(part->items);
	free(part->states);
	free(part->scores);
	free(part->excluded);
}

static void exclude(struct part *part, const struct next_item_case *one, bool value)
{
	for (size_t i = 0; i < one->events; i++)
		part->excluded[one->history[i]] = value;
	memset(part->excluded, true, BACKBONE_FIRST_ITEM);
	part->excluded[one->target] = false;
}

static uint32_t rank(const struct job *j, struct part *part, const struct next_item_case *one, const float *state)
{
	loss_scores(&j->head, 1, state, part->scores);
	return metrics_rank(part->scores, j->head.classes, one->target, part->excluded);
}

/* Ranks cases [first, first + n), whose events fit into a pass. */
static void rank_some(const struct job *j, struct part *part, size_t first, size_t n)
{
	size_t dim = j->head.dim;
	const struct network_batch batch = {
		.sequences = n, .offsets = part->offsets, .items = part->items, .newest = j->net->shape.causal
	};
	for (size_t i = 0; i < n; i++) {
		const struct next_item_case *one = &j->cases[first + i];
		size_t events = one->events < j->longest ? one->events : j->longest;
		memcpy(part->items + part->offsets[i], one->history + one->events - events,
		       events * sizeof *part->items);
		part->offsets[i + 1] = part->offsets[i] + events;
	}
	network_forward(j->net, NULL, part->pass, &batch);
	const float *task = network_pass_task(part->pass);
	const float *every = batch.newest ? network_pass_every(part->pass) : NULL;
	for (size_t i = 0; i < n; i++) {
		const struct next_item_case *one = &j->cases[first + i];
		exclude(part, one, true);
		j->task[first + i] = rank(j, part, one, task + i * dim);
		if (every)
			j->last[first + i] = rank(j, part, one, every + (part->offsets[i + 1] - 1) * dim);
		exclude(part, one, false);
	}
}

static void run_part(void *arg, uint32_t number)
{
	const struct job *j = arg;
	size_t first = j->count * number / j->parts;
	size_t end = j->count * (number + 1) / j->parts;
	while (first < end) {
		size_t n = 0;
		for (size_t positions = 0; first + n < end && n < CASES_A_PASS; n++) {
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
	for (size_t i = 0; i < j->count; i++)
		if (j->cases[i].events > j->longest)
			j->longest = j->cases[i].events;
	j->longest = j->longest < most ? j->longest : most;
	j->positions = j->longest > POSITIONS_A_PASS ? j->longest : POSITIONS_A_PASS;
}

static enum status prepare(struct job *j, struct error *err)
{
	const struct network *net = j->net;
	j->head = (struct loss_head){ net->shape.channels, net->shape.items,
				      net->weights + parameters_find(&net->table, "output.weight")->offset,
				      net->weights + parameters_find(&net->table, "output.bias")->offset };
	measure(j);
	j->last = calloc(j->count + 1, sizeof *j->last);
	j->task = calloc(j->count + 1, sizeof *j->task);
	j->all = calloc(j->parts, sizeof *j->all);
	enum status status = j->last && j->task && j->all ? STATUS_OK : error_set_memory(err);
	for (uint32_t i = 0; i < j->parts && !status; i++)
		status = part_new(j, &j->all[i], err);
	return status;
}

enum status next_item_rank(const struct network *net, const struct parallel *parallel,
			   const struct next_item_case cases[], size_t count, uint32_t k, struct next_item_result *ret,
			   struct error *err)
{
	struct job j = { .net = net, .cases = cases, .count = count, .parts = parallel->parts };
	enum status status = prepare(&j, err);
	if (!status) {
		struct next_item_result result = { { .k = k }, { .k = k } };
		parallel->run(parallel->arg, j.parts, run_part, &j);
		for (size_t i = 0; i < count; i++) {
			metrics_ranking_add(&result.task, j.task[i]);
			if (net->shape.causal)
				metrics_ranking_add(&result.last, j.last[i]);
		}
		*ret = result;
	}
	for (uint32_t i = 0; j.all && i < j.parts; i++)
		part_free(&j.all[i]);
	free(j.all);
	free(j.last);
	free(j.task);
	return status;
}
