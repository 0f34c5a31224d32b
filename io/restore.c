#include "io/restore.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLL_MS = 10,
	MESSAGES = 1000,
	CHUNK_BYTES = 4 << 20,
	/* right after a change of leader the high watermark may stand too low for a moment: an end that contradicts the
	 * committed offset is believed only when it stays */
	PATIENCE_US = 5000000,
	SILENCE_US = 30000000, /* said in the log */
};

struct restore {
	const char *topic;
	int32_t partition;
	int64_t committed;
	const _Atomic bool *cancel;
	struct restore_progress *progress;
	struct store_shard *shard;
	rd_kafka_t *reader;
	rd_kafka_queue_t *queue;
	rd_kafka_message_t **messages; /* [MESSAGES] */
	struct store_batch *batch;
	struct sequence scratch;  /* every user record is decoded once before it is believed */
	struct position position; /* of the last position record; .changelog: next offset to read */
	bool users;               /* there is something beside positions */
	bool started_over;
	bool skip; /* the messages at hand are from before that */
	bool done;
	int64_t heard_us;        /* when the last record was read, or the silence mentioned */
	int64_t contradicted_us; /* since when the end contradicts `committed`; 0: it does not */
};

/* Where to read from: the store's place, or the start of an emptied shard. */
static enum status find_start(struct restore *r, struct error *err)
{
	static const struct position nowhere = { -1, -1, -1, 0 };
	bool found = false;
	enum status status = store_shard_position(r->shard, &r->position, &found, err);
	if (status == STATUS_DATA)
		log_warning("%s", err->text);
	else if (status != STATUS_OK)
		return status;
	if (status == STATUS_OK && found && r->position.changelog >= 0)
		return STATUS_OK;
	r->position = nowhere;
	return status == STATUS_OK && !found ? STATUS_OK : store_shard_reset(r->shard, err);
}

static enum status assign(struct restore *r, int64_t offset, struct error *err)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, r->topic, r->partition)->offset = offset;
	rd_kafka_resp_err_t code = rd_kafka_assign(r->reader, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (code)
		return error_set(err, STATUS_BUG, "assign: %s", rd_kafka_err2str(code));
	return STATUS_OK;
}

/* The log does not hold the offset: everything from its start, once. */
static enum status start_over(struct restore *r, const char *why, struct error *err)
{
	if (r->started_over)
		return error_set(err, STATUS_UNAVAILABLE, "the changelog's start moved away while it was read: %s",
				 why);
	log_warning("restore of %s [%d]: offset %" PRId64 " is not in the changelog: reading it from its start: %s",
		    r->topic, r->partition, r->position.changelog, why);
	r->started_over = true;
	r->skip = true;
	r->position = (struct position){ -1, -1, -1, 0 };
	r->users = false;
	store_batch_free(r->batch);
	r->batch = NULL;
	enum status status = store_shard_reset(r->shard, err);
	return status == STATUS_OK ? assign(r, RD_KAFKA_OFFSET_BEGINNING, err) : status;
}

static enum status write_chunk(struct restore *r, bool last, struct error *err)
{
	if (!r->batch && !last)
		return STATUS_OK;
	if (!r->batch && !(r->batch = store_batch_new(r->shard)))
		return error_set_memory(err);
	enum status status = last ? store_batch_write(r->batch, &r->position, err)
				  : store_batch_write_behind(r->batch, &r->position, err);
	store_batch_free(r->batch);
	r->batch = NULL;
	return status;
}

static enum status collect(struct restore *r, struct slice key, struct slice value, struct error *err)
{
	if (!r->batch && !(r->batch = store_batch_new(r->shard)))
		return error_set_memory(err);
	store_batch_put(r->batch, key, value);
	r->users = true;
	return STATUS_OK;
}

