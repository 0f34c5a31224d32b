/* The learner lane's transaction: records of patches, and the offsets of examples that they rest on. */
#include "daemon/learner_lane_private.h"

#include "base/clock.h"
#include "io/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LINEAGES_AT_MOST = 32, /* of one transaction: the offsets' metadata name them all, in at most 4096 bytes */
	CALL_MS = 1000,        /* a blocking call returns this often, and is resumed */
	DELIVERY_US = 50000000,
	REPORTS_MS = 20,
	ENTRY_BYTES = PATCH_NAME_AT_MOST + 24,
};

/* The first that was not taken tells why; those behind it are purged. */
static void note_undelivered(struct learner_lane *lane, const rd_kafka_message_t *message)
{
	const bool too_large = message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
	if (too_large)
		lane->refused_bytes += message->key_len + message->len;
	if (!lane->undelivered[0])
		(void)snprintf(lane->undelivered, sizeof lane->undelivered, "topic %s: %s%s",
			       rd_kafka_topic_name(message->rkt), rd_kafka_err2str(message->err),
			       too_large ? " (the topic's max.message.bytes)" : "");
}

void learner_drain_reports(void *arg, int wait_ms)
{
	struct learner_lane *lane = arg;
	rd_kafka_event_t *event;
	for (; (event = rd_kafka_queue_poll(lane->producer_queue, wait_ms)); wait_ms = 0) {
		const rd_kafka_message_t *message;
		while (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR &&
		       (message = rd_kafka_event_message_next(event)))
			if (message->err)
				note_undelivered(lane, message);
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
			client_note_error(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
		rd_kafka_event_destroy(event);
	}
}

enum outcome { DONE, AGAIN, FAILED };

/* Takes the error of a call, NULL where it has none. */
static enum outcome judge(rd_kafka_error_t *error, const char *what, struct error *err)
{
	if (!error)
		return DONE;
	const bool again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error) &&
			   !rd_kafka_error_txn_requires_abort(error);
	(void)error_set(err, STATUS_UNAVAILABLE, "%s: %s", what, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return again ? AGAIN : FAILED;
}

/* The lineage's newest record, behind those that the offset of its partition rests on already. */
static enum status rest_on(rd_kafka_topic_partition_t *offset, const struct lineage *l, struct error *err)
{
	const size_t old = offset->metadata ? strlen(offset->metadata) : 0;
	char *text = realloc(offset->metadata, old + ENTRY_BYTES);
	if (!text)
		return error_set_memory(err);
	(void)snprintf(text + old, ENTRY_BYTES, "%s%s:%llu", old ? " " : "", l->setup.lineage.task,
		       (unsigned long long)(l->plan.number - 1));
	offset->metadata = text;
	offset->metadata_size = strlen(text);
	return STATUS_OK;
}

static enum status write_lineage(struct learner_lane *lane, struct lineage *l, rd_kafka_topic_partition_list_t *offsets,
				 struct error *err)
{
	const char *topic = lane->ctx.config->examples_topic;
	enum status status = lineage_write(l, lane->writer, err);
	if (status != STATUS_OK)
		return status;
	rd_kafka_topic_partition_t *offset = rd_kafka_topic_partition_list_find(offsets, topic, l->partition);
	if (!offset) {
		offset = rd_kafka_topic_partition_list_add(offsets, topic, l->partition);
		offset->offset = learner_part_find(lane, l->partition)->position;
	}
	return rest_on(offset, l, err);
}

static enum status write_all(struct learner_lane *lane, rd_kafka_topic_partition_list_t *offsets, struct error *err)
{
	size_t written = 0;
	enum status status = STATUS_OK;
	for (struct lineage *l = lane->lineages; l && status == STATUS_OK && written < LINEAGES_AT_MOST; l = l->next) {
		if (!lineage_has_writes(l))
			continue;
		status = write_lineage(lane, l, offsets, err);
		written++;
	}
	return status;
}

/* Until every record is with the brokers. */
static enum status deliver(struct learner_lane *lane, struct error *err)
{
	const int64_t until_us = clock_monotonic_us() + DELIVERY_US;
	while (rd_kafka_outq_len(lane->producer) > 0 && !lane->undelivered[0]) {
		learner_drain_reports(lane, REPORTS_MS);
		if (clock_monotonic_us() > until_us)
			return error_set(err, STATUS_UNAVAILABLE, "records are not taken by the brokers");
	}
	return lane->undelivered[0] ? error_set(err, STATUS_UNAVAILABLE, "%s", lane->undelivered) : STATUS_OK;
}

static enum status send_offsets(struct learner_lane *lane, const rd_kafka_topic_partition_list_t *offsets,
				struct error *err)
{
	rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(lane->consumer);
	enum outcome outcome;
	if (!group)
		return error_set(err, STATUS_UNAVAILABLE, "it is no member of its group");
	if (!learner_is_member(lane)) {
		rd_kafka_consumer_group_metadata_destroy(group);
		return error_set(err, STATUS_UNAVAILABLE, "the group gave its partitions away");
	}
	do
		outcome = judge(rd_kafka_send_offsets_to_transaction(lane->producer, offsets, group, CALL_MS),
				"offsets", err);
	while (outcome == AGAIN && !learner_stopping(lane));
	rd_kafka_consumer_group_metadata_destroy(group);
	return outcome == DONE ? STATUS_OK : err->status;
}

static enum status commit(struct learner_lane *lane, struct error *err)
{
	enum outcome outcome;
	if (lane->abort_every && ++lane->commits % lane->abort_every == 0)
		return error_set(err, STATUS_UNAVAILABLE, "fault injection");
	do {
		outcome = judge(rd_kafka_commit_transaction(lane->producer, CALL_MS), "commit", err);
		learner_drain_reports(lane, 0);
	} while (outcome == AGAIN && !learner_stopping(lane));
	return outcome == DONE ? STATUS_OK : err->status;
}

enum status learner_commit(struct learner_lane *lane, struct error *err)
{
	rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(1);
	lane->undelivered[0] = '\0';
	enum status status =
		judge(rd_kafka_begin_transaction(lane->producer), "begin", err) == DONE ? STATUS_OK : err->status;
	lane->in_transaction = status == STATUS_OK;
	if (status == STATUS_OK)
		status = write_all(lane, offsets, err);
	if (status == STATUS_OK)
		status = deliver(lane, err);
	if (status == STATUS_OK)
		status = send_offsets(lane, offsets, err);
	if (status == STATUS_OK)
		status = commit(lane, err);
	rd_kafka_topic_partition_list_destroy(offsets);
	if (status != STATUS_OK)
		return status;
	lane->in_transaction = false;
	learner_well(lane);
	client_note_success();
	return STATUS_OK;
}
