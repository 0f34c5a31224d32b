/* peterctl finetune: labels of one task to a patch, on a frozen trunk or, for comparison, a changed one. */
#include "tools/ctl.h"

#include "tools/command_files.h"
#include "tools/finetune.h"
#include "tools/finetune_trunk.h"
#include "tools/report.h"
#include "tools/threads.h"
#include "tools/trunk_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct finetune_command {
	/* the command line */
	const char *backbone, *events, *labels, *task, *type, *out, *backbone_out;
	const char *insertion, *blocks, *train, *loss, *labels_list;
	int64_t bottleneck, mean_window, adapters;
	bool norms, balanced, json;
	int64_t epochs, patience, batch, negatives, seed, threads_count, cache_mib;
	double rate, decay, clip, average, dropout, validation;

	struct finetune_options options;
	char *labels_text; /* labels_list, cut up */
	const char **declared;
	size_t declared_count;
	struct trunk_file trunk;
	struct audience *audience;
	struct task_data data;
	struct threads *threads;
	struct parallel parallel;
	struct finetune *finetune;
	struct finetune_result result;
	char backbone_hash[HASH_HEX_LENGTH + 1]; /* that the patch names */
	char patch_hash[HASH_HEX_LENGTH + 1];
};

static enum status parse_train(struct finetune_command *c, struct error *err)
{
	static const char *const names[] = { "patch", "head", "last:N", "everything", "scratch" };
	struct finetune_options *o = &c->options;
	char *end = NULL;
	bool known = false;
	for (size_t i = 0; i < CTL_COUNT(names); i++) {
		if (i != FINETUNE_LAST && !strcmp(c->train, names[i])) {
			o->train = (enum finetune_train)i;
			known = true;
		}
	}
	if (!strncmp(c->train, "last:", 5) && c->train[5] >= '1' && c->train[5] <= '9') {
		const unsigned long last = strtoul(c->train + 5, &end, 10);
		o->train = FINETUNE_LAST;
		o->last = last < NETWORK_BLOCKS_AT_MOST ? (uint32_t)last : UINT32_MAX;
		known = !*end;
	}
	if (!known)
		return error_set(err, STATUS_USAGE,
				 "--train: %.64s is none of patch, head, last:N, everything, scratch", c->train);
	const bool frozen = o->train == FINETUNE_PATCH || o->train == FINETUNE_HEAD;
	if (frozen && c->backbone_out)
		return error_set(err, STATUS_USAGE, "--backbone-out: --train %s does not change the backbone",
				 c->train);
	if (!frozen && !c->backbone_out)
		return error_set(err, STATUS_USAGE, "--backbone-out is missing: --train %s changes the backbone",
				 c->train);
	return STATUS_OK;
}

static enum status parse_loss(struct finetune_command *c, struct error *err)
{
	static const char *const fitting[] = { "softmax", "softmax, sampled, bpr, bce or hard", "squared" };
	const enum patch_type type = c->options.spec.type;
	enum tuner_loss *loss = &c->options.tuner.loss;
	if (!c->loss)
		return STATUS_OK;
	const bool known = tuner_loss_parse(c->loss, loss);
	const bool fits = type == PATCH_REGRESSION       ? *loss == TUNER_SQUARED
			  : type == PATCH_CLASSIFICATION ? *loss == TUNER_SOFTMAX
							 : *loss != TUNER_SQUARED;
	if (!known || !fits)
		return error_set(err, STATUS_USAGE, "--loss: %.64s: for %s it is %s", c->loss, c->type, fitting[type]);
	return STATUS_OK;
}

/* "F,M" */
static enum status parse_labels_list(struct finetune_command *c, struct error *err)
{
	if (!c->labels_list)
		return STATUS_OK;
	if (c->options.spec.type == PATCH_REGRESSION)
		return error_set(err, STATUS_USAGE, "--labels-list: a regression has no classes");
	c->labels_text = strdup(c->labels_list);
	c->declared = calloc(strlen(c->labels_list) + 1, sizeof *c->declared);
	if (!c->labels_text || !c->declared)
		return error_set_memory(err);
	for (char *at = c->labels_text; at;) {
		const char *label = strsep(&at, ",");
		bool twice = false;
		for (size_t i = 0; i < c->declared_count; i++)
			twice = twice || !strcmp(c->declared[i], label);
		if (!*label || twice)
			return error_set(err, STATUS_USAGE, "--labels-list: %.64s: %s", c->labels_list,
					 *label ? "a label stands twice" : "a label is empty");
		c->declared[c->declared_count++] = label;
	}
	return STATUS_OK;
}

