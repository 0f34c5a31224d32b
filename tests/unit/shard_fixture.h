/* A shard over a real store in a folder that goes away, and records for it that no broker has seen.
 *
 * Events are the addresses of counters: the test's own rd_kafka_event_destroy and rd_kafka_message_timestamp, below, take
 * the place of librdkafka's in the program that includes this. */
#ifndef TESTS_UNIT_SHARD_FIXTURE_H
#define TESTS_UNIT_SHARD_FIXTURE_H

#include "base/file.h"
#include "base/hash.h"
#include "daemon/apply.h"
#include "daemon/shard.h"
#include "io/interaction.h"
#include "model_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD_FIXTURE_PARTITION 5
#define SHARD_FIXTURE_EVENTS 4096 /* of one test */
#define SHARD_FIXTURE_DAY_MS INT64_C(86400000)

static struct shard_fixture {
	char root[64];
	struct store *store;
	struct config config;
	struct backbone *backbone;
	struct interaction_decoder *decoder;
	struct metrics *metrics;
	struct thinning thinning;
	struct user_cache cache;
	struct shard_context ctx;
	struct shard *shard;
	struct batch batch;
	uint64_t batches;
	int64_t offset;    /* of the next record */
	int64_t record_ms; /* Kafka's timestamp of every record */
	int64_t events;    /* handed out */
	int64_t destroyed; /* of them */
	int destroys[SHARD_FIXTURE_EVENTS];
	struct error err;
} fx;

void rd_kafka_event_destroy(rd_kafka_event_t *event)
{
	if (!event)
		return;
	int *count = (void *)event;
	assert_int_equal(++*count, 1); /* once */
	fx.destroyed++;
}

int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *message, rd_kafka_timestamp_type_t *type)
{
	*type = RD_KAFKA_TIMESTAMP_CREATE_TIME;
	return fx.record_ms;
}

