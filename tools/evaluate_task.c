/* Metrics of a patch's task on labels. */
#include "tools/evaluate.h"

#include "base/hash.h"
#include "model/side.h"
#include "model/tuner.h"
#include "tools/ctl.h"
#include "tools/task_data.h"
#include "tools/user_rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXAMPLES_A_PASS = 256, POSITIONS_A_PASS = 1 << 16 };

struct label_row { /* of the head, by the label's hash */
	uint64_t hash;
	uint32_t row;
};

struct task {
	struct evaluate *e;
	struct patch *patch;
	struct audience *audience;
	struct task_data data;
	size_t *begins;  /* [users]: where a user's events begin in `items` */
	uint32_t *items; /* vocabulary indices of all events */
	struct tuner_example *examples;
	float *scores; /* [examples, classes] */
	/* ranking */
	struct label_row *rows; /* [classes], by hash */
	bool *excluded, *marks; /* [classes] */
	struct evaluate_ranks ranks;
	size_t unknown; /* targets */
};

static int by_hash(const void *a, const void *b)
{
	const struct label_row *x = a, *y = b;
	return (x->hash > y->hash) - (x->hash < y->hash);
}

/* The head's row of an item, UINT32_MAX where it has none. */
static uint32_t row_of(const struct task *t, uint64_t hash)
{
	const struct label_row key = { hash, 0 };
	const struct label_row *found = bsearch(&key, t->rows, t->patch->classes, sizeof key, by_hash);
	return found ? found->row : UINT32_MAX;
}

/* What ranks are made of; at least one of the labels must have a row. */
static enum status index_rows(struct task *t, struct error *err)
{
	const uint32_t classes = t->patch->classes;
	if (t->e->negatives > 0 && t->e->negatives >= (int64_t)classes)
		return error_set(err, STATUS_USAGE, "--negatives: %" PRId64 ", and %s has %" PRIu32 " targets",
				 t->e->negatives, t->e->patch, classes);
	t->rows = calloc((size_t)t->patch->classes + 1, sizeof *t->rows);
	t->excluded = calloc((size_t)t->patch->classes + 1, sizeof *t->excluded);
	t->marks = calloc((size_t)t->patch->classes + 1, sizeof *t->marks);
	if (!t->rows || !t->excluded || !t->marks)
		return error_set_memory(err);
	evaluate_ranks_start(t->e, &t->ranks);
	for (uint32_t i = 0; i < t->patch->classes; i++)
		t->rows[i] = (struct label_row){ hash_item(t->patch->labels[i], strlen(t->patch->labels[i])), i };
	qsort(t->rows, classes, sizeof *t->rows, by_hash);
	for (size_t i = 0; i < t->data.count; i++) {
		const char *label = t->data.labels[t->data.examples[i].target];
		if (row_of(t, hash_item(label, strlen(label))) != UINT32_MAX)
			return STATUS_OK;
	}
	return error_set(err, STATUS_DATA, "%s: no label is one of the %" PRIu32 " targets of %s", t->e->labels,
			 classes, t->e->patch);
}

static enum status load(struct task *t, struct error *err)
{
	struct evaluate *e = t->e;
	bool unnamed = false;
	enum status status = patch_load(e->patch, e->trunk.net, e->trunk.hash, &t->patch, &unnamed, err);
	if (status)
		return status;
	if (unnamed)
		(void)fprintf(stderr, "peterctl: %s: does not say which backbone it belongs to\n", e->patch);
	const struct task_labels known = { (const char *const *)t->patch->labels, t->patch->classes };
	const char *task = e->task ? e->task : t->patch->task;
	status = audience_load(e->events, &t->audience, err);
	if (!status)
		status = task_data_load(e->labels, task, t->patch->spec.type,
					t->patch->spec.type == PATCH_CLASSIFICATION ? &known : NULL, t->audience,
					&t->data, err);
	if (!status && task_data_check(&t->data, task, err))
		status = error_prefix(err, "%s", e->labels);
	if (!status && t->patch->spec.type == PATCH_RANKING)
		status = index_rows(t, err);
	if (!status)
		task_data_say(&t->data, e->labels);
	return status;
}