static enum status parse_options(struct finetune_command *c, struct error *err)
{
	struct patch_spec *spec = &c->options.spec;
	if (!patch_task_is_name(c->task))
		return error_set(err, STATUS_USAGE, "--task: %.100s is not 1 to %d of a-z A-Z 0-9 . _ -", c->task,
				 PATCH_TASK_AT_MOST);
	if (!patch_type_parse(c->type, &spec->type))
		return error_set(err, STATUS_USAGE, "--type: %.64s is none of classification, ranking, regression",
				 c->type);
	if (!patch_insertion_parse(c->insertion, &spec->insertion))
		return error_set(err, STATUS_USAGE, "--insertion: %.64s is none of serial, parallel, side",
				 c->insertion);
	if (spec->insertion == PATCH_SIDE && (c->norms || c->adapters != 2))
		return error_set(err, STATUS_USAGE, "--%s: a side patch changes nothing inside the trunk",
				 c->norms ? "norms" : "adapters");
	if (c->dropout >= 1 || c->validation >= 1 || c->average >= 1)
		return error_set(err, STATUS_USAGE, "--%s: must be below 1",
				 c->dropout >= 1      ? "dropout"
				 : c->validation >= 1 ? "validation"
						      : "average");
	if (c->balanced && spec->type == PATCH_REGRESSION)
		return error_set(err, STATUS_USAGE, "--balanced: a regression has no classes");
	enum status status = parse_train(c, err);
	if (!status && c->mean_window && (spec->insertion != PATCH_SIDE || c->options.train != FINETUNE_PATCH))
		status = error_set(err, STATUS_USAGE, "--mean-window: only a side patch averages states");
	if (!status)
		status = parse_loss(c, err);
	return status ? status : parse_labels_list(c, err);
}

/* What depends on the trunk: which blocks there are to patch. */
static enum status choose_blocks(struct finetune_command *c, struct error *err)
{
	struct patch_spec *spec = &c->options.spec;
	const bool side = spec->insertion == PATCH_SIDE;
	const uint32_t count = c->trunk.net->shape.blocks + (side ? 1 : 0);
	bool any = false;
	spec->bottleneck = (uint32_t)c->bottleneck;
	spec->mean_window = !side ? 0 : c->mean_window ? (uint32_t)c->mean_window : PATCH_MEAN_WINDOW;
	if (c->options.train == FINETUNE_LAST && c->options.last > c->trunk.net->shape.blocks)
		return error_set(err, STATUS_USAGE, "--train: %s: the backbone has %" PRIu32 " blocks", c->train,
				 c->trunk.net->shape.blocks);
	if (c->options.train != FINETUNE_PATCH)
		return c->blocks ? error_set(err, STATUS_USAGE, "--blocks: --train %s has no patched blocks", c->train)
				 : STATUS_OK;
	if (c->blocks && patch_parse_blocks(c->blocks, count, spec->blocks, err) != STATUS_OK) {
		err->status = STATUS_USAGE;
		return error_prefix(err, "--blocks");
	}
	if (!c->blocks)
		patch_default_blocks(spec->insertion, c->trunk.net->shape.blocks, spec->blocks);
	for (uint32_t i = 0; i < count; i++)
		any = any || spec->blocks[i];
	spec->first = any && !side && c->adapters == 2;
	spec->second = any && !side;
	spec->norms = any && c->norms;
	return STATUS_OK;
}

static enum status load(struct finetune_command *c, struct error *err)
{
	const struct task_labels declared = { c->declared, c->declared_count };
	enum status status = trunk_file_load(c->backbone, &c->trunk, err);
	if (!status)
		status = choose_blocks(c, err);
	if (!status)
		status = audience_load(c->events, &c->audience, err);
	if (!status && audience_users(c->audience) == 0)
		status = error_set(err, STATUS_DATA, "%s: no users", c->events);
	if (!status)
		status = task_data_load(c->labels, c->task, c->options.spec.type, c->labels_list ? &declared : NULL,
					c->audience, &c->data, err);
	return status;
}

