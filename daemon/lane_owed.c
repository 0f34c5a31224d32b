/* What a lane's shards owe since before it had them: updates that are held back, and labels that wait. */
#include "daemon/lane_private.h"

/* What a shard owes, piece by piece. */
static enum status note_bytes(void *arg, struct slice bytes, struct error *err)
{
	struct buffer *out = arg;
	buffer_append_varint(out, (int64_t)bytes.length);
	buffer_append(out, bytes.data, bytes.length);
	return out->failed ? error_set_memory(err) : STATUS_OK;
}

enum status lane_owed_read(struct store_shard *store, struct lane_owed *ret, struct error *err)
{
	buffer_clear(&ret->users);
	buffer_clear(&ret->labels);
	enum status status = store_shard_owed(store, note_bytes, &ret->users, err);
	return status == STATUS_OK ? store_shard_labels(store, note_bytes, &ret->labels, err) : status;
}

void lane_owed_free(struct lane_owed *owed)
{
	buffer_free(&owed->users);
	buffer_free(&owed->labels);
}

/* Whoever is owed an update is due at once; the contents are read when there is room for them. */
static enum status load_user(struct lane *lane, struct shard *shard, struct slice id, struct error *err)
{
	struct user *u = user_cache_find(&lane->cache, shard, id);
	if (!u)
		u = user_cache_add_husk(&lane->cache, shard, id);
	if (!u)
		return error_set_memory(err);
	if (u->owed)
		return STATUS_OK;
	u->owed_recorded = true;
	user_cache_set_owed(&lane->cache, u, true);
	thinning_overdue(&lane->thinning, u);
	return STATUS_OK;
}

static enum status load_users(struct lane *lane, struct shard *shard, const struct buffer *users, struct error *err)
{
	const uint8_t *at = users->data, *end = users->data + users->length;
	int64_t length;
	enum status status = STATUS_OK;
	while (at < end && status == STATUS_OK && varint_read(&at, end, &length)) {
		status = load_user(lane, shard, (struct slice){ at, (size_t)length }, err);
		at += length;
	}
	return status;
}

/* Labels wait for their users as they did. */
static enum status load_labels(struct shard *shard, const struct buffer *labels, struct error *err)
{
	const uint8_t *at = labels->data, *end = labels->data + labels->length;
	int64_t length;
	enum status status = STATUS_OK;
	waiting_clear(&shard->waiting);
	while (at < end && status == STATUS_OK && varint_read(&at, end, &length)) {
		status = waiting_add(&shard->waiting, (struct slice){ at, (size_t)length }, err);
		at += length;
	}
	return status;
}

enum status lane_owed_load(struct lane *lane, struct shard *shard, const struct lane_owed *owed, struct error *err)
{
	enum status status = load_users(lane, shard, &owed->users, err);
	return status == STATUS_OK ? load_labels(shard, &owed->labels, err) : status;
}

/* For the thinning queue. */
static bool read_back(void *arg, struct user *u)
{
	struct lane *lane = arg;
	struct error err;
	if (!user_cache_has_room(&lane->cache))
		return false;
	enum status status = shard_read_back(&lane->apply, u, &err);
	if (status == STATUS_OK && lane->cache.state_bytes > 0 && !user_cache_give_state(&lane->cache, u))
		status = error_set_memory(&err); /* now, so that it counts before the next one asks for room */
	if (status == STATUS_MEMORY)
		lane_fail(lane, status, &err);
	else if (status != STATUS_OK)
		lane_shard_broken(lane, u->shard, &err);
	return status == STATUS_OK;
}

void lane_prepare_thinning(struct lane *lane)
{
	lane->thinning.read_back = read_back;
	lane->thinning.read_back_arg = lane;
}
