/* peterctl pretrain: a file of events to a backbone, without labels. */
#include "tools/ctl.h"

#include "base/clock.h"
#include "model/backbone.h"
#include "model/backbone_write.h"
#include "model/nextitnet_settings.h"
#include "model/pretrainer.h"
#include "tools/command_files.h"
#include "tools/pretrain_data.h"
#include "tools/threads.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKED = 10, CHECKPOINT_S = 600, FULL_SOFTMAX_ITEMS = 50000, WINDOW_AT_MOST = 65535 };

struct pretrain {
	/* the command line */
	const char *events;
	const char *out;
	const char *dilations;
	const char *loss;
	const char *schedule;
	const char *checkpoint;
	bool resume;
	bool non_causal;
	bool tied;
	bool json;
	int64_t channels, kernel_size;
	int64_t epochs, patience;
	int64_t batch, window, sampled;
	int64_t warm_up; /* steps */
	int64_t min_count;
	int64_t validation_users;
	int64_t threads_count; /* 0: cores */
	int64_t seed;
	double rate, decay, clip;
	double dropout, unknown, blanks, task_weight, average;

	struct network_shape shape;
	struct pretrain_data data;
	struct network *net;
	struct threads *threads;
	struct parallel parallel;
	struct pretrainer *pretrainer;
	struct ctl_progress progress;
	int64_t epoch_us;  /* when it began */
	double epoch_seen; /* of its events, when we began it */
	int64_t saved_us;
	bool stopped; /* by a signal */
};

static enum status parse_dilations(const char *text, struct network_shape *shape, struct error *err)
{
	const char *at = text;
	for (shape->blocks = 0; shape->blocks < NETWORK_BLOCKS_AT_MOST; at++) {
		char *end = NULL;
		unsigned long value = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
		if (value < 1 || value > UINT16_MAX || (*end && *end != ','))
			break;
		shape->dilations[shape->blocks++] = (uint32_t)value;
		at = end;
		if (!*at)
			return STATUS_OK;
	}
	return error_set(err, STATUS_USAGE, "--dilations: %.80s is not a comma list of up to %d numbers from 1 to %d",
			 text, NETWORK_BLOCKS_AT_MOST, UINT16_MAX);
}

static enum status check_options(struct pretrain *p, struct error *err)
{
	static const char *const losses[] = { "full", "sampled", "sampled-uniform" };
	bool known = !p->loss;
	for (size_t i = 0; i < CTL_COUNT(losses) && !known; i++)
		known = strcmp(p->loss, losses[i]) == 0;
	if (!known)
		return error_set(err, STATUS_USAGE, "--loss: %s is none of full, sampled, sampled-uniform", p->loss);
	if (strcmp(p->schedule, "constant") != 0 && strcmp(p->schedule, "cosine") != 0)
		return error_set(err, STATUS_USAGE, "--schedule: %s is neither constant nor cosine", p->schedule);
	if (p->resume && !p->checkpoint)
		return error_set(err, STATUS_USAGE, "--resume: --checkpoint is missing");
	if (p->dropout >= 1 || p->average >= 1)
		return error_set(err, STATUS_USAGE, "--%s: must be below 1", p->dropout >= 1 ? "dropout" : "average");
	p->shape = (struct network_shape){ .channels = (uint32_t)p->channels,
					   .kernel_size = (uint32_t)p->kernel_size,
					   .window = (uint32_t)p->window,
					   .eps = 1e-8F,
					   .causal = !p->non_causal,
					   .output = true };
	const struct command_file files[] = { { "events", p->events, COMMAND_READS },
					      { "out", p->out, COMMAND_MAKES },
					      { "checkpoint", p->checkpoint, COMMAND_MAKES } };
	enum status status = parse_dilations(p->dilations, &p->shape, err);
	if (!status && network_field(&p->shape) > NEXTITNET_MAX_FIELD)
		return error_set(err, STATUS_USAGE,
				 "--dilations: the receptive field would be %" PRIu32
				 " with this --kernel-size, at most "
				 "%d is possible",
				 network_field(&p->shape), NEXTITNET_MAX_FIELD);
	return status ? status : command_files_check(files, CTL_COUNT(files), err);
}