static enum status apply(struct restore *r, const rd_kafka_message_t *m, struct error *err)
{
	struct slice key = { m->key, m->key_len };
	struct slice value = { m->payload, m->len };
	struct slice user_id;
	struct position position;
	int64_t newest;
	struct record_label label;
	enum status status = STATUS_OK;
	switch (record_key_parse(key, &user_id)) {
	case RECORD_USER:
		if (value.data)
			status = record_user_decode(value, &r->scratch, &newest, err);
		if (status == STATUS_OK)
			status = collect(r, key, value, err);
		break;
	case RECORD_OWED:
		status = collect(r, key, value, err);
		break;
	case RECORD_LABEL:
		if (value.data)
			status = record_label_decode(value, &label, err);
		if (status == STATUS_OK)
			status = collect(r, key, value, err);
		break;
	case RECORD_POSITION:
		status = record_position_decode(value, &position, err);
		if (status == STATUS_OK)
			r->position = position;
		break;
	case RECORD_UNKNOWN:
		status = error_set(err, STATUS_DATA, "a key that is none of ours");
		break;
	}
	if (status != STATUS_OK)
		return error_prefix(err, "record at offset %" PRId64, m->offset);
	r->position.changelog = m->offset + 1;
	atomic_fetch_add_explicit(&r->progress->records, 1, memory_order_relaxed);
	return STATUS_OK;
}

/* What to say where the log has ended and its position is not the group's. */
static enum status contradiction(const struct restore *r, struct error *err)
{
	int64_t found = r->position.interactions;
	if (found > r->committed)
		return error_set(err, STATUS_DATA,
				 "the group's committed offset %" PRId64 " is below the position %" PRId64
				 " that the changelog reflects: set the group's offset to the position, or delete both "
				 "the changelog's records and the group's offsets to start over",
				 r->committed, found);
	return error_set(err, STATUS_DATA,
			 "the changelog ends at the position %" PRId64
			 " (-1: none), before the group's committed offset "
			 "%" PRId64 ": records of it are lost; set the group's offset to the position (delete it for "
			 "-1) to read the interactions between them again",
			 found, r->committed);
}

/* At the log's true end. */
static enum status judge(struct restore *r, struct error *err)
{
	if (r->position.interactions < 0 && r->users)
		return error_set(err, STATUS_DATA, "the changelog holds users but no position: records of it are lost");
	if (r->committed < 0 || r->position.interactions == r->committed) {
		r->done = true;
		return STATUS_OK;
	}
	int64_t now_us = clock_monotonic_us();
	if (r->contradicted_us == 0)
		r->contradicted_us = now_us;
	return now_us - r->contradicted_us < PATIENCE_US ? STATUS_OK : contradiction(r, err);
}

/* The last EOF stands at `offset`: the true end, or an open transaction's start? */
static enum status at_end(struct restore *r, int64_t offset, struct error *err)
{
	int64_t low;
	int64_t high;
	if (rd_kafka_get_watermark_offsets(r->reader, r->topic, r->partition, &low, &high) || high < 0)
		return STATUS_OK;
	atomic_store_explicit(&r->progress->lag, high > offset ? high - offset : 0, memory_order_relaxed);
	if (high > offset) {
		r->contradicted_us = 0;
		return STATUS_OK;
	}
	r->position.changelog = offset;
	return judge(r, err);
}

static enum status take_error(struct restore *r, const rd_kafka_message_t *m, int64_t *end, struct error *err)
{
	switch (m->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		*end = m->offset;
		return STATUS_OK;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		*end = -1;
		return start_over(r, rd_kafka_message_errstr(m), err);
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		return error_set(err, STATUS_UNAVAILABLE, "%s", rd_kafka_message_errstr(m));
	default: /* librdkafka goes on trying */
		client_note_error(m->err, rd_kafka_message_errstr(m));
		return STATUS_OK;
	}
}

static void note_lag(struct restore *r)
{
	int64_t low;
	int64_t high;
	if (!rd_kafka_get_watermark_offsets(r->reader, r->topic, r->partition, &low, &high) && high >= 0)
		atomic_store_explicit(&r->progress->lag, high - r->position.changelog, memory_order_relaxed);
}

