#include "daemon/tasks.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/task_fit.h"
#include "io/task_record.h"
#include "io/task_topic.h"
#include "io/topic_write.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_MS = 50 };

struct tasks {
	const struct config *config;
	struct task_fit fit;
	struct task_topic *topic; /* NULL: not opened yet */
	struct task_set *set;     /* in force; NULL before the first start */
	bool lost;                /* the topic is not the one that was read, or was not read yet */
};

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static enum status copy(const struct config_task *task, struct config_task *ret, struct error *err)
{
	struct buffer bytes = { 0 };
	task_record_encode(task, &bytes);
	enum status status = bytes.failed ? error_set_memory(err)
					  : task_record_decode(text(task->name),
							       (struct slice){ bytes.data, bytes.length }, ret, err);
	buffer_free(&bytes);
	return status;
}

static enum status take_set(struct tasks *t, struct error *err)
{
	const struct task_table *table = task_topic_table(t->topic);
	struct config_task *definitions = NULL;
	struct task_set *set;
	size_t count = 0, capacity = 0;
	for (const struct task_entry *e = task_table_next(table, NULL); e; e = task_table_next(table, e))
		capacity++;
	definitions = calloc(capacity ? capacity : 1, sizeof *definitions);
	enum status status = definitions ? STATUS_OK : error_set_memory(err);
	for (const struct task_entry *e = task_table_next(table, NULL); e && status == STATUS_OK;
	     e = task_table_next(table, e))
		if (e->defined) {
			status = copy(&e->task, &definitions[count], err);
			count += status == STATUS_OK;
		}
	if (status == STATUS_OK) {
		status = task_set_of(definitions, count, backbone_blocks(t->fit.backbone), &set, err);
	} else {
		while (count > 0)
			config_task_clear(&definitions[--count]);
	}
	free(definitions);
	if (status == STATUS_OK) {
		task_set_release(t->set);
		t->set = set;
	}
	return status;
}

static void tell(const struct task_entry *entry)
{
	if (entry->state == TASK_REMOVED)
		log_info("task %.100s: removed", entry->key);
	else if (entry->state == TASK_REFUSED)
		log_warning("task %.100s: refused%s: %s", entry->key,
			    entry->defined ? ", the definition before it stays in force" : "", entry->reason);
	else
		log_info("task %s: %s, %s, definition %.12s", entry->key, entry->task.type, entry->task.insertion,
			 entry->definition);
}

/* Writes a task of the file that the topic has never had. */
static enum status offer(struct tasks *t, const struct config_task *task, int timeout_ms, struct error *err)
{
	const struct task_entry *known = task_table_find(task_topic_table(t->topic), text(task->name));
	struct buffer value = { 0 };
	if (known && known->state == TASK_REMOVED)
		log_warning(
			"%s: task %s has been removed through topic %s and stays so; peterctl task put brings it back",
			t->config->path, task->name, t->config->tasks_topic);
	if (known)
		return STATUS_OK;
	task_record_encode(task, &value);
	const struct topic_change change = { text(task->name), { value.data, value.length }, RD_KAFKA_PARTITION_UA };
	enum status status = value.failed ? error_set_memory(err)
					  : topic_write(t->config, t->config->tasks_topic, &change, 1, timeout_ms, err);
	buffer_free(&value);
	return status;
}

static bool all_known(const struct tasks *t)
{
	const struct task_table *table = task_topic_table(t->topic);
	bool all = true;
	for (size_t i = 0; i < t->config->tasks_count && all; i++)
		all = task_table_find(table, text(t->config->tasks[i].name)) != NULL;
	return all;
}

/* What was written comes back: no label of a configured task finds it unknown. */
static enum status await_offered(struct tasks *t, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	enum status status = STATUS_OK;
	while (status == STATUS_OK && !all_known(t)) {
		const struct task_entry *ignored;
		status = task_topic_poll(t->topic, STEP_MS, &ignored, err);
		if (status == STATUS_OK && clock_monotonic_us() > deadline_us && !all_known(t))
			status = error_set(err, STATUS_UNAVAILABLE, "topic %s: what was written does not come back",
					   t->config->tasks_topic);
	}
	return status;
}

static enum status read_topic(struct tasks *t, int timeout_ms, struct error *err)
{
	const struct task_judge judge = task_fit_judge(&t->fit);
	enum status status = t->topic ? task_topic_restart(t->topic, timeout_ms, err)
				      : task_topic_open(t->config, &judge, timeout_ms, &t->topic, err);
	if (status == STATUS_OK)
		status = task_topic_catch_up(t->topic, timeout_ms, err);
	for (size_t i = 0; i < t->config->tasks_count && status == STATUS_OK; i++)
		status = offer(t, &t->config->tasks[i], timeout_ms, err);
	if (status == STATUS_OK)
		status = await_offered(t, timeout_ms, err);
	const struct task_table *table = status == STATUS_OK ? task_topic_table(t->topic) : NULL;
	for (const struct task_entry *e = table ? task_table_next(table, NULL) : NULL; e; e = task_table_next(table, e))
		if (e->state != TASK_REMOVED)
			tell(e);
	return status == STATUS_OK ? take_set(t, err) : status;
}

enum status tasks_new(const struct config *config, const struct backbone *backbone, struct tasks **ret,
		      struct error *err)
{
	struct tasks *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	*t = (struct tasks){ .config = config, .fit = { backbone, config->sequences_keep }, .lost = true };
	*ret = t;
	return STATUS_OK;
}

void tasks_free(struct tasks *t)
{
	if (!t)
		return;
	task_topic_close(t->topic);
	task_set_release(t->set);
	free(t);
}

enum status tasks_start(struct tasks *t, int timeout_ms, struct error *err)
{
	if (!t->lost)
		return STATUS_OK;
	enum status status = read_topic(t, timeout_ms, err);
	t->lost = status != STATUS_OK;
	return status;
}

enum status tasks_follow(struct tasks *t, struct error *err)
{
	const struct task_entry *entry = NULL;
	bool changed = false;
	enum status status;
	if (t->lost)
		return STATUS_OK;
	while ((status = task_topic_poll(t->topic, 0, &entry, err)) == STATUS_OK && entry) {
		tell(entry);
		changed = true;
	}
	if (status == STATUS_UNAVAILABLE) {
		log_warning("%s: it is read again from its beginning, and the tasks stay as they are until then",
			    err->text);
		t->lost = true;
		return STATUS_OK;
	}
	return changed && status == STATUS_OK ? take_set(t, err) : status;
}

bool tasks_lost(const struct tasks *t)
{
	return t->lost;
}

const struct task_set *tasks_in_force(const struct tasks *t)
{
	return t->set;
}
