/* io/restore against a mock cluster: the protocol's paths. What needs transactions (an open one before the end, aborted
 * records) is tested against a real broker: the mock has none. */
#include "io/restore.h"
#include "base/clock.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WEEK_MS ((int64_t)7 * 86400000)

static rd_kafka_t *host; /* of the mock cluster, and producer of its records */
static rd_kafka_mock_cluster_t *cluster;
static struct config_property properties[2];
static struct config config;
static char root[64];
static struct store *store;
static struct store_shard *shard;
static int topics;

static void open_all(void)
{
	struct error err;
	if (store_open(root, "one", (size_t)16 << 20, WEEK_MS, &store, &err) != STATUS_OK ||
	    store_shard_open(store, 0, &shard, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static void close_all(void)
{
	store_shard_close(shard);
	store_close(store);
}

static int begin(void **state)
{
	static char topic[32];
	(void)strcpy(root, "/tmp/peterd-restore-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	(void)snprintf(topic, sizeof topic, "changelog-%d", ++topics);
	config.changelog_topic = topic;
	open_all();
	return rd_kafka_mock_topic_create(cluster, topic, 1, 1) == 0 ? 0 : -1;
}

static int end(void **state)
{
	char path[128];
	struct error err;
	close_all();
	(void)snprintf(path, sizeof path, "%s/store", root);
	enum status status = file_remove_folder(path, &err);
	if (status == STATUS_OK)
		status = file_remove_folder(root, &err);
	return status == STATUS_OK ? 0 : -1;
}

static int begin_group(void **state)
{
	static char bootstrap[] = "bootstrap.servers";
	static char wait[] = "fetch.wait.max.ms";
	static char wait_ms[] = "5000"; /* of the lanes: no restore is to take that long */
	static char brokers[128];
	static char group[] = "g";
	static char instance[] = "i";
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	(void)rd_kafka_conf_set(conf, "socket.nagle.disable", "true", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "linger.ms", "0", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", why, sizeof why);
	host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	cluster = rd_kafka_handle_mock_cluster(host);
	(void)snprintf(brokers, sizeof brokers, "%s", rd_kafka_mock_cluster_bootstraps(cluster));
	properties[0] = (struct config_property){ bootstrap, brokers, 1 };
	properties[1] = (struct config_property){ wait, wait_ms, 2 };
	config = (struct config){ .group = group, .instance = instance, .kafka = properties, .kafka_count = 2 };
	return 0;
}

static int end_group(void **state)
{
	rd_kafka_destroy(host);
	return 0;
}

static void produce(const void *key, size_t key_bytes, const void *value, size_t value_bytes)
{
	assert_int_equal(rd_kafka_producev(host, RD_KAFKA_V_TOPIC(config.changelog_topic), RD_KAFKA_V_PARTITION(0),
					   RD_KAFKA_V_KEY(key, key_bytes),
					   RD_KAFKA_V_VALUE((void *)(uintptr_t)value, value_bytes),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
			 RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(rd_kafka_flush(host, 10000), RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* A user's record, its sequence the one event `item`; item 0: forgets the user. */
static void user(const char *id, uint64_t item)
{
	struct sequence s = { 0 };
	struct buffer value = { 0 };
	enum sequence_place place;
	struct error err;
	assert_int_equal(sequence_insert(&s, 4, (struct event){ item, 7 }, &place, &err), STATUS_OK);
	record_user_encode(&s, (int64_t)item, &value);
	produce(id, strlen(id), item ? value.data : NULL, item ? value.length : 0);
	buffer_free(&value);
	sequence_free(&s);
}

static void position(int64_t interactions)
{
	struct buffer key = { 0 };
	struct buffer value = { 0 };
	struct position p = { interactions, -1, 7, -1 };
	record_key_position(&key);
	record_position_encode(&p, &value);
	produce(key.data, key.length, value.data, value.length);
	buffer_free(&key);
	buffer_free(&value);
}

static void owed(const char *id, const char *value)
{
	struct buffer key = { 0 };
	record_key_owed((struct slice){ (const uint8_t *)id, strlen(id) }, &key);
	produce(key.data, key.length, value, value ? strlen(value) : 0);
	buffer_free(&key);
}

struct result {
	enum status status;
	struct position position;
	bool found;
	int64_t records;
	struct error err;
};

static struct result restore(int64_t committed)
{
	static const _Atomic bool never = false;
	struct restore_progress progress;
	struct result r = { 0 };
	r.status = restore_shard(&config, shard, 0, committed, &never, &progress, &r.position, &r.found, &r.err);
	r.records = progress.records;
	return r;
}

static void expect(struct result r, int64_t interactions, int64_t records)
{
	if (r.status != STATUS_OK)
		fail_msg("%s", r.err.text);
	assert_true(r.found);
	assert_int_equal(r.position.interactions, interactions);
	assert_int_equal(r.records, records);
}

/* The item of the user's only event, 0 where the store does not know the user. */
static uint64_t item_of(const char *id)
{
	struct buffer value = { 0 };
	struct sequence s = { 0 };
	struct error err;
	int64_t newest;
	bool found = false;
	uint64_t item = 0;
	assert_int_equal(
		store_shard_get(shard, (struct slice){ (const uint8_t *)id, strlen(id) }, &value, &found, &err),
		STATUS_OK);
	if (found) {
		assert_int_equal(record_user_decode((struct slice){ value.data, value.length }, &s, &newest, &err),
				 STATUS_OK);
		assert_int_equal(s.length, 1);
		item = s.events[0].item;
	}
	sequence_free(&s);
	buffer_free(&value);
	return item;
}

static void a_fresh_shard_is_found_nowhere(void **state)
{
	struct result r = restore(-1);
	assert_int_equal(r.status, STATUS_OK);
	assert_false(r.found);
	assert_int_equal(r.records, 0);
}

static enum status count(void *arg, struct slice id, struct error *err)
{
	++*(int *)arg;
	return STATUS_OK;
}

static void an_empty_store_is_filled_and_then_caught_up(void **state)
{
	user("ann", 1);
	user("bob", 2);
	owed("bob", "x");
	position(10);
	user("ann", 3);
	user("eve", 4);
	position(12);
	user("eve", 0);
	owed("bob", NULL);
	owed("ann", "y");
	position(12); /* a transaction may move no offset */
	expect(restore(12), 12, 11);
	assert_int_equal(item_of("ann"), 3);
	assert_int_equal(item_of("bob"), 2);
	assert_int_equal(item_of("eve"), 0);
	int n = 0;
	struct error err;
	assert_int_equal(store_shard_owed(shard, count, &n, &err), STATUS_OK);
	assert_int_equal(n, 1);

	/* nothing new, nothing read; across a restart too */
	int64_t begin_us = clock_monotonic_us();
	expect(restore(12), 12, 0);
	assert_in_range(clock_monotonic_us() - begin_us, 0, 4000000);
	close_all();
	open_all();
	expect(restore(12), 12, 0);
	user("bob", 5);
	position(13);
	expect(restore(13), 13, 2);
	assert_int_equal(item_of("bob"), 5);
	/* the group's offsets have expired: the position stands */
	expect(restore(-1), 13, 0);
}

static void contradictions_are_named(void **state)
{
	user("ann", 1);
	position(10);
	struct result r = restore(9);
	assert_int_equal(r.status, STATUS_DATA);
	assert_non_null(strstr(r.err.text, "committed offset 9 is below the position 10"));
	r = restore(11);
	assert_int_equal(r.status, STATUS_DATA);
	assert_non_null(strstr(r.err.text, "ends at the position 10"));
	assert_non_null(strstr(r.err.text, config.changelog_topic));
	expect(restore(10), 10, 0);
}

static void users_without_a_position_are_refused(void **state)
{
	user("ann", 1);
	struct result r = restore(-1);
	assert_int_equal(r.status, STATUS_DATA);
	assert_non_null(strstr(r.err.text, "no position"));
	r = restore(-1); /* from where the first one broke off */
	assert_int_equal(r.status, STATUS_DATA);
	assert_int_equal(r.records, 0);
	position(10);
	expect(restore(10), 10, 1);
	assert_int_equal(item_of("ann"), 1);
}

static void damaged_records_are_refused(void **state)
{
	user("ann", 1);
	position(10);
	produce("ann", 3, "nonsense", 8);
	struct result r = restore(10);
	assert_int_equal(r.status, STATUS_DATA);
	assert_non_null(strstr(r.err.text, "offset 2"));
}

static void unknown_keys_are_refused(void **state)
{
	position(10);
	produce("\0other", 6, "x", 1);
	struct result r = restore(10);
	assert_int_equal(r.status, STATUS_DATA);
	assert_non_null(strstr(r.err.text, "offset 1"));
}

static void a_store_beyond_the_log_is_rebuilt(void **state)
{
	struct position p = { 90, -1, 7, 1000 };
	struct error err;
	struct store_batch *batch = store_batch_new(shard);
	store_batch_put(batch, (struct slice){ (const uint8_t *)"old", 3 }, (struct slice){ (const uint8_t *)"x", 1 });
	assert_int_equal(store_batch_write(batch, &p, &err), STATUS_OK);
	store_batch_free(batch);
	user("ann", 1);
	position(10);
	expect(restore(10), 10, 2);
	assert_int_equal(item_of("old"), 0);
	assert_int_equal(item_of("ann"), 1);
}

static void a_store_that_does_not_know_its_place_is_rebuilt(void **state)
{
	struct position p = { 90, -1, 7, -1 };
	struct error err;
	struct store_batch *batch = store_batch_new(shard);
	store_batch_put(batch, (struct slice){ (const uint8_t *)"old", 3 }, (struct slice){ (const uint8_t *)"x", 1 });
	assert_int_equal(store_batch_write(batch, &p, &err), STATUS_OK);
	store_batch_free(batch);
	user("ann", 1);
	position(10);
	expect(restore(10), 10, 2);
	assert_int_equal(item_of("old"), 0);
}

static void *cancel_soon(void *arg)
{
	(void)usleep(700000);
	atomic_store((_Atomic bool *)arg, true);
	return NULL;
}

static void an_outage_is_waited_out_and_can_be_cancelled(void **state)
{
	_Atomic bool cancel = false;
	struct restore_progress progress;
	struct position p;
	struct error err;
	bool found;
	pthread_t thread;
	user("ann", 1);
	position(10);
	assert_int_equal(rd_kafka_mock_broker_set_down(cluster, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, (void *)&cancel), 0);
	int64_t start_us = clock_monotonic_us();
	assert_int_equal(restore_shard(&config, shard, 0, 10, &cancel, &progress, &p, &found, &err),
			 STATUS_UNAVAILABLE);
	assert_true(clock_monotonic_us() - start_us < 5000000);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(rd_kafka_mock_broker_set_up(cluster, 1), 0);
	expect(restore(10), 10, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_shard_is_found_nowhere),
		TEST(an_empty_store_is_filled_and_then_caught_up),
		TEST(contradictions_are_named),
		TEST(users_without_a_position_are_refused),
		TEST(damaged_records_are_refused),
		TEST(unknown_keys_are_refused),
		TEST(a_store_beyond_the_log_is_rebuilt),
		TEST(a_store_that_does_not_know_its_place_is_rebuilt),
		TEST(an_outage_is_waited_out_and_can_be_cancelled),
	};
	return cmocka_run_group_tests(tests, begin_group, end_group);
}
