/* peterctl embed: a file of events to a matrix of user embeddings. */
#include "tools/ctl.h"

#include "io/audience.h"
#include "io/npy.h"
#include "model/backbone.h"
#include "model/blas.h"
#include "tools/command_files.h"
#include "tools/patched.h"
#include "tools/threads.h"
#include "tools/user_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS_AT_A_TIME = 512 };

/* Vocabulary indices of the user's newest `most` events, appended to `items`; returns how many. */
static size_t append_items(const struct backbone *b, const struct audience *a, size_t user, size_t most,
			   uint32_t *items)
{
	size_t length;
	const struct event *events = audience_sequence(a, user, &length);
	size_t skip = length > most ? length - most : 0;
	for (size_t i = skip; i < length; i++)
		items[i - skip] = backbone_item(b, events[i].item);
	return length - skip;
}

/* Whole windows, many users at a time. out: [users, d]. */
static enum status embed_batch(const struct backbone *b, struct backbone_workspace *ws, const struct audience *a,
			       float *out, struct error *err)
{
	size_t window = backbone_window(b);
	size_t users = audience_users(a);
	size_t *offsets = calloc(USERS_AT_A_TIME + 1, sizeof *offsets);
	uint32_t *items = calloc(USERS_AT_A_TIME * window + 1, sizeof *items);
	enum status status = offsets && items ? STATUS_OK : error_set_memory(err);
	struct ctl_progress progress;
	ctl_progress_start(&progress, "users", (int64_t)users);
	for (size_t first = 0; first < users && !status; first += USERS_AT_A_TIME) {
		size_t n = users - first < USERS_AT_A_TIME ? users - first : USERS_AT_A_TIME;
		for (size_t u = 0; u < n; u++)
			offsets[u + 1] = offsets[u] + append_items(b, a, first + u, window, items + offsets[u]);
		backbone_embed(b, ws, n, offsets, items, NULL, out + first * backbone_dim(b));
		ctl_progress_show(&progress, (int64_t)first);
	}
	ctl_progress_end(&progress, (int64_t)users);
	free(offsets);
	free(items);
	return status;
}

/* One event at a time, as the daemon meets them. out: [users, d]. */
static enum status embed_incremental(const struct backbone *b, struct backbone_workspace *ws, const struct audience *a,
				     float *out, struct error *err)
{
	size_t users = audience_users(a);
	size_t bytes = (backbone_state_bytes(b) + 63) / 64 * 64;
	void *state = aligned_alloc(64, bytes ? bytes : 64);
	if (!state)
		return error_set_memory(err);
	struct ctl_progress progress;
	ctl_progress_start(&progress, "events", (int64_t)audience_events(a));
	int64_t done = 0;
	for (size_t user = 0; user < users; user++) {
		size_t length;
		const struct event *events = audience_sequence(a, user, &length);
		backbone_state_reset(b, state);
		for (size_t i = 0; i < length; i++) {
			uint32_t item = backbone_item(b, events[i].item);
			backbone_push(b, ws, 1, &state, &item);
		}
		const void *read = state;
		backbone_read(b, ws, 1, &read, out + user * backbone_dim(b));
		done += (int64_t)length;
		ctl_progress_show(&progress, done);
	}
	ctl_progress_end(&progress, done);
	free(state);
	return STATUS_OK;
}

/* The command line. */
struct embed {
	const char *backbone, *patch, *events, *out, *users_out;
	bool incremental;
};

static enum status load_users(const struct embed *e, struct audience **ret, struct error *err)
{
	enum status status = audience_load(e->events, ret, err);
	if (!status && e->users_out && user_ids_check(*ret, err))
		status = error_prefix(err, "--users-out: %s", e->events);
	return status;
}

static enum status write_rows(const struct embed *e, const struct audience *a, const float *rows, size_t dim,
			      struct error *err)
{
	enum status status = npy_write(e->out, rows, audience_users(a), dim, err);
	return status || !e->users_out ? status : user_ids_write(e->users_out, a, err);
}

