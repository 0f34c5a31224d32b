/* peterctl task list|put|remove: definitions on the tasks topic. Showing them is task_view.c. */
#include "tools/ctl.h"

#include "io/task_record.h"
#include "io/task_topic.h"
#include "io/topic_write.h"
#include "tools/local_fit.h"
#include "tools/task_view.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MOST = 64 };

/* What the three have in common: the daemon's configuration, and the topic read to its end. */
struct task_command {
	const char *config_path;
	int64_t timeout_ms;
	bool json;
	struct config *config;
	struct local_fit fit;
	struct task_topic *topic;
};

static enum status open_topic(struct task_command *c, struct error *err)
{
	enum status status = task_topic_open(c->config, local_fit_judge(&c->fit), (int)c->timeout_ms, &c->topic, err);
	return status ? status : task_topic_catch_up(c->topic, (int)c->timeout_ms, err);
}

/* For the commands that tell of definitions, before the topic is opened. */
static enum status open_fit(struct task_command *c, struct error *err)
{
	enum status status = local_fit_open(c->config, &c->fit, err);
	if (!status)
		local_fit_say(&c->fit);
	return status;
}

static void close_command(struct task_command *c)
{
	task_topic_close(c->topic);
	local_fit_close(&c->fit);
	config_free(c->config);
}

static struct slice name_slice(const char *name)
{
	return (struct slice){ (const uint8_t *)name, strlen(name) };
}

/* ---- list ---- */

