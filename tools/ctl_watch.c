/* peterctl watch: the updates topic, readable. */
#include "tools/ctl.h"

#include "base/plural.h"
#include "io/update.h"
#include "tools/scan.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct watch {
	const char *user; /* NULL: all */
	bool json;
	struct buffer floats;
	int64_t shown;
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

/* One object a line: the record's fields by their names, and where the record itself stands. */
static enum status print_json(const rd_kafka_message_t *message, const struct update *u, struct error *err)
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
		(void)json_object_set_new(object, "scores", json_array());
	} else {
		struct slice key = { message->key, message->key_len };
		(void)json_object_set_new(object, "user_id", text(key));
		(void)json_object_set_new(object, "deleted", json_true());
	}
	(void)json_object_set_new(object, "update_partition", json_integer(message->partition));
	(void)json_object_set_new(object, "update_offset", json_integer(message->offset));
	(void)json_object_set_new(object, "update_timestamp", json_integer(rd_kafka_message_timestamp(message, &type)));
	int failed = json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(object);
	return failed || putchar('\n') == EOF ? error_set_errno(err, "standard output") : STATUS_OK;
}

static void print_line(const rd_kafka_message_t *message, const struct update *u)
{
	char when[32] = "";
	rd_kafka_timestamp_type_t type;
	int64_t time_ms = rd_kafka_message_timestamp(message, &type);
	time_t seconds = (time_t)(time_ms / 1000);
	struct tm local;
	if (localtime_r(&seconds, &local))
		(void)strftime(when, sizeof when, "%H:%M:%S", &local);
	printf("%s.%03d  %.*s  ", when, (int)(time_ms % 1000), (int)message->key_len, (const char *)message->key);
	if (!u) {
		printf("deleted\n");
		return;
	}
	printf("%lld event%s, newest at %d:%lld  [", (long long)u->sequence_length, plural(u->sequence_length),
	       u->partition, (long long)u->offset);
	for (uint32_t i = 0; i < u->dim && i < 4; i++)
		printf("%s%+.3f", i ? " " : "", (double)u->embedding[i]);
	printf("%s]\n", u->dim > 4 ? " ..." : "");
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
		if (update_decode(value, &w->floats, &update, err))
			return error_prefix(err, "topic %s: partition %d: offset %lld",
					    rd_kafka_topic_name(message->rkt), message->partition,
					    (long long)message->offset);
	}
	w->shown++;
	if (w->json)
		return print_json(message, deleted ? NULL : &update, err);
	print_line(message, deleted ? NULL : &update);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}

/* Follows until a signal, or the topic's end. Output is flushed whenever there is nothing more to print. */
static enum status follow(struct watch *w, struct scan *scan, bool exit_at_end, struct error *err)
{
	enum status status = STATUS_OK;
	while (!status && !ctl_stopping() && !(exit_at_end && scan_ended(scan))) {
		rd_kafka_message_t *message;
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

enum status ctl_watch(int argc, char **argv, struct error *err)
{
	const char *config_path = NULL;
	bool from_beginning = false;
	bool exit_at_end = false;
	struct watch w = { .json = false };
	const struct ctl_option options[] = {
		{ "config", CTL_TEXT, true, &config_path, "FILE", "the daemon's configuration", 0, 0 },
		{ "user", CTL_TEXT, false, &w.user, "U", "this user only", 0, 0 },
		{ "json", CTL_FLAG, false, &w.json, NULL, "an object a line, with the whole embedding", 0, 0 },
		{ "from-beginning", CTL_FLAG, false, &from_beginning, NULL,
		  "start with the oldest; default: what comes now", 0, 0 },
		{ "exit-at-end", CTL_FLAG, false, &exit_at_end, NULL, "stop at the end of every partition", 0, 0 },
	};
	const struct ctl_usage usage = { "watch",
					 "",
					 "Follows the updates topic, committed records only, until SIGINT.\n",
					 options,
					 CTL_COUNT(options),
					 0 };
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
		status = follow(&w, scan, exit_at_end, err);
		scan_close(scan);
	}
	buffer_free(&w.floats);
	config_free(config);
	return status;
}
