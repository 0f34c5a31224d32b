#include "io/deadletter.h"

#include "base/clock.h"
#include "io/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER_TOPIC "__streams.errors.topic"
#define HEADER_PARTITION "__streams.errors.partition"
#define HEADER_OFFSET "__streams.errors.offset"
#define HEADER_MESSAGE "__streams.errors.message"
#define HEADER_EXCEPTION "__streams.errors.exception"
#define HEADER_REASON "peterd.reason"
#define HEADER_TRUNCATED "peterd.truncated"
#define HEADER_REQUEUED "peterd.requeued" /* the record's own once it has it */

/* Of a record batch, before its records (KIP-98's format). */
enum { BATCH_HEADER_BYTES = 61 };

static const char *const our_headers[] = { HEADER_TOPIC,     HEADER_PARTITION, HEADER_OFFSET,   HEADER_MESSAGE,
					   HEADER_EXCEPTION, HEADER_REASON,    HEADER_TRUNCATED };
enum { OUR_HEADERS = sizeof our_headers / sizeof our_headers[0] };

static const char *exception_name(enum reason reason)
{
	switch (reason) {
	case REASON_UNDECODABLE:
	case REASON_SCHEMA:
		return "org.apache.kafka.common.errors.SerializationException";
	case REASON_TIMESTAMP:
		return "org.apache.kafka.common.errors.InvalidTimestampException";
	default:
		return "org.apache.kafka.common.InvalidRecordException";
	}
}

bool deadletter_header_is_ours(const char *name)
{
	for (size_t i = 0; i < OUR_HEADERS; i++) {
		if (strcmp(name, our_headers[i]) == 0)
			return true;
	}
	return false;
}

static void remove_ours(rd_kafka_headers_t *headers)
{
	for (size_t i = 0; i < OUR_HEADERS; i++)
		(void)rd_kafka_header_remove(headers, our_headers[i]); /* an error is only that there is none */
}

rd_kafka_headers_t *deadletter_own_headers(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *theirs;
	if (rd_kafka_message_headers(message, &theirs) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return rd_kafka_headers_new(OUR_HEADERS);
	rd_kafka_headers_t *copy = rd_kafka_headers_copy(theirs);
	if (copy)
		remove_ours(copy);
	return copy;
}

void deadletter_save_headers(const rd_kafka_message_t *message, struct buffer *out)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t length;
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &length); i++) {
		bytes_append_string(out, name);
		bytes_append_nullable(out, (struct slice){ value, length });
	}
}

static enum status load_headers(struct slice saved, rd_kafka_headers_t **ret, struct error *err)
{
	const uint8_t *at = saved.data, *end = saved.data + saved.length;
	struct slice name, value;
	rd_kafka_headers_t *headers = rd_kafka_headers_new(OUR_HEADERS);
	bool fine = headers != NULL;
	while (fine && at < end) {
		fine = bytes_read_nullable(&at, end, &name) && name.data && bytes_read_nullable(&at, end, &value) &&
		       !rd_kafka_header_add(headers, (const char *)name.data, (ssize_t)name.length, value.data,
					    (ssize_t)value.length);
	}
	if (fine) {
		remove_ours(headers);
		*ret = headers;
		return STATUS_OK;
	}
	if (headers)
		rd_kafka_headers_destroy(headers);
	return headers ? error_set(err, STATUS_DATA, "saved headers are damaged") : error_set_memory(err);
}

