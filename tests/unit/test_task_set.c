/* What is served: definitions and patches that are held, sets that share them, the board. */
#include "config/config.h"
#include "daemon/task_set.h"
#include "network_fixture.h"

static const char yaml[] =
	"backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\ntasks:\n"
	"  - {name: next, type: ranking, insertion: serial, adapters: 1, norms: true, blocks: [1]}\n"
	"  - {name: age, type: classification, labels: [young, old, aged], bottleneck: 4, mean_window: 7}\n"
	"  - {name: spend, type: regression, insertion: parallel}\n"
	"  - {name: bare, type: classification, blocks: []}\n"
	"  - {name: head, type: classification, insertion: serial, blocks: [], norms: true}\n";

enum { TASKS = 5, BLOCKS = 3 };

static struct config *configured(void)
{
	struct config *c = NULL;
	struct error err;
	if (config_parse("test.yaml", yaml, sizeof yaml - 1, &c, &err))
		fail_msg("%s", err.text);
	assert_int_equal(c->tasks_count, TASKS);
	return c;
}

static struct task_set *set_of_all(void)
{
	struct config *c = configured();
	struct task_set *set = NULL;
	struct error err;
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, BLOCKS, &set, &err), STATUS_OK);
	config_free(c); /* what the set took is its own */
	return set;
}

static const struct served_task *find(const struct task_set *set, const char *name)
{
	return task_set_find(set, (struct slice){ (const uint8_t *)name, strlen(name) });
}

static void expect_spec(const struct task_set *set, const char *name, struct patch_spec expected, size_t levels)
{
	const struct served_task *task = find(set, name);
	assert_non_null(task);
	assert_int_equal(task->spec.type, expected.type);
	assert_int_equal(task->spec.insertion, expected.insertion);
	assert_int_equal(task->spec.bottleneck, expected.bottleneck);
	assert_int_equal(task->spec.mean_window, expected.mean_window);
	assert_memory_equal(task->spec.blocks, expected.blocks, sizeof expected.blocks);
	assert_int_equal(task->spec.first, expected.first);
	assert_int_equal(task->spec.second, expected.second);
	assert_int_equal(task->spec.norms, expected.norms);
	assert_int_equal(task->levels_count, levels);
}

static void definitions_say_what_patches_look_like(void **state)
{
	struct task_set *set = set_of_all();
	expect_spec(set, "next",
		    (struct patch_spec){ PATCH_RANKING, PATCH_SERIAL, 16, 0, { false, true }, false, true, true }, 0);
	expect_spec(
		set, "age",
		(struct patch_spec){
			PATCH_CLASSIFICATION, PATCH_SIDE, 4, 7, { [0] = true, [BLOCKS] = true }, false, false, false },
		2);
	expect_spec(
		set, "spend",
		(struct patch_spec){ PATCH_REGRESSION, PATCH_PARALLEL, 16, 0, { true, true, true }, true, true, false },
		0);
	expect_spec(set, "bare",
		    (struct patch_spec){ PATCH_CLASSIFICATION, PATCH_SIDE, 16, 128, { false }, false, false, false },
		    1);
	expect_spec(set, "head",
		    (struct patch_spec){ PATCH_CLASSIFICATION, PATCH_SERIAL, 16, 0, { false }, false, false, false },
		    0);
	task_set_release(set);
}

static void names_are_found(void **state)
{
	static const char *const order[TASKS] = { "age", "bare", "head", "next", "spend" };
	struct task_set *set = set_of_all();
	for (size_t i = 0; i < TASKS; i++) {
		assert_string_equal(set->entries[i].task->definition.name, order[i]);
		assert_ptr_equal(find(set, order[i]), set->entries[i].task);
		assert_null(set->entries[i].patch);
	}
	assert_null(find(set, "ag"));
	assert_null(find(set, "agee"));
	assert_null(find(set, ""));
	const struct served_task *age = find(set, "age");
	assert_true(served_task_takes(age, (struct slice){ (const uint8_t *)"old", 3 }));
	assert_false(served_task_takes(age, (struct slice){ (const uint8_t *)"olde", 4 }));
	assert_false(served_task_takes(age, (struct slice){ (const uint8_t *)"ol", 2 }));
	assert_true(served_task_takes(find(set, "next"), (struct slice){ (const uint8_t *)"x", 1 }));
	task_set_release(set);
}

static struct patch *a_patch(const struct network *net)
{
	const struct patch_spec spec = { .type = PATCH_REGRESSION, .insertion = PATCH_SIDE, .mean_window = 1 };
	struct random_stream random = random_from(1, 2);
	struct patch *p = NULL;
	struct error err;
	assert_int_equal(patch_new(&spec, net, "age", NULL, 1, &random, &p, &err), STATUS_OK);
	memset(p->hash, 'a', HASH_HEX_LENGTH);
	return p;
}

/* A swap: the new set shares the definitions, and what the old one held goes when its last holder does. */
static void sets_share_what_they_hold(void **state)
{
	const struct network_shape shape = { .channels = 4,
					     .kernel_size = 2,
					     .blocks = 1,
					     .dilations = { 1 },
					     .items = 5,
					     .eps = 1e-8F,
					     .causal = true };
	struct network *net = fixture_network(&shape, 1);
	struct served_patch *patch = NULL;
	struct error err;
	struct task_set *first = set_of_all(), *second = NULL;
	assert_int_equal(served_patch_new(a_patch(net), 7, &patch, &err), STATUS_OK);
	assert_int_equal(patch->version, 7);
	assert_string_equal(patch->hash, patch->patch->hash);
	struct served entries[TASKS];
	memcpy(entries, first->entries, sizeof entries);
	entries[0].patch = patch;
	assert_int_equal(task_set_new(entries, TASKS, &second, &err), STATUS_OK);
	served_patch_release(patch); /* the set's by now */
	struct task_board *board = task_board_new();
	assert_non_null(board);
	uint64_t version = task_board_version(board);
	task_board_put(board, first);
	struct task_set *held = task_board_get(board);
	assert_ptr_equal(held, first);
	task_board_put(board, second);
	assert_true(task_board_version(board) >= version + 2);
	assert_ptr_equal(held->entries[0].task, second->entries[0].task);
	assert_string_equal(held->entries[0].task->definition.name, "age");
	assert_null(held->entries[0].patch);
	task_set_release(held);
	held = task_board_get(board);
	task_board_free(board);
	assert_int_equal(held->entries[0].patch->version, 7);
	task_set_release(held);
	network_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(definitions_say_what_patches_look_like),
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(sets_share_what_they_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
