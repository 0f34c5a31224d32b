/* librdkafka handles as peterd wants them: the user's `kafka:` properties over our defaults, with what correctness
 * rests on fixed (isolation level, group and transactional ids, offset commits, partitioner: a property that sets one of
 * those to something else is refused).
 *
 * Handles are the caller's. Readers are closed with rd_kafka_destroy, producers and members of a group as below; either
 * may block: never on a loop. librdkafka's log lines go to base/log, repeated ones thinned. Errors: STATUS_CONFIG for a
 * property that librdkafka refuses, with file, line and name; STATUS_MEMORY.
 *
 * Memory: a consumer queues at most about queued.max.messages.kbytes (32 MiB) and one fetch, a producer
 * queue.buffering.max.kbytes (64 MiB) or queue.buffering.max.messages (200,000): beyond, rd_kafka_produce says
 * _QUEUE_FULL and the caller waits for delivery reports. */
#ifndef IO_CLIENT_H
#define IO_CLIENT_H

#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

/* One lane's consumer: group, static member "<instance>-<lane>", cooperative-sticky, read_committed, no auto commit,
 * auto.offset.reset error; rebalance, EOF and errors as events of the consumer queue (rd_kafka_queue_get_consumer), to
 * which the main queue is forwarded. */
enum status client_lane_consumer(const struct config *config, int lane, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* One lane's transactional producer, id "<group>/<instance>/<lane>" (neither name holds a slash), whose batches have at
 * most so many bytes, 0: as configured; every delivery report and errors as events of the main queue
 * (rd_kafka_queue_get_main): undrained, a commit times out. */
enum status client_lane_producer(const struct config *config, int lane, size_t batch_bytes, rd_kafka_t **ret,
				 struct error *err) MUST_CHECK;

/* The learner lane's: a member of the group "<group>-learner", named as the instance, and a producer "<group>/<instance>/learner"
 * whose messages, and batches of them, have at most so many bytes, 0: as configured; otherwise as a lane's. */
enum { CLIENT_GROUP_BYTES = 512 };
void client_learner_group(const struct config *config, char ret[CLIENT_GROUP_BYTES]);
enum status client_learner_consumer(const struct config *config, rd_kafka_t **ret, struct error *err) MUST_CHECK;
enum status client_learner_producer(const struct config *config, size_t message_bytes, rd_kafka_t **ret,
				    struct error *err) MUST_CHECK;

/* A reader of partitions by rd_kafka_assign, outside any group's membership: read_committed, EOF as an error message,
 * auto.offset.reset error; for rd_kafka_consumer_poll or the consumer queue. It is to be quick whatever the user's
 * properties say of fetches' waits: those are the lanes'. */
enum status client_reader(const struct config *config, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* The same for a topic that is followed for good: it asks a tenth as often while nothing comes, and learns of an end later. A poll
 * sets *gone once the topic is not there any more; it outlives the handle. */
enum status client_follower(const struct config *config, bool *gone, rd_kafka_t **ret, struct error *err) MUST_CHECK;

/* An idempotent producer (replay), or a transactional one where `transactional_id` is not NULL (requeue). Delivery
 * reports of failures only, as events of the main queue. */
enum status client_producer(const struct config *config, const char *transactional_id, rd_kafka_t **ret,
			    struct error *err) MUST_CHECK;

/* librdkafka's lines become debug ones from now on, for a program that says in one line of its own what went wrong.
 * Before the first handle. */
void client_hide_log(void);

/* Closes a producer of any kind, failed or not. What it has queued or in flight is dropped, with its reports and errors;
 * the caller has given its queues and topics back. NULL is fine. */
void client_close_producer(rd_kafka_t *producer);

/* Closes a lane's consumer, whose queues the caller has given back. NULL is fine. */
void client_close_member(rd_kafka_t *consumer);

/* The last broker-level error of any handle (all brokers down, authentication), "" for none since the last success.
 * For readiness. Any thread; copies at most n bytes with the NUL. */
void client_last_error(char *ret, size_t n);

/* Whoever polls events passes an RD_KAFKA_EVENT_ERROR on (librdkafka gives an error either to the event queue or to its
 * callback, never to both), and says so when brokers have answered: a fetched record, a commit. Any thread; cheap. */
void client_note_error(rd_kafka_resp_err_t code, const char *text);
void client_note_success(void);

/* The same properties, alone and together, checked by librdkafka without a socket (--check). */
enum status client_check(const struct config *config, struct error *err) MUST_CHECK;

#endif
