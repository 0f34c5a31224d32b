/* peterctl patch list|show|rollback|export|verify: the versions on the patches topic. Showing them is patch_view.c; verify is
 * ctl_patch_verify.c. */
#include "tools/ctl.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "io/example.h"
#include "io/patch_topic.h"
#include "io/task_topic.h"
#include "io/topic_write.h"
#include "tools/command_files.h"
#include "tools/local_fit.h"
#include "tools/patch_replay.h"
#include "tools/patch_view.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_MS = 50, VERSIONS_SIZE = 256 };

/* What they have in common: the daemon's configuration, and the topic read to its end. */
struct patch_command {
	const char *config_path;
	int64_t timeout_ms;
	int64_t version; /* 0: the live one */
	bool json;
	struct config *config;
	struct patch_topic *topic;
	struct task_topic *tasks; /* NULL: not asked for yet */
	struct local_fit fit;     /* with it */
};

static enum status begin(struct patch_command *c, struct error *err)
{
	enum status status = config_load(c->config_path, &c->config, err);
	if (!status)
		status = patch_topic_open(c->config, false, (int)c->timeout_ms, &c->topic, err);
	return status ? status : patch_topic_catch_up(c->topic, (int)c->timeout_ms, err);
}

static void end(struct patch_command *c)
{
	patch_topic_close(c->topic);
	task_topic_close(c->tasks);
	local_fit_close(&c->fit);
	config_free(c->config);
}

static struct slice name_slice(const char *name)
{
	return (struct slice){ (const uint8_t *)name, strlen(name) };
}

/* ---- tasks ---- */

static enum status read_tasks(struct patch_command *c, struct error *err)
{
	if (c->tasks)
		return STATUS_OK;
	enum status status = local_fit_open(c->config, &c->fit, err);
	if (!status)
		status = task_topic_open(c->config, local_fit_judge(&c->fit), (int)c->timeout_ms, &c->tasks, err);
	return status ? status : task_topic_catch_up(c->tasks, (int)c->timeout_ms, err);
}

/* A task's definition as it is now. */
struct definition {
	bool known;                     /* there is such a task */
	bool serves;                    /* there is a definition that a daemon takes */
	char hash[HASH_HEX_LENGTH + 1]; /* its */
	char refused[512];              /* why the newest one is refused; "": it is not */
};

static enum status configured_now(const struct patch_command *c, const struct config_task *task, struct definition *ret,
				  struct error *err)
{
	struct error unfit;
	const struct task_judge *judge = local_fit_judge(&c->fit);
	ret->known = true;
	ret->serves = !judge || !judge->fits(judge->arg, task, &unfit);
	if (!ret->serves)
		(void)snprintf(ret->refused, sizeof ret->refused, "%s", unfit.text);
	return config_task_hash(task, ret->hash, err);
}

static enum status definition_now(struct patch_command *c, const char *name, struct definition *ret, struct error *err)
{
	*ret = (struct definition){ 0 };
	enum status status = read_tasks(c, err);
	if (status)
		return status;
	const struct task_entry *entry = task_table_find(task_topic_table(c->tasks), name_slice(name));
	if (entry) {
		ret->known = entry->state != TASK_REMOVED;
		ret->serves = entry->defined;
		memcpy(ret->hash, entry->definition, sizeof ret->hash);
		if (entry->state == TASK_REFUSED)
			(void)snprintf(ret->refused, sizeof ret->refused, "%s", entry->reason);
		return STATUS_OK;
	}
	for (size_t i = 0; i < c->config->tasks_count; i++)
		if (!strcmp(c->config->tasks[i].name, name))
			return configured_now(c, &c->config->tasks[i], ret, err);
	return STATUS_OK;
}

