#include "io/task_topic.h"

#include "base/clock.h"
#include "io/client.h"
#include "io/topics.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_MS = 50 };

struct task_topic {
	rd_kafka_t *reader;
	char *name;
	struct task_table *table;
	int64_t *ends; /* [partitions]: high watermarks at the opening; -1: read so far */
	int32_t partitions;
	int32_t behind; /* partitions with an end */
};

static bool passes_by_itself(rd_kafka_resp_err_t code)
{
	switch (code) {
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
	case RD_KAFKA_RESP_ERR__RESOLVE:
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
	case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		return true;
	default:
		return false;
	}
}

static int left_ms(int64_t deadline_us)
{
	const int64_t left = (deadline_us - clock_monotonic_us()) / 1000;
	return left < 1 ? 1 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static enum status unavailable(const char *topic, const char *what, struct error *err)
{
	char last[256];
	client_last_error(last, sizeof last);
	return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s%s%s", topic, what, *last ? "; last error: " : "", last);
}

/* A broker may not know yet that it leads a partition of a topic made a moment ago. */
static enum status read_bounds(struct task_topic *t, int32_t partition, int64_t deadline_us, int64_t *ret_start,
			       struct error *err)
{
	int64_t low = 0;
	int64_t high = 0;
	for (;;) {
		rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(t->reader, t->name, partition, &low, &high,
									    left_ms(deadline_us));
		if (!code)
			break;
		if ((!passes_by_itself(code) && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) ||
		    clock_monotonic_us() > deadline_us)
			return unavailable(t->name, rd_kafka_err2str(code), err);
		(void)usleep(STEP_MS * 1000);
	}
	t->ends[partition] = low < high ? high : -1;
	t->behind += low < high;
	*ret_start = low;
	return STATUS_OK;
}

static enum status assign(struct task_topic *t, int64_t deadline_us, struct error *err)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(t->partitions);
	enum status status = STATUS_OK;
	for (int32_t i = 0; i < t->partitions && !status; i++) {
		int64_t start = 0;
		status = read_bounds(t, i, deadline_us, &start, err);
		rd_kafka_topic_partition_list_add(list, t->name, i)->offset = start;
	}
	rd_kafka_resp_err_t code = status ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_assign(t->reader, list);
	if (code)
		status = unavailable(t->name, rd_kafka_err2str(code), err);
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

static enum status prepare(struct task_topic *t, const struct config *config, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	enum status status = task_table_new(&t->table, err);
	if (!status)
		status = client_reader(config, &t->reader, err);
	if (!status)
		status = topics_partitions(t->reader, config->tasks_topic, timeout_ms, &t->partitions, err);
	if (status)
		return status;
	if (t->partitions == 0)
		return error_set(err, STATUS_CONFIG,
				 "topic %s is missing (or may not be described): peterctl topics create --config %s "
				 "makes it",
				 config->tasks_topic, config->path);
	t->name = strdup(config->tasks_topic);
	t->ends = calloc((size_t)t->partitions, sizeof *t->ends);
	return t->name && t->ends ? assign(t, deadline_us, err) : error_set_memory(err);
}

enum status task_topic_open(const struct config *config, int timeout_ms, struct task_topic **ret, struct error *err)
{
	struct task_topic *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	enum status status = prepare(t, config, timeout_ms, err);
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
	if (t->reader) {
		(void)rd_kafka_consumer_close(t->reader);
		rd_kafka_destroy(t->reader);
	}
	task_table_free(t->table);
	free(t->name);
	free(t->ends);
	free(t);
}

/* The partition is read up to `next`. What a committed reader calls the end may stand before an open transaction; the high
 * watermark does not. */
static void note_position(struct task_topic *t, int32_t partition, int64_t next)
{
	if (partition < 0 || partition >= t->partitions || t->ends[partition] < 0 || next < t->ends[partition])
		return;
	t->ends[partition] = -1;
	t->behind--;
}

static enum status take_record(struct task_topic *t, const rd_kafka_message_t *message, const struct task_entry **ret,
			       struct error *err)
{
	rd_kafka_timestamp_type_t type;
	const struct slice key = { message->key, message->key_len };
	const struct slice value = { message->payload, message->len };
	const struct task_place place = { message->partition, message->offset,
					  rd_kafka_message_timestamp(message, &type) };
	client_note_success();
	enum status status = task_table_apply(t->table, key, value, &place, ret, err);
	if (!status)
		note_position(t, message->partition, message->offset + 1);
	return status;
}

enum status task_topic_poll(struct task_topic *t, int wait_ms, const struct task_entry **ret, struct error *err)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(t->reader, wait_ms);
	enum status status = STATUS_OK;
	*ret = NULL;
	if (!message)
		return STATUS_OK;
	if (!message->err)
		status = take_record(t, message, ret, err);
	else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		note_position(t, message->partition, message->offset);
	else if (passes_by_itself(message->err))
		client_note_error(message->err, rd_kafka_message_errstr(message));
	else
		status = error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", t->name, rd_kafka_message_errstr(message));
	rd_kafka_message_destroy(message);
	return status;
}

bool task_topic_caught_up(const struct task_topic *t)
{
	return t->behind == 0;
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
			return unavailable(t->name, "not read to its end in time", err);
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
		if (!status && clock_monotonic_us() > deadline_us && rd_kafka_outq_len(producer) > 0)
			status = unavailable(topic, "no answer in time: whether it was written is not known", err);
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
