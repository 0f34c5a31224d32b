#include "tools/bench_train.h"

#include "base/clock.h"
#include "base/random.h"
#include "model/backbone.h"
#include "model/network.h"
#include "model/patch.h"
#include "model/pretrainer.h"
#include "model/side.h"
#include "model/tuner.h"
#include "tools/bench_peer.h"
#include "tools/ctl.h"
#include "tools/threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The same numbers are in tools/bench_peers_train.py. */
enum {
	ITEMS = 3403,
	BATCH = 64,
	PRETRAIN_WINDOW = 100,
	FINETUNE_WINDOW = 120,
	BOTTLENECK = 16,
	CLASSES = 7,
	SIDE_BATCH = 256,
};

enum {
	PRETRAIN_USERS = 64 * BATCH, /* an epoch: 64 steps */
	FINETUNE_USERS = 16 * BATCH,
	SIDE_USERS = 16 * SIDE_BATCH,
	AT_LEAST = 4, /* steps of a round, between two looks at the clock */
};

static const struct network_shape shape = {
	.channels = 64,
	.kernel_size = 3,
	.blocks = 8,
	.dilations = { 1, 4, 1, 4, 1, 4, 1, 4 },
	.items = ITEMS,
	.eps = 1e-8F,
	.causal = true,
	.output = true,
};

static const struct optimizer_options adam = {
	.rate = 1e-3F,
	.beta1 = 0.9,
	.beta2 = 0.999,
	.epsilon = 1e-8F,
	.clip = 5,
};

struct settings {
	int64_t threads;
	int64_t rounds;
	int64_t round_ms;
	bool json;
	bool no_peers;
	const char *python;
	const char *peers;
};

/* What is measured. One of the three is open at a time. */
struct course {
	struct parallel parallel;
	struct network *net;
	struct pretrainer_sequences sequences;
	struct pretrainer *pretrainer;
	struct patch *patch;
	struct tuner *tuner;
	struct tuner_example *examples;
	uint32_t *items;
	size_t *offsets;
	float *states;
	size_t users;
	size_t batch;
	size_t at; /* first example of the next step */
};

static enum status open_network(struct course *c, struct error *err)
{
	struct random_stream random = random_from(1, 1);
	enum status status = network_new(&shape, &c->net, err);
	if (status == STATUS_OK)
		network_randomise(c->net, &random);
	return status;
}

/* `length` events of each of c->users, drawn uniformly. */
static enum status draw_sequences(struct course *c, size_t length, struct error *err)
{
	struct random_stream random = random_from(1, 2);
	c->items = malloc(c->users * length * sizeof *c->items);
	c->offsets = malloc((c->users + 1) * sizeof *c->offsets);
	if (c->items == NULL || c->offsets == NULL)
		return error_set_memory(err);
	for (size_t i = 0; i < c->users * length; i++)
		c->items[i] = BACKBONE_FIRST_ITEM + random_below(&random, ITEMS - BACKBONE_FIRST_ITEM);
	for (size_t i = 0; i <= c->users; i++)
		c->offsets[i] = i * length;
	return STATUS_OK;
}

/* As `peterctl pretrain` does by default, the task token's loss and the weights' average included. */
static enum status open_pretrain(struct course *c, struct error *err)
{
	const struct pretrainer_options options = {
		.seed = 1,
		.batch = BATCH,
		.window = PRETRAIN_WINDOW,
		.dropout = 0.2F,
		.task_weight = 0.05F,
		.unknown = 0.01F,
		.loss = PRETRAINER_FULL,
		.average = 0.999F,
		.optimizer = adam,
	};
	c->users = PRETRAIN_USERS;
	c->batch = BATCH * PRETRAIN_WINDOW; /* items a step */
	enum status status = open_network(c, err);
	if (status == STATUS_OK)
		status = draw_sequences(c, PRETRAIN_WINDOW + 1, err);
	c->sequences = (struct pretrainer_sequences){ .users = c->users, .offsets = c->offsets, .items = c->items };
	if (status == STATUS_OK)
		status = pretrainer_new(&options, c->net, &c->sequences, &c->parallel, &c->pretrainer, err);
	return status;
}

static enum status open_patch(struct course *c, enum patch_insertion insertion, struct error *err)
{
	static const char *const labels[CLASSES] = { "a", "b", "c", "d", "e", "f", "g" };
	struct random_stream random = random_from(1, 3);
	const bool side = insertion == PATCH_SIDE;
	struct patch_spec spec = {
		.type = PATCH_CLASSIFICATION,
		.insertion = insertion,
		.bottleneck = BOTTLENECK,
		.mean_window = PATCH_MEAN_WINDOW,
		.first = !side,
		.second = !side,
	};
	for (uint32_t i = 0; i < shape.blocks + (side ? 1 : 0); i++)
		spec.blocks[i] = true;
	return patch_new(&spec, c->net, "bench", labels, CLASSES, &random, &c->patch, err);
}