static enum status refuse_unknown(const struct patch_command *c, const char *name, struct error *err)
{
	const char *names[256];
	size_t count = 0;
	for (const struct patch_entry *e = NULL;
	     (e = patch_table_next(patch_topic_table(c->topic), e)) && count < CTL_COUNT(names);)
		names[count++] = e->task;
	const char *nearest = ctl_nearest(name, names, count);
	return error_set(err, STATUS_NO_INPUT, "task %.100s: there is no such task%s%s%s", name,
			 nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static enum status refuse_definition(const char *name, const struct definition *d, struct error *err)
{
	return error_set(err, STATUS_DATA, "task %s: the daemon refuses its definition: %s", name, d->refused);
}

/* What is true of a task without a version on the topic. */
static void say_unwritten(const struct patch_command *c, const char *name, const struct definition *d)
{
	if (!d->serves) {
		printf("%s: the daemon refuses its definition: %s\n", name, d->refused);
		return;
	}
	printf("%s: serves its identity patch (version 1); nothing learnt yet", name);
	if (*d->refused)
		printf("; a newer definition is refused: %s", d->refused);
	if (!c->fit.backbone)
		printf("; whether its definition fits the backbone is for the daemon to say: %s", c->fit.why.text);
	printf("\n");
}

/* The task's entry with a record at least; *ret NULL: the task is there, and has none. Errors: STATUS_NO_INPUT: it is not. */
static enum status find(struct patch_command *c, const char *name, const struct patch_entry **ret,
			struct definition *ret_definition, struct error *err)
{
	const struct patch_entry *entry = patch_table_find(patch_topic_table(c->topic), name);
	*ret = entry && patch_entry_newest(entry) ? entry : NULL;
	if (*ret)
		return STATUS_OK;
	enum status status = definition_now(c, name, ret_definition, err);
	return status || ret_definition->known ? status : refuse_unknown(c, name, err);
}

static enum status find_written(struct patch_command *c, const char *name, const struct patch_entry **ret,
				struct error *err)
{
	struct definition d;
	enum status status = find(c, name, ret, &d, err);
	if (status || *ret)
		return status;
	if (!d.serves)
		return refuse_definition(name, &d, err);
	return error_set(err, STATUS_NO_INPUT,
			 "task %s: no version has been written yet: it serves its identity patch (version 1), which is "
			 "written when the learner takes the task up",
			 name);
}

/* The live version is the newest record's while the definition is that of the record. */
static enum status check_definition(struct patch_command *c, const struct patch_entry *entry, struct error *err)
{
	const struct patch_record *newest = patch_entry_newest(entry);
	char versions[VERSIONS_SIZE];
	struct definition d;
	enum status status = definition_now(c, entry->task, &d, err);
	if (!status && d.known && !d.serves)
		status = refuse_definition(entry->task, &d, err);
	if (status || !d.known || !strcmp(d.hash, newest->definition))
		return status;
	return error_set(err, STATUS_NO_INPUT,
			 "task %s: no version of its new definition %.12s has been written yet; of definition %.12s "
			 "there are versions %s",
			 entry->task, d.hash, newest->definition,
			 patch_view_versions(entry, versions, sizeof versions));
}

/* For people who read that a version is live. */
static enum status say_in_force(struct patch_command *c, const struct patch_entry *entry, struct error *err)
{
	struct definition d;
	enum status status = definition_now(c, entry->task, &d, err);
	if (!status && !d.known)
		printf("  %-12s removed: no version of it serves\n", "task");
	else if (!status && d.serves && strcmp(d.hash, patch_entry_newest(entry)->definition) != 0)
		printf("  %-12s defined anew as %.12s: these are versions of what it was\n", "task", d.hash);
	return status;
}

/* ---- what is there ---- */

/* Why the bytes of a version that should be there are not: what is wrong with the slots. */
static enum status refuse_damaged(const struct patch_entry *entry, const char *what, uint64_t version,
				  struct error *err)
{
	for (int s = 0; s < PATCH_VERSION_SLOTS; s++)
		if (entry->slots[s].state == PATCH_SLOT_BROKEN)
			return error_set(err, STATUS_DATA, "task %s: %s version %llu is not whole: slot %d: %s",
					 entry->task, what, (unsigned long long)version, s, entry->slots[s].reason);
	return error_set(err, STATUS_DATA, "task %s: %s version %llu stands in no slot", entry->task, what,
			 (unsigned long long)version);
}

/* The newest slot with a version of that number. */
static const struct patch_slot *find_version(const struct patch_entry *entry, uint64_t version)
{
	const struct patch_slot *found = NULL;
	for (int s = 0; s < PATCH_VERSION_SLOTS; s++) {
		const struct patch_slot *slot = &entry->slots[s];
		if (slot->state == PATCH_SLOT_WHOLE && slot->record.version == version &&
		    (!found || slot->offset > found->offset))
			found = slot;
	}
	return found;
}

static enum status refuse_version(const struct patch_entry *entry, uint64_t version, struct error *err)
{
	char versions[VERSIONS_SIZE];
	return error_set(err, STATUS_NO_INPUT,
			 "task %s: version %llu is not on the topic, or no more; there are versions %s", entry->task,
			 (unsigned long long)version, patch_view_versions(entry, versions, sizeof versions));
}

static enum status choose_slot(struct patch_command *c, const struct patch_entry *entry, const struct patch_slot **ret,
			       struct error *err)
{
	if (c->version) {
		*ret = find_version(entry, (uint64_t)c->version);
		return *ret ? STATUS_OK : refuse_version(entry, (uint64_t)c->version, err);
	}
	enum status status = check_definition(c, entry, err);
	if (status)
		return status;
	*ret = patch_entry_live(entry);
	return *ret ? STATUS_OK : refuse_damaged(entry, "the live", patch_entry_newest(entry)->version, err);
}

/* The newest record that made a version live, of the number or of any; where it is older than what the topic keeps, its
 * manifest. */
static const struct patch_record *choose_record(const struct patch_entry *entry, uint64_t version)
{
	const struct patch_record *newest = patch_entry_newest(entry);
	for (size_t i = entry->decision_count; i-- > 0;) {
		const struct patch_record *r = entry->decisions[i];
		const bool made = r->decision == PATCH_CREATED || r->decision == PATCH_PROMOTED ||
				  (!version && r->decision == PATCH_ROLLED_BACK);
		if (made && (version ? r->version == version : !strcmp(r->patch, newest->patch)))
			return r;
	}
	const struct patch_slot *slot = version ? find_version(entry, version) : patch_entry_live(entry);
	return slot ? &slot->record : version ? NULL : newest;
}

/* ---- commands ---- */

#define OPTION_VERSION(target)                                                                                         \
	{                                                                                                              \
		"version", CTL_WHOLE, false, target, "N", "this version; default: the live one", 1, INT64_MAX          \
	}

static enum status one_task(int argc, char **argv, int operands, const char **ret, struct error *err)
{
	if (operands == argc)
		return error_set(err, STATUS_USAGE, "a task's name is missing; see --help");
	*ret = argv[operands];
	return STATUS_OK;
}

/* A command of one task. */
static enum status of_one_task(int argc, char **argv, const struct ctl_usage *usage, struct patch_command *c,
			       enum status (*run)(struct patch_command *c, const char *task, struct error *err),
			       struct error *err)
{
	const char *task;
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, usage, &operands, &help, err);
	if (status || help)
		return status;
	status = one_task(argc, argv, operands, &task, err);
	if (!status)
		status = run(c, task, err);
	end(c);
	return status;
}

static enum status list(struct patch_command *c, const char *task, struct error *err)
{
	const struct patch_entry *entry = NULL;
	struct definition d;
	enum status status = begin(c, err);
	if (!status && task)
		status = find(c, task, &entry, &d, err);
	if (status)
		return status;
	if (task && !entry) {
		if (!c->json)
			say_unwritten(c, task, &d);
		return STATUS_OK;
	}
	return patch_view_list(patch_topic_table(c->topic), entry, c->json, err);
}

static enum status run_list(int argc, char **argv, struct error *err)
{
	struct patch_command c = { .timeout_ms = 30000 };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		{ "json", CTL_FLAG, false, &c.json, NULL, "an object a line, of every record", 0, 0 },
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = {
		"patch list",
		"[TASK]",
		"Lists what became of the patches of a task, or of all, the newest last: the version that is live\n"
		"after it, what was decided and why, labels consumed, the main metric of what was live and of its\n"
		"challenger, of the last 1000 labels or so, before they learned from them, and by how much the loss\n"
		"of the challenger (rolled_back: of the predecessor) was lower, over how many labels (-: there were\n"
		"none). Of a task without a version yet: whether it is served.\n",
		options,
		CTL_COUNT(options),
		1
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = list(&c, operands < argc ? argv[operands] : NULL, err);
	end(&c);
	return status;
}

static enum status show(struct patch_command *c, const char *task, struct error *err)
{
	const struct patch_entry *entry;
	enum status status = begin(c, err);
	if (!status)
		status = find_written(c, task, &entry, err);
	if (status)
		return status;
	const struct patch_record *record = choose_record(entry, (uint64_t)c->version);
	if (!record)
		return refuse_version(entry, (uint64_t)c->version, err);
	status = patch_view_show(entry, record, c->json, err);
	return status || c->json ? status : say_in_force(c, entry, err);
}

static enum status run_show(int argc, char **argv, struct error *err)
{
	struct patch_command c = { .timeout_ms = 30000 };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		OPTION_VERSION(&c.version),
		{ "json", CTL_FLAG, false, &c.json, NULL, "as an object", 0, 0 },
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = { "patch show",
					 "TASK",
					 "Shows the decision that made a version live, with all of its numbers, and "
					 "the versions whose bytes the\n"
					 "topic has.\n",
					 options,
					 CTL_COUNT(options),
					 1 };
	return of_one_task(argc, argv, &usage, &c, show, err);
}

/* ---- export ---- */

/* Standard output may be the file. */
static void say_written(const char *task, const char *out, const struct patch_record *r)
{
	if (strcmp(out, "/dev/stdout") != 0)
		printf("%s: version %llu to %s, %llu bytes, SHA-256 %s\n", task, (unsigned long long)r->version, out,
		       (unsigned long long)r->weights.bytes, r->patch);
}

static enum status write_version(struct patch_command *c, const char *task, const char *out, struct error *err)
{
	const struct patch_entry *entry;
	const struct patch_slot *slot;
	struct buffer bytes = { 0 };
	enum status status = begin(c, err);
	struct command_file files[] = { { .option = "config's backbone" }, { "out", out, COMMAND_WRITES } };
	files[0].path = c->config ? c->config->backbone : NULL;
	if (!status)
		status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = find_written(c, task, &entry, err);
	if (!status)
		status = choose_slot(c, entry, &slot, err);
	if (!status)
		status = patch_entry_bytes(entry, slot, &bytes, err);
	if (!status) {
		const struct atomic_file_part part = { bytes.data, bytes.length };
		status = atomic_file_write(out, &part, 1, err);
	}
	buffer_free(&bytes);
	if (!status)
		say_written(task, out, &slot->record);
	return status;
}

static enum status run_export(int argc, char **argv, struct error *err)
{
	struct patch_command c = { .timeout_ms = 30000 };
	const char *out = NULL;
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		OPTION_VERSION(&c.version),
		{ "out", CTL_TEXT, true, &out, "FILE", "the patch, a safetensors file", 0, 0 },
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = {
		"patch export",
		"TASK",
		"Writes a version's bytes to a file: what `patch` of its record is the "
		"SHA-256 of, and score, evaluate\n"
		"and inspect read. The topic keeps four: the live one, its predecessor and the "
		"newest others.\n",
		options,
		CTL_COUNT(options),
		1
	};
	const char *task;
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	const struct command_file files[] = { { "config", c.config_path, COMMAND_READS },
					      { "out", out, COMMAND_WRITES } };
	status = one_task(argc, argv, operands, &task, err);
	if (!status)
		status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = write_version(&c, task, out, err);
	end(&c);
	return status;
}

/* ---- rollback ---- */

/* To the learner that owns the task, in the order of its examples. */
static enum status ask(const struct patch_command *c, const struct patch_record *newest, struct error *err)
{
	const struct example request = {
		.kind = EXAMPLE_ROLLBACK,
		.task = name_slice(newest->task),
		.definition = name_slice(newest->definition),
		.backbone = name_slice(newest->backbone),
		.user_id = { (const uint8_t *)"", 0 },
		.timestamp_ms = clock_wall_ms(),
		.weight = 1,
		.partition = -1,
		.offset = -1,
	};
	struct buffer value = { 0 };
	example_encode(&request, &value);
	const struct topic_change change = { request.task, { value.data, value.length }, RD_KAFKA_PARTITION_UA };
	enum status status =
		value.failed ? error_set_memory(err)
			     : topic_write(c->config, c->config->examples_topic, &change, 1, (int)c->timeout_ms, err);
	buffer_free(&value);
	return status;
}

/* The learner's answer: a rollback behind `before` that somebody asked for. */
static const struct patch_record *find_answer(const struct patch_entry *entry, uint64_t before)
{
	for (size_t i = entry->decision_count; i-- > 0 && entry->decisions[i]->number > before;)
		if (entry->decisions[i]->decision == PATCH_ROLLED_BACK && entry->decisions[i]->has_gate &&
		    entry->decisions[i]->gate.reason == PATCH_ASKED)
			return entry->decisions[i];
	return NULL;
}

/* Something else was decided before the request was taken: the learner has nothing to go back to, and will not answer. */
static enum status refuse_overtaken(const struct patch_record *newest, struct error *err)
{
	return error_set(err, STATUS_NO_INPUT,
			 "task %s: version %llu went live in the meantime (%s), and has no predecessor to go back to",
			 newest->task, (unsigned long long)newest->version, patch_decision_name(newest->decision));
}

static enum status await(struct patch_command *c, const char *task, uint64_t before, const struct patch_record **ret,
			 struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + c->timeout_ms * 1000;
	const struct patch_table *table = patch_topic_table(c->topic);
	for (;;) {
		const struct patch_entry *entry = patch_table_find(table, task);
		const struct patch_record *newest = patch_entry_newest(entry);
		struct patch_change ignored;
		bool got;
		if ((*ret = find_answer(entry, before)))
			return STATUS_OK;
		if (newest && !*newest->predecessor)
			return refuse_overtaken(newest, err);
		enum status status = patch_topic_poll(c->topic, STEP_MS, &got, &ignored, err);
		if (status)
			return status;
		if (clock_monotonic_us() > deadline_us)
			return error_set(err, STATUS_UNAVAILABLE,
					 "task %s: no learner has answered in %lld ms: is a peterd of group %s "
					 "running? The request stands in topic %s and will be carried out by the "
					 "next that is, and that trains (learner.enabled)",
					 task, (long long)c->timeout_ms, c->config->group, c->config->examples_topic);
	}
}

static enum status rollback(struct patch_command *c, const char *task, struct error *err)
{
	const struct patch_entry *entry;
	const struct patch_record *answer = NULL;
	struct definition d;
	enum status status = begin(c, err);
	if (!status)
		status = find_written(c, task, &entry, err);
	if (!status)
		status = check_definition(c, entry, err);
	if (!status)
		status = definition_now(c, task, &d, err);
	if (status)
		return status;
	if (!d.known)
		return error_set(err, STATUS_NO_INPUT, "task %s: it has been removed: no version of it serves", task);
	const struct patch_record *newest = patch_entry_newest(entry);
	const uint64_t before = newest->number, version = newest->version;
	if (!*newest->predecessor)
		return error_set(err, STATUS_NO_INPUT, "task %s: version %llu has no predecessor to go back to", task,
				 (unsigned long long)version);
	if (!patch_entry_predecessor(entry))
		return refuse_damaged(entry, "the predecessor of", version, err);
	status = ask(c, newest, err);
	if (!status)
		status = await(c, task, before, &answer, err);
	if (status)
		return status;
	return patch_view_record(answer, c->json, err);
}

static enum status run_rollback(int argc, char **argv, struct error *err)
{
	struct patch_command c = { .timeout_ms = 30000 };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		{ "json", CTL_FLAG, false, &c.json, NULL, "the record as an object", 0, 0 },
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = {
		"patch rollback",
		"TASK",
		"Asks the learner to give the live version up for its predecessor, and waits for the record that it\n"
		"has. Learning goes on, from the version that is live then, and what it makes goes live as ever. The\n"
		"predecessor, as patch show names it, is not the version just before: it stays for 512 labels at\n"
		"least, and the first one is the identity patch.\n",
		options,
		CTL_COUNT(options),
		1
	};
	return of_one_task(argc, argv, &usage, &c, rollback, err);
}

enum status ctl_patch(int argc, char **argv, struct error *err)
{
	static const struct {
		const char *name;
		enum status (*run)(int argc, char **argv, struct error *err);
	} commands[] = { { "list", run_list },
			 { "show", run_show },
			 { "rollback", run_rollback },
			 { "export", run_export },
			 { "verify", ctl_patch_verify } };
	for (size_t i = 0; argc > 1 && i < CTL_COUNT(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		printf("Usage: peterctl patch list|show|rollback|export|verify --config FILE [OPTION]...\n"
		       "       peterctl patch list|show|rollback|export|verify --help\n\n"
		       "  list      what became of tasks' patches, the newest last\n"
		       "  show      a version's decision, with all of its numbers\n"
		       "  rollback  the predecessor serves again\n"
		       "  export    a version to a file\n"
		       "  verify    makes all versions again from the topics, and compares the bytes\n");
		return STATUS_OK;
	}
	return error_set(err, STATUS_USAGE, "patch: what to do is missing: list, show, rollback, export or verify");
}
