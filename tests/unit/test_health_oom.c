#include "daemon/health.h"
#include "daemon/http.h"
#include "daemon/metrics.h"
#include "daemon/scrape.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static enum status board_and_health(struct error *err)
{
	struct status_board *board = NULL;
	struct health *health = NULL;
	struct shard_status shards[2] = { { .partition = 1 }, { .partition = 2 } };
	const struct lane_status lane = { .ready = true, .assigned_once = true, .shards = shards, .count = 2 };
	enum status s = status_board_new(2, &board, err);
	if (!s)
		s = health_new(board, 1000, &health, err);
	if (!s) {
		status_board_publish(board, 0, &lane); /* never fails, but says so: */
		s = health_update(health, 0, err);
	}
	size_t count;
	if (!s && health_lanes(health, &count)[0].count == 0) {
		assert_string_equal(health_lanes(health, &count)[0].reason, "out of memory");
		assert_false(health_lanes(health, &count)[0].ready);
		s = STATUS_MEMORY;
	}
	health_free(health);
	status_board_free(board);
	return s;
}

static unsigned answer(void *arg, const char *path, struct buffer *body)
{
	return 200;
}

static enum status server(struct error *err)
{
	uv_loop_t loop;
	struct http *http = NULL;
	assert_int_equal(uv_loop_init(&loop), 0);
	enum status s = http_open(&loop, "127.0.0.1:0", answer, NULL, &http, err);
	http_close(http);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	return s;
}

static enum status scraping(struct error *err)
{
	struct buffer out = { 0 };
	struct metrics *m = metrics_new(2);
	if (!m)
		return STATUS_MEMORY;
	struct lane_status lane = { 0 };
	const struct scrape scrape = { .metrics = m, .status = &lane, .lanes = 1, .backbone = "b", .arch = "a" };
	scrape_print(&scrape, &out);
	enum status s = out.failed ? STATUS_MEMORY : STATUS_OK;
	buffer_free(&out);
	metrics_free(m);
	return s;
}

static void sweep(enum status (*what)(struct error *err), size_t least)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = what(&err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_true(n > least);
			return;
		}
		assert_int_equal(s, STATUS_MEMORY);
	}
}

static void every_allocation_may_fail(void **state)
{
	sweep(board_and_health, 3);
	sweep(server, 1);
	sweep(scraping, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
