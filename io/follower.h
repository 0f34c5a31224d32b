/* A topic followed from its beginning to wherever it grows, by every process for itself: nothing belongs to a group.
 *
 * One thread. Opening blocks up to its time-out; polling as long as it is told: with 0, not at all. Partitions that are added
 * later are not seen until it is opened anew. */
#ifndef IO_FOLLOWER_H
#define IO_FOLLOWER_H

#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

struct follower;

/* Errors: STATUS_CONFIG (no such topic, with the command that makes it; a property that librdkafka refuses), STATUS_UNAVAILABLE,
 * STATUS_MEMORY. */
enum status follower_open(const struct config *config, const char *topic, int timeout_ms, struct follower **ret,
			  struct error *err) MUST_CHECK;
void follower_close(struct follower *f); /* NULL is fine */

/* Begins at the beginning of the topic that has the name now. Blocks and fails as opening does, after which it is called again. */
enum status follower_restart(struct follower *f, int timeout_ms, struct error *err) MUST_CHECK;

/* The next record, waited for at most wait_ms; NULL: none. It is the caller's: rd_kafka_message_destroy. Outages are waited out.
 * Errors: STATUS_UNAVAILABLE (the topic was deleted, perhaps made anew, or records were taken away before they were read, or it may
 * not be read: restart it). */
enum status follower_poll(struct follower *f, int wait_ms, rd_kafka_message_t **ret, struct error *err) MUST_CHECK;

bool follower_caught_up(const struct follower *f); /* everything was handed out that was there when it was opened */

enum status follower_too_slow(const struct follower *f,
			      struct error *err); /* STATUS_UNAVAILABLE: not read to its end in time */

#endif
