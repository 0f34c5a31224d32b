#include "daemon/publish.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/refresh.h"
#include "daemon/shard.h"
#include "io/deadletter.h"
#include "io/update.h"

#include <stdlib.h>
#include <string.h>

enum {
	OPAQUE_SHARD_BITS = 20,
	SMALLEST_MESSAGE_BYTES = 1024,
	MESSAGE_BYTES = 1000000, /* librdkafka's default message.max.bytes and batch.size */
	OVERHEAD_BYTES = 4096,   /* of a message beside its value, more than it can be */
	QUEUE_FULL_WAIT_MS = 10,
	QUEUE_FULL_TRIES = 1000,
};

enum status publisher_init(struct publisher *p, struct error *err)
{
	p->embeddings = calloc((size_t)PUBLISH_ROWS * backbone_dim(p->backbone), sizeof *p->embeddings);
	p->chosen = calloc(PUBLISH_ROWS, sizeof *p->chosen);
	return p->embeddings && p->chosen ? STATUS_OK : error_set_memory(err);
}

void publisher_free(struct publisher *p)
{
	publisher_release(p);
	buffer_free(&p->record);
	buffer_free(&p->key);
	buffer_free(&p->states);
	sequence_free(&p->past);
	free(p->embeddings);
	free(p->chosen);
	p->embeddings = NULL;
	p->chosen = NULL;
}

static size_t bytes_of(rd_kafka_t *producer, const char *property)
{
	char text[32];
	size_t size = sizeof text;
	if (rd_kafka_conf_get(rd_kafka_conf(producer), property, text, &size) != RD_KAFKA_CONF_OK)
		return MESSAGE_BYTES;
	return strtoul(text, NULL, 10);
}

enum status publisher_use(struct publisher *p, rd_kafka_t *producer, struct error *err)
{
	p->producer = producer;
	p->message_bytes = bytes_of(producer, "message.max.bytes");
	p->batch_bytes = bytes_of(producer, "batch.size");
	if (p->batch_bytes > p->message_bytes)
		p->batch_bytes = p->message_bytes;
	p->update_bytes = p->refused ? p->batch_bytes : p->message_bytes;
	if (p->letter_bytes && p->letter_bytes < p->message_bytes)
		p->message_bytes = p->letter_bytes;
	p->updates = rd_kafka_topic_new(producer, p->config->updates_topic, NULL);
	p->changelog = rd_kafka_topic_new(producer, p->config->changelog_topic, NULL);
	p->deadletters = rd_kafka_topic_new(producer, p->config->deadletters_topic, NULL);
	p->examples = rd_kafka_topic_new(producer, p->config->examples_topic, NULL);
	if (p->updates && p->changelog && p->deadletters && p->examples)
		return STATUS_OK;
	publisher_release(p);
	return error_set(err, STATUS_UNAVAILABLE, "outgoing topics: %s", rd_kafka_err2str(rd_kafka_last_error()));
}

static bool halve(size_t *bytes)
{
	if (*bytes / 2 < SMALLEST_MESSAGE_BYTES)
		return false;
	*bytes /= 2;
	return true;
}

bool publisher_cut_more(struct publisher *p, bool letters)
{
	bool cut = letters && halve(&p->message_bytes);
	if (cut)
		p->letter_bytes = p->message_bytes;
	p->refused = p->refused || !letters;
	return halve(&p->batch_bytes) || cut;
}

void publisher_release(struct publisher *p)
{
	rd_kafka_topic_t **topics[] = { &p->updates, &p->changelog, &p->deadletters, &p->examples };
	for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
		if (*topics[i])
			rd_kafka_topic_destroy(*topics[i]);
		*topics[i] = NULL;
	}
	p->producer = NULL;
}

/* value.data NULL: a tombstone. Waits while the producer's queue is full and drains. */
static enum status produce(struct publisher *p, rd_kafka_topic_t *topic, int32_t partition, struct slice key,
			   struct slice value, void *opaque, struct error *err)
{
	for (int tries = 0; tries < QUEUE_FULL_TRIES; tries++) {
		if (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value.data, value.length,
				     key.data, key.length, opaque) == 0)
			return STATUS_OK;
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		p->drain_reports(p->drain_arg, QUEUE_FULL_WAIT_MS);
	}
	return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", rd_kafka_topic_name(topic),
			 rd_kafka_err2str(rd_kafka_last_error()));
}