/* Takes a batch of messages; *end is where the log seems to end while nothing has followed, -1 unknown. */
static enum status take(struct restore *r, size_t count, int64_t *end, struct error *err)
{
	enum status status = STATUS_OK;
	r->skip = false;
	for (size_t i = 0; i < count; i++) {
		rd_kafka_message_t *m = r->messages[i];
		if (status == STATUS_OK && !r->skip && m->err) {
			status = take_error(r, m, end, err);
		} else if (status == STATUS_OK && !r->skip) {
			*end = -1;
			status = apply(r, m, err);
		}
		rd_kafka_message_destroy(m);
	}
	if (count > 0 && status == STATUS_OK) {
		client_note_success();
		note_lag(r);
	}
	return status;
}

/* A wait that only somebody else can end should not be a riddle. */
static void mention_silence(struct restore *r, size_t count, int64_t end)
{
	int64_t now_us = clock_monotonic_us();
	char trouble[256];
	if (count > 0 || r->heard_us == 0)
		r->heard_us = now_us;
	if (now_us - r->heard_us < SILENCE_US)
		return;
	r->heard_us = now_us;
	client_last_error(trouble, sizeof trouble);
	log_info("restore of %s [%d] waits at offset %" PRId64 ": %s", r->topic, r->partition, r->position.changelog,
		 end >= 0     ? "a transaction is open there"
		 : trouble[0] ? trouble
			      : "no answer; does the topic exist?");
}

static enum status read_log(struct restore *r, struct error *err)
{
	int64_t end = -1;
	enum status status = STATUS_OK;
	while (status == STATUS_OK && !r->done) {
		if (atomic_load(r->cancel))
			return error_set(err, STATUS_UNAVAILABLE, "cancelled");
		ssize_t count = rd_kafka_consume_batch_queue(r->queue, POLL_MS, r->messages, MESSAGES);
		status = take(r, count > 0 ? (size_t)count : 0, &end, err);
		mention_silence(r, count > 0 ? (size_t)count : 0, end);
		if (status == STATUS_OK && r->batch && (store_batch_bytes(r->batch) >= CHUNK_BYTES || end >= 0))
			status = write_chunk(r, false, err);
		if (status == STATUS_OK && end >= 0)
			status = at_end(r, end, err);
	}
	return status;
}

static enum status restore_open(struct restore *r, const struct config *config, struct error *err)
{
	r->messages = calloc(MESSAGES, sizeof *r->messages);
	if (!r->messages)
		return error_set_memory(err);
	enum status status = find_start(r, err);
	r->users = r->position.changelog > 0;
	if (status == STATUS_OK)
		status = client_reader(config, &r->reader, err);
	if (status == STATUS_OK) {
		r->queue = rd_kafka_queue_get_consumer(r->reader);
		status = assign(r, r->position.changelog, err);
	}
	return status;
}

static void restore_close(struct restore *r)
{
	store_batch_free(r->batch);
	sequence_free(&r->scratch);
	free(r->messages);
	if (r->queue)
		rd_kafka_queue_destroy(r->queue);
	if (r->reader)
		rd_kafka_destroy(r->reader);
}

enum status restore_shard(const struct config *config, struct store_shard *shard, int32_t partition, int64_t committed,
			  const _Atomic bool *cancel, struct restore_progress *progress, struct position *ret,
			  bool *ret_found, struct error *err)
{
	struct restore r = { .topic = config->changelog_topic,
			     .partition = partition,
			     .committed = committed,
			     .cancel = cancel,
			     .progress = progress,
			     .shard = shard };
	atomic_store(&progress->records, 0);
	atomic_store(&progress->lag, -1);
	enum status status = restore_open(&r, config, err);
	if (status == STATUS_OK)
		status = read_log(&r, err);
	if (status == STATUS_OK && r.position.interactions >= 0)
		status = write_chunk(&r, true, err);
	restore_close(&r);
	if (status != STATUS_OK)
		return error_prefix(err, "restore of %s [%d]", config->changelog_topic, partition);
	*ret = r.position;
	*ret_found = r.position.interactions >= 0;
	return STATUS_OK;
}