static enum status make_examples(struct task *t, struct error *err)
{
	const size_t users = audience_users(t->audience);
	t->begins = calloc(users + 1, sizeof *t->begins);
	t->items = calloc(audience_events(t->audience) + 1, sizeof *t->items);
	t->examples = calloc(t->data.count + 1, sizeof *t->examples);
	if (!t->begins || !t->items || !t->examples)
		return error_set_memory(err);
	for (size_t user = 0; user < users; user++) {
		size_t length;
		const struct event *events = audience_sequence(t->audience, user, &length);
		for (size_t i = 0; i < length; i++)
			t->items[t->begins[user] + i] = vocabulary_index(t->e->trunk.vocabulary, events[i].item);
		t->begins[user + 1] = t->begins[user] + length;
	}
	for (size_t i = 0; i < t->data.count; i++) {
		const struct task_example *from = &t->data.examples[i];
		t->examples[i] = (struct tuner_example){ .items = t->items + t->begins[from->user],
							 .length = from->events,
							 .weight = 1 };
	}
	return STATUS_OK;
}

/* As many as keep a pass's memory bounded, whatever the receptive field. */
static size_t examples_at_once(const struct task *t)
{
	const struct network_shape *shape = &t->e->trunk.net->shape;
	const size_t window = side_events(shape, t->patch->spec.mean_window);
	const size_t fit = POSITIONS_A_PASS / (window + 2);
	const size_t once = fit < EXAMPLES_A_PASS ? fit : EXAMPLES_A_PASS;
	return once > t->e->parallel.parts ? once : t->e->parallel.parts;
}

/* Marks the rows of items that the example's user has had. */
static void exclude(const struct task *t, const struct task_example *example, bool value)
{
	size_t length;
	const struct event *events = audience_sequence(t->audience, example->user, &length);
	for (size_t i = 0; i < example->events; i++) {
		const uint32_t row = row_of(t, events[i].item);
		if (row != UINT32_MAX)
			t->excluded[row] = value;
	}
}

static void add_rank(struct task *t, size_t number, const float *scores)
{
	const struct task_example *example = &t->data.examples[number];
	const char *label = t->data.labels[example->target];
	const uint32_t row = row_of(t, hash_item(label, strlen(label)));
	const uint32_t negatives = (uint32_t)t->e->negatives;
	if (row == UINT32_MAX) {
		t->unknown++;
		evaluate_ranks_add(t->e, &t->ranks, UINT32_MAX);
		return;
	}
	struct random_stream random = random_from((uint64_t)t->e->seed, number);
	if (!t->e->include_seen)
		exclude(t, example, true);
	evaluate_ranks_add(t->e, &t->ranks,
			   negatives > 0 ? metrics_sampled_rank(scores, t->patch->classes, row, t->excluded, negatives,
								&random, t->marks)
					 : metrics_rank(scores, t->patch->classes, row, t->excluded));
	exclude(t, example, false);
}

static enum status score(struct task *t, struct error *err)
{
	struct tuner *tuner = NULL;
	const bool ranking = t->patch->spec.type == PATCH_RANKING;
	const size_t once = examples_at_once(t);
	t->scores = calloc((ranking ? once : t->data.count) + 1, t->patch->classes * sizeof *t->scores);
	enum status status = t->scores ? tuner_new(t->patch, t->e->trunk.net, NULL, &t->e->parallel, once, &tuner, err)
				       : error_set_memory(err);
	struct ctl_progress progress;
	ctl_progress_start(&progress, "examples", (int64_t)t->data.count);
	for (size_t first = 0; first < t->data.count && !status; first += once) {
		const size_t n = t->data.count - first < once ? t->data.count - first : once;
		const struct tuner_batch batch = { .examples = t->examples + first, .count = n };
		float *scores = ranking ? t->scores : t->scores + first * t->patch->classes;
		tuner_scores(tuner, &batch, scores);
		if (user_rows_check(scores, n, t->patch->classes, err))
			status = error_prefix(err, "%s: scores", t->e->patch);
		for (size_t i = 0; i < n && ranking && !status; i++)
			add_rank(t, first + i, t->scores + i * t->patch->classes);
		ctl_progress_show(&progress, (int64_t)(first + n));
	}
	ctl_progress_end(&progress, (int64_t)t->data.count);
	tuner_free(tuner);
	return status;
}

