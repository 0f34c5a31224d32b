/* Memory that runs out while what is served changes: every failed allocation is an error that says so, and nothing leaks or is
 * left half done (the sanitizers watch). */
#include "oom.h"

#include "daemon/live_patches.h"
#include "daemon/scorer.h"
#include "serving_fixture.h"

static const char three[] = "  - {name: age, type: classification, labels: [a, b, c]}\n"
			    "  - {name: next, type: ranking, insertion: serial}\n"
			    "  - {name: spend, type: regression, blocks: []}\n";

static struct serving s;

static int begin(void **state)
{
	serving_open(&s, true, three);
	return 0;
}

static int finish(void **state)
{
	serving_close(&s);
	return 0;
}

static void sets_fail_whole(void **state)
{
	static const char task[] = "name: a\ntype: ranking\nlabels: [x, y]\n";
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct config *c = NULL;
		struct task_set *set = NULL;
		assert_int_equal(config_parse_tasks("t", task, sizeof task - 1, &c, &err), STATUS_OK);
		oom_fail_at(n);
		enum status status = task_set_of(c->tasks, c->tasks_count, 2, &set, &err);
		bool failed = oom_failed();
		oom_reset();
		config_free(c);
		task_set_release(set);
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (!failed) {
			assert_true(n > 4);
			break;
		}
	}
	for (size_t n = 1; n <= 2; n++) {
		oom_fail_at(n);
		assert_null(task_board_new());
		oom_reset();
	}
}

static void a_patch_without_a_place_goes(void **state)
{
	struct served_patch *served = NULL;
	struct error err;
	struct patch *p = serving_patch(&s, serving_task(&s, "age"), 1, NULL, 0);
	oom_fail_at(1);
	assert_int_equal(served_patch_new(p, 1, &served, &err), STATUS_MEMORY);
	oom_reset();
}

/* Whatever fails in a choice, the next one makes it good. */
static void choosing_fails_whole(void **state)
{
	struct error err = { 0 };
	serving_promote(&s, &s.plans[0], serving_task(&s, "age"),
			serving_patch(&s, serving_task(&s, "age"), 2, NULL, 0), 2);
	for (size_t n = 1;; n++) {
		struct live_patches *live = NULL;
		struct task_set *set = NULL;
		oom_fail_at(n);
		enum status status = live_patches_new(s.config, s.backbone, s.net, &live, &err);
		if (status == STATUS_OK)
			status = live_patches_choose(live, s.tasks, s.table, &set, &err);
		bool failed = oom_failed();
		oom_reset();
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (failed && live)
			assert_int_equal(live_patches_choose(live, s.tasks, s.table, &set, &err), STATUS_OK);
		if (live) {
			assert_int_equal(set->count, 3);
			for (size_t i = 0; i < 3; i++)
				assert_int_equal(set->entries[i].patch->version, i == 0 ? 2 : 1);
		}
		task_set_release(set);
		live_patches_free(live);
		if (!failed) {
			assert_true(n > 50);
			break;
		}
	}
}

/* A scorer that could not take a set has none; the next one it takes whole. */
static void a_scorer_takes_a_set_or_none(void **state)
{
	struct user_cache cache = { .budget_bytes = SIZE_MAX, .state_bytes = trunk_state_bytes(s.backbone) };
	struct live_patches *live = NULL;
	struct task_set *set = NULL;
	struct trunk *trunk = NULL;
	struct scorer *scorer = NULL;
	struct error err;
	assert_int_equal(live_patches_new(s.config, s.backbone, s.net, &live, &err), STATUS_OK);
	assert_int_equal(live_patches_choose(live, s.tasks, s.table, &set, &err), STATUS_OK);
	assert_int_equal(trunk_new(s.backbone, &cache, &trunk, &err), STATUS_OK);
	oom_fail_at(1);
	assert_int_equal(scorer_new(s.backbone, s.net, trunk, &scorer, &err), STATUS_MEMORY);
	oom_reset();
	for (size_t n = 1;; n++) {
		assert_int_equal(scorer_new(s.backbone, s.net, trunk, &scorer, &err), STATUS_OK);
		oom_fail_at(n);
		enum status status = scorer_use(scorer, set, &err);
		bool failed = oom_failed();
		oom_reset();
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		assert_int_equal(scorer_has_work(scorer), !failed);
		assert_int_equal(scorer_use(scorer, set, &err), STATUS_OK);
		assert_true(scorer_has_work(scorer));
		scorer_free(scorer);
		if (!failed) {
			assert_true(n > 12);
			break;
		}
	}
	trunk_free(trunk);
	task_set_release(set);
	live_patches_free(live);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)
	const struct CMUnitTest tests[] = {
		TEST(sets_fail_whole),
		TEST(a_patch_without_a_place_goes),
		TEST(choosing_fails_whole),
		TEST(a_scorer_takes_a_set_or_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
