/* Reading one topic, all its partitions, from its beginning or its end, under read_committed.
 *
 * One thread. A message is the caller's, to be destroyed with rd_kafka_message_destroy. */
#ifndef TOOLS_SCAN_H
#define TOOLS_SCAN_H

#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

struct scan;

enum scan_from { SCAN_BEGINNING, SCAN_END };

/* Errors: STATUS_UNAVAILABLE (brokers away), STATUS_CONFIG (no such topic), STATUS_MEMORY. */
enum status scan_open(const struct config *config, const char *topic, enum scan_from from, struct scan **ret,
		      struct error *err) MUST_CHECK;
void scan_close(struct scan *s); /* NULL is fine */

/* The next record, or NULL where none came in wait_ms. Errors: STATUS_UNAVAILABLE for what does not pass by itself. */
enum status scan_next(struct scan *s, int wait_ms, rd_kafka_message_t **ret, struct error *err) MUST_CHECK;

/* Whether every partition has been read to its end: the high watermark, so that a transaction that was open when the scan
 * came to it is waited for. */
bool scan_at_end(const struct scan *s);

int32_t scan_partitions(const struct scan *s);

#endif
