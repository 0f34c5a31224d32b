/* peterctl score: a file of events to a matrix of a task's scores. */
#include "tools/ctl.h"

#include "io/npy.h"
#include "tools/command_files.h"
#include "tools/patched.h"
#include "tools/threads.h"
#include "tools/user_rows.h"

#include <stdlib.h>

struct score {
	const char *backbone, *patch_path, *events, *out, *users_out;
	int64_t threads_count; /* 0: cores */

	struct patched patched;
	struct audience *audience;
	struct user_items items;
	struct threads *threads;
	float *rows;
};

static enum status score(struct score *s, struct error *err)
{
	const struct command_file files[] = { { "backbone", s->backbone, COMMAND_READS },
					      { "patch", s->patch_path, COMMAND_READS },
					      { "events", s->events, COMMAND_READS },
					      { "out", s->out, COMMAND_WRITES },
					      { "users-out", s->users_out, COMMAND_WRITES } };
	enum status status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = patched_load(s->backbone, s->patch_path, &s->patched, err);
	if (!status)
		status = audience_load(s->events, &s->audience, err);
	if (!status && s->users_out && user_ids_check(s->audience, err))
		status = error_prefix(err, "--users-out: %s", s->events);
	if (!status)
		status = user_items_make(s->audience, s->patched.trunk.vocabulary, &s->items, err);
	if (!status)
		status = threads_new(s->threads_count ? (uint32_t)s->threads_count : threads_cores(), &s->threads, err);
	if (status)
		return status;
	const struct parallel parallel = threads_parallel(s->threads);
	const struct user_rows rows = { s->patched.trunk.net, s->patched.patch, s->audience, &s->items, &parallel };
	const size_t users = audience_users(s->audience);
	const uint32_t classes = s->patched.patch->classes;
	s->rows = calloc(users + 1, ((size_t)classes + 1) * sizeof *s->rows);
	status = s->rows ? user_rows_compute(&rows, false, s->rows, err) : error_set_memory(err);
	if (status == STATUS_DATA)
		return error_prefix(err, "%s: scores", s->patch_path);
	if (!status)
		status = npy_write(s->out, s->rows, users, classes, err);
	if (!status && s->users_out)
		status = user_ids_write(s->users_out, s->audience, err);
	return status;
}

enum status ctl_score(int argc, char **argv, struct error *err)
{
	struct score s = { 0 };
	const struct ctl_option options[] = {
		{ "backbone", CTL_TEXT, true, &s.backbone, "FILE", "the backbone, a safetensors file", 0, 0 },
		{ "patch", CTL_TEXT, true, &s.patch_path, "FILE", "the task's patch, a safetensors file", 0, 0 },
		{ "events", CTL_TEXT, true, &s.events, "FILE", "CSV or TSV with user_id, item_id, timestamp; -: stdin",
		  0, 0 },
		{ "out", CTL_TEXT, true, &s.out, "FILE", "the .npy to write, float32 [users, C]", 0, 0 },
		{ "users-out", CTL_TEXT, false, &s.users_out, "FILE", "write the user ids too, a line a row", 0, 0 },
		{ "threads", CTL_WHOLE, false, &s.threads_count, "N", "default: as many as cores", 1, THREADS_AT_MOST },
	};
	const struct ctl_usage usage = { "score",
					 "",
					 "A task's scores of all users of a file of events, one row a user, in order "
					 "of first appearance; the columns\n"
					 "are the patch's labels. Classification: probabilities. Ranking: the head's "
					 "outputs. Regression: one value.\n",
					 options,
					 CTL_COUNT(options),
					 0 };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = score(&s, err);
	free(s.rows);
	threads_free(s.threads);
	user_items_free(&s.items);
	audience_free(s.audience);
	patched_close(&s.patched);
	return status;
}
