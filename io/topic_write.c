#include "io/topic_write.h"

#include "base/clock.h"
#include "io/client.h"

enum { STEP_MS = 50 };

enum status topic_write_refused(const char *topic, rd_kafka_resp_err_t code, struct error *err)
{
	enum status status = STATUS_UNAVAILABLE;
	if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		status = STATUS_DATA;
	else if (code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		 code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		status = STATUS_CONFIG;
	return error_set(err, status, "topic %s: %s", topic, rd_kafka_err2str(code));
}

static enum status produce(rd_kafka_topic_t *topic, const struct topic_change *change, struct error *err)
{
	if (!rd_kafka_produce(topic, change->partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)change->value.data,
			      change->value.length, change->key.data, change->key.length, NULL))
		return STATUS_OK;
	return topic_write_refused(rd_kafka_topic_name(topic), rd_kafka_last_error(), err);
}

/* The first failed delivery of a report, or what went wrong for good. */
static enum status take_event(rd_kafka_t *producer, const char *topic, rd_kafka_event_t *event, struct error *err)
{
	char why[256];
	const rd_kafka_message_t *message;
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
		while ((message = rd_kafka_event_message_next(event)))
			if (message->err)
				return topic_write_refused(topic, message->err, err);
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

enum status topic_write(const struct config *config, const char *name, const struct topic_change changes[],
			size_t count, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	rd_kafka_t *producer;
	enum status status = client_producer(config, NULL, &producer, err);
	if (status)
		return status;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, name, NULL);
	if (!topic)
		status = error_set_memory(err);
	for (size_t i = 0; i < count && !status; i++)
		status = produce(topic, &changes[i], err);
	if (!status)
		status = await(producer, name, deadline_us, err);
	if (topic)
		rd_kafka_topic_destroy(topic);
	client_close_producer(producer);
	return status;
}
