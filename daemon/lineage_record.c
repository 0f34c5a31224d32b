/* What the records of a lineage say of its learner. */
#include "daemon/lineage_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const models[LEARNER_MODELS] = {
	[LEARNER_LIVE] = "live",
	[LEARNER_CHALLENGER] = "challenger",
	[LEARNER_PREDECESSOR] = "predecessor",
	[LEARNER_PRIOR] = "prior",
};

static const struct metric_row {
	const char *name;
	size_t offset;  /* of the sum in struct learner_sums */
	unsigned types; /* 1 << enum patch_type */
	bool prior, root;
} rows[] = {
#define CLASSES (1U << PATCH_CLASSIFICATION)
#define ITEMS (1U << PATCH_RANKING)
#define VALUES (1U << PATCH_REGRESSION)
	{ "loss", offsetof(struct learner_sums, loss), CLASSES | ITEMS | VALUES, true, false },
	{ "log_loss", offsetof(struct learner_sums, log_loss), CLASSES, false, false },
	{ "accuracy", offsetof(struct learner_sums, right), CLASSES, false, false },
	{ "mrr_at_5", offsetof(struct learner_sums, reciprocal), ITEMS, false, false },
	{ "hit_rate_at_5", offsetof(struct learner_sums, hits), ITEMS, false, false },
	{ "ndcg_at_5", offsetof(struct learner_sums, gain), ITEMS, false, false },
	{ "rmse", offsetof(struct learner_sums, square), VALUES, false, true },
	{ "mae", offsetof(struct learner_sums, absolute), VALUES, false, false },
};

enum { ROWS = sizeof rows / sizeof *rows, METRICS_AT_MOST = LEARNER_MODELS * 2 * (ROWS + 1) + 4 };

static bool add(struct patch_record *record, double value, const char *model, const char *span, const char *name)
{
	struct patch_metric *m = &record->metrics[record->metric_count];
	char text[64];
	(void)snprintf(text, sizeof text, "%s%s%s%s%s", model, *model ? "." : "", span, *span ? "." : "", name);
	m->name = strdup(text);
	m->value = value;
	record->metric_count += m->name != NULL;
	return m->name != NULL;
}

static bool add_sums(const struct lineage *l, struct patch_record *record, const struct learner_sums *sums,
		     enum learner_model model, const char *span)
{
	bool done = true;
	if (!(sums->count > 0))
		return true;
	done = add(record, sums->count, models[model], span, "count");
	for (size_t i = 0; i < ROWS && done; i++) {
		double sum;
		if (!(rows[i].types & 1U << l->task->spec.type) || (model == LEARNER_PRIOR && !rows[i].prior))
			continue;
		memcpy(&sum, (const char *)sums + rows[i].offset, sizeof sum);
		const double mean = sum / sums->count;
		done = add(record, rows[i].root ? sqrt(mean) : mean, models[model], span, rows[i].name);
	}
	return done;
}

static bool add_metrics(const struct lineage *l, struct patch_record *record)
{
	const struct learner_metrics *m = learner_metrics(l->learner);
	const struct learner_counts *c = learner_counts(l->learner);
	bool done = true;
	for (int model = LEARNER_LIVE; model < LEARNER_MODELS && done; model++)
		done = add_sums(l, record, &m->whole[model], (enum learner_model)model, "all") &&
		       add_sums(l, record, &m->recent[model], (enum learner_model)model, "recent");
	return done && add(record, (double)learner_replay(l->learner), "", "", "replay") &&
	       add(record, (double)c->steps, "", "", "steps") && add(record, (double)c->skipped, "", "", "skipped") &&
	       add(record, learner_drifting(l->learner), "", "", "drifting");
}

static void clear_metrics(struct patch_record *record)
{
	for (size_t i = 0; i < record->metric_count; i++)
		free(record->metrics[i].name);
	free(record->metrics);
	record->metrics = NULL;
	record->metric_count = 0;
}

static void copy_hash(char to[HASH_HEX_LENGTH + 1], const char from[HASH_HEX_LENGTH + 1])
{
	memcpy(to, from, HASH_HEX_LENGTH + 1);
}

enum status lineage_describe(const struct lineage *l, struct patch_record *record, int64_t time_ms, struct error *err)
{
	const struct patch *live = learner_live(l->learner);
	const struct patch *predecessor = learner_predecessor(l->learner);
	const struct learner_counts *counts = learner_counts(l->learner);
	(void)snprintf(record->task, sizeof record->task, "%s", l->setup.lineage.task);
	(void)snprintf(record->backbone, sizeof record->backbone, "%s", l->setup.lineage.backbone);
	copy_hash(record->definition, l->task->hash);
	record->version = live->version;
	copy_hash(record->patch, live->hash);
	copy_hash(record->parent, live->parent);
	(void)snprintf(record->predecessor, sizeof record->predecessor, "%s", predecessor ? predecessor->hash : "");
	record->labels_trained = counts->labels;
	record->labels_dropped = counts->dropped;
	record->timestamp_ms = time_ms;
	clear_metrics(record);
	record->metrics = calloc(METRICS_AT_MOST, sizeof *record->metrics);
	return record->metrics && add_metrics(l, record) ? STATUS_OK : error_set_memory(err);
}