static bool add(rd_kafka_headers_t *headers, const char *name, const char *text)
{
	return rd_kafka_header_add(headers, name, -1, text, (ssize_t)strlen(text)) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool add_number(rd_kafka_headers_t *headers, const char *name, int64_t number)
{
	char text[24];
	(void)snprintf(text, sizeof text, "%" PRId64, number);
	return add(headers, name, text);
}

/* Takes `headers`, which may be NULL. */
static rd_kafka_headers_t *add_ours(rd_kafka_headers_t *headers, const struct deadletter_kept *kept, enum reason reason,
				    const char *detail)
{
	if (!headers)
		return NULL;
	if (add(headers, HEADER_TOPIC, kept->topic) && add_number(headers, HEADER_PARTITION, kept->partition) &&
	    add_number(headers, HEADER_OFFSET, kept->offset) && add(headers, HEADER_MESSAGE, detail) &&
	    add(headers, HEADER_EXCEPTION, exception_name(reason)) && add(headers, HEADER_REASON, reason_name(reason)))
		return headers;
	rd_kafka_headers_destroy(headers);
	return NULL;
}

/* Likewise. */
static rd_kafka_headers_t *add_truncated(rd_kafka_headers_t *headers, const struct deadletter_kept *kept)
{
	if (!headers || add_number(headers, HEADER_TRUNCATED, (int64_t)kept->value.length))
		return headers;
	rd_kafka_headers_destroy(headers);
	return NULL;
}

/* The message's record; its headers stay where they are. */
static struct deadletter_kept record_of(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	return (struct deadletter_kept){ .topic = rd_kafka_topic_name(message->rkt),
					 .partition = message->partition,
					 .offset = message->offset,
					 .time_ms = rd_kafka_message_timestamp(message, &type),
					 .key = { message->key, message->key_len },
					 .value = { message->payload, message->len } };
}

rd_kafka_headers_t *deadletter_headers(const rd_kafka_message_t *message, enum reason reason, const char *detail)
{
	const struct deadletter_kept record = record_of(message);
	return add_ours(deadletter_own_headers(message), &record, reason, detail);
}

/* Of a zig-zag varint. */
static size_t varint_bytes(size_t number)
{
	size_t bytes = 1;
	for (uint64_t rest = (uint64_t)number << 1; rest >= 0x80; rest >>= 7)
		bytes++;
	return bytes;
}

static size_t field_bytes(size_t length)
{
	return varint_bytes(length) + length;
}

/* What brokers compare with their limit: the batch, uncompressed, that holds this record alone. */
static size_t batch_bytes(const rd_kafka_headers_t *headers, size_t key_bytes, size_t value_bytes)
{
	const char *name;
	const void *value;
	size_t length;
	size_t record = 3; /* attributes, differences of time and offset from the batch's: nothing */
	record += field_bytes(key_bytes) + field_bytes(value_bytes) + varint_bytes(rd_kafka_header_cnt(headers));
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
	     i++)
		record += field_bytes(strlen(name)) + field_bytes(length);
	return BATCH_HEADER_BYTES + field_bytes(record);
}

/* Cuts value and key, in this order, as far as it must be. */
static void cut(const rd_kafka_headers_t *headers, size_t max_bytes, size_t *key_bytes, size_t *value_bytes)
{
	size_t *const parts[] = { value_bytes, key_bytes };
	for (size_t i = 0; i < 2; i++) {
		size_t bytes;
		while (*parts[i] > 0 && (bytes = batch_bytes(headers, *key_bytes, *value_bytes)) > max_bytes)
			*parts[i] -= bytes - max_bytes < *parts[i] ? bytes - max_bytes : *parts[i];
	}
}

