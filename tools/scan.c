#include "tools/scan.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"
#include "io/topics.h"
#include "tools/ctl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 10000, UNKNOWN = -1, DONE = -2 };

struct scan {
	rd_kafka_t *reader;
	char *topic;
	bool bounded;
	int64_t *starts; /* [partitions] */
	int64_t *stops;  /* [partitions]: where to stop; -1: not known yet, DONE: read so far */
	int32_t partitions;
	int32_t ended_count;
	bool said; /* that brokers are in trouble */
};

static bool passes_by_itself(rd_kafka_resp_err_t code)
{
	switch (code) {
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
	case RD_KAFKA_RESP_ERR__RESOLVE:
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: /* of a topic made a moment ago */
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
	case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		return true;
	default:
		return false;
	}
}

/* Where reading starts, as offsets: "the end" is asked for once, before any record can slip by. A broker may not know yet
 * that it leads a partition made a moment ago. */
static enum status start_offset(struct scan *s, int32_t partition, enum scan_from from, int64_t *ret, struct error *err)
{
	int64_t low = 0;
	int64_t high = 0;
	int64_t deadline_us = clock_monotonic_us() + (int64_t)TIMEOUT_MS * 1000;
	rd_kafka_resp_err_t code;
	while ((code = rd_kafka_query_watermark_offsets(s->reader, s->topic, partition, &low, &high, TIMEOUT_MS)) &&
	       passes_by_itself(code) && clock_monotonic_us() < deadline_us && !ctl_stopping())
		(void)usleep(100000);
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: partition %d: %s", s->topic, partition,
				 rd_kafka_err2str(code));
	*ret = from == SCAN_BEGINNING ? low : high;
	return STATUS_OK;
}

static enum status assign(struct scan *s, enum scan_from from, struct error *err)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(s->partitions);
	enum status status = STATUS_OK;
	for (int32_t i = 0; i < s->partitions && !status; i++) {
		int64_t offset = 0;
		status = start_offset(s, i, from, &offset, err);
		rd_kafka_topic_partition_list_add(list, s->topic, i)->offset = offset;
		s->starts[i] = offset;
	}
	if (!status) {
		rd_kafka_resp_err_t code = rd_kafka_assign(s->reader, list);
		if (code)
			status = error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", s->topic, rd_kafka_err2str(code));
	}
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

static enum status prepare(struct scan *s, const struct config *config, const char *topic, enum scan_from from,
			   struct error *err)
{
	enum status status = topics_partitions(s->reader, topic, TIMEOUT_MS, &s->partitions, err);
	if (status)
		return status;
	if (s->partitions == 0)
		return error_set(err, STATUS_CONFIG,
				 "topic %s is missing (or may not be described): peterctl topics create --config %s "
				 "makes it",
				 topic, config->path);
	s->topic = strdup(topic);
	s->starts = calloc((size_t)s->partitions, sizeof *s->starts);
	s->stops = calloc((size_t)s->partitions, sizeof *s->stops);
	for (int32_t i = 0; s->stops && i < s->partitions; i++)
		s->stops[i] = UNKNOWN;
	return s->topic && s->starts && s->stops ? assign(s, from, err) : error_set_memory(err);
}

enum status scan_open(const struct config *config, const char *topic, enum scan_from from, bool bounded,
		      struct scan **ret, struct error *err)
{
	struct scan *s = calloc(1, sizeof *s);
	if (!s)
		return error_set_memory(err);
	s->bounded = bounded;
	enum status status = client_reader(config, &s->reader, err);
	if (!status)
		status = prepare(s, config, topic, from, err);
	if (status) {
		scan_close(s);
		return status;
	}
	*ret = s;
	return STATUS_OK;
}

void scan_close(struct scan *s)
{
	if (!s)
		return;
	if (s->reader) {
		(void)rd_kafka_consumer_close(s->reader);
		rd_kafka_destroy(s->reader);
	}
	free(s->topic);
	free(s->starts);
	free(s->stops);
	free(s);
}

/* Notes that the partition is read up to `next`. What a committed reader calls the end may stand before an open
 * transaction; the high watermark, which every fetch brings along, does not. False: `next` is beyond the stop. */
static bool note_position(struct scan *s, int32_t partition, int64_t next)
{
	int64_t low;
	int64_t high;
	if (!s->bounded || partition < 0 || partition >= s->partitions)
		return true;
	int64_t *stop = &s->stops[partition];
	if (*stop == DONE)
		return false;
	if (*stop == UNKNOWN && !rd_kafka_get_watermark_offsets(s->reader, s->topic, partition, &low, &high) &&
	    high >= 0)
		*stop = high;
	if (*stop == UNKNOWN || next < *stop)
		return true;
	bool within = next == *stop;
	*stop = DONE;
	s->ended_count++;
	return within;
}

/* What is waited for should not be a riddle; once, until something is read again. */
static void say_trouble(struct scan *s, const rd_kafka_message_t *message)
{
	char trouble[256];
	if (message && (!message->err || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)) {
		client_note_success();
		s->said = false;
		return;
	}
	client_last_error(trouble, sizeof trouble);
	if (*trouble && !s->said)
		log_warning("topic %s: waiting for brokers: %s", s->topic, trouble);
	s->said = s->said || *trouble;
}

enum status scan_next(struct scan *s, int wait_ms, rd_kafka_message_t **ret, struct error *err)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(s->reader, wait_ms);
	*ret = NULL;
	say_trouble(s, message);
	if (!message)
		return STATUS_OK;
	if (!message->err && note_position(s, message->partition, message->offset + 1)) {
		*ret = message;
		return STATUS_OK;
	}
	enum status status = STATUS_OK;
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		(void)note_position(s, message->partition, message->offset);
	else if (message->err && !passes_by_itself(message->err))
		status = error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", s->topic, rd_kafka_message_errstr(message));
	rd_kafka_message_destroy(message);
	return status;
}

enum status scan_drain(struct scan *s, int wait_ms, scan_take_fn take, void *arg, struct error *err)
{
	for (int i = 0; i < SCAN_MOST; i++) {
		rd_kafka_message_t *message;
		enum status status = scan_next(s, i ? 0 : wait_ms, &message, err);
		if (status || !message)
			return status;
		status = take(arg, message, err);
		rd_kafka_message_destroy(message);
		if (status)
			return status;
	}
	return STATUS_OK;
}

bool scan_ended(const struct scan *s)
{
	return s->ended_count == s->partitions;
}

int32_t scan_partitions(const struct scan *s)
{
	return s->partitions;
}

int64_t scan_start(const struct scan *s, int32_t partition)
{
	return s->starts[partition];
}