static struct slice contents(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

/* One record to the changelog and the store alike. */
static enum status log_change(struct publisher *p, struct batch *batch, const struct shard *shard, struct slice key,
			      struct slice value, struct error *err)
{
	store_batch_put(batch->shards[shard->batch_index].store, key, value);
	return produce(p, p->changelog, shard->partition, key, value, NULL, err);
}

static enum status log_user(struct publisher *p, struct batch *batch, const struct user *u, struct error *err)
{
	struct slice value = { NULL, 0 };
	if (u->sequence.length > 0) {
		buffer_clear(&p->record);
		record_user_encode(&u->sequence, u->newest_offset, &p->record);
		if (p->record.failed)
			return error_set_memory(err);
		value = contents(&p->record);
	}
	return log_change(p, batch, u->shard, user_id(u), value, err);
}

/* Sets whether the changelog says that the user is owed an update. */
static enum status log_owed(struct publisher *p, struct batch *batch, struct user *u, bool owed, struct error *err)
{
	static const uint8_t mark = 1;
	user_cache_set_owed(p->cache, u, owed);
	if (u->owed_recorded == owed)
		return STATUS_OK;
	u->owed_recorded = owed;
	buffer_clear(&p->key);
	record_key_owed(user_id(u), &p->key);
	if (p->key.failed)
		return error_set_memory(err);
	struct slice value = { owed ? &mark : NULL, owed };
	return log_change(p, batch, u->shard, contents(&p->key), value, err);
}

static void tell_outgrown(struct publisher *p, const struct update_score *gone)
{
	if (!p->scores_outgrown)
		log_warning("task %.*s: an update has no room for the scores of its %zu labels beside the others' "
			    "(message.max.bytes): updates that are too large go out without them",
			    (int)gone->task.length, (const char *)gone->task.data, gone->count);
	p->scores_outgrown = true;
}

/* Takes the task with the most values out of the update's scores, for whose labels a message has no room. `kept`: room for them
 * all. */
static void drop_widest(struct publisher *p, struct update *update, struct update_score *kept)
{
	size_t widest = 0;
	for (size_t i = 1; i < update->scores_count; i++)
		if (update->scores[i].count > update->scores[widest].count)
			widest = i;
	tell_outgrown(p, &update->scores[widest]);
	memmove(kept, update->scores, update->scores_count * sizeof *kept);
	update->scores_count--;
	memmove(kept + widest, kept + widest + 1, (update->scores_count - widest) * sizeof *kept);
	update->scores = kept;
}

static bool fits(const struct publisher *p, const struct update *update)
{
	return update->scores_count == 0 || p->record.length + OVERHEAD_BYTES <= p->update_bytes;
}

/* An update that no broker would take goes out without the scores that make it so large. */
static void encode_update(struct publisher *p, struct update *update)
{
	struct update_score *kept = NULL;
	buffer_clear(&p->record);
	update_encode(update, &p->record);
	if (!p->record.failed && !fits(p, update))
		p->record.failed = !(kept = calloc(update->scores_count, sizeof *kept));
	while (!p->record.failed && !fits(p, update)) {
		drop_widest(p, update, kept);
		buffer_clear(&p->record);
		update_encode(update, &p->record);
	}
	free(kept);
}

/* Of the i-th of the users that were embedded, and scored, last. */
static enum status send_update(struct publisher *p, struct batch *batch, size_t i, struct error *err)
{
	const struct user *u = p->chosen[i];
	const char *hash = backbone_hash(p->backbone);
	struct update update = {
		.user_id = user_id(u),
		.event_time_ms = u->sequence.events[u->sequence.length - 1].time_ms,
		.sequence_length = u->sequence.length,
		.partition = u->shard->partition,
		.offset = u->newest_offset,
		.backbone = { (const uint8_t *)hash, strlen(hash) },
		.embedding = p->embeddings + i * backbone_dim(p->backbone),
		.dim = backbone_dim(p->backbone),
	};
	if (p->scorer)
		update.scores = scorer_of(p->scorer, i, &update.scores_count);
	encode_update(p, &update);
	if (p->record.failed)
		return error_set_memory(err);
	batch->updates++;
	return produce(p, p->updates, u->shard->partition, user_id(u), contents(&p->record), NULL, err);
}

static enum status send_forgotten(struct publisher *p, struct batch *batch, const struct user *u, struct error *err)
{
	batch->updates++;
	return produce(p, p->updates, u->shard->partition, user_id(u), (struct slice){ NULL, 0 }, NULL, err);
}

static enum status score(struct publisher *p, size_t n, struct error *err)
{
	const int64_t begin_us = clock_monotonic_us();
	enum status status = scorer_run(p->scorer, p->chosen, n, p->embeddings, err);
	const double took_us = (double)(clock_monotonic_us() - begin_us);
	p->user_us += (took_us / (double)n - p->user_us) / 8;
	if (p->metrics)
		metrics_observe(p->metrics, METRIC_SCORING_SECONDS, took_us / 1e6);
	return status;
}

static enum status publish_users(struct publisher *p, struct batch *batch, size_t n, int64_t now_us, struct error *err)
{
	enum status status = trunk_embed(p->trunk, p->chosen, n, p->embeddings, err);
	if (status == STATUS_OK && p->scorer && scorer_has_work(p->scorer))
		status = score(p, n, err);
	for (size_t i = 0; i < n && status == STATUS_OK; i++) {
		status = send_update(p, batch, i, err);
		if (status == STATUS_OK)
			status = log_owed(p, batch, p->chosen[i], false, err);
		p->chosen[i]->scored = refresh_number(p->tasks_version);
		thinning_published(p->thinning, p->chosen[i], now_us);
	}
	return status;
}

/* Everything of one user but an update whose embedding is to be computed; *ret_publish says that one is. */
static enum status publish_rest(struct publisher *p, struct batch *batch, struct user *u, int64_t now_us,
				bool *ret_publish, struct error *err)
{
	enum status status = u->changed == batch->number ? log_user(p, batch, u, err) : STATUS_OK;
	if (status != STATUS_OK)
		return status;
	*ret_publish = false;
	if (u->sequence.length == 0) {
		status = send_forgotten(p, batch, u, err);
		return status == STATUS_OK ? log_owed(p, batch, u, false, err) : status;
	}
	if (thinning_holds(p->thinning, u, now_us))
		return log_owed(p, batch, u, true, err);
	*ret_publish = true;
	return STATUS_OK;
}

static enum status publish_all_users(struct publisher *p, struct batch *batch, int64_t now_us, struct error *err)
{
	size_t chosen = 0;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < batch->users_count && status == STATUS_OK; i++) {
		bool publish;
		status = publish_rest(p, batch, batch->users[i], now_us, &publish, err);
		if (status != STATUS_OK || !publish)
			continue;
		p->chosen[chosen++] = batch->users[i];
		if (chosen == PUBLISH_ROWS) {
			status = publish_users(p, batch, chosen, now_us, err);
			chosen = 0;
		}
	}
	if (status == STATUS_OK && chosen > 0)
		status = publish_users(p, batch, chosen, now_us, err);
	return status;
}