static enum pretrainer_loss choose_loss(const struct pretrain *p)
{
	if (p->loss && !strcmp(p->loss, "sampled-uniform"))
		return PRETRAINER_UNIFORM;
	bool full = p->loss ? !strcmp(p->loss, "full") : p->shape.items <= FULL_SOFTMAX_ITEMS;
	return full ? PRETRAINER_FULL : PRETRAINER_LOG_UNIFORM;
}

static struct pretrainer_options make_options(const struct pretrain *p)
{
	double task_weight = p->task_weight;
	if (task_weight < 0)
		task_weight = p->non_causal ? 1 : 0.05;
	return (struct pretrainer_options){
		.seed = (uint64_t)p->seed,
		.batch = (uint32_t)p->batch,
		.window = (uint32_t)p->window,
		.dropout = (float)p->dropout,
		.task_weight = (float)task_weight,
		.unknown = (float)p->unknown,
		.blanks = (float)p->blanks,
		.loss = choose_loss(p),
		.sampled = (uint32_t)p->sampled,
		.tied = p->tied,
		.average = (float)p->average,
		.cosine_epochs = strcmp(p->schedule, "cosine") ? 0 : (uint64_t)p->epochs,
		.optimizer = { .rate = (float)p->rate,
			       .beta1 = 0.9,
			       .beta2 = 0.999,
			       .epsilon = 1e-8F,
			       .decay = (float)p->decay,
			       .clip = (float)p->clip,
			       .warm_up = (uint64_t)p->warm_up },
	};
}

/* A run that goes on keeps its number of parts, whatever the cores are now. */
static enum status start_threads(struct pretrain *p, struct error *err)
{
	uint32_t parts = 0;
	uint32_t count = p->threads_count ? (uint32_t)p->threads_count : threads_cores();
	if (p->resume) {
		enum status status = pretrainer_saved_parts(p->checkpoint, &parts, err);
		if (status)
			return status;
	}
	enum status status = threads_new(count, &p->threads, err);
	if (status)
		return status;
	p->parallel = threads_parallel(p->threads);
	if (parts > 0)
		p->parallel.parts = parts;
	return STATUS_OK;
}

static enum status prepare(struct pretrain *p, struct error *err)
{
	enum { WEIGHTS_STREAM = 2 };
	enum status status = start_threads(p, err);
	if (!status)
		status = pretrain_data_load(p->events, (uint64_t)p->min_count, (size_t)p->validation_users,
					    (uint64_t)p->seed, &p->data, err);
	if (status)
		return status;
	p->shape.items = BACKBONE_FIRST_ITEM + catalogue_size(p->data.catalogue);
	status = network_new(&p->shape, &p->net, err);
	if (status)
		return status;
	struct random_stream random = random_from((uint64_t)p->seed, WEIGHTS_STREAM);
	struct pretrainer_options options = make_options(p);
	network_randomise(p->net, &random);
	status = pretrainer_new(&options, p->net, &p->data.sequences, &p->parallel, &p->pretrainer, err);
	if (status)
		return error_prefix(err, "%s", p->events);
	return p->resume ? pretrainer_load(p->pretrainer, p->checkpoint, err) : STATUS_OK;
}

