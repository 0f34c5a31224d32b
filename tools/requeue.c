#include "tools/requeue.h"

#include "base/clock.h"
#include "io/client.h"
#include "io/deadletter.h"
#include "io/topics.h"
#include "tools/ctl.h"
#include "tools/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 10000, SLICE_MS = 100, PATIENCE_US = 30000000, LETTERS_MAX = 1000, BYTES_MAX = 16 << 20 };

/* What has gone out of the letters of one reason. */
struct progress {
	struct progress *next;
	rd_kafka_consumer_group_metadata_t *group;
	int64_t *offsets; /* [partitions of deadletters]: next one to submit */
	bool *touched;    /* [partitions]: in this transaction */
	char reason[64];
};

struct target { /* a topic that letters came from */
	struct target *next;
	int32_t partitions;
	char name[256];
};

struct work {
	const struct config *config;
	const char *reason;
	bool dry_run;
	struct scan *scan;
	rd_kafka_t *producer; /* NULL in a dry run */
	rd_kafka_queue_t *events;
	struct progress *progress;
	struct target *targets;
	bool open;       /* a transaction is */
	int64_t letters; /* in it */
	size_t bytes;
	struct requeue_counts *counts;
};

static void serve_events(struct work *w, int wait_ms)
{
	rd_kafka_event_t *event;
	while ((event = rd_kafka_queue_poll(w->events, wait_ms))) {
		rd_kafka_event_destroy(event);
		wait_ms = 0;
	}
}

/* In short steps: it ends only when the reports of what it takes back have been served. */
static void abort_transaction(struct work *w)
{
	for (int64_t until_us = clock_monotonic_us() + (int64_t)TIMEOUT_MS * 1000;;) {
		rd_kafka_error_t *error = rd_kafka_abort_transaction(w->producer, SLICE_MS);
		bool again = error && rd_kafka_error_is_retriable(error) && clock_monotonic_us() < until_us;
		if (error)
			rd_kafka_error_destroy(error);
		if (!again)
			break;
		serve_events(w, 0);
	}
	w->open = false;
}

/* Runs a transaction's step to its end. STATUS_UNAVAILABLE where it failed: what it held is not submitted. */
static enum status settle(struct work *w, rd_kafka_error_t *error, const char *what, struct error *err)
{
	if (!error)
		return STATUS_OK;
	enum status status = error_set(err, STATUS_UNAVAILABLE, "%s: %s", what, rd_kafka_error_string(error));
	if (rd_kafka_error_txn_requires_abort(error))
		abort_transaction(w);
	rd_kafka_error_destroy(error);
	return status;
}

static enum status open_producer(struct work *w, struct error *err)
{
	char id[300];
	struct topics topics;
	enum status status = topics_read(w->config, TIMEOUT_MS, &topics, err); /* do brokers answer at all? */
	if (status)
		return status;
	(void)snprintf(id, sizeof id, "%s-requeue", w->config->group);
	status = client_producer(w->config, id, &w->producer, err);
	if (status)
		return status;
	w->events = rd_kafka_queue_get_main(w->producer);
	for (int64_t until_us = clock_monotonic_us() + PATIENCE_US;;) {
		rd_kafka_error_t *error = rd_kafka_init_transactions(w->producer, TIMEOUT_MS);
		if (error && rd_kafka_error_is_retriable(error) && !ctl_stopping() && clock_monotonic_us() < until_us) {
			rd_kafka_error_destroy(error);
			continue;
		}
		return settle(w, error, "kafka: the transactional producer", err);
	}
}

/* The offsets committed by earlier runs for one reason. Read after init_transactions, which ends those of a run that died. */
static enum status read_offsets(struct work *w, struct progress *p, const char *group, struct error *err)
{
	int32_t partitions = scan_partitions(w->scan);
	struct config config = *w->config;
	rd_kafka_t *reader;
	char name[400];
	(void)snprintf(name, sizeof name, "%s", group);
	config.group = name;
	enum status status = client_reader(&config, &reader, err);
	if (status)
		return status;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	rd_kafka_topic_partition_list_add_range(list, w->config->deadletters_topic, 0, partitions - 1);
	rd_kafka_resp_err_t code = rd_kafka_committed(reader, list, TIMEOUT_MS);
	for (int i = 0; i < list->cnt && !code; i++)
		code = list->elems[i].err;
	if (code)
		status = error_set(err, STATUS_UNAVAILABLE, "group %s: %s", group, rd_kafka_err2str(code));
	for (int i = 0; i < list->cnt && !status; i++)
		p->offsets[i] = list->elems[i].offset >= 0 ? list->elems[i].offset : 0;
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy(reader);
	return status;
}

