/* peterctl watch: the updates topic, readable, and what is decided on patches meanwhile. */
#include "tools/ctl.h"

#include "base/plural.h"
#include "base/clock.h"
#include "io/patch_topic.h"
#include "io/update.h"
#include "tools/line.h"
#include "tools/patch_view.h"
#include "tools/scan.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_MS = 10000, METRICS_US = 10000000 };

struct watch {
	const char *user; /* NULL: all */
	bool json;
	struct buffer floats;
	struct update_scores scores;
	struct patch_topic *patches; /* NULL: decisions are not shown */
	int64_t metrics_us;          /* when metrics were last looked at (monotonic), */
	int64_t metrics_ms;          /* and the newest that were shown: what is older is not shown */
};

static json_t *text(struct slice s)
{
	return json_stringn((const char *)s.data, s.length);
}

static json_t *numbers(const float *values, uint32_t count)
{
	json_t *array = json_array();
	for (uint32_t i = 0; i < count; i++)
		(void)json_array_append_new(array, json_real((double)values[i]));
	return array;
}

static json_t *scores_json(const struct update_scores *scores)
{
	json_t *array = json_array();
	for (size_t i = 0; i < scores->count; i++) {
		const struct update_score *s = &scores->items[i];
		json_t *values = json_array();
		for (size_t k = 0; k < s->count; k++) {
			json_t *value = json_object();
			(void)json_object_set_new(value, "label", text(s->labels[k]));
			(void)json_object_set_new(value, "score", line_number((double)s->values[k]));
			(void)json_array_append_new(values, value);
		}
		json_t *object = json_object();
		(void)json_object_set_new(object, "task", text(s->task));
		(void)json_object_set_new(object, "patch_version", json_integer(s->version));
		(void)json_object_set_new(object, "patch", text(s->patch));
		(void)json_object_set_new(object, "values", values);
		(void)json_array_append_new(array, object);
	}
	return array;
}

/* One object a line: the record's fields by their names, and where the record itself stands. */
static enum status print_json(const struct watch *w, const rd_kafka_message_t *message, const struct update *u,
			      struct error *err)
{
	json_t *object = json_object();
	rd_kafka_timestamp_type_t type;
	if (u) {
		(void)json_object_set_new(object, "user_id", text(u->user_id));
		(void)json_object_set_new(object, "event_time", json_integer(u->event_time_ms));
		(void)json_object_set_new(object, "sequence_length", json_integer(u->sequence_length));
		(void)json_object_set_new(object, "partition", json_integer(u->partition));
		(void)json_object_set_new(object, "offset", json_integer(u->offset));
		(void)json_object_set_new(object, "backbone", text(u->backbone));
		(void)json_object_set_new(object, "embedding", numbers(u->embedding, u->dim));
		(void)json_object_set_new(object, "scores", scores_json(&w->scores));
	} else {
		struct slice key = { message->key, message->key_len };
		(void)json_object_set_new(object, "user_id", text(key));
		(void)json_object_set_new(object, "deleted", json_true());
	}
	(void)json_object_set_new(object, "update_partition", json_integer(message->partition));
	(void)json_object_set_new(object, "update_offset", json_integer(message->offset));
	(void)json_object_set_new(object, "update_timestamp", json_integer(rd_kafka_message_timestamp(message, &type)));
	return line_json(object, 9, err);
}

/* A task's highest score. */
static void print_score(const struct update_score *s)
{
	size_t best = 0;
	for (size_t k = 1; k < s->count; k++)
		if (s->values[k] > s->values[best])
			best = k;
	printf("  ");
	line_safe(s->task, 100);
	printf(" v%lld", (long long)s->version);
	if (s->count == 0)
		return;
	printf(" ");
	line_safe(s->labels[best], 60);
	printf("%s%.3f", s->labels[best].length ? " " : "", (double)s->values[best]);
}

static void print_line(const struct watch *w, const rd_kafka_message_t *message, const struct update *u)
{
	char when[LINE_TIME_SIZE];
	rd_kafka_timestamp_type_t type;
	printf("%s  %.*s  ", line_time(rd_kafka_message_timestamp(message, &type), false, when), (int)message->key_len,
	       (const char *)message->key);
	if (!u) {
		printf("deleted\n");
		return;
	}
	printf("%lld event%s, newest at %d:%lld  [", (long long)u->sequence_length, plural(u->sequence_length),
	       u->partition, (long long)u->offset);
	for (uint32_t i = 0; i < u->dim && i < 4; i++)
		printf("%s%+.3f", i ? " " : "", (double)u->embedding[i]);
	printf("%s]", u->dim > 4 ? " ..." : "");
	for (size_t i = 0; i < w->scores.count; i++)
		print_score(&w->scores.items[i]);
	printf("\n");
}