static enum status train(struct finetune_command *c, struct error *err)
{
	struct finetune_options *o = &c->options;
	const struct finetune_input input = { .task = c->task,
					      .trunk = c->trunk.net,
					      .vocabulary = c->trunk.vocabulary,
					      .audience = c->audience,
					      .data = &c->data };
	if (!c->loss)
		o->tuner.loss = tuner_default_loss(o->spec.type, c->data.classes);
	o->tuner.negatives = (uint32_t)c->negatives;
	if (!c->negatives)
		o->tuner.negatives = o->tuner.loss == TUNER_SAMPLED ? 512 : 10;
	o->tuner.dropout = (float)c->dropout;
	o->tuner.seed = (uint64_t)c->seed;
	o->tuner.optimizer = (struct optimizer_options){ .rate = (float)c->rate,
							 .beta1 = 0.9,
							 .beta2 = 0.999,
							 .epsilon = 1e-8F,
							 .decay = (float)c->decay,
							 .clip = (float)c->clip };
	o->balanced = c->balanced;
	o->epochs = (uint32_t)c->epochs;
	o->patience = (uint32_t)c->patience;
	o->batch = (uint32_t)c->batch;
	o->average = (float)c->average;
	o->validation = c->validation;
	o->cache_bytes = (size_t)c->cache_mib << 20;
	o->quiet = c->json;
	enum status status = finetune_new(o, &input, &c->parallel, &c->finetune, err);
	if (status == STATUS_DATA)
		return error_prefix(err, "%s", c->labels);
	if (status)
		return status;
	task_data_say(&c->data, c->labels);
	ctl_stop_on_signals();
	return finetune_run(c->finetune, &c->result, err);
}

static enum status save(struct finetune_command *c, struct error *err)
{
	struct patch *patch = finetune_patch(c->finetune);
	struct safetensors *written = NULL;
	enum status status = STATUS_OK;
	memcpy(c->backbone_hash, c->trunk.hash, sizeof c->backbone_hash);
	if (c->backbone_out)
		status = finetune_trunk_write(c->backbone, c->trunk.net, c->backbone_out, c->backbone_hash, err);
	memcpy(patch->backbone, c->backbone_hash, sizeof patch->backbone);
	if (!status)
		status = patch_save(patch, c->out, err);
	if (!status)
		status = safetensors_open(c->out, &written, err);
	if (!status)
		memcpy(c->patch_hash, safetensors_hash(written), sizeof c->patch_hash);
	safetensors_close(written);
	return status;
}

static void report_metrics(struct report *r, const struct finetune_metrics *m, double loss)
{
	const struct {
		const char *key;
		const char *name;
		double value;
	} rows[] = {
		{ "validation_loss", "loss, held out", loss },
		{ "accuracy", "accuracy", m->accuracy },
		{ "log_loss", "log loss", m->log_loss },
		{ "auc", "AUC", m->auc },
		{ "mrr@5", "MRR@5", m->mrr },
		{ "hr@5", "HR@5", m->hits },
		{ "ndcg@5", "NDCG@5", m->gain },
		{ "rmse", "RMSE", m->rmse },
		{ "mae", "MAE", m->mae },
	};
	for (size_t i = 0; i < CTL_COUNT(rows); i++)
		if (!isnan(rows[i].value))
			report_number(r, rows[i].key, rows[i].name, rows[i].value, (double)NAN);
}