static enum status find_progress(struct work *w, struct slice reason, struct progress **ret, struct error *err)
{
	char group[400];
	struct progress *p;
	for (p = w->progress; p; p = p->next)
		if (strlen(p->reason) == reason.length && !memcmp(p->reason, reason.data, reason.length)) {
			*ret = p;
			return STATUS_OK;
		}
	size_t partitions = (size_t)scan_partitions(w->scan);
	p = calloc(1, sizeof *p);
	if (!p)
		return error_set_memory(err);
	p->next = w->progress;
	w->progress = p;
	memcpy(p->reason, reason.data, reason.length);
	(void)snprintf(group, sizeof group, "%s-requeue-%s", w->config->group, p->reason);
	p->offsets = calloc(partitions, sizeof *p->offsets);
	p->touched = calloc(partitions, sizeof *p->touched);
	p->group = rd_kafka_consumer_group_metadata_new(group);
	if (!p->offsets || !p->touched || !p->group)
		return error_set_memory(err);
	*ret = p;
	return read_offsets(w, p, group, err);
}

static enum status find_target(struct work *w, struct slice topic, struct target **ret, struct error *err)
{
	struct target *t;
	for (t = w->targets; t; t = t->next)
		if (strlen(t->name) == topic.length && !memcmp(t->name, topic.data, topic.length)) {
			*ret = t;
			return STATUS_OK;
		}
	t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	memcpy(t->name, topic.data, topic.length);
	t->next = w->targets;
	w->targets = t;
	*ret = t;
	enum status status = topics_partitions(w->producer, t->name, TIMEOUT_MS, &t->partitions, err);
	if (!status && t->partitions == 0)
		status = error_set(err, STATUS_CONFIG, "topic %s, where letters came from, is missing", t->name);
	return status;
}

/* The offsets of one reason's letters go into the transaction. */
static enum status send_offsets(struct work *w, struct progress *p, struct error *err)
{
	int32_t partitions = scan_partitions(w->scan);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	for (int32_t i = 0; i < partitions; i++) {
		if (p->touched[i])
			rd_kafka_topic_partition_list_add(list, w->config->deadletters_topic, i)->offset =
				p->offsets[i];
		p->touched[i] = false;
	}
	rd_kafka_error_t *error =
		list->cnt ? rd_kafka_send_offsets_to_transaction(w->producer, list, p->group, TIMEOUT_MS) : NULL;
	rd_kafka_topic_partition_list_destroy(list);
	return settle(w, error, "kafka: the offsets of what was re-submitted", err);
}

static enum status commit(struct work *w, struct error *err)
{
	enum status status = STATUS_OK;
	if (!w->open)
		return STATUS_OK;
	for (struct progress *p = w->progress; p && !status; p = p->next)
		status = send_offsets(w, p, err);
	for (int64_t until_us = clock_monotonic_us() + PATIENCE_US; !status;) {
		serve_events(w, 0);
		rd_kafka_error_t *error = rd_kafka_commit_transaction(w->producer, TIMEOUT_MS);
		if (error && rd_kafka_error_is_retriable(error) && !ctl_stopping() && clock_monotonic_us() < until_us) {
			rd_kafka_error_destroy(error);
			continue;
		}
		status = settle(w, error, "kafka: the commit", err);
		break;
	}
	if (status)
		return status;
	w->counts->submitted += w->letters;
	w->open = false;
	w->letters = 0;
	w->bytes = 0;
	return STATUS_OK;
}

