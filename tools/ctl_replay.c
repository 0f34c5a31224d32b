/* peterctl replay: files of interactions and labels to the configured topics. */
#include "tools/ctl.h"

#include "base/clock.h"
#include "base/plural.h"
#include "io/events_file.h"
#include "io/interaction.h"
#include "io/label.h"
#include "io/task_topic.h"
#include "io/topics.h"
#include "tools/command_files.h"
#include "tools/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 10000 };

struct replay {
	const struct config *config;
	struct feed *feed;
	struct events_file *events; /* NULL: none */
	struct labels_file *labels; /* NULL: none */
	struct events_row event;
	struct labels_row label;
	bool more_events; /* `event` holds the next row */
	bool more_labels;
	bool numeric;             /* labels are numbers whatever is known of their task */
	struct task_topic *tasks; /* NULL: there is no such topic, or no labels */
	int64_t newest_ms;
	int64_t sent_events;
	int64_t sent_labels;
	double rate; /* records a second, 0: as fast as it goes */
	int64_t started_us;
	struct buffer value;
	struct ctl_progress progress;
};

static enum status next_event(struct replay *r, struct error *err)
{
	return r->events ? events_file_next(r->events, &r->event, &r->more_events, err) : STATUS_OK;
}

static enum status next_label(struct replay *r, struct error *err)
{
	return r->labels ? labels_file_next(r->labels, &r->label, &r->more_labels, err) : STATUS_OK;
}

/* Waits until the next record is due. */
static enum status pace(struct replay *r, struct error *err)
{
	if (r->rate <= 0)
		return STATUS_OK;
	int64_t due_us = r->started_us + (int64_t)((double)(r->sent_events + r->sent_labels) / r->rate * 1e6);
	for (;;) {
		int64_t early_us = due_us - clock_monotonic_us();
		if (early_us <= 0 || ctl_stopping())
			return STATUS_OK;
		enum status status = feed_poll(r->feed, err);
		if (status)
			return status;
		(void)usleep((useconds_t)(early_us > 50000 ? 50000 : early_us));
	}
}

static enum status send_event(struct replay *r, struct error *err)
{
	struct interaction interaction = { .user_id = r->event.user_id,
					   .item_id = r->event.item_id,
					   .event_type = r->event.event_type,
					   .timestamp_ms = r->event.timestamp_ms };
	buffer_clear(&r->value);
	interaction_encode(&interaction, &r->value);
	if (r->value.failed)
		return error_set_memory(err);
	struct slice value = { r->value.data, r->value.length };
	enum status status = feed_put(r->feed, false, r->event.user_id, value, err);
	if (status)
		return status;
	if (r->event.timestamp_ms > r->newest_ms)
		r->newest_ms = r->event.timestamp_ms;
	r->sent_events++;
	return next_event(r, err);
}

static bool is_regression(const struct config_task *task)
{
	return task->type && !strcmp(task->type, "regression");
}

/* Regression targets are numbers, everything else is text. Of tasks on the topic and in the file the topic wins. */
static bool is_number(const struct replay *r)
{
	const struct task_entry *entry = r->tasks ? task_table_find(task_topic_table(r->tasks), r->label.task) : NULL;
	if (r->numeric)
		return true;
	if (entry && entry->defined)
		return is_regression(&entry->task);
	for (size_t i = 0; i < r->config->tasks_count; i++) {
		const struct config_task *task = &r->config->tasks[i];
		if (strlen(task->name) == r->label.task.length &&
		    !memcmp(task->name, r->label.task.data, r->label.task.length))
			return is_regression(task);
	}
	return false;
}

static enum status send_label(struct replay *r, struct error *err)
{
	struct label label = { .task = r->label.task,
			       .user_id = r->label.user_id,
			       .timestamp_ms = r->label.timestamp_ms < 0 ? r->newest_ms + 1 : r->label.timestamp_ms,
			       .text = r->label.label,
			       .weight = r->label.weight };
	if (is_number(r)) {
		enum status status = labels_file_number(r->labels, &r->label, &label.number, err);
		if (status)
			return status;
		label.text = (struct slice){ NULL, 0 };
	}
	buffer_clear(&r->value);
	label_encode(&label, &r->value);
	if (r->value.failed)
		return error_set_memory(err);
	struct slice value = { r->value.data, r->value.length };
	enum status status = feed_put(r->feed, true, r->label.user_id, value, err);
	if (status)
		return status;
	r->sent_labels++;
	return next_label(r, err);
}

/* Both files in the order of their timestamps, each in its own order of lines; a label without one comes last: after the events,
 * or now. */
static enum status send_all(struct replay *r, struct error *err)
{
	enum status status = next_event(r, err);
	if (!status)
		status = next_label(r, err);
	while (!status && (r->more_events || r->more_labels)) {
		if (ctl_stopping())
			return error_set(err, STATUS_UNAVAILABLE, "stopped by a signal");
		status = pace(r, err);
		if (status)
			return status;
		bool event = r->more_events && (!r->more_labels || r->label.timestamp_ms < 0 ||
						r->event.timestamp_ms <= r->label.timestamp_ms);
		status = event ? send_event(r, err) : send_label(r, err);
		if (((r->sent_events + r->sent_labels) & 255) == 0 || r->rate > 0) {
			r->progress.share = r->events ? events_file_share(r->events) : -1;
			ctl_progress_show(&r->progress, feed_delivered(r->feed));
		}
	}
	return status;
}

