/* daemon/lane against a mock cluster: whatever fails on the way, what it ends in is what an undisturbed run ends in. */
#include "lane_fixture.h"

#include <dlfcn.h>

static void it_reads_publishes_and_stops(void **state)
{
	lf_configure("updates: {topic: up-1}\nkafka:\n");
	lf_create_topics();
	lf_stream(3000); /* a backlog */
	lf_start();
	lf_await_end();
	for (int i = 0; i < 20; i++) {
		lf_stream(100);
		(void)usleep(20000);
	}
	lf_await_end();
	assert_int_equal(lf_metric(METRIC_TRANSACTIONS_ABORTED), 0);
	assert_int_equal(lf_metric(METRIC_DEADLETTERS) + 0, 0); /* slot of no reason */
	assert_true(lf_metric(METRIC_TRANSACTIONS_COMMITTED) > 3);
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(true);
}

/* Stopped in the middle of the stream, with what it has read committed, it goes on from there; without its store it
 * does so from the changelog. */
static void it_goes_on_after_a_stop(void **state)
{
	lf_configure("updates: {topic: up-2}\nkafka:\n");
	lf_create_topics();
	for (int round = 0; round < 3; round++) {
		lf_start();
		lf_stream(500);
		if (round == 2)
			lf_await_end();
		else
			(void)usleep(3500000 + 50000 * (useconds_t)lf_pick(10)); /* the mock's first join takes 3 s */
		lf_stop();
		if (round == 1)
			lf_remove_state();
	}
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(true);
}

/* Errors that abort, errors that are waited out, errors that are fatal for the producer. */
static void failed_transactions_are_done_again(void **state)
{
	static const struct {
		int16_t api;
		rd_kafka_resp_err_t code;
		size_t n;
	} faults[] = {
		{ API_TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1 },
		{ API_TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, 1 },
		{ API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1 },
		{ API_END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 2 },
		{ API_END_TXN, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, 3 },
		{ API_ADD_OFFSETS, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, 1 },
		{ API_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1 },
		{ API_END_TXN, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1 },
		{ API_TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 3 },
		{ API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1 },
	};
	/* Batches that cannot shrink: a new producer's restore would take the refused transaction's records, which the mock
	 * shows though it was aborted, for committed ones. */
	lf_configure("updates: {topic: up-3}\nkafka:\n  batch.size: 1024\n  message.max.bytes: 2000\n");
	lf_create_topics();
	lf_start();
	lf_stream(200);
	lf_await_end();
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		lf_stream(300);
		lf_inject(faults[i].api, faults[i].n, faults[i].code);
		for (int j = 0; j < 10 && faults[i].api != API_PRODUCE; j++) { /* it would hit our own */
			lf_stream(50);
			(void)usleep(15000);
		}
		lf_await_end();
		rd_kafka_mock_clear_request_errors(lf.cluster, faults[i].api);
	}
	assert_true(lf_metric(METRIC_TRANSACTIONS_ABORTED) >= 6);
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(false);
}

/* The tests' own fault: every third commit is aborted, with thinning, so that what is owed is rewound too. */
static void aborted_commits_lose_nothing_of_what_is_owed(void **state)
{
	lf_configure("updates: {topic: up-4, min_interval_ms: 150}\nkafka:\n");
	lf_create_topics();
	(void)setenv("PETERD_TEST_ABORT_EVERY", "3", 1);
	lf_start();
	(void)unsetenv("PETERD_TEST_ABORT_EVERY");
	lf_stream(10); /* until it has joined */
	lf_await_end();
	for (int i = 0; i < 60; i++) {
		lf_stream(40);
		(void)usleep(25000);
	}
	lf_await_end();
	assert_true(lf_metric(METRIC_TRANSACTIONS_ABORTED) > 5);
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(false);
}