static void introduce(const struct pretrain *p)
{
	const struct pretrainer_sequences *s = &p->data.sequences;
	if (p->json) {
		printf("{\"users\":%zu,\"events\":%zu,\"items\":%" PRIu32
		       ",\"rare_items\":%zu,\"validation_users\":%zu,"
		       "\"parameters\":%zu,\"parts\":%" PRIu32 ",\"finished_epochs\":%" PRIu64 "}\n",
		       s->users, s->offsets[s->users], catalogue_size(p->data.catalogue), p->data.rare,
		       p->data.case_count, parameters_trained(&p->net->table), p->parallel.parts,
		       pretrainer_epochs(p->pretrainer));
	} else {
		printf("%zu users, %zu events, %" PRIu32
		       " items (%zu of them seen fewer than five times), %zu users to "
		       "validate with; %zu parameters, %" PRIu32 " parts\n",
		       s->users, s->offsets[s->users], catalogue_size(p->data.catalogue), p->data.rare,
		       p->data.case_count, parameters_trained(&p->net->table), p->parallel.parts);
		if (p->resume)
			printf("going on after epoch %" PRIu64 "\n", pretrainer_epochs(p->pretrainer));
	}
	(void)fflush(stdout);
}

static double share(double sum, double count)
{
	return count > 0 ? sum / count : 0;
}

static double gain(const struct metrics_ranking *m)
{
	return share(m->gain, (double)m->count);
}

static double hits(const struct metrics_ranking *m)
{
	return share(m->hits, (double)m->count);
}

struct outcome { /* of an epoch */
	bool validated;
	bool best;
	struct next_item_result result;
	double seconds;
	double rate; /* events a second */
};

static void print_json(const struct pretrain *p, const struct outcome *o)
{
	const struct pretrainer_sums *sums = pretrainer_sums(p->pretrainer);
	const struct metrics_ranking *last = &o->result.last;
	const struct metrics_ranking *task = &o->result.task;
	printf("{\"epoch\":%" PRIu64 ",\"loss\":%.6f,\"task_loss\":%.6f,\"items_per_second\":%.0f,\"seconds\":%.2f,"
	       "\"rate\":%.6g,\"skipped_steps\":%.0f",
	       pretrainer_epochs(p->pretrainer), share(sums->loss, sums->targets), share(sums->task_loss, sums->tasks),
	       o->rate, o->seconds, (double)pretrainer_rate(p->pretrainer), sums->skipped);
	if (o->validated && last->count > 0)
		printf(",\"last\":{\"ndcg@10\":%.6f,\"hr@10\":%.6f}", gain(last), hits(last));
	if (o->validated)
		printf(",\"tcl\":{\"ndcg@10\":%.6f,\"hr@10\":%.6f},\"best\":%s", gain(task), hits(task),
		       o->best ? "true" : "false");
	printf("}\n");
	(void)fflush(stdout);
}

static void print_text(const struct pretrain *p, const struct outcome *o)
{
	const struct pretrainer_sums *sums = pretrainer_sums(p->pretrainer);
	printf("epoch %" PRIu64 ": loss %.4f, task token's %.4f", pretrainer_epochs(p->pretrainer),
	       share(sums->loss, sums->targets), share(sums->task_loss, sums->tasks));
	if (o->validated && o->result.last.count > 0)
		printf("; NDCG@%d %.4f from the last item, %.4f from [TCL]%s", RANKED, gain(&o->result.last),
		       gain(&o->result.task), o->best ? " (best)" : "");
	else if (o->validated)
		printf("; NDCG@%d %.4f from [TCL]%s", RANKED, gain(&o->result.task), o->best ? " (best)" : "");
	printf("; %.0f items/s", o->rate);
	if (sums->skipped > 0)
		printf("; %.0f steps skipped", sums->skipped);
	printf("\n");
	(void)fflush(stdout);
}

static enum status end_epoch(struct pretrain *p, struct error *err)
{
	struct outcome o = { .validated = p->data.case_count > 0 };
	o.seconds = (double)(clock_monotonic_us() - p->epoch_us) / 1e6;
	o.rate = share(pretrainer_sums(p->pretrainer)->events - p->epoch_seen, o.seconds);
	if (o.validated) {
		enum status status = next_item_rank(pretrainer_network(p->pretrainer), &p->parallel, p->data.cases,
						    p->data.case_count, RANKED, &o.result, err);
		if (status)
			return status;
		double last = gain(&o.result.last);
		double task = gain(&o.result.task);
		bool by_task = p->non_causal || task > last;
		o.best = pretrainer_judge(p->pretrainer, by_task ? task : last, by_task);
	}
	ctl_progress_end(&p->progress, 0);
	if (p->json)
		print_json(p, &o);
	else
		print_text(p, &o);
	p->epoch_us = clock_monotonic_us();
	p->epoch_seen = 0;
	return STATUS_OK;
}

