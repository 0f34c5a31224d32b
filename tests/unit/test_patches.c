/* The patches topic on the development broker, followed onto the board. */
#include "daemon/patches.h"

#include "io/broker.h"
#include "io/client.h"
#include "io/patch_topic.h"
#include "serving_fixture.h"

#include <librdkafka/rdkafka.h>

enum { WAIT_MS = 20000 };

static struct {
	struct serving s;
	struct broker *broker;
	struct config *config;
	rd_kafka_t *producer;
	struct patch_writer *writer;
	struct task_board *board;
	struct patches *patches;
} world;

static void drain(void *arg, int wait_ms)
{
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(world.producer);
	rd_kafka_event_destroy(rd_kafka_queue_poll(reports, wait_ms));
	rd_kafka_queue_destroy(reports);
}

static int begin(void **state)
{
	char text[512];
	struct error err;
	memset(&world, 0, sizeof world);
	serving_open(&world.s, true,
		     "  - {name: age, type: classification, labels: [a, b, c]}\n  - {name: next, type: ranking}\n");
	assert_int_equal(broker_start(&world.broker, &err), STATUS_OK);
	int length = snprintf(text, sizeof text, "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: \"%s\"}\n",
			      broker_servers(world.broker));
	assert_int_equal(config_parse("test.yaml", text, (size_t)length, &world.config, &err), STATUS_OK);
	world.board = task_board_new();
	assert_non_null(world.board);
	return 0;
}

static void open_writer(void)
{
	struct error err;
	assert_int_equal(broker_topic(world.broker, world.config->patches_topic, 3, &err), STATUS_OK);
	assert_int_equal(client_producer(world.config, "writer", &world.producer, &err), STATUS_OK);
	assert_null(rd_kafka_init_transactions(world.producer, WAIT_MS));
	if (patch_writer_open(world.config, world.producer, drain, NULL, WAIT_MS, &world.writer, &err))
		fail_msg("%s", err.text);
}

static int finish(void **state)
{
	patches_free(world.patches);
	task_board_free(world.board);
	patch_writer_close(world.writer);
	client_close_producer(world.producer);
	config_free(world.config);
	broker_stop(world.broker);
	serving_close(&world.s);
	return 0;
}

static void promote(const char *name, size_t plan, uint64_t version)
{
	const struct served_task *task = serving_task(&world.s, name);
	struct patch *p = serving_patch(&world.s, task, version, NULL, 0);
	struct buffer bytes = { 0 };
	struct error err;
	serving_encode(p, &bytes);
	struct patch_record r = serving_record(&world.s, &world.s.plans[plan], task, PATCH_PROMOTED, version, &bytes);
	assert_null(rd_kafka_begin_transaction(world.producer));
	if (patch_writer_write(world.writer, &world.s.plans[plan], &r, slice_of_buffer(&bytes), &err))
		fail_msg("%s", err.text);
	assert_null(rd_kafka_commit_transaction(world.producer, WAIT_MS));
	patch_free(p);
	buffer_free(&bytes);
}

static enum status open_patches(struct error *err)
{
	assert_int_equal(patches_new(world.config, world.s.backbone, world.s.net, world.board, &world.patches, err),
			 STATUS_OK);
	return patches_start(world.patches, world.s.tasks, WAIT_MS, err);
}

static uint64_t version_on_board(const char *name)
{
	struct task_set *set = task_board_get(world.board);
	const struct served *entry = task_set_entry(set, slice_of(name));
	uint64_t version = entry && entry->patch ? entry->patch->version : 0;
	task_set_release(set);
	return version;
}

static void await_version(const char *name, uint64_t version)
{
	struct error err;
	for (int i = 0; i < 2000 && version_on_board(name) != version; i++) {
		if (patches_follow(world.patches, world.s.tasks, &err))
			fail_msg("%s", err.text);
		(void)usleep(10000);
	}
	assert_int_equal(version_on_board(name), version);
}

static void versions_reach_the_board(void **state)
{
	struct error err;
	open_writer();
	promote("age", 0, 2);
	promote("age", 0, 3);
	if (open_patches(&err))
		fail_msg("%s", err.text);
	assert_int_equal(version_on_board("age"), 3); /* at once */
	assert_int_equal(version_on_board("next"), 1);
	uint64_t before = task_board_version(world.board);
	assert_int_equal(patches_follow(world.patches, world.s.tasks, &err), STATUS_OK);
	assert_int_equal(task_board_version(world.board), before); /* nothing new */
	promote("age", 0, 4);
	await_version("age", 4);
	promote("next", 1, 2);
	await_version("next", 2);
	assert_int_equal(patches_swaps(world.patches), 2);
	serving_tasks(&world.s, "  - {name: next, type: ranking}\n");
	assert_int_equal(patches_follow(world.patches, world.s.tasks, &err), STATUS_OK);
	assert_int_equal(version_on_board("age"), 0);
	assert_int_equal(version_on_board("next"), 2);
}

static void a_missing_topic_is_an_error(void **state)
{
	struct error err;
	assert_int_equal(open_patches(&err), STATUS_CONFIG);
	assert_int_equal(broker_topic(world.broker, world.config->patches_topic, 3, &err), STATUS_OK);
	if (patches_start(world.patches, world.s.tasks, WAIT_MS, &err)) /* it may come later */
		fail_msg("%s", err.text);
	assert_int_equal(version_on_board("age"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(versions_reach_the_board, begin, finish),
		cmocka_unit_test_setup_teardown(a_missing_topic_is_an_error, begin, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
