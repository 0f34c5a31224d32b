#include "tools/bench_trunk.h"

#include "base/clock.h"
#include "model/backbone.h"
#include "model/kernels.h"
#include "model/random_backbone.h"
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ITEMS 4000
#define DILATIONS "1,4,1,4,1,4,1,4"
#define KERNEL_SIZE 3
#define ROUNDS 5
#define BATCH_MAX 256

extern char **environ;

struct settings {
	int64_t users;
	int64_t memory_mib; /* at most so much of states: fewer users where it does not do */
	int64_t round_ms;
	bool json;
	bool no_peers;
	const char *python;
	const char *peers;
};

struct trunk {
	struct backbone *b;
	struct backbone_workspace *ws;
	void **states;
	size_t users;
	uint64_t random;
};

static uint32_t draw(struct trunk *t, uint32_t below)
{
	t->random = t->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((t->random >> 32) * below >> 32);
}

static void print_row(const struct settings *s, const struct trunk *t, const char *what, size_t batch,
		      double per_second)
{
	if (s->json)
		printf("{\"bench\": \"trunk\", \"what\": \"%s\", \"batch\": %zu, \"channels\": %" PRIu32
		       ", \"users\": %zu, \"kernels\": \"%s\", \"per_second\": %.0f}\n",
		       what, batch, backbone_dim(t->b), t->users, kernels_choose()->name, per_second);
	else
		printf("peterd, %-24s batch %3zu  d %3" PRIu32 "  %10.0f /s\n", what, batch, backbone_dim(t->b),
		       per_second);
	(void)fflush(stdout);
}

/* One call of what is measured. */
typedef void measured(struct trunk *t, size_t batch, float *out);

/* Distinct users: each of a batch comes from its own part of the audience. */
static void run_events(struct trunk *t, size_t batch, float *out)
{
	void *states[BATCH_MAX];
	uint32_t items[BATCH_MAX];
	const uint32_t part = (uint32_t)(t->users / batch);
	for (size_t i = 0; i < batch; i++) {
		states[i] = t->states[i * part + draw(t, part)];
		items[i] = BACKBONE_FIRST_ITEM + draw(t, ITEMS);
	}
	backbone_push_read(t->b, t->ws, batch, states, items, out);
}

