/* Dead letters: a rejected record as it came, with KIP-1034's headers and peterd.reason (contract, "Topics").
 * Any thread with its own arguments. */
#ifndef IO_DEADLETTER_H
#define IO_DEADLETTER_H

#include "base/error.h"
#include "io/reason.h"

#include <librdkafka/rdkafka.h>

/* The headers of the dead letter of `message`: its own, then __streams.errors.topic, .partition, .offset, .message,
 * .exception and peterd.reason; `detail` is the line for .message. NULL: out of memory. The caller's
 * until rd_kafka_producev takes them. */
rd_kafka_headers_t *deadletter_headers(const rd_kafka_message_t *message, enum reason reason, const char *detail);

/* Produces the dead letter of `message` to `topic` (timestamp and key kept), cutting a value that would not fit into
 * max_bytes (message.max.bytes), with header peterd.truncated = its original length. Errors: STATUS_UNAVAILABLE (queue
 * full or transaction failed: abort the transaction), STATUS_MEMORY. */
enum status deadletter_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const rd_kafka_message_t *message,
			       enum reason reason, const char *detail, size_t max_bytes, struct error *err) MUST_CHECK;

#endif