static enum status run_list(int argc, char **argv, struct error *err)
{
	struct task_command c = { .timeout_ms = 30000 };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		{ "json", CTL_FLAG, false, &c.json, NULL, "an object a line, with every key", 0, 0 },
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = {
		"task list",
		"",
		"Lists the tasks on the tasks topic, and those of the configuration that the topic does not have: "
		"state\n"
		"(valid; refused, with the reason; removed), type, insertion, the definition's hash and the labels. "
		"Whether a\n"
		"definition fits the backbone is told where the file that the configuration names can be read here.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = config_load(c.config_path, &c.config, err);
	if (!status)
		status = open_fit(&c, err);
	if (!status)
		status = open_topic(&c, err);
	if (!status)
		status = task_view_list(task_topic_table(c.topic), c.config, local_fit_judge(&c.fit), c.json, err);
	close_command(&c);
	return status;
}

/* ---- put ---- */

struct put {
	struct task_command command;
	struct config *files[FILES_MOST];
	size_t files_count;
	const struct config_task **tasks; /* [count], of the files */
	size_t count;
	struct buffer *values;        /* [count] */
	struct topic_change *changes; /* [changes_count]: those that the topic does not have as they are */
	size_t changes_count;
	bool *changed; /* [count] */
};

static void put_close(struct put *p)
{
	for (size_t i = 0; p->values && i < p->count; i++)
		buffer_free(&p->values[i]);
	for (size_t i = 0; i < p->files_count; i++)
		config_free(p->files[i]);
	free(p->tasks);
	free(p->values);
	free(p->changes);
	free(p->changed);
	close_command(&p->command);
}

/* A name stands once in a file; of several files the second one is at fault. */
static enum status check_once(const struct put *p, const struct config *file, const struct config_task *task,
			      struct error *err)
{
	for (size_t i = 0; i < p->count; i++)
		if (!strcmp(p->tasks[i]->name, task->name))
			return error_set(err, STATUS_DATA, "%s:%d: name: the task %s stands in another file too",
					 file->path, task->line, task->name);
	return STATUS_OK;
}

static enum status take_file(struct put *p, const char *path, struct error *err)
{
	struct config *file;
	enum status status = config_load_tasks(path, &file, err);
	if (status)
		return status;
	p->files[p->files_count++] = file;
	const struct config_task **tasks = reallocarray(p->tasks, p->count + file->tasks_count + 1, sizeof *tasks);
	if (!tasks)
		return error_set_memory(err);
	p->tasks = tasks;
	for (size_t i = 0; i < file->tasks_count && !status; i++) {
		status = check_once(p, file, &file->tasks[i], err);
		p->tasks[p->count++] = &file->tasks[i];
	}
	return status;
}

static enum status check_fit(const struct put *p, struct error *err)
{
	const struct task_judge *judge = local_fit_judge(&p->command.fit);
	for (size_t f = 0; judge && f < p->files_count; f++)
		for (size_t i = 0; i < p->files[f]->tasks_count; i++) {
			const struct config_task *task = &p->files[f]->tasks[i];
			if (judge->fits(judge->arg, task, err))
				return error_prefix(err, "%s:%d: task %s", p->files[f]->path, task->line, task->name);
		}
	return STATUS_OK;
}

static enum status encode_all(struct put *p, struct error *err)
{
	p->values = calloc(p->count, sizeof *p->values);
	p->changes = calloc(p->count, sizeof *p->changes);
	p->changed = calloc(p->count, sizeof *p->changed);
	if (!p->values || !p->changes || !p->changed)
		return error_set_memory(err);
	for (size_t i = 0; i < p->count; i++) {
		task_record_encode(p->tasks[i], &p->values[i]);
		if (p->values[i].failed)
			return error_set_memory(err);
	}
	return STATUS_OK;
}

/* Whether the topic has the definition as it is, to the byte. */
static enum status is_there(const struct task_entry *entry, const struct buffer *value, bool *ret, struct error *err)
{
	struct buffer there = { 0 };
	*ret = false;
	if (!entry || entry->state != TASK_VALID)
		return STATUS_OK;
	task_record_encode(&entry->task, &there);
	*ret = !there.failed && there.length == value->length && !memcmp(there.data, value->data, there.length);
	const bool failed = there.failed;
	buffer_free(&there);
	return failed ? error_set_memory(err) : STATUS_OK;
}

static enum status choose_changes(struct put *p, struct error *err)
{
	for (size_t i = 0; i < p->count; i++) {
		bool same;
		const struct slice key = name_slice(p->tasks[i]->name);
		const struct task_entry *entry = task_table_find(task_topic_table(p->command.topic), key);
		enum status status = is_there(entry, &p->values[i], &same, err);
		if (status)
			return status;
		p->changed[i] = !same;
		if (!same)
			p->changes[p->changes_count++] =
				(struct topic_change){ key,
						       { p->values[i].data, p->values[i].length },
						       entry ? entry->place.partition : RD_KAFKA_PARTITION_UA };
	}
	return STATUS_OK;
}

/* The table is of the moment before. */
static enum status say_put(const struct put *p, struct error *err)
{
	for (size_t i = 0; i < p->count; i++) {
		char hash[HASH_HEX_LENGTH + 1];
		const struct task_entry *before =
			task_table_find(task_topic_table(p->command.topic), name_slice(p->tasks[i]->name));
		enum status status = config_task_hash(p->tasks[i], hash, err);
		if (status)
			return status;
		const bool defined = before && before->defined;
		printf("%s: %s, definition %s%s\n", p->tasks[i]->name,
		       !p->changed[i] ? "unchanged"
		       : defined      ? "changed"
				      : "new",
		       hash, p->changed[i] && defined && !strcmp(before->definition, hash) ? " as before" : "");
	}
	return STATUS_OK;
}

static enum status put_all(struct put *p, struct error *err)
{
	struct task_command *c = &p->command;
	enum status status = open_fit(c, err);
	if (!status)
		status = check_fit(p, err);
	if (!status)
		status = encode_all(p, err);
	if (!status)
		status = open_topic(c, err);
	if (!status)
		status = choose_changes(p, err);
	if (!status && p->changes_count)
		status = topic_write(c->config, c->config->tasks_topic, p->changes, p->changes_count,
				     (int)c->timeout_ms, err);
	return status ? status : say_put(p, err);
}

static enum status run_put(int argc, char **argv, struct error *err)
{
	struct put p = { .command = { .timeout_ms = 30000 } };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&p.command.config_path),
		CTL_OPTION_TIMEOUT(&p.command.timeout_ms),
	};
	const struct ctl_usage usage = { "task put",
					 "FILE...",
					 "Writes the definitions in the files to the tasks topic, once all of them are "
					 "found good. A file is YAML\n"
					 "with the keys of one task, or a list of tasks under `tasks`, see "
					 "peterd.conf(5); -: standard input. They\n"
					 "are served from their identity patches at once, and learnt from the labels "
					 "topic. What does not fit the\n"
					 "backbone that the configuration names is not written, where that file can be "
					 "read here; elsewhere the\n"
					 "daemon refuses it with a line on its log.\n",
					 options,
					 CTL_COUNT(options),
					 FILES_MOST };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (operands == argc)
		return error_set(err, STATUS_USAGE, "a file of definitions is missing; see --help");
	status = config_load(p.command.config_path, &p.command.config, err);
	for (int i = operands; i < argc && !status; i++)
		status = take_file(&p, argv[i], err);
	if (!status && p.count)
		status = put_all(&p, err);
	put_close(&p);
	return status;
}