static enum status compute_frozen(const struct embed *e, const struct backbone *b, const struct audience *a,
				  struct error *err)
{
	struct backbone_workspace *ws = NULL;
	float *rows = calloc(audience_users(a) + 1, backbone_dim(b) * sizeof *rows);
	enum status status = rows ? backbone_workspace_new(b, &ws, err) : error_set_memory(err);
	if (!status)
		status = e->incremental ? embed_incremental(b, ws, a, rows, err) : embed_batch(b, ws, a, rows, err);
	if (!status && user_rows_check(rows, audience_users(a), backbone_dim(b), err))
		status = error_prefix(err, "%s: embeddings", e->backbone);
	if (!status)
		status = write_rows(e, a, rows, backbone_dim(b), err);
	backbone_workspace_free(ws);
	free(rows);
	return status;
}

/* The backbone as it is. */
static enum status embed_frozen(const struct embed *e, struct error *err)
{
	struct backbone *backbone = NULL;
	struct audience *audience = NULL;
	enum status status = backbone_load(e->backbone, &backbone, err);
	if (!status && e->incremental && backbone_state_bytes(backbone) == 0)
		status = error_set(err, STATUS_USAGE, "--incremental: %s is not causal and has no streaming path",
				   e->backbone);
	if (!status)
		status = load_users(e, &audience, err);
	if (!status)
		status = blas_reserve(1, err);
	if (!status)
		status = compute_frozen(e, backbone, audience, err);
	audience_free(audience);
	backbone_free(backbone);
	return status;
}

static enum status compute_patched(const struct embed *e, const struct patched *p, const struct audience *a,
				   const struct parallel *parallel, struct error *err)
{
	struct user_items items = { 0 };
	const size_t dim = p->patch->channels;
	const struct user_rows all = { p->trunk.net, p->patch, a, &items, parallel };
	float *rows = calloc(audience_users(a) + 1, dim * sizeof *rows);
	enum status status = rows ? user_items_make(a, p->trunk.vocabulary, &items, err) : error_set_memory(err);
	if (!status)
		status = user_rows_compute(&all, true, rows, err);
	if (status == STATUS_DATA)
		(void)error_prefix(err, "%s: embeddings", e->patch);
	if (!status)
		status = write_rows(e, a, rows, dim, err);
	user_items_free(&items);
	free(rows);
	return status;
}

/* What the patch's head reads. */
static enum status embed_patched(const struct embed *e, struct error *err)
{
	struct patched patched = { 0 };
	struct audience *audience = NULL;
	struct threads *threads = NULL;
	if (e->incremental)
		return error_set(err, STATUS_USAGE, "--incremental: not with --patch");
	enum status status = patched_load(e->backbone, e->patch, &patched, err);
	if (!status)
		status = load_users(e, &audience, err);
	if (!status)
		status = threads_new(threads_cores(), &threads, err);
	if (!status) {
		const struct parallel parallel = threads_parallel(threads);
		status = compute_patched(e, &patched, audience, &parallel, err);
	}
	threads_free(threads);
	audience_free(audience);
	patched_close(&patched);
	return status;
}

enum status ctl_embed(int argc, char **argv, struct error *err)
{
	struct embed e = { 0 };
	const struct ctl_option options[] = {
		{ "backbone", CTL_TEXT, true, &e.backbone, "FILE", "the backbone, a safetensors file", 0, 0 },
		{ "patch", CTL_TEXT, false, &e.patch, "FILE",
		  "a task's patch: what its head reads, not the frozen embedding", 0, 0 },
		{ "events", CTL_TEXT, true, &e.events, "FILE", "CSV or TSV with user_id, item_id, timestamp; -: stdin",
		  0, 0 },
		{ "out", CTL_TEXT, true, &e.out, "FILE", "the .npy to write, float32 [users, d]", 0, 0 },
		{ "users-out", CTL_TEXT, false, &e.users_out, "FILE", "write the user ids too, a line a row", 0, 0 },
		{ "incremental", CTL_FLAG, false, &e.incremental, NULL, "take the streaming path, one event at a time",
		  0, 0 },
	};
	const struct ctl_usage usage = {
		"embed",
		"",
		"User embeddings of a file of events, one row a user, in order of first appearance.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	const struct command_file files[] = { { "backbone", e.backbone, COMMAND_READS },
					      { "patch", e.patch, COMMAND_READS },
					      { "events", e.events, COMMAND_READS },
					      { "out", e.out, COMMAND_WRITES },
					      { "users-out", e.users_out, COMMAND_WRITES } };
	status = command_files_check(files, CTL_COUNT(files), err);
	if (status)
		return status;
	return e.patch ? embed_patched(&e, err) : embed_frozen(&e, err);
}
