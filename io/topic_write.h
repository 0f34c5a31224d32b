/* A few records written to a topic of the control plane, outside of transactions, with a producer of their own.
 *
 * Any thread; blocks up to the time-out. */
#ifndef IO_TOPIC_WRITE_H
#define IO_TOPIC_WRITE_H

#include "base/buffer.h"
#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>

struct topic_change {
	struct slice key;
	struct slice value; /* data NULL: a tombstone */
	/* where the key's newest record stands, so that compaction sees both; RD_KAFKA_PARTITION_UA: by the key's hash */
	int32_t partition;
};

/* Writes the records and waits until brokers have them. Errors: STATUS_DATA (one is too large), STATUS_CONFIG (the topic is missing
 * or may not be written to), STATUS_UNAVAILABLE; some may have been written then. */
enum status topic_write(const struct config *config, const char *topic, const struct topic_change changes[],
			size_t count, int timeout_ms, struct error *err) MUST_CHECK;

/* What it means that a record was not taken: one of the errors above, with the topic's name. */
enum status topic_write_refused(const char *topic, rd_kafka_resp_err_t code, struct error *err);

#endif