/* At most one update a user and interval, and the last state within one interval after the stream has ended. */
static void thinned_updates_arrive_by_themselves(void **state)
{
	lf_configure("updates: {topic: up-5, min_interval_ms: 1000}\nkafka:\n");
	lf_create_topics();
	lf_start();
	lf_stream(10);
	lf_await_end();
	int64_t start_us = clock_monotonic_us();
	for (int i = 0; i < 40; i++) {
		for (int j = 0; j < 20; j++)
			lf_interaction(lf_pick(LANE_USERS));
		assert_int_equal(rd_kafka_flush(lf.host, 10000), RD_KAFKA_RESP_ERR_NO_ERROR);
		(void)usleep(20000);
	}
	lf_await_end();
	(void)usleep(1800000);
	int64_t took_us = clock_monotonic_us() - start_us;
	lf_expect_updates(); /* before the stop, which publishes in a hurry */
	for (size_t u = 0; u < LANE_USERS; u++)
		assert_true(lf_updates[u].records <= 2 + (size_t)(took_us / 1000000) + 3);
	lf_stop();
	lf_expect_store();
}

static void a_stop_publishes_what_is_owed(void **state)
{
	lf_configure("updates: {topic: up-6, min_interval_ms: 600000}\nkafka:\n");
	lf_create_topics();
	lf_start();
	lf_stream(100);
	lf_await_end();
	lf_stream(300);
	lf_await_end();
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
}

/* The producer's queue is smaller than one batch, from the first on. */
static void a_small_queue_is_drained_while_producing(void **state)
{
	lf_configure("updates: {topic: up-7}\nkafka:\n  queue.buffering.max.messages: 20\n");
	lf_create_topics();
	lf_stream(2000);
	lf_start();
	lf_await_end();
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(true);
}

/* A cache of the least size, so that users are evicted and rebuilt all the time. */
static void a_small_cache_is_enough(void **state)
{
	lf_configure("updates: {topic: up-8}\nkafka:\n");
	lf_create_topics();
	lf.config->cache_bytes = 4096;
	lf_start();
	for (int i = 0; i < 20; i++) {
		lf_stream(100);
		(void)usleep(30000);
	}
	lf_await_end();
	assert_true(lf_metric(METRIC_CACHE_EVICTIONS) > 100);
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
}

static void damage(int32_t partition, const char *key)
{
	static const _Atomic bool never = false;
	struct store_gate *gate;
	struct store *store;
	struct store_shard *shard;
	struct position position;
	struct error err;
	bool found;
	assert_int_equal(store_gate_new(lf.config, &gate, &err), STATUS_OK);
	assert_int_equal(store_gate_wait(gate, &never, &store, &err), STATUS_OK);
	assert_int_equal(store_shard_open(store, partition, &shard, &err), STATUS_OK);
	assert_int_equal(store_shard_position(shard, &position, &found, &err), STATUS_OK);
	struct store_batch *batch = store_batch_new(shard);
	store_batch_put(batch, (struct slice){ (const uint8_t *)key, strlen(key) },
			(struct slice){ (const uint8_t *)"nonsense", 8 });
	assert_int_equal(store_batch_write(batch, &position, &err), STATUS_OK);
	store_batch_free(batch);
	store_shard_close(shard);
	store_gate_free(gate);
}

/* A user's record that turns out damaged in mid-stream: the shard is rebuilt from the changelog, and goes on. */
static void a_damaged_store_is_rebuilt_under_way(void **state)
{
	lf_configure("updates: {topic: up-9}\nkafka:\n");
	lf_create_topics();
	lf_start();
	lf_stream(1000);
	lf_await_end();
	lf_stop();
	damage(0, "user 0");
	damage(1, "user 7");
	lf_start();
	lf_stream(1000);
	lf_await_end();
	lf_stop();
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(false);
}