static enum status submit(struct work *w, const rd_kafka_message_t *message, const struct deadletter_info *info,
			  struct error *err)
{
	struct target *target = NULL;
	rd_kafka_timestamp_type_t type;
	enum status status = find_target(w, info->topic, &target, err);
	if (!status && !w->open) {
		status = settle(w, rd_kafka_begin_transaction(w->producer), "kafka: a transaction", err);
		w->open = !status;
	}
	if (status)
		return status;
	int32_t partition = info->partition < target->partitions ? info->partition : RD_KAFKA_PARTITION_UA;
	int64_t timestamp_ms = rd_kafka_message_timestamp(message, &type);
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__QUEUE_FULL;
	while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && !ctl_stopping()) {
		rd_kafka_headers_t *headers = deadletter_requeue_headers(message, info);
		if (!headers)
			return error_set_memory(err);
		code = rd_kafka_producev(w->producer, RD_KAFKA_V_TOPIC(target->name), RD_KAFKA_V_PARTITION(partition),
					 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
					 RD_KAFKA_V_KEY(message->key, message->key_len),
					 RD_KAFKA_V_VALUE(message->payload, message->len),
					 RD_KAFKA_V_TIMESTAMP(timestamp_ms > 0 ? timestamp_ms : 0),
					 RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
		if (code)
			rd_kafka_headers_destroy(headers);
		serve_events(w, code == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 50 : 0);
	}
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", target->name, rd_kafka_err2str(code));
	w->letters++;
	w->bytes += message->len;
	return STATUS_OK;
}

static enum status take(struct work *w, const rd_kafka_message_t *message, struct error *err)
{
	struct deadletter_info info;
	struct error ignored;
	struct progress *p = NULL;
	if (deadletter_parse(message, &info, &ignored) || info.reason.length >= sizeof p->reason ||
	    info.topic.length >= sizeof((struct target *)NULL)->name) {
		w->counts->foreign++;
		return STATUS_OK;
	}
	if (w->reason &&
	    (strlen(w->reason) != info.reason.length || memcmp(w->reason, info.reason.data, info.reason.length))) {
		w->counts->other++;
		return STATUS_OK;
	}
	enum status status = find_progress(w, info.reason, &p, err);
	if (status)
		return status;
	if (message->offset < p->offsets[message->partition]) {
		w->counts->before++;
		return STATUS_OK;
	}
	if (info.truncated_bytes >= 0) {
		w->counts->cut++;
		return STATUS_OK;
	}
	if (w->dry_run) {
		w->counts->submitted++;
		return STATUS_OK;
	}
	status = submit(w, message, &info, err);
	if (status)
		return status;
	p->offsets[message->partition] = message->offset + 1;
	p->touched[message->partition] = true;
	return w->letters >= LETTERS_MAX || w->bytes >= BYTES_MAX ? commit(w, err) : STATUS_OK;
}

static enum status work(struct work *w, struct error *err)
{
	enum status status = w->dry_run ? STATUS_OK : open_producer(w, err);
	if (!status)
		status = scan_open(w->config, w->config->deadletters_topic, SCAN_BEGINNING, true, &w->scan, err);
	while (!status && !scan_ended(w->scan)) {
		rd_kafka_message_t *message;
		if (ctl_stopping())
			return error_set(err, STATUS_UNAVAILABLE, "stopped by a signal");
		status = scan_next(w->scan, 100, &message, err);
		if (status || !message)
			continue;
		status = take(w, message, err);
		rd_kafka_message_destroy(message);
	}
	return status ? status : commit(w, err);
}

static void close_work(struct work *w)
{
	scan_close(w->scan);
	for (struct progress *p = w->progress, *next; p; p = next) {
		next = p->next;
		if (p->group)
			rd_kafka_consumer_group_metadata_destroy(p->group);
		free(p->offsets);
		free(p->touched);
		free(p);
	}
	for (struct target *t = w->targets, *next; t; t = next) {
		next = t->next;
		free(t);
	}
	if (w->open)
		abort_transaction(w);
	if (w->events)
		rd_kafka_queue_destroy(w->events);
	client_close_producer(w->producer);
}

enum status requeue(const struct config *config, const char *reason, bool dry_run, struct requeue_counts *ret,
		    struct error *err)
{
	struct work w = { .config = config, .reason = reason, .dry_run = dry_run, .counts = ret };
	enum status status = work(&w, err);
	close_work(&w);
	return status;
}