static enum status look_at_topics(struct replay *r, struct error *err)
{
	struct topics topics;
	if (r->events && r->config->interactions_schema[0])
		return config_fault(r->config, "interactions.schema", err,
				    "replay writes peterd's own Interaction, which this schema does not read; leave it "
				    "empty for a topic that replay fills");
	enum status status = topics_read(r->config, TIMEOUT_MS, &topics, err);
	for (enum topic topic = TOPIC_INTERACTIONS; topic <= TOPIC_LABELS && !status; topic++)
		if (topics.partitions[topic] == 0 &&
		    (topic == TOPIC_INTERACTIONS ? r->events != NULL : r->labels != NULL))
			status = error_set(err, STATUS_CONFIG,
					   "topic %s is missing (or may not be described): peterctl topics create "
					   "--config %s makes it",
					   topic_name(r->config, topic), r->config->path);
	if (!status && r->labels && topics.partitions[TOPIC_TASKS] > 0)
		status = task_topic_open(r->config, NULL, TIMEOUT_MS, &r->tasks, err);
	if (!status && r->tasks)
		status = task_topic_catch_up(r->tasks, TIMEOUT_MS, err);
	return status;
}

static enum status replay(struct replay *r, struct error *err)
{
	enum status status = look_at_topics(r, err);
	if (!status)
		status = feed_open(r->config, &r->feed, err);
	if (status)
		return status;
	ctl_stop_on_signals();
	ctl_progress_start(&r->progress, "records", 0);
	r->started_us = clock_monotonic_us();
	status = send_all(r, err);
	if (!status)
		status = feed_finish(r->feed, err);
	ctl_progress_end(&r->progress, feed_delivered(r->feed));
	if (status)
		return error_prefix(err, "%lld interaction%s and %lld label%s taken from the files",
				    (long long)r->sent_events, plural(r->sent_events), (long long)r->sent_labels,
				    plural(r->sent_labels));
	double seconds = (double)(clock_monotonic_us() - r->started_us) / 1e6;
	printf("%lld interaction%s and %lld label%s delivered in %.1f s (%.0f/s)\n", (long long)r->sent_events,
	       plural(r->sent_events), (long long)r->sent_labels, plural(r->sent_labels), seconds,
	       (double)(r->sent_events + r->sent_labels) / seconds);
	return STATUS_OK;
}

enum status ctl_replay(int argc, char **argv, struct error *err)
{
	const char *events = NULL;
	const char *labels = NULL;
	const char *task = NULL;
	const char *config_path = NULL;
	struct replay r = { .more_events = false };
	const struct ctl_option options[] = {
		{ "events", CTL_TEXT, false, &events, "FILE",
		  "CSV or TSV with user_id, item_id, timestamp, event_type; -: stdin", 0, 0 },
		{ "labels", CTL_TEXT, false, &labels, "FILE", "CSV or TSV with task, user_id, label, timestamp, weight",
		  0, 0 },
		{ "task", CTL_TEXT, false, &task, "NAME", "the labels' task, in place of a column", 0, 0 },
		{ "numeric-labels", CTL_FLAG, false, &r.numeric, NULL,
		  "labels are numbers; default: where the topic, or the file of --config, has the task as a regression",
		  0, 0 },
		CTL_OPTION_CONFIG(&config_path),
		{ "rate", CTL_REAL, false, &r.rate, "R", "records a second; default: as fast as it goes", 0, 0 },
	};
	const struct ctl_usage usage = {
		"replay",
		"",
		"Produces the rows to the configured topics as Avro, keyed by user_id (murmur2), both files merged by\n"
		"timestamp. Either may be left out. A label without a timestamp comes after all of the events; where\n"
		"there is no file of them, its time is now. Exits 0 only when every record is delivered.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	struct config *config = NULL;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (!events && !labels)
		return error_set(err, STATUS_USAGE, "--events or --labels is missing; see --help");
	const struct command_file files[] = { { "events", events, COMMAND_READS },
					      { "labels", labels, COMMAND_READS } };
	status = command_files_check(files, CTL_COUNT(files), err);
	if (!status)
		status = config_load(config_path, &config, err);
	r.config = config;
	if (!status && events)
		status = events_file_open(events, &r.events, err);
	r.newest_ms = events ? 0 : clock_wall_ms() - 1;
	if (!status && labels)
		status = labels_file_open(labels, task, &r.labels, err);
	if (!status)
		status = replay(&r, err);
	feed_close(r.feed);
	task_topic_close(r.tasks);
	labels_file_close(r.labels);
	events_file_close(r.events);
	config_free(config);
	buffer_free(&r.value);
	return status;
}
