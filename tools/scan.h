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

/* `bounded`: up to each partition's high watermark as it stands when the scan first sees it; a transaction that is open
 * before that point is waited for, and records beyond it are left out. Errors: STATUS_UNAVAILABLE (brokers away),
 * STATUS_CONFIG (no such topic), STATUS_MEMORY. */
enum status scan_open(const struct config *config, const char *topic, enum scan_from from, bool bounded,
		      struct scan **ret, struct error *err) MUST_CHECK;
void scan_close(struct scan *s); /* NULL is fine */

/* The next record, or NULL where none came in wait_ms. Errors: STATUS_UNAVAILABLE for what does not pass by itself. */
enum status scan_next(struct scan *s, int wait_ms, rd_kafka_message_t **ret, struct error *err) MUST_CHECK;

/* Hands over what has come, at most SCAN_MOST records; waits for the first of them at most wait_ms. Errors: those of scan_next and
 * of `take`. */
enum { SCAN_MOST = 2000 };
typedef enum status (*scan_take_fn)(void *arg, const rd_kafka_message_t *message, struct error *err);
enum status scan_drain(struct scan *s, int wait_ms, scan_take_fn take, void *arg, struct error *err) MUST_CHECK;

bool scan_ended(const struct scan *s); /* a bounded scan has read everything */

int32_t scan_partitions(const struct scan *s);

int64_t scan_start(const struct scan *s, int32_t partition); /* offset from which it reads */

#endif