/* What the task's patch reads of the frozen trunk after these events; *ret is scratch. */
static enum status example_states(struct publisher *p, const struct served_task *task, struct slice events,
				  struct slice *ret, struct error *err)
{
	const uint8_t *at = events.data;
	enum status status = sequence_decode(&p->past, &at, events.data + events.length, err);
	if (status != STATUS_OK)
		return status == STATUS_MEMORY ? status : (err->status = STATUS_BUG);
	size_t bytes = (size_t)task->levels_count * 2 * backbone_dim(p->backbone) * sizeof(float);
	buffer_clear(&p->states);
	float *states = (float *)(void *)buffer_extend(&p->states, bytes);
	if (!states)
		return error_set_memory(err);
	*ret = (struct slice){ p->states.data, bytes };
	return trunk_past_states(p->trunk, p->past.events, p->past.length, task->levels, task->levels_count,
				 (uint32_t)task->definition.mean_window, states, err);
}

/* An example's states are computed here, off the way of the events. */
static enum status publish_example(struct publisher *p, const struct batch *batch, const struct batch_example *e,
				   struct error *err)
{
	const uint8_t *bytes = batch->example_bytes.data;
	struct slice events = { bytes + e->events_begin, e->events_end - e->events_begin };
	struct slice states = { NULL, 0 };
	enum status status = STATUS_OK;
	if (events.length > 0 && e->task->levels_count > 0)
		status = example_states(p, e->task, events, &states, err);
	if (status != STATUS_OK)
		return status;
	buffer_clear(&p->record);
	buffer_append(&p->record, bytes + e->begin, e->end - e->begin);
	example_encode_states(states, &p->record);
	if (p->record.failed)
		return error_set_memory(err);
	const char *name = e->task->definition.name;
	struct slice key = { (const uint8_t *)name, strlen(name) };
	return produce(p, p->examples, RD_KAFKA_PARTITION_UA, key, contents(&p->record), NULL, err);
}

