/* librdkafka handles as peterd wants them: the user's `kafka:` properties over our defaults, with what correctness
 * rests on fixed (isolation level, transactional id, offset commits, partitioner).
 *
 * Handles are the caller's, closed with rd_kafka_destroy (which may block: never on a loop). librdkafka's log lines go
 * to base/log. Errors: STATUS_CONFIG for a property that librdkafka refuses, with its name; STATUS_MEMORY. */
#ifndef IO_CLIENT_H
#define IO_CLIENT_H

#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>

/* One lane's consumer: group, static member "<instance>-<lane>", cooperative-sticky, read_committed, no auto commit,
 * rebalance, EOF and errors as events. */
enum status client_lane_consumer(const struct config *config, int lane, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* One lane's transactional producer, id "<group>-<instance>-<lane>"; delivery reports as events. */
enum status client_lane_producer(const struct config *config, int lane, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* A reader of named partitions without a group: read_committed, EOF events, auto.offset.reset error. */
enum status client_reader(const struct config *config, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* An idempotent producer (replay), or a transactional one where `transactional_id` is not NULL (requeue). */
enum status client_producer(const struct config *config, const char *transactional_id, rd_kafka_t **ret,
			    struct error *err) MUST_CHECK;

/* The last broker-level error that librdkafka's error callback saw (all brokers down, authentication), "" for none;
 * cleared by the next success. For readiness. Any thread; copies at most n bytes. */
void client_last_error(char *ret, size_t n);

/* The same properties with librdkafka, checked without a socket (--check). */
enum status client_check(const struct config *config, struct error *err) MUST_CHECK;

#endif
