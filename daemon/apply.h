/* Interactions applied to their users: placed in the sequence, forgotten by a tombstone or by age. The lane's thread. */
#ifndef DAEMON_APPLY_H
#define DAEMON_APPLY_H

#include "daemon/shard.h"

/* Applies one message of the shard's interactions at or above position.interactions to users and batch, and moves the position.
 * Takes `event`, which holds the message, on success. Errors: those of shard_user. */
enum status apply_interaction(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			      rd_kafka_event_t *event, const rd_kafka_message_t *message, struct error *err) MUST_CHECK;

/* The timestamp of an interaction, INBOX_NO_TIME where it has none (a tombstone) or cannot be decoded. */
int64_t apply_interaction_time(const struct shard_context *ctx, const rd_kafka_message_t *message);

/* Looks at a few users of the store, in turn from call to call, and forgets those whose newest event is
 * sequences.ttl_days older than the shard's stream time. Errors: those of shard_user. */
enum status apply_expiry(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			 struct error *err) MUST_CHECK;

#endif