static enum status save(struct pretrain *p, struct error *err)
{
	if (!p->checkpoint)
		return STATUS_OK;
	enum status status = pretrainer_save(p->pretrainer, p->checkpoint, err);
	p->saved_us = clock_monotonic_us();
	return status;
}

static void show(struct pretrain *p)
{
	const struct pretrainer_sums *sums = pretrainer_sums(p->pretrainer);
	const struct pretrainer_best *best = pretrainer_best(p->pretrainer);
	uint64_t epoch = pretrainer_epochs(p->pretrainer);
	int64_t done = (int64_t)(epoch * pretrainer_targets(p->pretrainer)) + (int64_t)sums->events;
	ctl_progress_note(&p->progress, "epoch %" PRIu64 "/%" PRId64 " loss %.3f best %.4f", epoch + 1, p->epochs,
			  share(sums->loss, sums->targets), best->value);
	ctl_progress_show(&p->progress, done);
}

static bool finished(const struct pretrain *p)
{
	const struct pretrainer_best *best = pretrainer_best(p->pretrainer);
	uint64_t epoch = pretrainer_epochs(p->pretrainer);
	bool stale = p->patience > 0 && best->epoch > 0 && epoch >= best->epoch + (uint64_t)p->patience;
	return epoch >= (uint64_t)p->epochs || stale;
}

/* Steps until the end, or a signal. */
static enum status train(struct pretrain *p, struct error *err)
{
	enum status status = STATUS_OK;
	p->epoch_us = p->saved_us = clock_monotonic_us();
	p->epoch_seen = pretrainer_sums(p->pretrainer)->events;
	while (!status && !finished(p) && !ctl_stopping()) {
		bool ended = false;
		status = pretrainer_step(p->pretrainer, &ended, err);
		if (!status && ended)
			status = end_epoch(p, err);
		else if (!status)
			show(p);
		bool due = ended || clock_monotonic_us() - p->saved_us > (int64_t)CHECKPOINT_S * 1000000;
		if (!status && due && !ctl_stopping())
			status = save(p, err);
	}
	p->stopped = !status && !finished(p);
	if (p->stopped)
		status = save(p, err);
	ctl_progress_end(&p->progress, 0);
	return status;
}

/* Weights that went astray may be finite still: what they make of some users' events is not. */
static enum status check_scores(struct pretrain *p, struct error *err)
{
	enum { CASES = 64 };
	const struct pretrainer_sequences *s = &p->data.sequences;
	const struct next_item_options options = { .include_seen = true };
	struct next_item_case cases[CASES];
	struct next_item_outcome last[CASES] = { { 0 } };
	struct next_item_outcome task[CASES];
	size_t count = 0;
	for (size_t user = 0; user < s->users && count < CASES; user++) {
		const size_t events = s->offsets[user + 1] - s->offsets[user];
		const uint32_t *items = s->items + s->offsets[user];
		if (events > 1 && items[events - 1] >= BACKBONE_FIRST_ITEM)
			cases[count++] = (struct next_item_case){ items, events - 1, items[events - 1] };
	}
	enum status status = next_item_outcomes(pretrainer_network(p->pretrainer), &p->parallel, cases, count, 0,
						&options, p->non_causal ? NULL : last, task, err);
	for (size_t i = 0; i < count && !status; i++)
		if (!isfinite(last[i].log_loss) || !isfinite(task[i].log_loss))
			status = error_set(
				err, STATUS_DATA,
				"%s: not written: the weights give scores that are not finite; a lower --rate "
				"may help",
				p->out);
	return status;
}

