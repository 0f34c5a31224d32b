/* daemon/publish: updates carry the scores of the set that was on the board when their batch was cut. */
#include "publish_fixture.h"

#include "io/update.h"
#include "model/tuner.h"
#include "patch_record_fixture.h"

static struct network *net;
static struct task_set *tasks; /* without patches */
static struct update_scores scores;

static const char yaml[] = "tasks:\n- {name: age, type: classification, labels: [a, b, c], mean_window: 1}\n"
			   "- {name: films, type: ranking, insertion: serial, scores_k: 2}\n";

static void load_network(void)
{
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, &(struct random_backbone){ 8, 2, "1", true, 0, 1 }); /* as shard_fixture.h has it */
	if (network_load(path, &net, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	(void)unlink(path);
}

static int begin_scores(void **state)
{
	struct config *c;
	if (begin(state) != 0)
		return -1;
	load_network();
	assert_int_equal(config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &fx.err), STATUS_OK);
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, 1, &tasks, &fx.err), STATUS_OK);
	config_free(c);
	publisher.tasks = task_board_new();
	publisher.metrics = fx.metrics;
	scores = (struct update_scores){ 0 };
	return publisher.tasks && scorer_new(fx.backbone, net, trunk, &publisher.scorer, &fx.err) == STATUS_OK ? 0 : -1;
}

static int end_scores(void **state)
{
	update_scores_free(&scores);
	scorer_free(publisher.scorer);
	task_board_free(publisher.tasks);
	task_set_release(tasks);
	network_free(net);
	return end(state);
}

/* Random versions, of so many films. */
static void put_on_board(uint64_t version, uint32_t films)
{
	struct served entries[2];
	struct task_set *set;
	const char **names = calloc(films + 1, sizeof *names);
	char(*texts)[16] = calloc(films + 1, sizeof *texts);
	for (uint32_t i = 0; i < films; i++) {
		(void)snprintf(texts[i], sizeof texts[i], "film %u", i);
		names[i] = texts[i];
	}
	for (size_t i = 0; i < 2; i++) {
		struct random_stream random = random_from(version, i);
		struct patch *p = NULL;
		struct served_task *task = tasks->entries[i].task;
		assert_int_equal(patch_new(&task->spec, net, task->definition.name,
					   i ? names : (const char *const *)task->definition.labels.items,
					   i ? films : 3, &random, &p, &fx.err),
				 STATUS_OK);
		memset(p->hash, 'a' + (int)i, HASH_HEX_LENGTH);
		entries[i].task = task;
		assert_int_equal(served_patch_new(p, version, &entries[i].patch, &fx.err), STATUS_OK);
	}
	assert_int_equal(task_set_new(entries, 2, &set, &fx.err), STATUS_OK);
	task_board_put(publisher.tasks, set);
	served_patch_release(entries[0].patch);
	served_patch_release(entries[1].patch);
	free(names);
	free(texts);
}

/* Those of the user's update, into `scores`. */
static size_t scores_of(const char *name)
{
	static struct buffer floats;
	struct update update;
	const struct produced *r = of_user(TOPIC_UPDATES, name);
	assert_non_null(r);
	buffer_clear(&floats);
	assert_int_equal(update_decode((struct slice){ r->value.data, r->value.length }, &floats, &update, &fx.err),
			 STATUS_OK);
	assert_int_equal(update_decode_scores(&update, &scores, &fx.err), STATUS_OK);
	buffer_free(&floats);
	return scores.count;
}

static void expect_versions(const char *name, int64_t version, size_t films)
{
	assert_int_equal(scores_of(name), 2);
	const struct update_score *age = &scores.items[0], *best = &scores.items[1];
	assert_memory_equal(age->task.data, "age", 3);
	assert_int_equal(age->version, version);
	assert_int_equal(age->patch.data[63], 'a');
	assert_int_equal(age->count, 3);
	assert_memory_equal(age->labels[2].data, "c", 1);
	assert_true(fabsf(age->values[0] + age->values[1] + age->values[2] - 1) < 1e-5F);
	assert_memory_equal(best->task.data, "films", 5);
	assert_int_equal(best->version, version);
	assert_int_equal(best->patch.data[0], 'b');
	assert_int_equal(best->count, films < 2 ? films : 2);
	assert_true(films < 2 || best->values[0] >= best->values[1]);
}

static void without_tasks_there_are_no_scores(void **state)
{
	fx_apply("ann", "item 1", 10);
	publish(0);
	assert_int_equal(scores_of("ann"), 0);
}

static void updates_carry_scores(void **state)
{
	put_on_board(1, 0);
	fx_apply("ann", "item 1", 10);
	fx_apply("bob", "item 2", 20);
	publish(0);
	expect_versions("ann", 1, 0);
	expect_versions("bob", 1, 0);
	commit();
	put_on_board(2, 5);
	fx_apply("ann", "item 3", 30);
	put_on_board(3, 5); /* the cut takes what is there then */
	publish(0);
	expect_versions("ann", 3, 5);
	commit();
	fx_apply("bob", "item 3", 40);
	publish(0);
	expect_versions("bob", 3, 5);
}

static void many_users_are_scored_in_several_passes(void **state)
{
	char name[16];
	put_on_board(4, 9);
	for (int i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof name, "user %d", i);
		fx_apply(name, i % 2 ? "item 1" : "item 7", 10 + i);
	}
	publish(0);
	for (int i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof name, "user %d", i);
		expect_versions(name, 4, 9);
		static float first[2];
		if (i < 2)
			first[i] = scores.items[0].values[0];
		assert_true(fabsf(scores.items[0].values[0] - first[i % 2]) <
			    1e-6F); /* the same past, the same score */
	}
}

/* A vocabulary that no message holds: users are served on, without scores. */
static void scores_that_no_message_holds_are_left_out(void **state)
{
	put_on_board(1, 5);
	publisher.update_bytes = 4300;
	fx_apply("ann", "item 1", 10);
	publish(0);
	assert_int_equal(scores_of("ann"), 0);
	assert_true(publisher.scores_outgrown);
	commit();
	publisher_release(&publisher);
	assert_int_equal(publisher_use(&publisher, (rd_kafka_t *)&publisher, &fx.err), STATUS_OK);
	fx_apply("ann", "item 1", 20);
	publish(0);
	expect_versions("ann", 1, 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_scores, end_scores)
	const struct CMUnitTest tests[] = {
		TEST(without_tasks_there_are_no_scores),
		TEST(updates_carry_scores),
		TEST(many_users_are_scored_in_several_passes),
		TEST(scores_that_no_message_holds_are_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
