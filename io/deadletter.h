/* Dead letters: a rejected record as it came, with KIP-1034's headers and peterd.reason (contract, "Topics").
 * Any thread with its own arguments. */
#ifndef IO_DEADLETTER_H
#define IO_DEADLETTER_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/reason.h"

#include <librdkafka/rdkafka.h>

/* The headers of the dead letter of `message`: its own, then __streams.errors.topic, .partition, .offset, .message,
 * .exception and peterd.reason, all of them UTF-8 text, numbers in decimal; `detail` is the line for .message. Headers
 * of these names that the record already had (a dead letter that was submitted again) are replaced. .exception is the
 * Kafka exception class that stands nearest to the reason, for tools that sort Kafka Streams' dead letters by it.
 * NULL: out of memory. The caller's until rd_kafka_producev takes them. */
rd_kafka_headers_t *deadletter_headers(const rd_kafka_message_t *message, enum reason reason, const char *detail);

/* Produces the dead letter of `message` to `topic` (key kept, and the timestamp where it is not ahead of now), cutting a value that would not fit into
 * max_bytes (message.max.bytes), with header peterd.truncated = its original length; where headers and key alone do
 * not fit, the record's own headers go, then the key's end. Errors: STATUS_IO (the producer's queue
 * is full: serve its delivery reports and try again), STATUS_UNAVAILABLE (abort the transaction), STATUS_MEMORY. */
enum status deadletter_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const rd_kafka_message_t *message,
			       enum reason reason, const char *detail, size_t max_bytes, struct error *err) MUST_CHECK;

/* A record that was kept beyond its message. */
struct deadletter_kept {
	const char *topic; /* where it came from */
	int32_t partition;
	int64_t offset;
	int64_t time_ms; /* Kafka's, -1: none */
	struct slice key, value;
	struct slice headers; /* as deadletter_save_headers has them */
};

/* Appends the message's own headers: for each the varint length and bytes of its name and of its value, -1 where that is null. */
void deadletter_save_headers(const rd_kafka_message_t *message, struct buffer *out);

/* As deadletter_produce. Errors: STATUS_DATA too (the headers are damaged). */
enum status deadletter_produce_kept(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct deadletter_kept *kept,
				    enum reason reason, const char *detail, size_t max_bytes,
				    struct error *err) MUST_CHECK;

/* What a dead letter's headers say; slices are borrowed from the message. */
struct deadletter_info {
	struct slice topic; /* where the record came from, with partition and offset */
	int32_t partition;
	int64_t offset;
	struct slice reason;    /* peterd.reason; a code that reason_name() need not know */
	struct slice detail;    /* one line; data NULL where absent, as with exception */
	struct slice exception; /* */
	int64_t attempts; /* how often the record has been rejected: 1, and 1 more for each time it was submitted again */
	int64_t truncated_bytes; /* the original length of a value that was cut, otherwise -1 */
};

/* Reads the headers back. Errors: STATUS_DATA, naming the header that is missing or no number: not a dead letter. */
enum status deadletter_parse(const rd_kafka_message_t *message, struct deadletter_info *ret,
			     struct error *err) MUST_CHECK;

/* Whether a header of that name is one of those above. */
bool deadletter_header_is_ours(const char *name);

/* The headers that the record had of its own. NULL: out of memory. The caller's. */
rd_kafka_headers_t *deadletter_own_headers(const rd_kafka_message_t *message);

/* The headers to submit the record of a dead letter again with: its own, and peterd.requeued, how often that has been done
 * (in decimal). A record that is rejected again keeps it, so that its next letter counts on. NULL: out of memory. The
 * caller's. */
rd_kafka_headers_t *deadletter_requeue_headers(const rd_kafka_message_t *letter, const struct deadletter_info *info);

#endif
