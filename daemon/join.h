/* Labels joined with their user's past: an example holds the events strictly older than its label, as they are kept when
 * the label is taken (daemon/inbox.h says when that is), or, where the user had none and the task has a wait_ms, when the first
 * of them comes late (daemon/waiting.h). */
#ifndef DAEMON_JOIN_H
#define DAEMON_JOIN_H

#include "daemon/shard.h"

/* Applies one message of the shard's labels at or above position.labels: an example in the batch, or a dead letter, and moves
 * the position. Takes `event`, which holds the message, on success. Errors: those of shard_apply. */
enum status join_label(struct shard *shard, struct shard_context *ctx, struct batch *batch, rd_kafka_event_t *event,
		       const rd_kafka_message_t *message, struct error *err) MUST_CHECK;

/* An interaction of the user has been applied: joins the user's labels that wait and are newer than an event now. */
enum status join_waiting(struct shard *shard, const struct shard_context *ctx, struct batch *batch,
			 const struct user *u, struct error *err) MUST_CHECK;

/* Labels that have waited as long as they may become dead letters: those whose time the shard's interactions have passed, and
 * with `at_end` (nothing of them is left to be read) also by the wall clock. Errors: STATUS_MEMORY. */
enum status join_over(struct shard *shard, struct batch *batch, bool at_end, struct error *err) MUST_CHECK;

/* Tells every task that the user is forgotten; `offset`: of the tombstone. What waits for the user waits no more. Errors:
 * STATUS_MEMORY. */
enum status join_forget(struct shard *shard, const struct shard_context *ctx, struct batch *batch, struct slice user_id,
			int64_t offset, struct error *err) MUST_CHECK;

/* The timestamp of a label's value, INBOX_NO_TIME where it cannot be decoded. */
int64_t join_label_time(const rd_kafka_message_t *message);

#endif
