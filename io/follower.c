#include "io/follower.h"

#include "base/clock.h"
#include "io/client.h"
#include "io/topics.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_MS = 50 };

struct follower {
	const struct config *config;
	rd_kafka_t *reader;
	bool gone;     /* the topic; set by the reader's polls */
	bool was_gone; /* or some of its partitions, ever */
	char *topic;
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
static enum status read_bounds(struct follower *f, int32_t partition, int64_t deadline_us, int64_t *ret_start,
			       struct error *err)
{
	int64_t low = 0;
	int64_t high = 0;
	for (;;) {
		rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(f->reader, f->topic, partition, &low, &high,
									    left_ms(deadline_us));
		if (!code)
			break;
		if ((!passes_by_itself(code) && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) ||
		    clock_monotonic_us() > deadline_us)
			return unavailable(f->topic, rd_kafka_err2str(code), err);
		(void)usleep(STEP_MS * 1000);
	}
	f->ends[partition] = low < high ? high : -1;
	f->behind += low < high;
	*ret_start = low;
	return STATUS_OK;
}

static enum status assign(struct follower *f, int64_t deadline_us, struct error *err)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(f->partitions);
	enum status status = STATUS_OK;
	for (int32_t i = 0; i < f->partitions && !status; i++) {
		int64_t start = 0;
		status = read_bounds(f, i, deadline_us, &start, err);
		rd_kafka_topic_partition_list_add(list, f->topic, i)->offset = start;
	}
	rd_kafka_resp_err_t code = status ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_assign(f->reader, list);
	if (code)
		status = unavailable(f->topic, rd_kafka_err2str(code), err);
	rd_kafka_topic_partition_list_destroy(list);
	return status;
}

static enum status begin(struct follower *f, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	const int32_t before = f->partitions;
	enum status status = topics_partitions(f->reader, f->topic, timeout_ms, &f->partitions, err);
	if (status)
		return status;
	f->was_gone = f->was_gone || f->partitions < before;
	if (f->partitions == 0)
		return error_set(err, STATUS_CONFIG,
				 "topic %s is missing (or may not be described): peterctl topics create --config %s "
				 "makes it",
				 f->topic, f->config->path);
	f->behind = 0;
	free(f->ends);
	f->ends = calloc((size_t)f->partitions, sizeof *f->ends);
	return f->ends ? assign(f, deadline_us, err) : error_set_memory(err);
}

static enum status prepare(struct follower *f, const struct config *config, const char *topic, int timeout_ms,
			   struct error *err)
{
	f->config = config;
	f->topic = strdup(topic);
	enum status status = f->topic ? client_follower(config, &f->gone, &f->reader, err) : error_set_memory(err);
	return status ? status : begin(f, timeout_ms, err);
}

enum status follower_open(const struct config *config, const char *topic, int timeout_ms, struct follower **ret,
			  struct error *err)
{
	struct follower *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	enum status status = prepare(f, config, topic, timeout_ms, err);
	if (status) {
		follower_close(f);
		return status;
	}
	*ret = f;
	return STATUS_OK;
}

/* What was fetched, and said, is of the topic that was. */
enum status follower_restart(struct follower *f, int timeout_ms, struct error *err)
{
	rd_kafka_message_t *message;
	(void)rd_kafka_assign(f->reader, NULL);
	while ((message = rd_kafka_consumer_poll(f->reader, 0)))
		rd_kafka_message_destroy(message);
	f->was_gone = f->was_gone || f->gone;
	f->gone = false;
	return begin(f, timeout_ms, err);
}

/* librdkafka 2.0.2 waits for ever to destroy a reader of a partition that went away: such a one is left to the process's end. */
void follower_close(struct follower *f)
{
	if (!f)
		return;
	if (f->reader) {
		(void)rd_kafka_consumer_close(f->reader);
		if (!f->gone && !f->was_gone)
			rd_kafka_destroy(f->reader);
	}
	free(f->topic);
	free(f->ends);
	free(f);
}

/* The partition is read up to `next`. What a committed reader calls the end may stand before an open transaction; the high
 * watermark does not. */
static void note_position(struct follower *f, int32_t partition, int64_t next)
{
	if (partition < 0 || partition >= f->partitions || f->ends[partition] < 0 || next < f->ends[partition])
		return;
	f->ends[partition] = -1;
	f->behind--;
}

enum status follower_poll(struct follower *f, int wait_ms, rd_kafka_message_t **ret, struct error *err)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(f->reader, wait_ms);
	enum status status = STATUS_OK;
	*ret = NULL;
	if (f->gone) {
		if (message)
			rd_kafka_message_destroy(message);
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: it is not there any more", f->topic);
	}
	if (!message)
		return STATUS_OK;
	if (!message->err) {
		client_note_success();
		note_position(f, message->partition, message->offset + 1);
		*ret = message;
		return STATUS_OK;
	}
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		note_position(f, message->partition, message->offset);
	else if (passes_by_itself(message->err))
		client_note_error(message->err, rd_kafka_message_errstr(message));
	else if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		status = error_set(err, STATUS_UNAVAILABLE, "topic %s: it was made anew, or records were taken away",
				   f->topic);
	else
		status = error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", f->topic, rd_kafka_message_errstr(message));
	rd_kafka_message_destroy(message);
	return status;
}

bool follower_caught_up(const struct follower *f)
{
	return f->behind == 0;
}

enum status follower_too_slow(const struct follower *f, struct error *err)
{
	return unavailable(f->topic, "not read to its end in time", err);
}
