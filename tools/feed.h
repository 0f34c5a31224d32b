/* Producing to the input topics as people's services would: keyed by user, idempotent, waiting where the queue is full.
 *
 * One thread. Delivery failures are found while feeding goes on, and at the end by feed_finish. */
#ifndef TOOLS_FEED_H
#define TOOLS_FEED_H

#include "base/buffer.h"
#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct feed;

enum status feed_open(const struct config *config, struct feed **ret, struct error *err) MUST_CHECK;
void feed_close(struct feed *f); /* NULL is fine; what is not delivered is dropped */

/* Queues one record. `labels`: to the labels topic, else to interactions. Errors: STATUS_UNAVAILABLE (stopped by a signal
 * while waiting for brokers, a failed delivery), STATUS_DATA (larger than message.max.bytes), STATUS_CONFIG (no such topic). */
enum status feed_put(struct feed *f, bool labels, struct slice key, struct slice value, struct error *err) MUST_CHECK;

/* Serves delivery reports; returns at once. */
enum status feed_poll(struct feed *f, struct error *err) MUST_CHECK;

/* Waits until everything is delivered. Errors as above. */
enum status feed_finish(struct feed *f, struct error *err) MUST_CHECK;

int64_t feed_delivered(const struct feed *f); /* records queued and no longer under way */

#endif