static enum status show(struct watch *w, const rd_kafka_message_t *message, struct error *err)
{
	struct update update;
	const char *user = w->user;
	if (user && (message->key_len != strlen(user) || memcmp(message->key, user, message->key_len)))
		return STATUS_OK;
	bool deleted = !message->payload;
	if (!deleted) {
		buffer_clear(&w->floats);
		struct slice value = { message->payload, message->len };
		enum status status = update_decode(value, &w->floats, &update, err);
		if (!status)
			status = update_decode_scores(&update, &w->scores, err);
		if (status)
			return error_prefix(err, "topic %s: partition %d: offset %lld",
					    rd_kafka_topic_name(message->rkt), message->partition,
					    (long long)message->offset);
	}
	if (w->json)
		return print_json(w, message, deleted ? NULL : &update, err);
	print_line(w, message, deleted ? NULL : &update);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}

/* Now and then: where tasks stand about which nothing was decided since. */
static enum status show_metrics(struct watch *w, struct error *err)
{
	const int64_t now_us = clock_monotonic_us(), before_ms = w->metrics_ms;
	const struct patch_table *table = patch_topic_table(w->patches);
	enum status status = STATUS_OK;
	if (now_us - w->metrics_us < METRICS_US)
		return STATUS_OK;
	w->metrics_us = now_us;
	for (const struct patch_entry *e = NULL; !status && (e = patch_table_next(table, e));) {
		const struct patch_record *record = patch_entry_newest(e);
		if (!record || record->decision != PATCH_CHECKPOINT || record->timestamp_ms <= before_ms)
			continue;
		if (record->timestamp_ms > w->metrics_ms)
			w->metrics_ms = record->timestamp_ms;
		status = patch_view_record(record, w->json, err);
	}
	return status;
}

/* Decisions as they come. */
static enum status show_patches(struct watch *w, struct error *err)
{
	struct patch_change change;
	bool got = true;
	enum status status = STATUS_OK;
	while (got && !status && !ctl_stopping()) {
		status = patch_topic_poll(w->patches, 0, &got, &change, err);
		if (status || !got || !change.entry || change.kind != PATCH_KEY_DECISION || change.refusal)
			continue;
		const struct patch_record *record = patch_entry_newest(change.entry);
		if (record && record->decision != PATCH_CHECKPOINT)
			status = patch_view_record(record, w->json, err);
	}
	return status ? status : show_metrics(w, err);
}

/* Follows until a signal, or the topic's end. Output is flushed whenever there is nothing more to print. */
static enum status follow(struct watch *w, struct scan *scan, bool exit_at_end, struct error *err)
{
	enum status status = STATUS_OK;
	while (!status && !ctl_stopping() && !(exit_at_end && scan_ended(scan))) {
		rd_kafka_message_t *message = NULL;
		if (w->patches)
			status = show_patches(w, err);
		if (!status)
			status = scan_next(scan, 0, &message, err);
		if (!status && !message) {
			if (fflush(stdout))
				return error_set_errno(err, "standard output");
			status = scan_next(scan, 100, &message, err);
		}
		if (!status && message)
			status = show(w, message, err);
		if (message)
			rd_kafka_message_destroy(message);
	}
	return status;
}

/* The topic as it is, from which on it is followed. An installation without it has nothing to show. */
static enum status open_patches(struct watch *w, const struct config *config, struct error *err)
{
	enum status status = patch_topic_open(config, false, OPEN_MS, &w->patches, err);
	if (status)
		return status == STATUS_CONFIG ? STATUS_OK : status;
	w->metrics_ms = clock_wall_ms();
	return patch_topic_catch_up(w->patches, OPEN_MS, err);
}

enum status ctl_watch(int argc, char **argv, struct error *err)
{
	const char *config_path = NULL;
	bool from_beginning = false;
	bool exit_at_end = false;
	bool decisions = false;
	struct watch w = { .json = false };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&config_path),
		{ "user", CTL_TEXT, false, &w.user, "U", "this user only", 0, 0 },
		{ "json", CTL_FLAG, false, &w.json, NULL, "an object a line, with the whole embedding", 0, 0 },
		{ "decisions", CTL_FLAG, false, &decisions, NULL,
		  "patches too, as patch list has them; default: without --json and --user", 0, 0 },
		{ "from-beginning", CTL_FLAG, false, &from_beginning, NULL,
		  "start with the oldest; default: what comes now", 0, 0 },
		{ "exit-at-end", CTL_FLAG, false, &exit_at_end, NULL, "stop at the end of every partition", 0, 0 },
	};
	const struct ctl_usage usage = {
		"watch",
		"",
		"Follows the updates topic, committed records only, until SIGINT: of each task's "
		"scores the highest. Among\n"
		"them what is decided on patches from now on, and every ten seconds how well "
		"those that serve do.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	struct config *config;
	struct scan *scan;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = config_load(config_path, &config, err);
	if (status)
		return status;
	ctl_stop_on_signals();
	status = scan_open(config, config->updates_topic, from_beginning ? SCAN_BEGINNING : SCAN_END, exit_at_end,
			   &scan, err);
	if (!status) {
		if (decisions || (!w.json && !w.user))
			status = open_patches(&w, config, err);
		if (!status)
			status = follow(&w, scan, exit_at_end, err);
		scan_close(scan);
	}
	patch_topic_close(w.patches);
	update_scores_free(&w.scores);
	buffer_free(&w.floats);
	config_free(config);
	return status;
}