static enum status finish(struct pretrain *p, struct error *err)
{
	const struct pretrainer_best *best = pretrainer_best(p->pretrainer);
	bool task = best->epoch > 0 ? best->task : p->non_causal;
	pretrainer_restore_best(p->pretrainer);
	enum status status = check_scores(p, err);
	if (!status)
		status = backbone_write(p->out, pretrainer_network(p->pretrainer), catalogue_ids(p->data.catalogue),
					task, err);
	struct backbone *written = NULL;
	if (!status)
		status = backbone_load(p->out, &written, err);
	if (status)
		return status;
	uint64_t epoch = best->epoch > 0 ? best->epoch : pretrainer_epochs(p->pretrainer);
	const char *next_item = task ? "tcl" : "last";
	if (p->json)
		printf("{\"backbone\":\"%s\",\"epoch\":%" PRIu64 ",\"next_item\":\"%s\",\"ndcg@10\":%.6f}\n",
		       backbone_hash(written), epoch, next_item, best->value);
	else
		printf("%s: the weights after epoch %" PRIu64 ", next items by %s; SHA-256 %s\n%s", p->out, epoch,
		       next_item, backbone_hash(written),
		       best->epoch == (uint64_t)p->epochs ? "the last epoch was the best: more --epochs may help\n"
							  : "");
	backbone_free(written);
	return STATUS_OK;
}

static enum status pretrain(struct pretrain *p, struct error *err)
{
	enum status status = prepare(p, err);
	if (status)
		return status;
	introduce(p);
	ctl_stop_on_signals();
	ctl_progress_start(&p->progress, "items", p->epochs * (int64_t)pretrainer_targets(p->pretrainer));
	p->progress.before = (int64_t)(pretrainer_epochs(p->pretrainer) * pretrainer_targets(p->pretrainer)) +
			     (int64_t)pretrainer_sums(p->pretrainer)->events;
	status = train(p, err);
	return status || p->stopped ? status : finish(p, err);
}

static void close_all(struct pretrain *p)
{
	pretrainer_free(p->pretrainer);
	threads_free(p->threads);
	network_free(p->net);
	pretrain_data_free(&p->data);
}

static const char description[] =
	"Pre-trains a backbone on users' events, without labels: the next item at every event (or, not causal, the\n"
	"items behind blanks), and the task token [TCL] with it. Users' last events are held out; the weights of the\n"
	"epoch that names most of them are written. The same options, seed and threads give the same file.\n";