static void run_windows(struct trunk *t, size_t batch, float *out)
{
	static uint32_t items[BATCH_MAX * 512];
	size_t offsets[BATCH_MAX + 1] = { 0 };
	for (size_t i = 0; i < batch; i++)
		offsets[i + 1] = offsets[i] + backbone_window(t->b);
	for (size_t i = 0; i < offsets[batch]; i++)
		items[i] = BACKBONE_FIRST_ITEM + draw(t, ITEMS);
	backbone_embed(t->b, t->ws, batch, offsets, items, NULL, out);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The median of the rounds, per second of this thread's processor time: other programs share the machine. */
static enum status measure(const struct settings *s, struct trunk *t, const char *what, size_t batch, measured *run,
			   struct error *err)
{
	double rounds[ROUNDS];
	float *out = malloc(batch * backbone_dim(t->b) * sizeof *out);
	if (out == NULL)
		return error_set_memory(err);
	for (size_t round = 0; round < ROUNDS; round++) {
		int64_t start_us = clock_thread_cpu_us();
		int64_t took_us = 0;
		size_t done = 0;
		while (took_us < s->round_ms * 1000) {
			for (int i = 0; i < 8; i++, done += batch)
				run(t, batch, out);
			took_us = clock_thread_cpu_us() - start_us;
		}
		rounds[round] = (double)done * 1e6 / (double)took_us;
	}
	free(out);
	qsort(rounds, ROUNDS, sizeof rounds[0], compare);
	print_row(s, t, what, batch, rounds[ROUNDS / 2]);
	return STATUS_OK;
}

static enum status make_backbone(uint32_t channels, struct backbone **ret, struct error *err)
{
	const struct random_backbone random = { channels, KERNEL_SIZE, DILATIONS, true, 0, 1 };
	static char names[ITEMS][8];
	static const char *items[ITEMS];
	char path[] = "/tmp/peterd-bench-XXXXXX";
	for (size_t i = 0; i < ITEMS; i++) {
		(void)snprintf(names[i], sizeof names[i], "%zu", i);
		items[i] = names[i];
	}
	int fd = mkstemp(path);
	if (fd < 0)
		return error_set_errno(err, "%s", path);
	(void)close(fd);
	enum status status = random_backbone_write(path, &random, items, ITEMS, err);
	if (status == STATUS_OK)
		status = backbone_load(path, ret, err);
	(void)unlink(path);
	return status;
}

static void close_trunk(struct trunk *t)
{
	for (size_t i = 0; t->states != NULL && i < t->users; i++)
		free(t->states[i]);
	free(t->states);
	backbone_workspace_free(t->ws);
	backbone_free(t->b);
}

static enum status open_trunk(const struct settings *s, uint32_t channels, struct trunk *t, struct error *err)
{
	*t = (struct trunk){ .random = 1 };
	enum status status = make_backbone(channels, &t->b, err);
	if (status == STATUS_OK)
		status = backbone_workspace_new(t->b, &t->ws, err);
	if (status != STATUS_OK)
		return status;
	const size_t bytes = (backbone_state_bytes(t->b) + 63) / 64 * 64;
	const size_t fit = (size_t)s->memory_mib * 1024 * 1024 / bytes;
	t->users = (size_t)s->users < fit ? (size_t)s->users : fit;
	t->users = t->users < BATCH_MAX ? BATCH_MAX : t->users;
	t->states = calloc(t->users, sizeof t->states[0]);
	for (size_t i = 0; t->states != NULL && i < t->users; i++) {
		t->states[i] = aligned_alloc(64, bytes); /* as the daemon's cache does */
		if (t->states[i] == NULL)
			return error_set_memory(err);
		backbone_state_reset(t->b, t->states[i]);
	}
	return t->states == NULL ? error_set_memory(err) : STATUS_OK;
}

static enum status measure_all(const struct settings *s, uint32_t channels, struct error *err)
{
	struct trunk t;
	enum status status = open_trunk(s, channels, &t, err);
	if (status == STATUS_OK && !s->json)
		printf("d %" PRIu32 ", k %d, dilations %s, window %" PRIu32
		       ", %zu users of %zu bytes, kernels %s; one core\n",
		       channels, KERNEL_SIZE, DILATIONS, backbone_window(t.b), t.users, backbone_state_bytes(t.b),
		       kernels_choose()->name);
	if (status == STATUS_OK)
		status = measure(s, &t, "streamed events", 1, run_events, err);
	if (status == STATUS_OK)
		status = measure(s, &t, "streamed events", 32, run_events, err);
	if (status == STATUS_OK)
		status = measure(s, &t, "streamed events", BATCH_MAX, run_events, err);
	if (status == STATUS_OK)
		status = measure(s, &t, "whole windows (users)", 1, run_windows, err);
	if (status == STATUS_OK)
		status = measure(s, &t, "whole windows (users)", BATCH_MAX, run_windows, err);
	close_trunk(&t);
	return status;
}

/* The script says itself what it lacks; a missing Python or script is one line, not an error. */
static void run_peers(const struct settings *s)
{
	char *const argv[] = { (char *)(uintptr_t)s->python, (char *)(uintptr_t)s->peers,
			       s->json ? (char *)(uintptr_t) "--json" : NULL, NULL };
	pid_t pid = 0;
	int code = 0;
	if (access(s->peers, R_OK) != 0 || posix_spawnp(&pid, s->python, NULL, NULL, argv, environ) != 0) {
		fprintf(stderr, "peers skipped: no %s, or no %s to run it\n", s->peers, s->python);
		return;
	}
	while (waitpid(pid, &code, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(code) || WEXITSTATUS(code) != 0)
		fprintf(stderr, "peers: %s failed\n", s->peers);
}

enum status bench_trunk(int argc, char **argv, struct error *err)
{
	struct settings s = {
		.users = 100000,
		.memory_mib = 4096,
		.round_ms = 500,
		.python = "python3",
		.peers = "tools/bench_peers.py",
	};
	const struct ctl_option options[] = {
		{ "users", CTL_WHOLE, false, &s.users, "N", "users who take turns at random [100000]", BATCH_MAX,
		  100000000 },
		{ "memory-mib", CTL_WHOLE, false, &s.memory_mib, "N",
		  "fewer users where their states exceed this [4096]", 1, 1 << 24 },
		{ "round-ms", CTL_WHOLE, false, &s.round_ms, "N", "length of one of five rounds [500]", 1, 3600000 },
		{ "json", CTL_FLAG, false, &s.json, NULL, "one object a line", 0, 0 },
		{ "no-peers", CTL_FLAG, false, &s.no_peers, NULL, "leave PyTorch and ONNX Runtime out", 0, 0 },
		{ "python", CTL_TEXT, false, &s.python, "PROGRAM", "an interpreter that has them [python3]", 0, 0 },
		{ "peers", CTL_TEXT, false, &s.peers, "FILE", "the peers' script [tools/bench_peers.py]", 0, 0 },
	};
	const struct ctl_usage usage = {
		.name = "bench trunk",
		.operands = "",
		.description =
			"Events a second of one core through the trunk, random users; the peers with whole windows.\n",
		.options = options,
		.count = CTL_COUNT(options),
	};
	int operands = 0;
	bool help = false;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status != STATUS_OK || help)
		return status;
	status = measure_all(&s, 64, err);
	if (status == STATUS_OK)
		status = measure_all(&s, 256, err);
	if (status == STATUS_OK && !s.no_peers)
		run_peers(&s);
	return status;
}
