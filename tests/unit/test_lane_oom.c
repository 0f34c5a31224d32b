/* Starting a lane with memory that runs out: an error, no thread, nothing leaked (the sanitizers watch). */
#include "oom.h"

#include "daemon/lane.h"
#include "model_fixture.h"

#include <string.h>

static struct config *config;
static struct lane_context ctx;
static uv_loop_t loop;
static uv_async_t exited;

static int begin(void **state)
{
	/* nobody listens there */
	static const char text[] =
		"backbone: b\nstate_dir: /nonexistent\nkafka: {bootstrap.servers: \"127.0.0.1:9\", log_level: 2}\n";
	struct error err;
	if (config_parse("test.yaml", text, sizeof text - 1, &config, &err) != STATUS_OK || uv_loop_init(&loop) ||
	    uv_async_init(&loop, &exited, NULL))
		return -1;
	ctx = (struct lane_context){ .config = config,
				     .backbone = fixture_backbone(&(struct random_backbone){ 8, 2, "1", true, 0, 1 }),
				     .metrics = metrics_new(1),
				     .tasks = task_board_new(),
				     .exited = &exited };
	return status_board_new(1, &ctx.board, &err) == STATUS_OK &&
			       store_gate_new(config, &ctx.gate, &err) == STATUS_OK
		       ? 0
		       : -1;
}

static int end(void **state)
{
	store_gate_free(ctx.gate);
	status_board_free(ctx.board);
	metrics_free(ctx.metrics);
	task_board_free(ctx.tasks);
	backbone_free((struct backbone *)(uintptr_t)ctx.backbone);
	config_free(config);
	uv_close((uv_handle_t *)&exited, NULL);
	while (uv_run(&loop, UV_RUN_DEFAULT))
		continue;
	return uv_loop_close(&loop);
}

static void a_lane_that_cannot_start_frees_what_it_has(void **state)
{
	for (size_t n = 1;; n++) {
		struct lane *lane = NULL;
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = lane_start(&ctx, 0, &lane, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!lane) {
			assert_true(failed);
			assert_int_equal(status, STATUS_MEMORY);
			continue;
		}
		/* started: without brokers, and perhaps with an allocation less on its own thread */
		assert_int_equal(status, STATUS_OK);
		lane_stop(lane);
		lane_join_free(lane);
		assert_true(n > 5);
		return;
	}
}

static void a_lane_without_a_usable_configuration_frees_what_it_has(void **state)
{
	struct lane *lane = NULL;
	struct error err = { 0 };
	static const char text[] =
		"backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"127.0.0.1:9\", debug: nonsense}\n";
	struct config *wrong;
	assert_int_equal(config_parse("wrong.yaml", text, sizeof text - 1, &wrong, &err), STATUS_OK);
	struct lane_context other = ctx;
	other.config = wrong;
	assert_int_equal(lane_start(&other, 0, &lane, &err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, "debug"));
	assert_null(lane);
	config_free(wrong);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lane_that_cannot_start_frees_what_it_has),
		cmocka_unit_test(a_lane_without_a_usable_configuration_frees_what_it_has),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