static enum status open_tuner(struct course *c, struct network *net, struct error *err)
{
	struct random_stream random = random_from(1, 4);
	const struct tuner_options options = { .loss = TUNER_SOFTMAX, .seed = 1, .optimizer = adam };
	c->examples = calloc(c->users, sizeof *c->examples);
	if (c->examples == NULL)
		return error_set_memory(err);
	for (size_t i = 0; i < c->users; i++) {
		c->examples[i].target = random_below(&random, CLASSES);
		c->examples[i].weight = 1;
		if (c->items != NULL) {
			c->examples[i].items = c->items + c->offsets[i];
			c->examples[i].length = c->offsets[i + 1] - c->offsets[i];
		} else {
			c->examples[i].state = c->states + i * side_state_floats(c->patch);
		}
	}
	return tuner_new(c->patch, net, &options, &c->parallel, c->batch, &c->tuner, err);
}

static enum status open_serial(struct course *c, struct error *err)
{
	c->users = FINETUNE_USERS;
	c->batch = BATCH;
	enum status status = open_network(c, err);
	if (status == STATUS_OK)
		status = draw_sequences(c, FINETUNE_WINDOW, err);
	if (status == STATUS_OK)
		status = open_patch(c, PATCH_SERIAL, err);
	return status == STATUS_OK ? open_tuner(c, c->net, err) : status;
}

/* From states that have been computed before: what they are plays no part. */
static enum status open_side(struct course *c, struct error *err)
{
	struct random_stream random = random_from(1, 5);
	c->users = SIDE_USERS;
	c->batch = SIDE_BATCH;
	enum status status = open_network(c, err);
	if (status == STATUS_OK)
		status = open_patch(c, PATCH_SIDE, err);
	if (status != STATUS_OK)
		return status;
	const size_t floats = SIDE_USERS * side_state_floats(c->patch);
	c->states = malloc(floats * sizeof *c->states);
	if (c->states == NULL)
		return error_set_memory(err);
	for (size_t i = 0; i < floats; i++)
		c->states[i] = random_normal(&random);
	return open_tuner(c, NULL, err);
}

static void close_course(struct course *c)
{
	pretrainer_free(c->pretrainer);
	tuner_free(c->tuner);
	patch_free(c->patch);
	network_free(c->net);
	free(c->examples);
	free(c->items);
	free(c->offsets);
	free(c->states);
}

static enum status step(struct course *c, struct error *err)
{
	if (c->pretrainer != NULL) {
		bool ended = false;
		return pretrainer_step(c->pretrainer, &ended, err);
	}
	const struct tuner_batch batch = { .examples = c->examples + c->at, .count = c->batch };
	struct tuner_sums sums;
	c->at = (c->at + c->batch) % c->users;
	return tuner_step(c->tuner, &batch, &sums) ? STATUS_OK : error_set(err, STATUS_BUG, "a gradient is not finite");
}

static const struct kind {
	const char *name;
	const char *unit;
	const char *text;
	enum status (*open)(struct course *c, struct error *err);
	bool alone; /* on one core whatever --threads says */
} kinds[] = {
	{ "pretrain", "items", "pre-training", open_pretrain, false },
	{ "serial", "examples", "serial patch", open_serial, false },
	{ "side", "examples", "side patch, one core", open_side, true },
};

struct figures { /* the best of the rounds, rows a second; 0: none */
	double ours;
	double peers[BENCH_PEER_MODES];
};

/* Of one thread: its processor time, since other programs share the machine. Of several: time on the clock. */
static int64_t now_us(bool alone)
{
	return alone ? clock_thread_cpu_us() : clock_monotonic_us();
}

static enum status run_round(const struct settings *s, struct course *c, double *best, struct error *err)
{
	const bool alone = c->parallel.parts == 1;
	const int64_t start_us = now_us(alone);
	int64_t took_us = 0;
	size_t steps = 0;
	while (took_us < s->round_ms * 1000) {
		for (int i = 0; i < AT_LEAST; i++, steps++) {
			enum status status = step(c, err);
			if (status != STATUS_OK)
				return status;
		}
		took_us = now_us(alone) - start_us;
	}
	const double rate = (double)(steps * c->batch) * 1e6 / (double)took_us;
	*best = rate > *best ? rate : *best;
	return STATUS_OK;
}

/* Rounds of us and of the peer's modes in turn: what else the machine does hits all alike. */
static enum status take_turns(const struct settings *s, const struct kind *kind, struct course *c,
			      struct bench_peer *peer, struct figures *f, struct error *err)
{
	const size_t modes = peer == NULL ? 0 : bench_peer_modes(peer);
	bool able[BENCH_PEER_MODES];
	for (size_t mode = 0; mode < modes; mode++) {
		double warm = 0;
		able[mode] = bench_peer_run(peer, kind->name, mode, 0, &warm);
	}
	for (int i = 0; i < AT_LEAST; i++) {
		enum status status = step(c, err);
		if (status != STATUS_OK)
			return status;
	}
	for (int64_t round = 0; round < s->rounds; round++) {
		enum status status = run_round(s, c, &f->ours, err);
		if (status != STATUS_OK)
			return status;
		for (size_t mode = 0; mode < modes; mode++) {
			double rate = 0;
			if (able[mode] && bench_peer_run(peer, kind->name, mode, (double)s->round_ms / 1e3, &rate))
				f->peers[mode] = rate > f->peers[mode] ? rate : f->peers[mode];
		}
	}
	return STATUS_OK;
}

