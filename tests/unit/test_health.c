#include "daemon/health.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct status_board *board;
	struct health *health;
};

static struct fixture open_fixture(int lanes)
{
	struct fixture f;
	struct error err;
	assert_int_equal(status_board_new(lanes, &f.board, &err), STATUS_OK);
	assert_int_equal(health_new(f.board, 1000, &f.health, &err), STATUS_OK);
	return f;
}

static void close_fixture(struct fixture *f)
{
	health_free(f->health);
	status_board_free(f->board);
}

static void update(struct fixture *f, int64_t now_ms)
{
	struct error err;
	assert_int_equal(health_update(f->health, now_ms, &err), STATUS_OK);
}

static void assert_ready(struct fixture *f, bool ready, const char *reasons)
{
	struct buffer text = { 0 };
	assert_int_equal(health_ready(f->health, &text), ready);
	buffer_append_byte(&text, 0);
	assert_string_equal((char *)text.data, reasons);
	buffer_free(&text);
}

static void board_copies(void **state)
{
	struct fixture f = open_fixture(2);
	struct error err;
	struct shard_status shards[3] = { { .partition = 1 }, { .partition = 2 }, { .partition = 3 } };
	struct lane_status in = { .lane = 1, .assigned_once = true, .ticks = 9, .shards = shards, .count = 3 }, out;
	status_board_publish(f.board, 1, &in);
	shards[0].partition = 77;
	assert_int_equal(status_board_read(f.board, 1, &out, &err), STATUS_OK);
	assert_int_equal(out.count, 3);
	assert_int_equal(out.shards[0].partition, 1);
	assert_int_equal(out.ticks, 9);
	lane_status_clear(&out);
	in.count = 0;
	in.shards = NULL;
	status_board_publish(f.board, 1, &in);
	assert_int_equal(status_board_read(f.board, 1, &out, &err), STATUS_OK);
	assert_int_equal(out.count, 0);
	assert_null(out.shards);
	assert_int_equal(status_board_read(f.board, 0, &out, &err), STATUS_OK);
	assert_false(out.assigned_once);
	assert_int_equal(status_board_lanes(f.board), 2);
	close_fixture(&f);
}

static void readiness_has_reasons(void **state)
{
	struct fixture f = open_fixture(2);
	update(&f, 0);
	assert_ready(&f, false, "starting\n");
	health_wait(f.health, "brokers: away");
	assert_ready(&f, false, "brokers: away\n");
	assert_false(health_settled(f.health));
	health_start(f.health, 0);
	assert_ready(&f, false, "lane 0: starting\nlane 1: starting\n");
	struct shard_status shards[] = {
		{ .partition = 3, .phase = SHARD_RESTORING, .restore_lag = 1200 },
		{ .partition = 4, .phase = SHARD_RESTORING, .restore_lag = -1, .restore_records = 7 },
		{ .partition = 5, .phase = SHARD_LIVE },
		{ .partition = 6, .phase = SHARD_FAILED, .reason = "the log ends before the committed offset" },
		{ .partition = 7, .phase = SHARD_DRAINING },
	};
	const struct lane_status first = { .assigned_once = true, .ready = true };
	struct lane_status second = { .assigned_once = true, .shards = shards, .count = 5 };
	status_board_publish(f.board, 0, &first);
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, false,
		     "lane 1: partition 3: restoring, 1200 records to go\n"
		     "lane 1: partition 4: restoring, 7 records read\n"
		     "lane 1: partition 6: stopped: the log ends before the committed offset\n");
	assert_false(health_settled(f.health));
	second.shards = shards + 2;
	second.count = 2;
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, false, "lane 1: partition 6: stopped: the log ends before the committed offset\n");
	assert_true(health_settled(f.health)); /* what can be restored is */
	second.count = 1;
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, false, "lane 1: not ready\n");
	assert_false(health_settled(f.health));
	(void)snprintf(second.reason, sizeof second.reason, "brokers: away");
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, false, "lane 1: brokers: away\n");
	second.reason[0] = '\0';
	second.ready = true;
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, true, "");
	assert_true(health_settled(f.health));
	health_note(f.health, HEALTH_SERVING, "topic patches is missing");
	health_note(f.health, HEALTH_LEARNING, "learner: no room");
	assert_ready(&f, false, "topic patches is missing\nlearner: no room\n");
	health_note(f.health, HEALTH_SERVING, "");
	assert_ready(&f, false, "learner: no room\n");
	assert_true(health_settled(f.health));
	health_note(f.health, HEALTH_LEARNING, "");
	assert_ready(&f, true, "");
	second.assigned_once = false;
	status_board_publish(f.board, 1, &second);
	update(&f, 0);
	assert_ready(&f, false, "lane 1: waiting for the first assignment\n");
	close_fixture(&f);
}