static enum status publish_position(struct publisher *p, struct batch *batch, size_t index, struct error *err)
{
	struct batch_shard *part = &batch->shards[index];
	part->position = part->shard->position;
	part->position.changelog = -1;
	buffer_clear(&p->record);
	buffer_clear(&p->key);
	record_key_position(&p->key);
	record_position_encode(&part->position, &p->record);
	if (p->key.failed || p->record.failed)
		return error_set_memory(err);
	void *opaque = (void *)(uintptr_t)(batch->number << OPAQUE_SHARD_BITS | (index + 1));
	return produce(p, p->changelog, part->shard->partition, contents(&p->key), contents(&p->record), opaque, err);
}

struct batch_shard *publish_opaque_shard(struct batch *batch, const void *opaque)
{
	uint64_t bits = (uintptr_t)opaque;
	uint64_t index = bits & ((1u << OPAQUE_SHARD_BITS) - 1);
	if (index == 0 || bits >> OPAQUE_SHARD_BITS != batch->number || index > batch->shards_count)
		return NULL;
	return &batch->shards[index - 1];
}

static enum status open_store_batches(struct batch *batch, struct error *err)
{
	for (size_t i = 0; i < batch->shards_count; i++) {
		batch->shards[i].store = store_batch_new(batch->shards[i].shard->store);
		if (!batch->shards[i].store)
			return error_set_memory(err);
	}
	return STATUS_OK;
}

/* Labels that begin to wait, and those that wait no more. */
static enum status publish_waits(struct publisher *p, struct batch *batch, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < batch->waits_count && status == STATUS_OK; i++) {
		const struct batch_wait *w = &batch->waits[i];
		struct slice value = { NULL, w->end - w->begin };
		if (value.length > 0)
			value.data = batch->wait_bytes.data + w->begin;
		buffer_clear(&p->key);
		record_key_label(w->offset, &p->key);
		status = p->key.failed ? error_set_memory(err)
				       : log_change(p, batch, w->shard, contents(&p->key), value, err);
	}
	return status;
}

static enum status try_letter(struct publisher *p, const struct batch_rejected *r, struct error *err)
{
	if (!r->kept)
		return deadletter_produce(p->producer, p->deadletters, r->message, r->reason, r->detail,
					  p->message_bytes, err);
	const struct record_label *label = &r->kept->record;
	const struct deadletter_kept kept = { .topic = p->config->labels_topic,
					      .partition = r->partition,
					      .offset = label->offset,
					      .time_ms = label->appended_ms,
					      .key = label->key,
					      .value = label->value,
					      .headers = label->headers };
	return deadletter_produce_kept(p->producer, p->deadletters, &kept, r->reason, r->detail, p->message_bytes, err);
}

/* Waits while the producer's queue is full, as `produce` does. */
static enum status send_letter(struct publisher *p, const struct batch_rejected *r, struct error *err)
{
	for (int tries = 0; tries < QUEUE_FULL_TRIES; tries++) {
		enum status status = try_letter(p, r, err);
		if (status != STATUS_IO)
			return status;
		p->drain_reports(p->drain_arg, QUEUE_FULL_WAIT_MS);
	}
	return err->status = STATUS_UNAVAILABLE;
}

/* What is in force now scores all updates of the batch. */
static enum status look_at_tasks(struct publisher *p, struct error *err)
{
	const uint64_t version = p->tasks ? task_board_version(p->tasks) : 0;
	if (version == p->tasks_version)
		return STATUS_OK;
	struct task_set *set = task_board_get(p->tasks);
	enum status status = scorer_use(p->scorer, set, err);
	task_set_release(set);
	if (status == STATUS_OK)
		p->tasks_version = version;
	return status;
}

enum status publish_batch(struct publisher *p, struct batch *batch, int64_t now_us, struct error *err)
{
	enum status status = open_store_batches(batch, err);
	if (status == STATUS_OK)
		status = look_at_tasks(p, err);
	if (status == STATUS_OK)
		status = publish_all_users(p, batch, now_us, err);
	if (status == STATUS_OK)
		status = publish_waits(p, batch, err);
	for (size_t i = 0; i < batch->rejected_count && status == STATUS_OK; i++)
		status = send_letter(p, &batch->rejected[i], err);
	for (size_t i = 0; i < batch->examples_count && status == STATUS_OK; i++)
		status = publish_example(p, batch, &batch->examples[i], err);
	for (size_t i = 0; i < batch->shards_count && status == STATUS_OK; i++)
		status = publish_position(p, batch, i, err);
	return status;
}
