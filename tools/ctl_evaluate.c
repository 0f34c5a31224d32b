/* peterctl evaluate: what a backbone's next items and a patch's scores are worth on held-back data. */
#include "tools/ctl.h"

#include "model/patch.h"
#include "tools/command_files.h"
#include "tools/evaluate.h"
#include "tools/threads.h"

#include <stdlib.h>
#include <string.h>

static enum status need(const char *value, const char *option, const char *why, struct error *err)
{
	return value ? STATUS_OK : error_set(err, STATUS_USAGE, "--%s is missing: %s; see --help", option, why);
}

static enum status refuse(const char *value, const char *option, const char *why, struct error *err)
{
	return value ? error_set(err, STATUS_USAGE, "--%s: not %s", option, why) : STATUS_OK;
}

static enum status check_inputs(const struct evaluate *e, struct error *err)
{
	enum status status = STATUS_OK;
	if (e->patch) {
		status = need(e->labels, "labels", "--patch is evaluated on labels", err);
		if (!status)
			status = need(e->events, "events", "--patch reads the users' events", err);
		if (!status)
			status = refuse(e->sequences ? e->sequences : e->targets,
					e->sequences ? "sequences" : "targets", "with --patch", err);
		return status ? status : refuse(e->from, "from", "with --patch", err);
	}
	status = refuse(e->labels ? e->labels : e->task, e->labels ? "labels" : "task", "without --patch", err);
	if (status)
		return status;
	if (e->sequences || e->targets) {
		status = need(e->sequences, "sequences", "--targets goes with it", err);
		if (!status)
			status = need(e->targets, "targets", "--sequences goes with it", err);
		return status ? status : refuse(e->events, "events", "with --sequences", err);
	}
	return need(e->events, "events", "or --sequences and --targets", err);
}

static enum status parse_lists(struct evaluate *e, struct error *err)
{
	enum { LONGEST = 1000000 };
	const char *at = e->k;
	for (; e->k_count < EVALUATE_LISTS; at++) {
		char *end = NULL;
		unsigned long value = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
		if (value < 1 || value > LONGEST || (*end && *end != ','))
			break;
		e->ks[e->k_count++] = (uint32_t)value;
		at = end;
		if (!*at)
			return STATUS_OK;
	}
	return error_set(err, STATUS_USAGE, "--k: %.80s is not a comma list of up to %d numbers from 1 to %d", e->k,
			 EVALUATE_LISTS, LONGEST);
}

static enum status check_options(struct evaluate *e, struct error *err)
{
	const struct command_file files[] = { { "events", e->events, COMMAND_READS },
					      { "labels", e->labels, COMMAND_READS },
					      { "sequences", e->sequences, COMMAND_READS },
					      { "targets", e->targets, COMMAND_READS } };
	enum status status = check_inputs(e, err);
	if (!status)
		status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = parse_lists(e, err);
	if (!status && e->task && !patch_task_is_name(e->task))
		status = error_set(err, STATUS_USAGE, "--task: %.100s is not 1 to %d of a-z A-Z 0-9 . _ -", e->task,
				   PATCH_TASK_AT_MOST);
	if (!status && strcmp(e->seen, "exclude") && strcmp(e->seen, "include"))
		status = error_set(err, STATUS_USAGE, "--seen: %s is neither exclude nor include", e->seen);
	if (!status && e->from && strcmp(e->from, "last") && strcmp(e->from, "tcl"))
		status = error_set(err, STATUS_USAGE, "--from: %s is neither last nor tcl", e->from);
	e->include_seen = !strcmp(e->seen, "include");
	return status;
}

static enum status evaluate(struct evaluate *e, struct error *err)
{
	struct threads *threads = NULL;
	enum status status = trunk_file_load(e->backbone, &e->trunk, err);
	if (!status)
		status = threads_new(e->threads_count ? (uint32_t)e->threads_count : threads_cores(), &threads, err);
	if (!status) {
		e->parallel = threads_parallel(threads);
		status = e->patch ? evaluate_task(e, err) : evaluate_next_items(e, err);
	}
	if (!status)
		status = report_print(&e->report, e->json, err);
	threads_free(threads);
	trunk_file_close(&e->trunk);
	return status;
}

enum status ctl_evaluate(int argc, char **argv, struct error *err)
{
	struct evaluate e = { .k = "10", .seen = "exclude" };
	const struct ctl_option options[] = {
		{ "backbone", CTL_TEXT, true, &e.backbone, "FILE", "the backbone, a safetensors file", 0, 0 },
		{ "events", CTL_TEXT, false, &e.events, "FILE", "CSV or TSV with user_id, item_id, timestamp; -: stdin",
		  0, 0 },
		{ "sequences", CTL_TEXT, false, &e.sequences, "FILE",
		  "instead: one user's items a line, spaces, commas or tabs between", 0, 0 },
		{ "targets", CTL_TEXT, false, &e.targets, "FILE",
		  "with --sequences: the item that follows, a line each", 0, 0 },
		{ "patch", CTL_TEXT, false, &e.patch, "FILE", "evaluate this patch's task, not next items", 0, 0 },
		{ "labels", CTL_TEXT, false, &e.labels, "FILE",
		  "with --patch: CSV or TSV with user_id, label, timestamp, task", 0, 0 },
		{ "task", CTL_TEXT, false, &e.task, "NAME", "with --patch: the labels' task (default: the patch's)", 0,
		  0 },
		{ "k", CTL_TEXT, false, &e.k, "K,...", "lengths of the ranked lists (default 10)", 0, 0 },
		{ "seen", CTL_TEXT, false, &e.seen, "HOW",
		  "exclude (default) or include items that the user has already", 0, 0 },
		{ "negatives", CTL_WHOLE, false, &e.negatives, "N",
		  "rank among N drawn items, as with 99 in papers (default 0: all items)", 0, 1000000 },
		{ "from", CTL_TEXT, false, &e.from, "STATE",
		  "rank next items from the last item's state or tcl's (default: as the file says)", 0, 0 },
		{ "users", CTL_WHOLE, false, &e.users, "N", "so many users, drawn at random (default 0: all)", 0,
		  UINT32_MAX },
		{ "seed", CTL_WHOLE, false, &e.seed, "S", "of what is drawn (default 0)", 0, INT64_MAX },
		{ "threads", CTL_WHOLE, false, &e.threads_count, "N", "default 0: one a core", 0, THREADS_AT_MOST },
		{ "json", CTL_FLAG, false, &e.json, NULL, "one JSON object", 0, 0 },
	};
	const struct ctl_usage usage = { "evaluate",
					 "",
					 "Next-item metrics of a backbone: MRR@k, HR@k, NDCG@k and log loss, with "
					 "standard errors. With --events\n"
					 "the target is the last event of every user with two or more, the history all "
					 "before; a target that the\n"
					 "backbone does not know is a miss. Ties: the lower index first.\n"
					 "\n"
					 "With --patch and --labels, metrics of its task: accuracy, log loss and AUC "
					 "(of three classes and more the\n"
					 "mean over classes, one against the rest), MRR@k, HR@k and NDCG@k, or RMSE "
					 "and MAE. A label is predicted\n"
					 "from the user's events strictly before its timestamp.\n",
					 options,
					 CTL_COUNT(options),
					 0 };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = check_options(&e, err);
	return status ? status : evaluate(&e, err);
}