static enum status produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct deadletter_kept *kept,
			   size_t key_bytes, size_t value_bytes, rd_kafka_headers_t *headers, struct error *err)
{
	int64_t time_ms = kept->time_ms, now_ms = clock_wall_ms();
	if (time_ms > now_ms) /* brokers refuse times ahead of theirs: a transaction that holds one never commits */
		time_ms = now_ms;
	const rd_kafka_vu_t parts[] = {
		{ .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic },
		{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
		{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { (void *)(uintptr_t)kept->key.data, key_bytes } },
		{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { (void *)(uintptr_t)kept->value.data, value_bytes } },
		{ .vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = time_ms > 0 ? time_ms : 0 },
		{ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
	};
	rd_kafka_error_t *fault = rd_kafka_produceva(producer, parts, sizeof parts / sizeof parts[0]);
	if (!fault)
		return STATUS_OK;
	bool full = rd_kafka_error_code(fault) == RD_KAFKA_RESP_ERR__QUEUE_FULL;
	(void)error_set(err, full ? STATUS_IO : STATUS_UNAVAILABLE,
			"dead letter of %s[%" PRId32 "] offset %" PRId64 ": %s", kept->topic, kept->partition,
			kept->offset, rd_kafka_error_string(fault));
	rd_kafka_error_destroy(fault);
	rd_kafka_headers_destroy(headers);
	return err->status;
}

/* Produces what fits. Takes the record's own headers; NULL: there was no memory for them. */
static enum status fit(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct deadletter_kept *kept,
		       rd_kafka_headers_t *own, enum reason reason, const char *detail, size_t max_bytes,
		       struct error *err)
{
	rd_kafka_headers_t *headers = add_ours(own, kept, reason, detail);
	size_t key_bytes = kept->key.length;
	size_t value_bytes = kept->value.length;
	if (headers && batch_bytes(headers, key_bytes, value_bytes) <= max_bytes)
		return produce(producer, topic, kept, key_bytes, value_bytes, headers, err);
	headers = add_truncated(headers, kept);
	if (headers && batch_bytes(headers, key_bytes, 0) > max_bytes) {
		rd_kafka_headers_destroy(headers);
		headers = add_ours(rd_kafka_headers_new(OUR_HEADERS), kept, reason, detail);
		headers = add_truncated(headers, kept);
	}
	if (!headers)
		return error_set_memory(err);
	cut(headers, max_bytes, &key_bytes, &value_bytes);
	return produce(producer, topic, kept, key_bytes, value_bytes, headers, err);
}

enum status deadletter_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const rd_kafka_message_t *message,
			       enum reason reason, const char *detail, size_t max_bytes, struct error *err)
{
	const struct deadletter_kept record = record_of(message);
	return fit(producer, topic, &record, deadletter_own_headers(message), reason, detail, max_bytes, err);
}

enum status deadletter_produce_kept(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct deadletter_kept *kept,
				    enum reason reason, const char *detail, size_t max_bytes, struct error *err)
{
	rd_kafka_headers_t *own = NULL;
	enum status status = load_headers(kept->headers, &own, err);
	return status ? status : fit(producer, topic, kept, own, reason, detail, max_bytes, err);
}

/* The newest header of that name; data NULL where there is none. */
static struct slice get(const rd_kafka_headers_t *headers, const char *name)
{
	const void *value;
	size_t length;
	if (!headers || rd_kafka_header_get_last(headers, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (struct slice){ NULL, 0 };
	return (struct slice){ value, length };
}

static bool parse_number(struct slice text, int64_t max, int64_t *ret)
{
	int64_t number = 0;
	if (text.length == 0)
		return false;
	for (size_t i = 0; i < text.length; i++) {
		int digit = text.data[i] - '0';
		if (digit < 0 || digit > 9 || number > (max - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	*ret = number;
	return true;
}

enum status deadletter_parse(const rd_kafka_message_t *message, struct deadletter_info *ret, struct error *err)
{
	rd_kafka_headers_t *headers = NULL;
	int64_t partition;
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		headers = NULL;
	struct deadletter_info info = {
		.topic = get(headers, HEADER_TOPIC),
		.reason = get(headers, HEADER_REASON),
		.detail = get(headers, HEADER_MESSAGE),
		.exception = get(headers, HEADER_EXCEPTION),
		.truncated_bytes = -1,
	};
	int64_t requeued;
	info.attempts = parse_number(get(headers, HEADER_REQUEUED), INT32_MAX, &requeued) ? requeued + 1 : 1;
	struct slice truncated = get(headers, HEADER_TRUNCATED);
	const char *fault = NULL;
	if (info.topic.length == 0)
		fault = HEADER_TOPIC;
	else if (!parse_number(get(headers, HEADER_PARTITION), INT32_MAX, &partition))
		fault = HEADER_PARTITION;
	else if (!parse_number(get(headers, HEADER_OFFSET), INT64_MAX, &info.offset))
		fault = HEADER_OFFSET;
	else if (info.reason.length == 0)
		fault = HEADER_REASON;
	else if (truncated.data && !parse_number(truncated, INT64_MAX, &info.truncated_bytes))
		fault = HEADER_TRUNCATED;
	if (fault)
		return error_set(err, STATUS_DATA, "not a dead letter: header %s is missing or damaged", fault);
	info.partition = (int32_t)partition;
	*ret = info;
	return STATUS_OK;
}

rd_kafka_headers_t *deadletter_requeue_headers(const rd_kafka_message_t *letter, const struct deadletter_info *info)
{
	rd_kafka_headers_t *headers = deadletter_own_headers(letter);
	if (!headers)
		return NULL;
	(void)rd_kafka_header_remove(headers, HEADER_REQUEUED); /* an error is only that there is none */
	if (add_number(headers, HEADER_REQUEUED, info->attempts))
		return headers;
	rd_kafka_headers_destroy(headers);
	return NULL;
}
