/* peterctl deadletter list: the rejected records. requeue is requeue.c. */
#include "tools/ctl.h"

#include "base/plural.h"
#include "io/deadletter.h"
#include "tools/line.h"
#include "tools/requeue.h"
#include "tools/scan.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
	const char *reason; /* NULL: all */
	int64_t limit;      /* 0: none */
	bool json;
	int64_t shown;
};

static void set_text(json_t *object, const char *name, struct slice s)
{
	if (s.data)
		(void)json_object_set_new(object, name, json_stringn((const char *)s.data, s.length));
}

/* Bytes that need not be text. NULL stays null. */
static void set_bytes(json_t *object, const char *name, const void *bytes, size_t length)
{
	unsigned char *text = bytes && length < INT32_MAX / 2 ? malloc(length / 3 * 4 + 5) : NULL;
	if (text)
		(void)EVP_EncodeBlock(text, bytes, (int)length);
	(void)json_object_set_new(object, name, text ? json_string((const char *)text) : json_null());
	free(text);
}

static enum status print_json(const rd_kafka_message_t *message, const struct deadletter_info *info, struct error *err)
{
	rd_kafka_timestamp_type_t type;
	json_t *object = json_object();
	struct slice key = { message->key, message->key_len };
	set_text(object, "reason", info->reason);
	set_text(object, "topic", info->topic);
	(void)json_object_set_new(object, "partition", json_integer(info->partition));
	(void)json_object_set_new(object, "offset", json_integer(info->offset));
	set_text(object, "message", info->detail);
	set_text(object, "exception", info->exception);
	(void)json_object_set_new(object, "attempts", json_integer(info->attempts));
	if (info->truncated_bytes >= 0)
		(void)json_object_set_new(object, "truncated", json_integer(info->truncated_bytes));
	(void)json_object_set_new(object, "timestamp", json_integer(rd_kafka_message_timestamp(message, &type)));
	set_text(object, "key", key); /* left out where it is not UTF-8 */
	set_bytes(object, "key_base64", message->key, message->key_len);
	set_bytes(object, "value_base64", message->payload, message->len);
	(void)json_object_set_new(object, "letter_partition", json_integer(message->partition));
	(void)json_object_set_new(object, "letter_offset", json_integer(message->offset));
	return line_json(object, 17, err);
}

static void print_line(const rd_kafka_message_t *message, const struct deadletter_info *info)
{
	struct slice key = { message->key, message->key_len };
	line_safe(info->reason, 40);
	printf("  ");
	line_safe(info->topic, 249);
	printf("[%d]@%lld  key ", info->partition, (long long)info->offset);
	line_safe(key, 40);
	printf("  %zu bytes  ", message->len);
	if (info->attempts > 1)
		printf("attempt %lld  ", (long long)info->attempts);
	line_safe(info->detail, 200);
	printf("\n");
}

static enum status show(struct list *l, const rd_kafka_message_t *message, struct error *err)
{
	struct deadletter_info info;
	struct error ignored;
	if (deadletter_parse(message, &info, &ignored))
		return STATUS_OK; /* somebody else's record */
	if (l->reason &&
	    (info.reason.length != strlen(l->reason) || memcmp(info.reason.data, l->reason, info.reason.length)))
		return STATUS_OK;
	l->shown++;
	if (l->json)
		return print_json(message, &info, err);
	print_line(message, &info);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}

static enum status list(struct list *l, const struct config *config, struct error *err)
{
	struct scan *scan;
	enum status status = scan_open(config, config->deadletters_topic, SCAN_BEGINNING, true, &scan, err);
	if (status)
		return status;
	ctl_stop_on_signals();
	while (!status && !scan_ended(scan) && !ctl_stopping() && !(l->limit && l->shown >= l->limit)) {
		rd_kafka_message_t *message;
		status = scan_next(scan, 100, &message, err);
		if (status || !message)
			continue;
		status = show(l, message, err);
		rd_kafka_message_destroy(message);
	}
	scan_close(scan);
	return status;
}