enum status ctl_pretrain(int argc, char **argv, struct error *err)
{
	struct pretrain p = { .dilations = "1,4,1,4,1,4,1,4",
			      .schedule = "cosine",
			      .channels = 64,
			      .kernel_size = 3,
			      .epochs = 16,
			      .patience = 5,
			      .batch = 64,
			      .window = 100,
			      .sampled = 1024,
			      .warm_up = 100,
			      .min_count = 1,
			      .validation_users = 2000,
			      .seed = 1,
			      .rate = 2e-3,
			      .clip = 5,
			      .dropout = 0.2,
			      .unknown = 0.01,
			      .blanks = 0.3,
			      .task_weight = -1,
			      .average = 0.998 };
	const struct ctl_option options[] = {
		{ "events", CTL_TEXT, true, &p.events, "FILE", "CSV or TSV with user_id, item_id, timestamp; -: stdin",
		  0, 0 },
		{ "out", CTL_TEXT, true, &p.out, "FILE", "the backbone to write, a safetensors file", 0, 0 },
		{ "channels", CTL_WHOLE, false, &p.channels, "D", "floats of a state and an embedding; default 64", 1,
		  4096 },
		{ "dilations", CTL_TEXT, false, &p.dilations, "LIST", "of the blocks; default 1,4,1,4,1,4,1,4", 0, 0 },
		{ "kernel-size", CTL_WHOLE, false, &p.kernel_size, "K", "taps of a convolution; default 3", 1, 64 },
		{ "non-causal", CTL_FLAG, false, &p.non_causal, NULL, "fill gaps from both sides; no streaming path", 0,
		  0 },
		{ "epochs", CTL_WHOLE, false, &p.epochs, "N", "at most; default 16", 1, 1000000 },
		{ "patience", CTL_WHOLE, false, &p.patience, "N",
		  "stop after so many epochs without a better one; 0: never; default 5", 0, 1000000 },
		{ "validation-users", CTL_WHOLE, false, &p.validation_users, "N",
		  "users asked for their last item; 0: learn all for --epochs; default 2000", 0, UINT32_MAX },
		{ "min-count", CTL_WHOLE, false, &p.min_count, "N", "rarer items count as unknown; default 1", 1,
		  INT64_MAX },
		{ "window", CTL_WHOLE, false, &p.window, "N", "events learnt from at once; default 100", 1,
		  WINDOW_AT_MOST },
		{ "batch", CTL_WHOLE, false, &p.batch, "N", "windows a step; default 64", 1, PRETRAINER_BATCH_AT_MOST },
		{ "rate", CTL_REAL, false, &p.rate, "R", "Adam's learning rate; default 0.002", 0, 0 },
		{ "warm-up", CTL_WHOLE, false, &p.warm_up, "STEPS",
		  "of rising rate, cosine: of all steps a tenth at most; default 100", 0, INT64_MAX },
		{ "schedule", CTL_TEXT, false, &p.schedule, "S",
		  "constant, or cosine: the rate falls to 0 at --epochs; default cosine", 0, 0 },
		{ "decay", CTL_SHARE, false, &p.decay, "W", "weight decay (AdamW); default 0", 0, 0 },
		{ "clip", CTL_SHARE, false, &p.clip, "NORM", "bound on the gradient's norm; 0: none; default 5", 0, 0 },
		{ "average", CTL_SHARE, false, &p.average, "B",
		  "decay of the weights' running average; 0: none; default 0.998", 1, 0 },
		{ "dropout", CTL_SHARE, false, &p.dropout, "P", "before the output layer; default 0.2", 1, 0 },
		{ "unknown", CTL_SHARE, false, &p.unknown, "P", "share of events shown as unknown items; default 0.01",
		  1, 0 },
		{ "blanks", CTL_SHARE, false, &p.blanks, "P",
		  "share of events to be filled in (--non-causal); default 0.3", 1, 0 },
		{ "task-weight", CTL_SHARE, false, &p.task_weight, "W",
		  "of the task token's loss; default 0.05, --non-causal 1", 0, 0 },
		{ "loss", CTL_TEXT, false, &p.loss, "L",
		  "full, sampled (log-uniform) or sampled-uniform softmax; default: full up to 50000 items", 0, 0 },
		{ "sampled", CTL_WHOLE, false, &p.sampled, "N", "items drawn for a sampled softmax; default 1024", 1,
		  1 << 20 },
		{ "tied", CTL_FLAG, false, &p.tied, NULL, "one table for items in and out", 0, 0 },
		{ "seed", CTL_WHOLE, false, &p.seed, "S", "of everything random; default 1", 0, INT64_MAX },
		{ "threads", CTL_WHOLE, false, &p.threads_count, "N", "default: as many as cores", 1, THREADS_AT_MOST },
		{ "checkpoint", CTL_TEXT, false, &p.checkpoint, "FILE",
		  "save the run there, each epoch and when stopped by a signal", 0, 0 },
		{ "resume", CTL_FLAG, false, &p.resume, NULL, "go on from --checkpoint, to the bit", 0, 0 },
		{ "json", CTL_FLAG, false, &p.json, NULL, "an object a line", 0, 0 },
	};
	const struct ctl_usage usage = { "pretrain", "", description, options, CTL_COUNT(options), 0 };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = check_options(&p, err);
	if (!status)
		status = pretrain(&p, err);
	close_all(&p);
	if (!status && p.stopped) {
		(void)fprintf(stderr, "peterctl: stopped by a signal%s%s\n",
			      p.checkpoint ? "; --resume goes on from " : "", p.checkpoint ? p.checkpoint : "");
		ctl_end_by_signal();
	}
	return status;
}