/* ---- remove ---- */

static const struct config_task *find_in_file(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->tasks_count; i++)
		if (!strcmp(config->tasks[i].name, name))
			return &config->tasks[i];
	return NULL;
}

static enum status refuse_unknown(const struct task_command *c, const char *name, struct error *err)
{
	const char *names[256];
	size_t count = 0;
	const struct config_task *task = find_in_file(c->config, name);
	const char *topic = c->config->tasks_topic;
	if (task)
		return error_set(err, STATUS_NO_INPUT, "task %s: not on the topic %s; it stands in %s:%d", name, topic,
				 c->config->path, task->line);
	for (const struct task_entry *e = NULL;
	     (e = task_table_next(task_topic_table(c->topic), e)) && count < CTL_COUNT(names);)
		if (e->state != TASK_REMOVED)
			names[count++] = e->key;
	const char *nearest = ctl_nearest(name, names, count);
	return error_set(err, STATUS_NO_INPUT, "task %.100s: not on the topic %s%s%s%s", name, topic,
			 nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static enum status remove_all(struct task_command *c, char **names, size_t count, struct error *err)
{
	struct topic_change changes[FILES_MOST];
	enum status status = open_topic(c, err);
	for (size_t i = 0; i < count && !status; i++) {
		const struct slice key = name_slice(names[i]);
		const struct task_entry *entry = task_table_find(task_topic_table(c->topic), key);
		if (!entry || entry->state == TASK_REMOVED)
			status = refuse_unknown(c, names[i], err);
		else
			changes[i] = (struct topic_change){ key, { NULL, 0 }, entry->place.partition };
	}
	if (!status)
		status = topic_write(c->config, c->config->tasks_topic, changes, count, (int)c->timeout_ms, err);
	for (size_t i = 0; i < count && !status; i++)
		printf("%s: removed\n", names[i]);
	return status;
}

static enum status run_remove(int argc, char **argv, struct error *err)
{
	struct task_command c = { .timeout_ms = 30000 };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&c.config_path),
		CTL_OPTION_TIMEOUT(&c.timeout_ms),
	};
	const struct ctl_usage usage = {
		"task remove",
		"NAME...",
		"Removes tasks from the tasks topic by tombstones, all of them or, where one is not there, none.\n",
		options,
		CTL_COUNT(options),
		FILES_MOST
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (operands == argc)
		return error_set(err, STATUS_USAGE, "a task's name is missing; see --help");
	status = config_load(c.config_path, &c.config, err);
	if (!status)
		status = remove_all(&c, argv + operands, (size_t)(argc - operands), err);
	close_command(&c);
	return status;
}

enum status ctl_task(int argc, char **argv, struct error *err)
{
	if (argc > 1 && !strcmp(argv[1], "list"))
		return run_list(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "put"))
		return run_put(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "remove"))
		return run_remove(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		printf("Usage: peterctl task list|put|remove --config FILE [OPTION]...\n"
		       "       peterctl task list|put|remove --help\n\n"
		       "  list    tasks, and whether their definitions are valid\n"
		       "  put     definitions from files: a new task, or another definition\n"
		       "  remove  tasks: nothing of them is served or learnt any more\n");
		return STATUS_OK;
	}
	return error_set(err, STATUS_USAGE, "task: what to do is missing: list, put or remove");
}
