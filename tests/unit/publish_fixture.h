/* A publisher over a shard, and in librdkafka's place a producer that remembers. */
#ifndef TESTS_UNIT_PUBLISH_FIXTURE_H
#define TESTS_UNIT_PUBLISH_FIXTURE_H

#include "shard_fixture.h"

#include "daemon/publish.h"
#include "io/deadletter.h"
#include "io/record.h"

/* ---- a producer that remembers, in librdkafka's place ---- */

enum { RECORDS = 2000, TOPIC_UPDATES = 1, TOPIC_CHANGELOG, TOPIC_DEADLETTERS, TOPIC_EXAMPLES };

struct produced {
	int topic;
	int32_t partition;
	struct buffer key;
	struct buffer value;
	bool tombstone;
	void *opaque;
};

static struct produced records[RECORDS];
static size_t count;
static int open_topics;
static int full_for;         /* so many calls find the queue full */
static int letters_full_for; /* the same for dead letters */
static int drained;
static size_t fail_at; /* the n-th record is refused; 0: none */
static rd_kafka_resp_err_t last_error;

rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *rk, const char *name, rd_kafka_topic_conf_t *conf)
{
	open_topics++;
	return (rd_kafka_topic_t *)(uintptr_t)(strcmp(name, "updates") == 0     ? TOPIC_UPDATES
					       : strcmp(name, "changelog") == 0 ? TOPIC_CHANGELOG
					       : strcmp(name, "examples") == 0  ? TOPIC_EXAMPLES
										: TOPIC_DEADLETTERS);
}

void rd_kafka_topic_destroy(rd_kafka_topic_t *topic)
{
	open_topics--;
}

const char *rd_kafka_topic_name(const rd_kafka_topic_t *topic)
{
	return "t";
}

const rd_kafka_conf_t *rd_kafka_conf(rd_kafka_t *rk)
{
	return NULL;
}

rd_kafka_conf_res_t rd_kafka_conf_get(const rd_kafka_conf_t *conf, const char *name, char *dest, size_t *dest_size)
{
	return RD_KAFKA_CONF_UNKNOWN;
}

rd_kafka_resp_err_t rd_kafka_last_error(void)
{
	return last_error;
}

int rd_kafka_produce(rd_kafka_topic_t *topic, int32_t partition, int flags, void *payload, size_t length,
		     const void *key, size_t key_length, void *opaque)
{
	if (full_for > 0) {
		full_for--;
		last_error = RD_KAFKA_RESP_ERR__QUEUE_FULL;
		return -1;
	}
	if (fail_at && count + 1 == fail_at) {
		last_error = RD_KAFKA_RESP_ERR__STATE;
		return -1;
	}
	assert_true(count < RECORDS);
	assert_int_equal(flags, RD_KAFKA_MSG_F_COPY);
	struct produced *r = &records[count++];
	*r = (struct produced){
		.topic = (int)(uintptr_t)topic, .partition = partition, .tombstone = !payload, .opaque = opaque
	};
	buffer_append(&r->key, key, key_length);
	buffer_append(&r->value, payload, length);
	return 0;
}

static struct publisher publisher;

/* Dead letters are io/deadletter's; here each is one record with its message's offset as the value. */
enum status deadletter_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const rd_kafka_message_t *message,
			       enum reason reason, const char *detail, size_t max_bytes, struct error *err)
{
	if (letters_full_for > 0) {
		letters_full_for--;
		return error_set(err, STATUS_IO, "full");
	}
	struct produced *r = &records[count++];
	*r = (struct produced){ .topic = (int)(uintptr_t)topic, .partition = (int32_t)message->offset };
	buffer_append(&r->value, detail, strlen(detail));
	assert_int_equal(max_bytes, publisher.message_bytes);
	return STATUS_OK;
}

enum status deadletter_produce_kept(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct deadletter_kept *kept,
				    enum reason reason, const char *detail, size_t max_bytes, struct error *err)
{
	const rd_kafka_message_t message = { .offset = kept->offset };
	assert_string_equal(kept->topic, "labels");
	assert_int_equal(kept->partition, SHARD_FIXTURE_PARTITION);
	return deadletter_produce(producer, topic, &message, reason, detail, max_bytes, err);
}

void deadletter_save_headers(const rd_kafka_message_t *message, struct buffer *out)
{
}

static inline void drain(void *arg, int wait_ms)
{
	drained++;
}

/* ---- the publisher ---- */

static struct trunk *trunk;

static inline void forget_records(void)
{
	for (size_t i = 0; i < count; i++) {
		buffer_free(&records[i].key);
		buffer_free(&records[i].value);
	}
	count = 0;
}

static inline int begin(void **state)
{
	static char updates[] = "updates";
	static char changelog[] = "changelog";
	static char deadletters[] = "deadletters";
	static char examples[] = "examples";
	if (fx_begin(state) != 0)
		return -1;
	full_for = letters_full_for = drained = 0;
	fail_at = 0;
	fx.config.updates_topic = updates;
	fx.config.changelog_topic = changelog;
	fx.config.deadletters_topic = deadletters;
	fx.config.examples_topic = examples;
	fx.cache.state_bytes = trunk_state_bytes(fx.backbone);
	if (trunk_new(fx.backbone, &fx.cache, &trunk, &fx.err) != STATUS_OK)
		return -1;
	publisher = (struct publisher){ .config = &fx.config,
					.backbone = fx.backbone,
					.trunk = trunk,
					.thinning = &fx.thinning,
					.cache = &fx.cache,
					.drain_reports = drain };
	return publisher_init(&publisher, &fx.err) == STATUS_OK &&
			       publisher_use(&publisher, (rd_kafka_t *)&publisher, &fx.err) == STATUS_OK
		       ? 0
		       : -1;
}

static inline int end(void **state)
{
	forget_records();
	publisher_free(&publisher);
	trunk_free(trunk);
	return open_topics == 0 ? fx_end(state) : -1;
}

static inline void publish(int64_t now_us)
{
	forget_records();
	if (publish_batch(&publisher, &fx.batch, now_us, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
}

/* Writes the batch's own store batch, as the worker does after the commit. */
static inline void commit(void)
{
	if (store_batch_write(fx.batch.shards[0].store, &fx.batch.shards[0].position, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	fx.shard->committed = fx.batch.shards[0].position;
	fx.cache.stored = fx.batch.number;
	batch_clear(&fx.batch);
	fx.batch.number = ++fx.batches;
}

static inline const struct produced *find(int topic, const void *key, size_t length)
{
	const struct produced *found = NULL;
	for (size_t i = 0; i < count; i++) {
		if (records[i].topic != topic || records[i].key.length != length ||
		    memcmp(records[i].key.data, key, length) != 0)
			continue;
		assert_null(found); /* one record a key and batch */
		found = &records[i];
	}
	return found;
}

static inline const struct produced *of_user(int topic, const char *name)
{
	return find(topic, name, strlen(name));
}

static inline const struct produced *owed_of(const char *name)
{
	struct buffer key = { 0 };
	record_key_owed(fx_text(name), &key);
	const struct produced *r = find(TOPIC_CHANGELOG, key.data, key.length);
	buffer_free(&key);
	return r;
}

#endif