static enum status report(struct finetune_command *c, struct error *err)
{
	struct report r = { 0 };
	const struct finetune_result *result = &c->result;
	const double nan = (double)NAN;
	const double trunk = (double)result->trunk_parameters;
	struct finetune_metrics metrics;
	enum status status = finetune_measure(c->finetune, &metrics, err);
	if (status)
		return status;
	report_text(&r, "task", "task", c->task);
	report_text(&r, "type", "type", c->type);
	report_text(&r, "train", "trained", c->train);
	report_text(&r, "insertion", "insertion", c->insertion);
	report_text(&r, "loss", "loss", tuner_loss_name(c->options.tuner.loss));
	report_count(&r, "classes", "rows of the head", c->data.classes);
	report_count(&r, "examples", "examples", result->examples);
	report_count(&r, "validation_examples", "held out", result->validation_examples);
	report_count(&r, "unknown_users", NULL, c->data.unknown);
	report_count(&r, "users_without_events", NULL, c->data.early);
	report_count(&r, "repeated_rows", NULL, c->data.duplicates);
	report_count(&r, "epochs", "epochs", result->epochs);
	report_count(&r, "best_epoch", "best epoch", result->best_epoch);
	report_count(&r, "skipped_steps", result->skipped ? "skipped steps" : NULL, result->skipped);
	report_count(&r, "parameters", "parameters", result->parameters);
	report_number(&r, "percent", "% of the trunk's", 100 * (double)result->parameters / trunk, nan);
	report_count(&r, "trunk_parameters", NULL, result->trunk_parameters);
	report_number(&r, "examples_per_second", "examples/s", result->examples_per_second, nan);
	if (result->states_per_second > 0)
		report_number(&r, "states_per_second", "states/s", result->states_per_second, nan);
	report_count(&r, "threads", NULL, c->parallel.parts);
	report_metrics(&r, &metrics, result->best_loss);
	report_text(&r, "backbone", "backbone", c->backbone_hash);
	report_text(&r, "patch", "patch", c->patch_hash);
	return report_print(&r, c->json, err);
}

static enum status run(struct finetune_command *c, struct error *err)
{
	const struct command_file files[] = { { "backbone", c->backbone, COMMAND_READS },
					      { "events", c->events, COMMAND_READS },
					      { "labels", c->labels, COMMAND_READS },
					      { "out", c->out, COMMAND_MAKES },
					      { "backbone-out", c->backbone_out, COMMAND_MAKES } };
	enum status status = parse_options(c, err);
	if (!status)
		status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = load(c, err);
	if (!status)
		status = threads_new(c->threads_count ? (uint32_t)c->threads_count : threads_cores(), &c->threads, err);
	if (status)
		return status;
	c->parallel = threads_parallel(c->threads);
	status = train(c, err);
	if (status || c->result.stopped)
		return status;
	status = save(c, err);
	return status ? status : report(c, err);
}

static void close_all(struct finetune_command *c)
{
	finetune_free(c->finetune);
	threads_free(c->threads);
	task_data_free(&c->data);
	audience_free(c->audience);
	trunk_file_close(&c->trunk);
	free(c->declared);
	free(c->labels_text);
}

static const char description[] =
	"Trains one task's patch on a frozen backbone; or, to compare, the head alone, the backbone's last blocks or "
	"all\n"
	"of it. A user's events strictly before the label's timestamp count, all of them where it has none. Labels of\n"
	"unknown users and of users without such events are left out and counted; of rows that label one user twice "
	"at\n"
	"one time the last counts (ranking: of those with one target). The rows of the head are the labels that "
	"occur,\n"
	"numbers first in their order, then texts by their bytes; or --labels-list, in its order. Training ends when "
	"the\n"
	"loss on the users that are kept out falls no more, and the best epoch's weights are written.\n";

