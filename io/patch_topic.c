#include "io/patch_topic.h"

#include "base/clock.h"
#include "io/topic_write.h"
#include "io/topics.h"

#include <stdlib.h>
#include <string.h>

enum {
	STEP_MS = 50,
	CHUNK_BYTES = 512 * 1024, /* with its overhead far below the brokers' usual limit of 1 MiB */
	MESSAGE_BYTES = 1000000,  /* librdkafka's default message.max.bytes */
	QUEUE_FULL_WAIT_MS = 10,
	QUEUE_FULL_TRIES = 1000,
};

struct patch_topic {
	struct follower *follower;
	struct patch_table *table;
	bool checkpoints; /* are kept */
};

enum status patch_topic_open(const struct config *config, bool checkpoints, int timeout_ms, struct patch_topic **ret,
			     struct error *err)
{
	struct patch_topic *t = calloc(1, sizeof *t);
	enum status status = t ? patch_table_new(checkpoints, &t->table, err) : error_set_memory(err);
	if (!status)
		t->checkpoints = checkpoints;
	if (!status)
		status = follower_open(config, config->patches_topic, timeout_ms, &t->follower, err);
	if (status) {
		patch_topic_close(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void patch_topic_close(struct patch_topic *t)
{
	if (!t)
		return;
	follower_close(t->follower);
	patch_table_free(t->table);
	free(t);
}

enum status patch_topic_restart(struct patch_topic *t, int timeout_ms, struct error *err)
{
	struct patch_table *table;
	enum status status = patch_table_new(t->checkpoints, &table, err);
	if (status)
		return status;
	patch_table_free(t->table);
	t->table = table;
	return follower_restart(t->follower, timeout_ms, err);
}

enum status patch_topic_poll(struct patch_topic *t, int wait_ms, bool *ret_got, struct patch_change *ret,
			     struct error *err)
{
	rd_kafka_message_t *message;
	*ret_got = false;
	enum status status = follower_poll(t->follower, wait_ms, &message, err);
	if (status || !message)
		return status;
	const struct slice key = { message->key, message->key_len };
	const struct slice value = { message->payload, message->len };
	status = patch_table_apply(t->table, key, value, message->partition, message->offset, ret, err);
	*ret_got = !status;
	rd_kafka_message_destroy(message);
	return status;
}

bool patch_topic_caught_up(const struct patch_topic *t)
{
	return follower_caught_up(t->follower);
}

enum status patch_topic_catch_up(struct patch_topic *t, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	while (!patch_topic_caught_up(t)) {
		struct patch_change ignored;
		bool got;
		enum status status = patch_topic_poll(t, STEP_MS, &got, &ignored, err);
		if (status)
			return status;
		if (clock_monotonic_us() > deadline_us && !patch_topic_caught_up(t))
			return follower_too_slow(t->follower, err);
	}
	return STATUS_OK;
}

const struct patch_table *patch_topic_table(const struct patch_topic *t)
{
	return t->table;
}

/* ---- writing ---- */

struct patch_writer {
	rd_kafka_topic_t *topic;
	patch_drain_fn drain;
	void *arg;
	int32_t partitions;
	size_t message_bytes, chunk_bytes;
	struct buffer value;
};

static size_t message_bytes_of(rd_kafka_t *producer)
{
	char text[32];
	size_t size = sizeof text;
	if (rd_kafka_conf_get(rd_kafka_conf(producer), "message.max.bytes", text, &size) != RD_KAFKA_CONF_OK)
		return MESSAGE_BYTES;
	return strtoul(text, NULL, 10);
}

/* Whole chunks where messages may be as large as by default, smaller ones where somebody has lowered that. */
static size_t chunk_bytes_of(size_t message_bytes)
{
	const size_t most = message_bytes - message_bytes / 4; /* for the overhead */
	return most < CHUNK_BYTES ? most : CHUNK_BYTES;
}

enum status patch_writer_open(const struct config *config, rd_kafka_t *producer, patch_drain_fn drain, void *arg,
			      int timeout_ms, struct patch_writer **ret, struct error *err)
{
	int32_t partitions = 0;
	enum status status = topics_partitions(producer, config->patches_topic, timeout_ms, &partitions, err);
	if (status)
		return status;
	if (partitions == 0)
		return error_set(err, STATUS_CONFIG, "topic %s is missing (or may not be described)",
				 config->patches_topic);
	struct patch_writer *w = calloc(1, sizeof *w);
	if (!w)
		return error_set_memory(err);
	*w = (struct patch_writer){ .drain = drain, .arg = arg, .partitions = partitions };
	w->message_bytes = message_bytes_of(producer);
	w->chunk_bytes = chunk_bytes_of(w->message_bytes);
	w->topic = rd_kafka_topic_new(producer, config->patches_topic, NULL);
	if (!w->topic) {
		free(w);
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", config->patches_topic,
				 rd_kafka_err2str(rd_kafka_last_error()));
	}
	*ret = w;
	return STATUS_OK;
}

void patch_writer_close(struct patch_writer *w)
{
	if (!w)
		return;
	rd_kafka_topic_destroy(w->topic);
	buffer_free(&w->value);
	free(w);
}

size_t patch_writer_message_bytes(const struct patch_writer *w)
{
	return w->message_bytes;
}

/* value.data NULL: a tombstone. */
static enum status produce(struct patch_writer *w, int32_t partition, const struct patch_key *key, struct slice value,
			   struct error *err)
{
	char text[PATCH_KEY_SIZE];
	const size_t length = patch_key_format(key, text);
	for (int tries = 0; tries < QUEUE_FULL_TRIES; tries++) {
		if (rd_kafka_produce(w->topic, partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value.data,
				     value.length, text, length, NULL) == 0)
			return STATUS_OK;
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL || !w->drain)
			break;
		w->drain(w->arg, QUEUE_FULL_WAIT_MS);
	}
	if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		return error_set(err, STATUS_DATA,
				 "topic %s: a record of %zu bytes is larger than a message may be: %zu (the topic's "
				 "max.message.bytes, or kafka.message.max.bytes)",
				 rd_kafka_topic_name(w->topic), value.length, w->message_bytes);
	return topic_write_refused(rd_kafka_topic_name(w->topic), rd_kafka_last_error(), err);
}

/* Says where the bytes go. */
static enum status place(const struct patch_writer *w, const struct patch_plan *plan, struct slice bytes,
			 struct patch_record *record, struct error *err)
{
	const size_t chunks = (bytes.length + w->chunk_bytes - 1) / w->chunk_bytes;
	if (chunks > PATCH_CHUNKS_AT_MOST)
		return error_set(err, STATUS_DATA, "task %s: %zu bytes are more than %d chunks", record->task,
				 bytes.length, PATCH_CHUNKS_AT_MOST);
	record->has_weights = true;
	record->weights.slot = patch_plan_slot(plan, record);
	record->weights.chunks = (uint32_t)chunks;
	record->weights.bytes = bytes.length;
	hash_sha256_hex(bytes.data, bytes.length, record->weights.sha256);
	if (record->decision != PATCH_CHECKPOINT && strcmp(record->weights.sha256, record->patch) != 0)
		return error_set(err, STATUS_BUG, "task %s: version %llu has not the bytes of its hash", record->task,
				 (unsigned long long)record->version);
	return STATUS_OK;
}

static enum status write_bytes(struct patch_writer *w, int32_t partition, const struct patch_plan *plan,
			       const struct patch_record *record, struct slice bytes, struct error *err)
{
	struct patch_key key = { .kind = PATCH_KEY_CHUNK, .slot = record->weights.slot };
	const uint32_t chunks = record->weights.chunks;
	const uint32_t older = plan->slots[key.slot].chunks;
	enum status status = STATUS_OK;
	key.task = (struct slice){ (const uint8_t *)record->task, strlen(record->task) };
	for (; key.number < chunks && !status; key.number++) {
		const size_t from = key.number * w->chunk_bytes;
		const size_t left = bytes.length - from;
		const struct slice chunk = { bytes.data + from, left < w->chunk_bytes ? left : w->chunk_bytes };
		status = produce(w, partition, &key, chunk, err);
	}
	for (; key.number < older && !status; key.number++)
		status = produce(w, partition, &key, (struct slice){ NULL, 0 }, err);
	if (status)
		return status;
	buffer_clear(&w->value);
	patch_record_encode_manifest(record, &w->value);
	if (w->value.failed)
		return error_set_memory(err);
	key.kind = PATCH_KEY_MANIFEST;
	return produce(w, partition, &key, (struct slice){ w->value.data, w->value.length }, err);
}

enum status patch_writer_write(struct patch_writer *w, struct patch_plan *plan, struct patch_record *record,
			       struct slice bytes, struct error *err)
{
	const size_t length = strlen(record->task);
	const struct patch_key key = { .kind = PATCH_KEY_DECISION,
				       .task = { (const uint8_t *)record->task, length },
				       .number = (uint32_t)(record->number % PATCH_DECISIONS) };
	int32_t partition = plan->partition;
	enum status status = STATUS_OK;
	if (partition < 0) /* as Java's clients place the name */
		partition = rd_kafka_msg_partitioner_murmur2(w->topic, record->task, length, w->partitions, NULL, NULL);
	record->has_weights = false;
	if (bytes.data)
		status = place(w, plan, bytes, record, err);
	if (!status && bytes.data)
		status = write_bytes(w, partition, plan, record, bytes, err);
	if (status)
		return status;
	buffer_clear(&w->value);
	patch_record_encode(record, &w->value);
	if (w->value.failed)
		return error_set_memory(err);
	status = produce(w, partition, &key, (struct slice){ w->value.data, w->value.length }, err);
	if (status)
		return status;
	plan->partition = partition;
	patch_plan_note(plan, record);
	return STATUS_OK;
}
