#include "daemon/shard.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

struct shard *shard_new(int32_t partition, struct thinning *thinning)
{
	struct shard *shard = calloc(1, sizeof *shard);
	if (!shard)
		return NULL;
	shard->partition = partition;
	shard->phase = SHARD_RESTORING;
	shard->thinning = thinning;
	shard->position = shard->committed = (struct position){ -1, -1, -1, -1 };
	shard->end_position = shard->end_offset = -1;
	atomic_init(&shard->progress.lag, -1);
	return shard;
}

void shard_drop_users(struct shard *shard, struct user_cache *cache)
{
	struct user *u, *next;
	HASH_ITER(hh, shard->users, u, next)
	{
		thinning_remove(shard->thinning, u);
		user_cache_drop(cache, u);
	}
}

void shard_free(struct shard *shard, struct user_cache *cache)
{
	if (!shard)
		return;
	shard_drop_users(shard, cache);
	inbox_clear(&shard->inbox);
	waiting_clear(&shard->waiting);
	store_shard_close(shard->store);
	buffer_free(&shard->expiry_cursor);
	free(shard);
}

/* Fills an empty user from the store. */
static enum status read_contents(struct shard *shard, struct shard_context *ctx, struct user *u, struct error *err)
{
	bool found = false;
	buffer_clear(&ctx->scratch);
	enum status status = store_shard_get(shard->store, user_id(u), &ctx->scratch, &found, err);
	if (status == STATUS_OK && found) {
		struct slice value = { ctx->scratch.data, ctx->scratch.length };
		status = record_user_decode(value, &u->sequence, &u->newest_offset, err);
	}
	user_cache_resize(ctx->cache, u);
	return status;
}

static enum status load_user(struct shard *shard, struct shard_context *ctx, struct slice id, struct user **ret,
			     struct error *err)
{
	struct user *u = user_cache_add(ctx->cache, shard, id);
	if (!u)
		return error_set_memory(err);
	enum status status = read_contents(shard, ctx, u, err);
	if (status != STATUS_OK) {
		user_cache_drop(ctx->cache, u);
		return status;
	}
	*ret = u;
	return STATUS_OK;
}

enum status shard_read_back(struct shard_context *ctx, struct user *u, struct error *err)
{
	enum status status = read_contents(u->shard, ctx, u, err);
	if (status == STATUS_OK)
		user_cache_revive(ctx->cache, u);
	else
		user_cache_empty(ctx->cache, u);
	return status;
}

enum status shard_user(struct shard *shard, struct shard_context *ctx, struct slice id, struct user **ret,
		       struct error *err)
{
	struct user *u = user_cache_find(ctx->cache, shard, id);
	metrics_add(ctx->metrics, u && !u->husk ? METRIC_CACHE_HITS : METRIC_CACHE_MISSES, 1);
	if (!u)
		return load_user(shard, ctx, id, ret, err);
	enum status status = u->husk ? shard_read_back(ctx, u, err) : STATUS_OK;
	if (status == STATUS_OK)
		*ret = u;
	return status;
}

/* What sequences.ttl_days has outlived is gone, whether or not the sweep came by: a function of the log alone. */
bool shard_outlived(const struct shard *shard, const struct shard_context *ctx, const struct user *u)
{
	int64_t ttl_ms = ctx->config->sequences_ttl_days * DAY_MS;
	return ttl_ms > 0 && u->sequence.length > 0 &&
	       u->sequence.events[u->sequence.length - 1].time_ms < shard->position.stream_time_ms - ttl_ms;
}

bool shard_labels_ended(const struct shard *shard)
{
	const struct inbox_queue *labels = &shard->inbox.queues[INBOX_LABELS];
	return labels->ended && labels->count == 0 && shard->read[INBOX_LABELS] == shard->committed.labels;
}

void shard_rewind(struct shard *shard, const struct position *position, bool labels_ended)
{
	inbox_clear(&shard->inbox);
	if (labels_ended)
		inbox_end(&shard->inbox, INBOX_LABELS);
	shard->position = *position;
	shard->read[INBOX_INTERACTIONS] = position->interactions;
	shard->read[INBOX_LABELS] = position->labels;
}