enum status ctl_finetune(int argc, char **argv, struct error *err)
{
	struct finetune_command c = { .insertion = "side",
				      .train = "patch",
				      .bottleneck = 16,
				      .adapters = 2,
				      .epochs = 100,
				      .patience = 5,
				      .batch = 64,
				      .seed = 1,
				      .rate = 0.001,
				      .clip = 5,
				      .average = 0.99,
				      .dropout = 0.5,
				      .cache_mib = 4096,
				      .validation = 0.1 };
	const struct ctl_option options[] = {
		{ "backbone", CTL_TEXT, true, &c.backbone, "FILE", "the backbone, a safetensors file", 0, 0 },
		{ "events", CTL_TEXT, true, &c.events, "FILE", "CSV or TSV with user_id, item_id, timestamp; -: stdin",
		  0, 0 },
		{ "labels", CTL_TEXT, true, &c.labels, "FILE",
		  "CSV or TSV with user_id, label and, where there are, task, timestamp, weight", 0, 0 },
		{ "task", CTL_TEXT, true, &c.task, "NAME", "its rows are taken, all where there is no column task", 0,
		  0 },
		{ "type", CTL_TEXT, true, &c.type, "T", "classification, ranking (labels are items) or regression", 0,
		  0 },
		{ "out", CTL_TEXT, true, &c.out, "FILE", "the patch to write, a safetensors file", 0, 0 },
		{ "insertion", CTL_TEXT, false, &c.insertion, "I", "serial, parallel or side; default side", 0, 0 },
		{ "bottleneck", CTL_WHOLE, false, &c.bottleneck, "N", "width of an adapter; default 16", 1,
		  PATCH_BOTTLENECK_AT_MOST },
		{ "blocks", CTL_TEXT, false, &c.blocks, "LIST",
		  "blocks to patch, from 0; default all; side: levels, 0 the embedding; default 0 and the last", 0, 0 },
		{ "adapters", CTL_WHOLE, false, &c.adapters, "N",
		  "in a block: 2, or 1, after its second convolution; default 2", 1, 2 },
		{ "norms", CTL_FLAG, false, &c.norms, NULL, "learn the patched blocks' second layer norms too", 0, 0 },
		{ "mean-window", CTL_WHOLE, false, &c.mean_window, "M",
		  "side: newest events that states are averaged over; default 128", 1, PATCH_MEAN_WINDOW_AT_MOST },
		{ "train", CTL_TEXT, false, &c.train, "WHAT",
		  "patch, head, last:N (blocks), everything, scratch; default patch", 0, 0 },
		{ "backbone-out", CTL_TEXT, false, &c.backbone_out, "FILE",
		  "the changed backbone, which the patch then names", 0, 0 },
		{ "labels-list", CTL_TEXT, false, &c.labels_list, "LIST", "the labels there may be: a comma list", 0,
		  0 },
		{ "loss", CTL_TEXT, false, &c.loss, "L",
		  "ranking: softmax, sampled, bpr, bce, hard; default softmax up to 4096 targets, then sampled", 0, 0 },
		{ "negatives", CTL_WHOLE, false, &c.negatives, "N",
		  "sampled: drawn for a thread's share of a batch; hard: to choose from; default 512, 10", 1, 1 << 20 },
		{ "balanced", CTL_FLAG, false, &c.balanced, NULL, "weigh classes alike, however rare", 0, 0 },
		{ "epochs", CTL_WHOLE, false, &c.epochs, "N", "at most, however few examples; default 100", 1,
		  1000000 },
		{ "patience", CTL_WHOLE, false, &c.patience, "N",
		  "end after so many epochs, and 200 steps, without a better one; 0: never; default 5", 0, 1000000 },
		{ "validation", CTL_SHARE, false, &c.validation, "SHARE",
		  "of the users, kept out of training; 0: run all epochs; default 0.1", 1, 0 },
		{ "batch", CTL_WHOLE, false, &c.batch, "N", "examples a step; default 64", 1, 1 << 16 },
		{ "rate", CTL_REAL, false, &c.rate, "R", "Adam's learning rate; default 0.001", 0, 0 },
		{ "decay", CTL_SHARE, false, &c.decay, "W", "weight decay (AdamW); default 0", 0, 0 },
		{ "clip", CTL_SHARE, false, &c.clip, "NORM", "bound on the gradient's norm; 0: none; default 5", 0, 0 },
		{ "average", CTL_SHARE, false, &c.average, "B",
		  "decay of the weights' running average; 0: none; default 0.99", 1, 0 },
		{ "dropout", CTL_SHARE, false, &c.dropout, "P", "of the state before the head; default 0.5", 1, 0 },
		{ "seed", CTL_WHOLE, false, &c.seed, "S", "of everything random; default 1", 0, INT64_MAX },
		{ "threads", CTL_WHOLE, false, &c.threads_count, "N", "default: as many as cores", 1, THREADS_AT_MOST },
		{ "cache-mib", CTL_WHOLE, false, &c.cache_mib, "N",
		  "keep the frozen trunk's states where they fit, else compute them anew each epoch; default 4096", 0,
		  1 << 24 },
		{ "json", CTL_FLAG, false, &c.json, NULL, "one object, at the end", 0, 0 },
	};
	const struct ctl_usage usage = { "finetune", "", description, options, CTL_COUNT(options), 0 };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = run(&c, err);
	close_all(&c);
	if (!status && c.result.stopped) {
		(void)fprintf(stderr, "peterctl: stopped by a signal, nothing is written\n");
		ctl_end_by_signal();
	}
	return status;
}