static inline struct slice fx_text(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static inline void fx_open_shard(void)
{
	fx.shard = shard_new(SHARD_FIXTURE_PARTITION, &fx.thinning);
	if (!fx.shard || store_shard_open(fx.store, SHARD_FIXTURE_PARTITION, &fx.shard->store, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	fx.shard->phase = SHARD_LIVE;
	fx.shard->position = fx.shard->committed = (struct position){ 0, -1, -1, -1 };
}

static inline int fx_begin(void **state)
{
	static const struct interaction_fields fields = { "user_id", "item_id", "timestamp", "event_type" };
	memset(&fx, 0, sizeof fx);
	fx.backbone = fixture_backbone(&(struct random_backbone){ 8, 2, "1", true, 0, 1 }); /* knows "item 0" to 49 */
	(void)strcpy(fx.root, "/tmp/peterd-shard-XXXXXX");
	if (!mkdtemp(fx.root) ||
	    store_open(fx.root, "test", (size_t)8 << 20, 7 * SHARD_FIXTURE_DAY_MS, &fx.store, &fx.err) != STATUS_OK ||
	    interaction_decoder_new(NULL, &fields, &fx.decoder, &fx.err) != STATUS_OK || !(fx.metrics = metrics_new(1)))
		return -1;
	fx.config.sequences_keep = 4; /* the window is 3 */
	fx.cache.budget_bytes = SIZE_MAX;
	fx.record_ms = 1000 * SHARD_FIXTURE_DAY_MS;
	fx.ctx = (struct shard_context){ .config = &fx.config,
					 .backbone = fx.backbone,
					 .decoder = fx.decoder,
					 .cache = &fx.cache,
					 .metrics = fx.metrics };
	fx.batch.number = ++fx.batches;
	fx_open_shard();
	return 0;
}

static inline int fx_end(void **state)
{
	char path[128];
	batch_free(&fx.batch);
	shard_free(fx.shard, &fx.cache);
	bool clean = fx.cache.users == 0 && fx.cache.bytes == 0 && fx.events == fx.destroyed && !fx.thinning.first;
	buffer_free(&fx.ctx.scratch);
	store_close(fx.store);
	interaction_decoder_free(fx.decoder);
	backbone_free(fx.backbone);
	metrics_free(fx.metrics);
	(void)snprintf(path, sizeof path, "%s/store", fx.root);
	return file_remove_folder(path, &fx.err) == STATUS_OK && file_remove_folder(fx.root, &fx.err) == STATUS_OK &&
			       clean
		       ? 0
		       : -1;
}

/* Applies raw bytes at `offset`; value NULL: a tombstone. What was refused (an error) has not taken the event. */
static inline enum status fx_apply_raw(int64_t offset, struct slice key, struct slice value)
{
	static rd_kafka_message_t messages[64]; /* rejected ones are held */
	rd_kafka_message_t *message = &messages[fx.events % 64];
	assert_true(fx.events < SHARD_FIXTURE_EVENTS);
	int *event = &fx.destroys[fx.events++];
	*message = (rd_kafka_message_t){ .partition = SHARD_FIXTURE_PARTITION,
					 .offset = offset,
					 .key = (void *)(uintptr_t)key.data,
					 .key_len = key.length,
					 .payload = (void *)(uintptr_t)value.data,
					 .len = value.length };
	enum status status =
		apply_interaction(fx.shard, &fx.ctx, &fx.batch, (rd_kafka_event_t *)(void *)event, message, &fx.err);
	if (status != STATUS_OK)
		rd_kafka_event_destroy((rd_kafka_event_t *)(void *)event);
	return status;
}

static inline void fx_apply_typed(const char *user, const char *item, int64_t time_ms, const char *type)
{
	struct buffer value = { 0 };
	struct interaction i = { .user_id = fx_text(user),
				 .item_id = fx_text(item),
				 .timestamp_ms = time_ms,
				 .event_type = { type ? fx_text(type).data : NULL, type ? strlen(type) : 0 } };
	interaction_encode(&i, &value);
	if (fx_apply_raw(fx.offset++, fx_text(user), (struct slice){ value.data, value.length }) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	buffer_free(&value);
}

static inline void fx_apply(const char *user, const char *item, int64_t time_ms)
{
	fx_apply_typed(user, item, time_ms, NULL);
}

static inline void fx_tombstone(const char *user)
{
	if (fx_apply_raw(fx.offset++, fx_text(user), (struct slice){ NULL, 0 }) != STATUS_OK)
		fail_msg("%s", fx.err.text);
}

static inline struct user *fx_user(const char *name)
{
	struct user *u;
	if (shard_user(fx.shard, &fx.ctx, fx_text(name), &u, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	return u;
}

/* The sequence as "item@time item@time", items as one letter each. */
static inline void fx_expect(const char *name, const char *expected)
{
	char text[512] = "";
	const struct user *u = fx_user(name);
	for (uint32_t i = 0; i < u->sequence.length; i++) {
		char letter = 'a';
		while (letter <= 'z' && hash_item(&letter, 1) != u->sequence.events[i].item)
			letter++;
		(void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%c@%lld", i ? " " : "", letter,
			       (long long)u->sequence.events[i].time_ms);
	}
	assert_string_equal(text, expected);
}

/* What a commit does: the batch's users into the store with the position, and a new batch. */
static inline void fx_commit(void)
{
	struct store_batch *stored = store_batch_new(fx.shard->store);
	assert_non_null(stored);
	for (size_t i = 0; i < fx.batch.users_count; i++) {
		struct user *u = fx.batch.users[i];
		struct buffer value = { 0 };
		if (u->sequence.length > 0)
			record_user_encode(&u->sequence, u->newest_offset, &value);
		store_batch_put(stored, user_id(u), (struct slice){ value.data, value.length });
		buffer_free(&value);
	}
	if (store_batch_write(stored, &fx.shard->position, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	store_batch_free(stored);
	fx.shard->committed = fx.shard->position;
	fx.cache.stored = fx.batch.number;
	batch_clear(&fx.batch);
	fx.batch.number = ++fx.batches;
}

/* Everybody out: the next look reads the store. */
static inline void fx_evict_all(void)
{
	size_t budget = fx.cache.budget_bytes;
	fx.cache.budget_bytes = 0;
	assert_true(user_cache_trim(&fx.cache));
	fx.cache.budget_bytes = budget;
}

#endif
