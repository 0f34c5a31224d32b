/* Which lineages the learner lane has: those of the tasks in force whose examples come in its partitions. */
#include "daemon/learner_lane_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <librdkafka/rdkafka.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TOPIC_MS = 10000, /* to open the patches topic and read it to its end */
	STEP_MS = 20,
	MISSES = 3,
	RESTING_US = 15000000, /* for records that are on their way */
};

/* Closes the lineages that `drop` names; false: there were none. */
static bool close_some(struct learner_lane *lane, bool (*drop)(const struct lineage *l, const void *arg),
		       const void *arg)
{
	struct lineage **at = &lane->lineages;
	bool closed = false;
	while (*at) {
		struct lineage *l = *at;
		if (!drop(l, arg)) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		lineage_close(l);
		closed = true;
	}
	return closed;
}

static bool every(const struct lineage *l, const void *arg)
{
	return true;
}

void learner_close_lineages(struct learner_lane *lane)
{
	(void)close_some(lane, every, NULL);
}

/* A record that is not on a topic made anew will not come: one whole read has to do. */
void learner_reopen_lineages(struct learner_lane *lane)
{
	learner_close_lineages(lane);
	lane->assigned = true;
	lane->misses = MISSES - 1;
}

static bool of_partition(const struct lineage *l, const void *arg)
{
	return l->partition == *(const int32_t *)arg;
}

void learner_close_lineages_of(struct learner_lane *lane, int32_t partition)
{
	(void)close_some(lane, of_partition, &partition);
}

/* ---- tasks ---- */

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static bool not_in_force(const struct lineage *l, const void *arg)
{
	const struct served_task *task = task_set_find(arg, text(l->setup.lineage.task));
	return !task || strcmp(task->hash, l->task->hash) != 0;
}

/* The newest set of tasks; false: it is the one that it was. */
static bool follow_tasks(struct learner_lane *lane)
{
	const uint64_t version = task_board_version(lane->ctx.tasks);
	if (lane->tasks && version == lane->tasks_version)
		return false;
	task_set_release(lane->tasks);
	lane->tasks_version = version;
	lane->tasks = task_board_get(lane->ctx.tasks);
	if (close_some(lane, not_in_force, lane->tasks))
		(void)malloc_trim(0);
	for (struct lineage *l = lane->lineages; l; l = l->next)
		lineage_set_task(l, task_set_entry(lane->tasks, text(l->setup.lineage.task))->task);
	return true;
}

/* As the producers of examples place the task's name. */
int32_t learner_partition_of(const struct learner_lane *lane, struct slice task)
{
	return rd_kafka_msg_partitioner_murmur2(NULL, task.data, task.length, lane->partitions, NULL, NULL);
}

static struct learner_part *part_of(const struct learner_lane *lane, const char *task)
{
	return learner_part_find(lane, learner_partition_of(lane, text(task)));
}

static bool has_lineage(const struct learner_lane *lane, const char *task)
{
	for (const struct lineage *l = lane->lineages; l; l = l->next)
		if (!strcmp(l->setup.lineage.task, task))
			return true;
	return false;
}

static bool is_missing(const struct learner_lane *lane, size_t i)
{
	const char *name = lane->tasks->entries[i].task->definition.name;
	return part_of(lane, name) && !has_lineage(lane, name);
}

static bool any_missing(const struct learner_lane *lane)
{
	for (size_t i = 0; i < lane->tasks->count; i++)
		if (is_missing(lane, i))
			return true;
	return false;
}

/* ---- what the topic has of them ---- */

/* Whether the topic shows the records that the partition's committed offset rests on: an end of a transaction reaches one
 * partition later than another. */
static bool rests(const struct patch_table *table, const char *resting)
{
	char name[PATCH_NAME_AT_MOST + 1];
	unsigned long long number;
	int length;
	for (; resting && sscanf(resting, " %100[^: ]:%llu%n", name, &number, &length) == 2; resting += length) {
		const struct patch_entry *entry = patch_table_find(table, name);
		const struct patch_record *newest = entry ? patch_entry_newest(entry) : NULL;
		if (!newest || newest->number < number)
			return false;
	}
	return true;
}

static bool all_rest(const struct learner_lane *lane, const struct patch_table *table)
{
	for (const struct learner_part *part = lane->parts; part; part = part->next)
		if (!rests(table, part->resting))
			return false;
	return true;
}

/* What is missing comes within a transaction's time-out. Whole reads of the topic that do not show it, several in a row, mean that
 * somebody has taken it away: then what the topic has counts. */
static enum status miss(struct learner_lane *lane, struct error *err)
{
	const struct config *config = lane->ctx.config;
	if (++lane->misses < MISSES)
		return error_set(err, STATUS_UNAVAILABLE,
				 "topic %s lacks records that the committed offsets of %s rest on",
				 config->patches_topic, config->examples_topic);
	log_error("learner: topic %s lacks records that the committed offsets of %s rest on: its tasks go on from what "
		  "is "
		  "there",
		  config->patches_topic, config->examples_topic);
	lane->misses = 0;
	return STATUS_OK;
}

/* Reads the topic to its end, and on to the records that must be there. */
static enum status read_topic(struct learner_lane *lane, struct patch_topic *topic, struct error *err)
{
	const int64_t until_us = clock_monotonic_us() + RESTING_US;
	enum status status = patch_topic_catch_up(topic, TOPIC_MS, err);
	while (status == STATUS_OK && !all_rest(lane, patch_topic_table(topic))) {
		struct patch_change change;
		bool got;
		status = patch_topic_poll(topic, STEP_MS, &got, &change, err);
		if (status == STATUS_OK && learner_stopping(lane))
			return error_set(err, STATUS_UNAVAILABLE, "stopped");
		if (status == STATUS_OK && clock_monotonic_us() > until_us)
			return miss(lane, err);
	}
	return status;
}

static void forget_resting(struct learner_lane *lane)
{
	for (struct learner_part *part = lane->parts; part; part = part->next) {
		free(part->resting);
		part->resting = NULL;
	}
}

static enum status open_missing(struct learner_lane *lane, const struct patch_table *table, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < lane->tasks->count && status == STATUS_OK; i++) {
		struct served_task *task = lane->tasks->entries[i].task;
		const char *name = task->definition.name;
		const struct learner_part *part = part_of(lane, name);
		struct lineage *l;
		if (!is_missing(lane, i))
			continue;
		const int64_t high = part->high > part->position ? part->high : part->position;
		status = lineage_open(&lane->lineage_ctx, task, patch_table_find(table, name), part->partition,
				      part->low, high, &l, err);
		if (status != STATUS_OK)
			break;
		l->next = lane->lineages;
		lane->lineages = l;
	}
	return status;
}

enum status learner_match_lineages(struct learner_lane *lane, struct error *err)
{
	struct patch_topic *topic;
	const bool changed = follow_tasks(lane);
	if (!changed && !lane->assigned)
		return STATUS_OK;
	lane->assigned = false;
	if (!any_missing(lane))
		return STATUS_OK;
	enum status status = patch_topic_open(lane->ctx.config, true, TOPIC_MS, &topic, err);
	if (status != STATUS_OK)
		return status;
	status = read_topic(lane, topic, err);
	if (status == STATUS_OK)
		status = open_missing(lane, patch_topic_table(topic), err);
	if (status == STATUS_OK) {
		forget_resting(lane);
		lane->misses = 0;
	}
	patch_topic_close(topic);
	(void)malloc_trim(0); /* the whole topic was in memory for a moment, and glibc's arenas keep what they had */
	return status;
}
