/* peterctl patch verify TASK: the proof of a task's patches (patch_replay.h), for people and as JSON. */
#include "tools/ctl.h"

#include "tools/patch_replay.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static enum status print_json(const char *task, const struct patch_replay *r, struct error *err)
{
	json_t *object =
		json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "task", task, "definition",
			  r->definition, "backbone", r->backbone, "from", r->from_checkpoint ? "checkpoint" : "created",
			  "records", (json_int_t)r->records, "cuts", (json_int_t)r->cuts, "examples",
			  (json_int_t)r->examples, "labels_trained", (json_int_t)r->labels, "versions",
			  (json_int_t)r->versions, "slots", (json_int_t)r->slots, "live", (json_int_t)r->newest);
	char *text = object ? json_dumps(object, 0) : NULL;
	json_decref(object);
	if (!text)
		return error_set_memory(err);
	printf("%s\n", text);
	free(text);
	return STATUS_OK;
}

static void print_text(const char *task, const struct patch_replay *r)
{
	printf("task %s: the same bytes come out\n"
	       "  definition  %s\n"
	       "  backbone    %s\n"
	       "  done again  %" PRIu64 " records from %s on: %" PRIu64 " cuts, %" PRIu64 " examples\n"
	       "  labels      %" PRIu64 " trained\n"
	       "  versions    %" PRIu64 " came out as recorded, the bytes of %" PRIu64
	       " are on the topic; live: %" PRIu64 "\n",
	       task, r->definition, r->backbone, r->records, r->from_checkpoint ? "a checkpoint" : "the beginning",
	       r->cuts, r->examples, r->labels, r->versions, r->slots, r->newest);
}

enum status ctl_patch_verify(int argc, char **argv, struct error *err)
{
	const char *path;
	int64_t timeout_ms = 30000;
	bool json = false;
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&path),
		{ "json", CTL_FLAG, false, &json, NULL, "one object", 0, 0 },
		CTL_OPTION_TIMEOUT(&timeout_ms),
	};
	const struct ctl_usage usage = { "patch verify",
					 "TASK",
					 "Makes a task's patches again, from the examples and the recorded cuts and "
					 "decisions, and compares the bytes: from\n"
					 "the lineage's beginning, or from a checkpoint where the topics do not reach "
					 "back so far. The bytes are the same\n"
					 "on the same kind of machine. Errors: 65 where something else comes out, an "
					 "example is in no record, bytes are\n"
					 "damaged, or the topics reach back to no checkpoint, with what it trained on "
					 "again.\n",
					 options,
					 CTL_COUNT(options),
					 1 };
	struct config *config = NULL;
	struct patch_replay result;
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (operands == argc)
		return error_set(err, STATUS_USAGE, "a task's name is missing; see --help");
	status = config_load(path, &config, err);
	if (!status)
		status = patch_replay_run(config, argv[operands], (int)timeout_ms, &result, err);
	if (!status && json)
		status = print_json(argv[operands], &result, err);
	else if (!status)
		print_text(argv[operands], &result);
	config_free(config);
	return status;
}
