/* Next-item metrics of a backbone. */
#include "tools/evaluate.h"

#include "model/backbone.h"
#include "model/next_item.h"
#include "tools/ctl.h"
#include "tools/next_item_cases.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CASES_AT_A_TIME = 1024 };

static enum status load_cases(const struct evaluate *e, struct next_item_cases *ret, struct error *err)
{
	enum status status = e->sequences
				     ? next_item_cases_lines(e->sequences, e->targets, e->trunk.vocabulary, ret, err)
				     : next_item_cases_events(e->events, e->trunk.vocabulary, ret, err);
	if (!status && e->users > 0)
		next_item_cases_thin(ret, (size_t)e->users, (uint64_t)e->seed);
	return status;
}

/* Whether from the task token's state; and whether the file can do what is asked for. */
static enum status choose_state(const struct evaluate *e, bool *ret, struct error *err)
{
	const bool causal = e->trunk.net->shape.causal;
	if (!e->trunk.net->shape.output)
		return error_set(err, STATUS_DATA, "%s: has no output layer (output.weight) to rank next items with",
				 e->backbone);
	if (e->from && !strcmp(e->from, "last") && !causal)
		return error_set(err, STATUS_USAGE,
				 "--from: %s is not causal: only the task token's state (tcl) ranks next items",
				 e->backbone);
	if (e->negatives > (int64_t)e->trunk.net->shape.items - BACKBONE_FIRST_ITEM - 1)
		return error_set(err, STATUS_USAGE, "--negatives: %" PRId64 ", and %s has %" PRIu32 " items",
				 e->negatives, e->backbone, e->trunk.net->shape.items - BACKBONE_FIRST_ITEM);
	*ret = e->from ? !strcmp(e->from, "tcl") : e->trunk.task || !causal;
	return STATUS_OK;
}

static enum status rank_all(struct evaluate *e, const struct next_item_cases *cases, bool task,
			    struct evaluate_ranks *ranks, struct evaluate_mean *loss, struct error *err)
{
	const struct next_item_options options = { e->include_seen, (uint32_t)e->negatives, (uint64_t)e->seed };
	struct next_item_outcome *outcomes = calloc(CASES_AT_A_TIME, sizeof *outcomes);
	enum status status = outcomes ? STATUS_OK : error_set_memory(err);
	struct ctl_progress progress;
	ctl_progress_start(&progress, "users", (int64_t)cases->count);
	for (size_t first = 0; first < cases->count && !status; first += CASES_AT_A_TIME) {
		size_t n = cases->count - first < CASES_AT_A_TIME ? cases->count - first : CASES_AT_A_TIME;
		status = next_item_outcomes(e->trunk.net, &e->parallel, cases->list + first, n, first, &options,
					    task ? NULL : outcomes, task ? outcomes : NULL, err);
		for (size_t i = 0; i < n && !status; i++) {
			if (outcomes[i].rank != UINT32_MAX && !isfinite(outcomes[i].log_loss))
				status = error_set(err, STATUS_DATA,
						   "%s: user %zu: a score is not finite: the weights are too large",
						   e->backbone, first + i + 1);
			evaluate_ranks_add(e, ranks, outcomes[i].rank);
			evaluate_mean_add(loss, outcomes[i].log_loss);
		}
		ctl_progress_show(&progress, (int64_t)(first + n));
	}
	ctl_progress_end(&progress, (int64_t)cases->count);
	free(outcomes);
	return status;
}

enum status evaluate_next_items(struct evaluate *e, struct error *err)
{
	struct next_item_cases cases = { 0 };
	struct evaluate_ranks ranks;
	struct evaluate_mean loss = { 0 };
	bool task = false;
	enum status status = choose_state(e, &task, err);
	if (!status)
		status = load_cases(e, &cases, err);
	evaluate_ranks_start(e, &ranks);
	if (!status)
		status = rank_all(e, &cases, task, &ranks, &loss, err);
	if (!status) {
		report_text(&e->report, "backbone", "backbone", e->trunk.hash);
		report_count(&e->report, "users", "users", cases.count);
		report_count(&e->report, "users_in_file", "of the file's", cases.users);
		report_count(&e->report, "unknown_targets", "unknown targets", cases.unknown);
		report_count(&e->report, "empty_histories", NULL, cases.empty);
		report_text(&e->report, "from", NULL, task ? "tcl" : "last");
		report_text(&e->report, NULL, "ranked from", task ? "[TCL]" : "the newest item");
		evaluate_ranks_report(e, &ranks);
		evaluate_mean_report(e, "log_loss", "log loss", &loss);
	}
	next_item_cases_free(&cases);
	return status;
}