/* A reason that no letter has would show an empty list, as if all were well. NULL: every reason. */
static enum status check_reason(const char *reason, struct error *err)
{
	const char *names[REASON_COUNT - 1];
	char all[256] = "";
	size_t used = 0;
	for (size_t i = 0; i < CTL_COUNT(names); i++) {
		names[i] = reason_name((enum reason)(i + 1));
		if (!reason || !strcmp(reason, names[i]))
			return STATUS_OK;
		if (used < sizeof all)
			used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", names[i]);
	}
	const char *nearest = ctl_nearest(reason, names, CTL_COUNT(names));
	if (nearest)
		return error_set(err, STATUS_USAGE, "--reason: %s is none; did you mean %s? There are %s", reason,
				 nearest, all);
	return error_set(err, STATUS_USAGE, "--reason: %s is none; there are %s", reason, all);
}

static enum status run_list(int argc, char **argv, struct error *err)
{
	const char *config_path = NULL;
	struct list l = { .json = false };
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&config_path),
		{ "reason", CTL_TEXT, false, &l.reason, "R", "only letters of this reason", 0, 0 },
		{ "limit", CTL_WHOLE, false, &l.limit, "N", "at most so many", 1, INT64_MAX },
		{ "json", CTL_FLAG, false, &l.json, NULL, "an object a line, with key and value in base64", 0, 0 },
	};
	const struct ctl_usage usage = { "deadletter list",
					 "",
					 "Lists the dead letters: reason, where the record came from, key, size, how "
					 "often it has been rejected\n"
					 "where that is more than once, and message.\n",
					 options,
					 CTL_COUNT(options),
					 0 };
	int operands;
	bool help;
	struct config *config;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = check_reason(l.reason, err);
	if (!status)
		status = config_load(config_path, &config, err);
	if (status)
		return status;
	status = list(&l, config, err);
	config_free(config);
	return status;
}

static enum status run_requeue(int argc, char **argv, struct error *err)
{
	const char *config_path = NULL;
	const char *reason = NULL;
	bool dry_run = false;
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&config_path),
		{ "reason", CTL_TEXT, false, &reason, "R", "only letters of this reason", 0, 0 },
		{ "dry-run", CTL_FLAG, false, &dry_run, NULL, "say what would be re-submitted", 0, 0 },
	};
	const struct ctl_usage usage = {
		"deadletter requeue",
		"",
		"Re-submits dead letters as they came (key, value, own headers, timestamp) to the topic and partition "
		"that\n"
		"they came from, with a header peterd.requeued that counts how often, in transactions with the offsets "
		"of what was re-submitted: each letter goes out "
		"once,\n"
		"however often this is run or interrupted. The brokers forget those offsets offsets.retention.minutes\n"
		"(7 days) after the last requeue. Letters whose value was cut cannot be re-submitted.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	struct config *config;
	struct requeue_counts counts = { 0 };
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = check_reason(reason, err);
	if (!status)
		status = config_load(config_path, &config, err);
	if (status)
		return status;
	ctl_stop_on_signals();
	status = requeue(config, reason, dry_run, &counts, err);
	printf("%lld letter%s %s; left out: %lld submitted before, %lld of other reasons, %lld cut, %lld of others\n",
	       (long long)counts.submitted, plural(counts.submitted),
	       dry_run ? "would be re-submitted" : "re-submitted", (long long)counts.before, (long long)counts.other,
	       (long long)counts.cut, (long long)counts.foreign);
	config_free(config);
	return status;
}

enum status ctl_deadletter(int argc, char **argv, struct error *err)
{
	if (argc > 1 && !strcmp(argv[1], "list"))
		return run_list(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "requeue"))
		return run_requeue(argc - 1, argv + 1, err);
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		printf("Usage: peterctl deadletter list|requeue --config FILE [OPTION]...\n"
		       "       peterctl deadletter list|requeue --help\n");
		return STATUS_OK;
	}
	return error_set(err, STATUS_USAGE, "deadletter: what to do is missing: list or requeue");
}