/* Of one class against the rest. */
static double area_of(const struct task *t, struct metrics_scored *scored, uint32_t class)
{
	for (size_t i = 0; i < t->data.count; i++)
		scored[i] = (struct metrics_scored){ t->scores[i * t->patch->classes + class],
						     t->data.examples[i].target == class };
	return metrics_auc(scored, t->data.count);
}

/* Of two classes, or the mean over those that occur and are not all there is. */
static enum status report_area(struct task *t, struct error *err)
{
	const uint32_t classes = t->patch->classes;
	struct metrics_scored *scored = calloc(t->data.count + 1, sizeof *scored);
	struct evaluate_mean mean = { 0 };
	if (!scored)
		return error_set_memory(err);
	if (classes == 2)
		evaluate_mean_add(&mean, area_of(t, scored, 1));
	for (uint32_t class = 0; class < classes && classes > 2; class ++)
		evaluate_mean_add(&mean, area_of(t, scored, class));
	free(scored);
	report_number(&t->e->report, "auc", classes > 2 ? "AUC (mean)" : "AUC",
		      mean.count ? mean.sum / (double)mean.count : (double)NAN, (double)NAN);
	return STATUS_OK;
}

static enum status report_classification(struct task *t, struct error *err)
{
	const double least = 1e-15; /* a probability of 0 is no infinite loss */
	struct evaluate_mean accuracy = { 0 }, loss = { 0 };
	for (size_t i = 0; i < t->data.count; i++) {
		const float *row = t->scores + i * t->patch->classes;
		const uint32_t target = t->data.examples[i].target;
		const double p = (double)row[target];
		evaluate_mean_add(&accuracy, metrics_rank(row, t->patch->classes, target, NULL) == 0);
		evaluate_mean_add(&loss, -log(p < least ? least : p));
	}
	evaluate_mean_report(t->e, "accuracy", "accuracy", &accuracy);
	evaluate_mean_report(t->e, "log_loss", "log loss", &loss);
	return report_area(t, err);
}

static void report_regression(struct task *t)
{
	struct evaluate_mean absolute = { 0 }, square = { 0 };
	for (size_t i = 0; i < t->data.count; i++) {
		const double error = (double)t->scores[i] - (double)t->data.examples[i].value;
		evaluate_mean_add(&absolute, fabs(error));
		evaluate_mean_add(&square, error * error);
	}
	report_number(&t->e->report, "rmse", "RMSE", sqrt(square.sum / (double)square.count), (double)NAN);
	evaluate_mean_report(t->e, "mae", "MAE", &absolute);
}

static void report_ranking(struct task *t)
{
	report_count(&t->e->report, "targets", "target items", t->patch->classes);
	report_count(&t->e->report, "unknown_targets", "unknown targets", t->unknown);
	evaluate_ranks_report(t->e, &t->ranks);
}

static enum status report(struct task *t, struct error *err)
{
	struct report *r = &t->e->report;
	report_text(r, "backbone", "backbone", t->e->trunk.hash);
	report_text(r, "patch", "patch", t->patch->hash);
	report_text(r, "task", "task", t->e->task ? t->e->task : t->patch->task);
	report_text(r, "type", "type", patch_type_name(t->patch->spec.type));
	report_count(r, "examples", "examples", t->data.count);
	report_count(r, "users", "users", t->data.users);
	report_count(r, "unknown_users", NULL, t->data.unknown);
	report_count(r, "without_events", NULL, t->data.early);
	switch (t->patch->spec.type) {
	case PATCH_CLASSIFICATION:
		return report_classification(t, err);
	case PATCH_RANKING:
		report_ranking(t);
		break;
	case PATCH_REGRESSION:
		report_regression(t);
		break;
	}
	return STATUS_OK;
}

enum status evaluate_task(struct evaluate *e, struct error *err)
{
	struct task t = { .e = e };
	enum status status = load(&t, err);
	if (!status)
		status = make_examples(&t, err);
	if (!status)
		status = score(&t, err);
	if (!status)
		status = report(&t, err);
	patch_free(t.patch);
	audience_free(t.audience);
	task_data_free(&t.data);
	free(t.begins);
	free(t.items);
	free(t.examples);
	free(t.scores);
	free(t.rows);
	free(t.excluded);
	free(t.marks);
	return status;
}
