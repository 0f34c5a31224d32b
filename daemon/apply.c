#include "daemon/apply.h"

#include "base/hash.h"
#include "daemon/join.h"

#include <string.h>

enum { EXPIRE_USERS_A_SWEEP = 64 };

#define DAY_MS INT64_C(86400000)

static bool wanted(const struct config *config, struct slice event_type)
{
	const struct config_list *types = &config->interactions_event_types;
	if (types->count == 0)
		return true;
	for (size_t i = 0; i < types->count && event_type.data; i++)
		if (strlen(types->items[i]) == event_type.length &&
		    memcmp(types->items[i], event_type.data, event_type.length) == 0)
			return true;
	return false;
}

static enum status place(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			 const struct interaction *interaction, int64_t offset, struct error *err)
{
	struct user *u;
	enum status status = shard_user(shard, ctx, interaction->user_id, &u, err);
	if (status != STATUS_OK)
		return status;
	if (shard_outlived(shard, ctx, u))
		user_cache_empty(ctx->cache, u);
	struct event event = { hash_item(interaction->item_id.data, interaction->item_id.length),
			       interaction->timestamp_ms };
	enum sequence_place where;
	status = sequence_insert(&u->sequence, (uint32_t)ctx->config->sequences_keep, event, &where, err);
	if (status != STATUS_OK)
		return status;
	if (where == SEQUENCE_LATE) {
		batch->late++;
		return STATUS_OK;
	}
	if (where == SEQUENCE_INSERTED)
		u->stale = true;
	u->fresh++;
	u->newest_offset = offset;
	user_cache_resize(ctx->cache, u);
	if (interaction->timestamp_ms > shard->position.stream_time_ms)
		shard->position.stream_time_ms = interaction->timestamp_ms;
	batch->interactions++;
	batch->unknown_items += backbone_item(ctx->backbone, event.item) == BACKBONE_OOV;
	u->changed = batch->number;
	if (!batch_touch_user(batch, u))
		return error_set_memory(err);
	status = join_waiting(shard, ctx, batch, u, err);
	return status == STATUS_OK ? join_over(shard, batch, false, err) : status;
}

static enum status forget(struct shard *shard, struct shard_context *ctx, struct batch *batch, struct slice id,
			  int64_t offset, struct error *err)
{
	struct user *u;
	enum status status = shard_user(shard, ctx, id, &u, err);
	if (status == STATUS_OK)
		status = join_forget(shard, ctx, batch, id, offset, err);
	if (status != STATUS_OK)
		return status;
	user_cache_empty(ctx->cache, u);
	batch->forgotten++;
	u->changed = batch->number;
	return batch_touch_user(batch, u) ? STATUS_OK : error_set_memory(err);
}

static int64_t kafka_timestamp_ms(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	return rd_kafka_message_timestamp(message, &type);
}

int64_t apply_interaction_time(const struct shard_context *ctx, const rd_kafka_message_t *message)
{
	struct interaction interaction;
	struct error err;
	struct slice value = { message->payload, message->len };
	if (!value.data ||
	    interaction_decode(ctx->decoder, value, kafka_timestamp_ms(message), &interaction, &err) != REASON_NONE)
		return INBOX_NO_TIME;
	return interaction.timestamp_ms;
}

/* Takes the message in; a bad one's reason is returned, with its text in *rejection. */
static enum reason take(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			const rd_kafka_message_t *message, struct error *rejection, enum status *status,
			struct error *err)
{
	struct slice key = { message->key, message->key_len };
	struct slice value = { message->payload, message->len };
	if (!value.data) {
		enum reason reason = interaction_check_user_id(key, rejection);
		if (reason == REASON_NONE)
			*status = forget(shard, ctx, batch, key, message->offset, err);
		return reason;
	}
	struct interaction interaction;
	int64_t appended_ms = kafka_timestamp_ms(message);
	enum reason reason = interaction_decode(ctx->decoder, value, appended_ms, &interaction, rejection);
	if (reason != REASON_NONE)
		return reason;
	if (!wanted(ctx->config, interaction.event_type)) {
		batch->filtered++;
		return REASON_NONE;
	}
	if (appended_ms >= 0)
		batch_note_append(batch, appended_ms);
	*status = place(shard, ctx, batch, &interaction, message->offset, err);
	return REASON_NONE;
}

enum status apply_interaction(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			      rd_kafka_event_t *event, const rd_kafka_message_t *message, struct error *err)
{
	struct error rejection;
	enum status status = STATUS_OK;
	const int64_t next = message->offset + 1;
	if (!batch_touch_shard(batch, shard))
		return error_set_memory(err);
	enum reason reason = take(shard, ctx, batch, message, &rejection, &status, err);
	if (status != STATUS_OK)
		return status;
	if (!batch_take(batch, event, message, reason, rejection.text))
		return error_set_memory(err);
	shard->position.interactions = next;
	return STATUS_OK;
}

struct expiry {
	struct shard *shard;
	struct shard_context *ctx;
	struct batch *batch;
	struct buffer expired[EXPIRE_USERS_A_SWEEP]; /* ids */
	size_t count;
	int64_t limit_ms;
};

static enum status look_for_expiry(void *arg, struct slice id, struct slice value, struct error *err)
{
	struct expiry *expiry = arg;
	struct sequence sequence = { 0 };
	int64_t offset;
	buffer_clear(&expiry->shard->expiry_cursor);
	buffer_append(&expiry->shard->expiry_cursor, id.data, id.length);
	enum status status = record_user_decode(value, &sequence, &offset, err);
	if (status == STATUS_OK && sequence.length > 0 &&
	    sequence.events[sequence.length - 1].time_ms < expiry->limit_ms)
		buffer_append(&expiry->expired[expiry->count++], id.data, id.length);
	sequence_free(&sequence);
	if (status == STATUS_OK &&
	    (expiry->shard->expiry_cursor.failed || (expiry->count > 0 && expiry->expired[expiry->count - 1].failed)))
		return error_set_memory(err);
	return status;
}

static enum status expire_found(struct expiry *expiry, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < expiry->count && status == STATUS_OK; i++) {
		struct slice id = { expiry->expired[i].data, expiry->expired[i].length };
		struct user *u;
		status = shard_user(expiry->shard, expiry->ctx, id, &u, err);
		if (status == STATUS_OK && u->sequence.length > 0 && /* an event may have come since */
		    u->sequence.events[u->sequence.length - 1].time_ms < expiry->limit_ms)
			status = forget(expiry->shard, expiry->ctx, expiry->batch, id, -1, err);
	}
	return status;
}

enum status apply_expiry(struct shard *shard, struct shard_context *ctx, struct batch *batch, struct error *err)
{
	if (ctx->config->sequences_ttl_days == 0 || !shard->store)
		return STATUS_OK;
	struct expiry expiry = { .shard = shard, .ctx = ctx, .batch = batch };
	expiry.limit_ms = shard->position.stream_time_ms - ctx->config->sequences_ttl_days * DAY_MS;
	struct buffer from = { 0 };
	buffer_append(&from, shard->expiry_cursor.data, shard->expiry_cursor.length);
	bool more = false;
	enum status status = from.failed ? error_set_memory(err)
					 : store_shard_walk(shard->store, (struct slice){ from.data, from.length },
							    EXPIRE_USERS_A_SWEEP, look_for_expiry, &expiry, &more, err);
	if (status == STATUS_OK)
		status = expire_found(&expiry, err);
	if (!more)
		buffer_clear(&shard->expiry_cursor);
	for (size_t i = 0; i < expiry.count; i++)
		buffer_free(&expiry.expired[i]);
	buffer_free(&from);
	return status;
}