static void print_row(const struct settings *s, const struct kind *kind, uint32_t threads, const char *who,
		      const char *mode, double rate, double ratio)
{
	char ratio_text[32] = "";
	if (s->json) {
		if (ratio > 0)
			(void)snprintf(ratio_text, sizeof ratio_text, ", \"ratio\": %.2f", ratio);
		printf("{\"bench\": \"train\", \"what\": \"%s\", \"threads\": %" PRIu32
		       ", \"who\": \"%s\", \"mode\": \"%s\", \"unit\": \"%s\", \"per_second\": %.0f%s}\n",
		       kind->name, threads, who, mode, kind->unit, rate, ratio_text);
	} else {
		char name[64];
		if (ratio > 0)
			(void)snprintf(ratio_text, sizeof ratio_text, "  peterd is at %.2f times that", ratio);
		(void)snprintf(name, sizeof name, "%s%s%s", who, mode[0] == '\0' ? "" : ", ", mode);
		printf("%-22s %-30s %10.0f %s/s%s\n", kind->text, name, rate, kind->unit, ratio_text);
	}
	(void)fflush(stdout);
}

static enum status measure(const struct settings *s, const struct kind *kind, const struct parallel *parallel,
			   struct bench_peer *peer, struct error *err)
{
	struct course c = { .parallel = kind->alone ? parallel_none : *parallel };
	struct figures f = { 0 };
	enum status status = kind->open(&c, err);
	if (status == STATUS_OK)
		status = take_turns(s, kind, &c, peer, &f, err);
	const uint32_t threads = c.parallel.parts;
	close_course(&c);
	if (status != STATUS_OK)
		return status;
	print_row(s, kind, threads, "peterd", "", f.ours, 0);
	for (size_t mode = 0; peer != NULL && mode < bench_peer_modes(peer); mode++) {
		if (f.peers[mode] > 0)
			print_row(s, kind, threads, bench_peer_name(peer), bench_peer_mode(peer, mode), f.peers[mode],
				  f.ours / f.peers[mode]);
	}
	return STATUS_OK;
}

static enum status measure_all(const struct settings *s, struct error *err)
{
	struct threads *threads = NULL;
	enum status status = threads_new((uint32_t)s->threads, &threads, err);
	if (status != STATUS_OK)
		return status;
	const struct parallel parallel = threads_parallel(threads);
	struct bench_peer *peer = s->no_peers ? NULL : bench_peer_start(s->python, s->peers, (int)s->threads);
	if (!s->json)
		printf("d %" PRIu32 ", %" PRIu32 " blocks, k %" PRIu32 "; threads %" PRId64 "; best of %" PRId64
		       " rounds\n"
		       "pre-training: full softmax over %d items, %d windows of %d a step; patches: bottleneck %d, %d "
		       "classes;\nserial: %d windows of %d a step; side: %d cached states a step\n",
		       shape.channels, shape.blocks, shape.kernel_size, s->threads, s->rounds, ITEMS, BATCH,
		       PRETRAIN_WINDOW, BOTTLENECK, CLASSES, BATCH, FINETUNE_WINDOW, SIDE_BATCH);
	for (size_t i = 0; i < CTL_COUNT(kinds) && status == STATUS_OK; i++)
		status = measure(s, &kinds[i], &parallel, peer, err);
	bench_peer_stop(peer);
	threads_free(threads);
	return status;
}

enum status bench_train(int argc, char **argv, struct error *err)
{
	struct settings s = {
		.threads = 1,
		.rounds = 5,
		.round_ms = 2000,
		.python = "python3",
		.peers = "tools/bench_peers_train.py",
	};
	const struct ctl_option options[] = {
		{ "threads", CTL_WHOLE, false, &s.threads, "N", "of each; 1 is measured in processor time [1]", 1,
		  THREADS_AT_MOST },
		{ "rounds", CTL_WHOLE, false, &s.rounds, "N", "turns of each, of which the best counts [5]", 1, 1000 },
		{ "round-ms", CTL_WHOLE, false, &s.round_ms, "N", "length of a turn [2000]", 1, 3600000 },
		{ "json", CTL_FLAG, false, &s.json, NULL, "one object a line", 0, 0 },
		{ "no-peers", CTL_FLAG, false, &s.no_peers, NULL, "leave PyTorch out", 0, 0 },
		{ "python", CTL_TEXT, false, &s.python, "PROGRAM", "an interpreter that has it [python3]", 0, 0 },
		{ "peers", CTL_TEXT, false, &s.peers, "FILE", "its script [tools/bench_peers_train.py]", 0, 0 },
	};
	const struct ctl_usage usage = {
		.name = "bench train",
		.operands = "",
		.description =
			"Training on synthetic data: pre-training, a serial patch, a side patch from cached states.\n",
		.options = options,
		.count = CTL_COUNT(options),
	};
	int operands = 0;
	bool help = false;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	return status != STATUS_OK || help ? status : measure_all(&s, err);
}