static void assert_alive(struct fixture *f, int64_t now_ms, bool alive, const char *reasons)
{
	struct buffer text = { 0 };
	assert_int_equal(health_alive(f->health, now_ms, &text), alive);
	buffer_append_byte(&text, 0);
	assert_string_equal((char *)text.data, reasons);
	buffer_free(&text);
}

static void tick(struct fixture *f, int lane, uint64_t ticks)
{
	const struct lane_status status = { .ticks = ticks };
	status_board_publish(f->board, lane, &status);
}

static void a_lane_without_ticks_is_not_alive(void **state)
{
	struct fixture f = open_fixture(2);
	assert_alive(&f, 5000, true, ""); /* no lane runs yet: the loop answers, so it lives */
	health_start(f.health, 5000);
	update(&f, 5999);
	assert_alive(&f, 5999, true, "");
	assert_alive(&f, 6000, false, "lane 0: no progress for 1 s\nlane 1: no progress for 1 s\n");
	tick(&f, 0, 1);
	tick(&f, 1, 1);
	update(&f, 6000);
	assert_alive(&f, 6000, true, "");
	tick(&f, 1, 2);
	update(&f, 7500);
	assert_alive(&f, 7500, false, "lane 0: no progress for 1 s\n");
	health_lane_ended(f.health, 0);
	assert_alive(&f, 7500, true, "");
	close_fixture(&f);
}

static void the_watchdog_wants_every_lane(void **state)
{
	struct fixture f = open_fixture(2);
	assert_true(health_progressed(f.health)); /* before lanes run the loop itself is all there is */
	health_start(f.health, 0);
	update(&f, 0);
	assert_false(health_progressed(f.health));
	tick(&f, 0, 5);
	update(&f, 0);
	assert_false(health_progressed(f.health));
	tick(&f, 1, 1);
	update(&f, 0);
	assert_true(health_progressed(f.health));
	assert_false(health_progressed(f.health));
	tick(&f, 1, 2);
	update(&f, 0);
	assert_false(health_progressed(f.health));
	health_lane_ended(f.health, 0);
	assert_true(health_progressed(f.health));
	close_fixture(&f);
}

static void *publish_many(void *arg)
{
	struct shard_status shards[8];
	for (unsigned i = 1; i <= 5000; i++) {
		struct lane_status status = { .ticks = i, .shards = shards, .count = i % 9 };
		for (size_t j = 0; j < status.count; j++)
			shards[j] = (struct shard_status){ .position = i };
		status_board_publish(arg, 0, &status);
	}
	return NULL;
}

/* Whoever reads sees one publication whole. */
static void publications_are_whole(void **state)
{
	struct fixture f = open_fixture(1);
	struct error err;
	pthread_t writer;
	assert_int_equal(pthread_create(&writer, NULL, publish_many, f.board), 0);
	uint64_t ticks = 0;
	while (ticks < 5000) {
		struct lane_status status;
		assert_int_equal(status_board_read(f.board, 0, &status, &err), STATUS_OK);
		assert_true(status.ticks >= ticks);
		ticks = status.ticks;
		assert_int_equal(status.count, ticks % 9);
		for (size_t i = 0; i < status.count; i++)
			assert_int_equal(status.shards[i].position, ticks);
		lane_status_clear(&status);
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(board_copies),
		cmocka_unit_test(readiness_has_reasons),
		cmocka_unit_test(a_lane_without_ticks_is_not_alive),
		cmocka_unit_test(the_watchdog_wants_every_lane),
		cmocka_unit_test(publications_are_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
