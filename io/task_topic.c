#include "io/task_topic.h"

#include "base/clock.h"
#include "io/client.h"
#include "io/follower.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_MS = 50 };

struct task_topic {
	struct follower *follower;
	struct task_table *table;
};

enum status task_topic_open(const struct config *config, int timeout_ms, struct task_topic **ret, struct error *err)
{
	struct task_topic *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	enum status status = task_table_new(&t->table, err);
	if (!status)
		status = follower_open(config, config->tasks_topic, timeout_ms, &t->follower, err);
	if (status) {
		task_topic_close(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void task_topic_close(struct task_topic *t)
{
	if (!t)
		return;
	follower_close(t->follower);
	task_table_free(t->table);
	free(t);
}

enum status task_topic_poll(struct task_topic *t, int wait_ms, const struct task_entry **ret, struct error *err)
{
	rd_kafka_message_t *message;
	rd_kafka_timestamp_type_t type;
	*ret = NULL;
	enum status status = follower_poll(t->follower, wait_ms, &message, err);
	if (status || !message)
		return status;
	const struct slice key = { message->key, message->key_len };
	const struct slice value = { message->payload, message->len };
	const struct task_place place = { message->partition, message->offset,
					  rd_kafka_message_timestamp(message, &type) };
	status = task_table_apply(t->table, key, value, &place, ret, err);
	rd_kafka_message_destroy(message);
	return status;
}

bool task_topic_caught_up(const struct task_topic *t)
{
	return follower_caught_up(t->follower);
}

enum status task_topic_catch_up(struct task_topic *t, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	while (!task_topic_caught_up(t)) {
		const struct task_entry *ignored;
		enum status status = task_topic_poll(t, STEP_MS, &ignored, err);
		if (status)
			return status;
		if (clock_monotonic_us() > deadline_us && !task_topic_caught_up(t))
			return follower_too_slow(t->follower, err);
	}
	return STATUS_OK;
}

const struct task_table *task_topic_table(const struct task_topic *t)
{
	return t->table;
}

/* ---- writing ---- */

static enum status refuse(const char *topic, rd_kafka_resp_err_t code, struct error *err)
{
	enum status status = STATUS_UNAVAILABLE;
	if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		status = STATUS_DATA;
	else if (code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		 code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		status = STATUS_CONFIG;
	return error_set(err, status, "topic %s: %s", topic, rd_kafka_err2str(code));
}

static enum status produce(rd_kafka_topic_t *topic, const struct task_change *change, struct error *err)
{
	if (!rd_kafka_produce(topic, change->partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)change->value.data,
			      change->value.length, change->key.data, change->key.length, NULL))
		return STATUS_OK;
	return refuse(rd_kafka_topic_name(topic), rd_kafka_last_error(), err);
}

/* The first failed delivery of a report, or what went wrong for good. */
static enum status take_event(rd_kafka_t *producer, const char *topic, rd_kafka_event_t *event, struct error *err)
{
	char why[256];
	const rd_kafka_message_t *message;
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
		while ((message = rd_kafka_event_message_next(event)))
			if (message->err)
				return refuse(topic, message->err, err);
		return STATUS_OK;
	}
	if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR)
		return STATUS_OK;
	if (rd_kafka_fatal_error(producer, why, sizeof why))
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", topic, why);
	client_note_error(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
	return STATUS_OK;
}

/* Serves what is reported until nothing is under way and nothing is left to be reported. */
static enum status await(rd_kafka_t *producer, const char *topic, int64_t deadline_us, struct error *err)
{
	enum status status = STATUS_OK;
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer);
	for (bool more = true; more && !status;) {
		const bool under_way = rd_kafka_outq_len(producer) > 0;
		rd_kafka_event_t *event = rd_kafka_queue_poll(reports, under_way ? STEP_MS : 0);
		more = event || under_way;
		if (event) {
			status = take_event(producer, topic, event, err);
			rd_kafka_event_destroy(event);
		}
		if (!status && clock_monotonic_us() > deadline_us && rd_kafka_outq_len(producer) > 0) {
			char last[256];
			client_last_error(last, sizeof last);
			status = error_set(err, STATUS_UNAVAILABLE,
					   "topic %s: no answer in time: whether it was written is not known%s%s",
					   topic, *last ? "; last error: " : "", last);
		}
	}
	rd_kafka_queue_destroy(reports);
	return status;
}

enum status task_topic_write(const struct config *config, const struct task_change changes[], size_t count,
			     int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	rd_kafka_t *producer;
	enum status status = client_producer(config, NULL, &producer, err);
	if (status)
		return status;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, config->tasks_topic, NULL);
	if (!topic)
		status = error_set_memory(err);
	for (size_t i = 0; i < count && !status; i++)
		status = produce(topic, &changes[i], err);
	if (!status)
		status = await(producer, config->tasks_topic, deadline_us, err);
	if (topic)
		rd_kafka_topic_destroy(topic);
	client_close_producer(producer);
	return status;
}