static void a_twin_ends_it(void **state)
{
	struct error err;
	lf_configure("updates: {topic: up-10}\nkafka:\n  heartbeat.interval.ms: 200\n");
	lf_create_topics();
	lf_start();
	lf_stream(100);
	lf_await_end();
	lf_inject(API_HEARTBEAT, 3, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
	assert_int_equal(lf_join(&err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, "instance"));
	lane_stop(lf.lane); /* the control loop stops every lane that it has not joined yet */
	lane_join_free(lf.lane);
	lf.lane = NULL;
	lf_close_context();
	rd_kafka_mock_clear_request_errors(lf.cluster, API_HEARTBEAT);
	lf_expect_store();
}

static _Atomic bool renamed;

/* librdkafka's, or another one: as after a silent return to a group that had thrown the member out. */
char *rd_kafka_memberid(const rd_kafka_t *rk)
{
	char *(*real)(const rd_kafka_t *);
	*(void **)&real = dlsym(RTLD_NEXT, "rd_kafka_memberid");
	char *id = real(rk);
	if (id && id[0] && atomic_load(&renamed))
		id[0] ^= 1;
	return id;
}

static void await_reason(const char *reason)
{
	int64_t start_us = clock_monotonic_us();
	for (bool said = false; !said;) {
		struct lane_status status;
		struct error err;
		assert_int_equal(status_board_read(lf.ctx.board, 0, &status, &err), STATUS_OK);
		said = strstr(status.reason, reason) != NULL;
		if (!said && clock_monotonic_us() - start_us > LANE_WAIT_US)
			fail_msg("'%s' instead of '%s'", status.reason, reason);
		lane_status_clear(&status);
		(void)usleep(10000);
	}
}

/* Under a member id that is not the one of its assignment it commits nothing: the broker would take it, and others may own
 * the partitions by now. The next assignment, here of nothing new, brings everything back from the changelog. */
static void a_member_of_another_name_commits_nothing(void **state)
{
	lf_configure("updates: {topic: up-12}\nkafka:\n  heartbeat.interval.ms: 200\n");
	lf_create_topics();
	lf_start();
	lf_stream(300);
	lf_await_end();
	uint64_t before = lf_metric(METRIC_TRANSACTIONS_COMMITTED);
	atomic_store(&renamed, true);
	for (int i = 0; i < 10; i++) {
		lf_stream(50);
		(void)usleep(30000);
	}
	await_reason("thrown out of the group");
	assert_int_equal(lf_metric(METRIC_TRANSACTIONS_COMMITTED), before);
	lf_inject(API_HEARTBEAT, 1, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
	lf_await_end();
	assert_true(lf_metric(METRIC_TRANSACTIONS_COMMITTED) > before);
	lf_stop();
	atomic_store(&renamed, false);
	lf_expect_store();
	lf_expect_updates();
	lf_expect_letters(true);
}

/* librdkafka keeps a partition's pause over its unassignment: what is suspended is paused, lost, and comes back. */
static void a_partition_lost_while_suspended_is_read_again(void **state)
{
	lf_configure("updates: {topic: up-13}\nkafka:\n  heartbeat.interval.ms: 200\n");
	lf_create_topics();
	lf_start();
	lf_stream(100);
	lf_await_end();
	atomic_store(&renamed, true);
	lf_stream(50);
	await_reason("thrown out of the group"); /* everything is suspended until the next assignment */
	const uint64_t before = lf_metric(METRIC_REBALANCES);
	lf_inject(API_HEARTBEAT, 1, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID);
	lf_await_end();
	assert_int_equal(lf_metric(METRIC_REBALANCES), before + 2); /* it left, and came back */
	lf_stream(50);
	lf_await_end();
	lf_stop();
	atomic_store(&renamed, false);
	lf_expect_store();
	lf_expect_updates();
}

/* Brokers that were never there do not keep it from stopping. */
static void it_stops_without_brokers(void **state)
{
	lf_configure("updates: {topic: up-11}\nkafka:\n");
	lf_create_topics();
	assert_int_equal(rd_kafka_mock_broker_set_down(lf.cluster, 1), 0);
	lf_start();
	(void)usleep(500000);
	int64_t start_us = clock_monotonic_us();
	lf_stop();
	assert_true(clock_monotonic_us() - start_us < 15000000);
	assert_int_equal(rd_kafka_mock_broker_set_up(lf.cluster, 1), 0);
	char path[128];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/state/store", lf.root);
	assert_int_equal(file_make_folder(path, &err), STATUS_OK);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, lf_begin, lf_end)
	const struct CMUnitTest tests[] = {
		TEST(it_reads_publishes_and_stops),
		TEST(it_goes_on_after_a_stop),
		TEST(failed_transactions_are_done_again),
		TEST(aborted_commits_lose_nothing_of_what_is_owed),
		TEST(thinned_updates_arrive_by_themselves),
		TEST(a_stop_publishes_what_is_owed),
		TEST(a_small_queue_is_drained_while_producing),
		TEST(a_small_cache_is_enough),
		TEST(a_damaged_store_is_rebuilt_under_way),
		TEST(a_twin_ends_it),
		TEST(a_member_of_another_name_commits_nothing),
		TEST(a_partition_lost_while_suspended_is_read_again),
		TEST(it_stops_without_brokers),
	};
	return cmocka_run_group_tests(tests, lf_begin_group, lf_end_group);
}
