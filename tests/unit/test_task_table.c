/* What the records of the tasks topic say, by key. */
#include "io/task_table.h"

#include "config/config.h"
#include "io/task_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static const struct task_entry *apply(struct task_table *t, const char *key, struct slice value,
				      struct task_place place)
{
	const struct task_entry *entry = NULL;
	struct error err;
	assert_int_equal(task_table_apply(t, key ? text(key) : (struct slice){ NULL, 0 }, value, &place, &entry, &err),
			 STATUS_OK);
	return entry;
}

static const struct task_entry *put(struct task_table *t, const char *name, const char *more, struct task_place place)
{
	char yaml[256];
	struct buffer value = { 0 };
	struct config *c = NULL;
	struct error err;
	(void)snprintf(yaml, sizeof yaml, "name: %s\ntype: classification\n%s", name, more);
	assert_int_equal(config_parse_tasks("t", yaml, strlen(yaml), &c, &err), STATUS_OK);
	task_record_encode(&c->tasks[0], &value);
	const struct task_entry *entry = apply(t, name, (struct slice){ value.data, value.length }, place);
	config_free(c);
	buffer_free(&value);
	return entry;
}

static const struct task_entry *drop(struct task_table *t, const char *name, struct task_place place)
{
	return apply(t, name, (struct slice){ NULL, 0 }, place);
}

static struct task_table *open_table(void)
{
	struct task_table *t = NULL;
	struct error err;
	assert_int_equal(task_table_new(NULL, &t, &err), STATUS_OK);
	return t;
}

static void definitions_come_change_and_go(void **state)
{
	struct task_table *t = open_table();
	char before[HASH_HEX_LENGTH + 1];
	assert_null(task_table_find(t, text("a")));
	const struct task_entry *a = put(t, "a", "", (struct task_place){ 0, 0, 10 });
	assert_int_equal(a->state, TASK_VALID);
	assert_true(a->defined);
	assert_string_equal(a->key, "a");
	assert_string_equal(a->task.type, "classification");
	memcpy(before, a->definition, sizeof before);
	assert_ptr_equal(put(t, "a", "max_age_ms: 9\n", (struct task_place){ 0, 1, 11 }), a);
	assert_string_equal(a->definition, before);
	assert_int_equal(a->task.max_age_ms, 9);
	assert_int_equal(a->place.offset, 1);
	(void)put(t, "a", "bottleneck: 3\n", (struct task_place){ 0, 2, 12 });
	assert_string_not_equal(a->definition, before);
	assert_ptr_equal(drop(t, "a", (struct task_place){ 0, 3, 13 }), a);
	assert_int_equal(a->state, TASK_REMOVED);
	assert_false(a->defined);
	assert_ptr_equal(task_table_find(t, text("a")), a); /* it was there: that is not the same as never */
	(void)put(t, "a", "", (struct task_place){ 0, 4, 14 });
	assert_int_equal(a->state, TASK_VALID);
	assert_string_equal(a->definition, before);
	task_table_free(t);
	task_table_free(NULL);
}

static void a_bad_record_leaves_the_definition_in_force(void **state)
{
	struct task_table *t = open_table();
	const struct task_entry *a = put(t, "a", "bottleneck: 3\n", (struct task_place){ 0, 0, 10 });
	(void)apply(t, "a", text("?"), (struct task_place){ 0, 1, 11 });
	assert_int_equal(a->state, TASK_REFUSED);
	assert_true(a->defined);
	assert_int_equal(a->task.bottleneck, 3);
	assert_non_null(strstr(a->reason, "name: cut or damaged"));
	const struct task_entry *b =
		apply(t, "b", (struct slice){ (const uint8_t *)"", 0 }, (struct task_place){ 0, 2, 12 });
	assert_int_equal(b->state, TASK_REFUSED);
	assert_false(b->defined);
	(void)put(t, "b", "", (struct task_place){ 0, 3, 13 });
	assert_int_equal(b->state, TASK_VALID);
	assert_null(b->reason);
	(void)drop(t, "a", (struct task_place){ 0, 4, 14 });
	assert_int_equal(a->state, TASK_REMOVED);
	assert_null(a->reason);
	task_table_free(t);
}

static enum status narrow(const void *most, const struct config_task *task, struct error *err)
{
	if (task->bottleneck <= *(const int64_t *)most)
		return STATUS_OK;
	return error_set(err, STATUS_DATA, "bottleneck: too wide");
}

static void what_does_not_fit_is_refused_like_nonsense(void **state)
{
	const int64_t most = 16;
	const struct task_judge judge = { narrow, &most };
	struct task_table *t = NULL;
	struct error err;
	assert_int_equal(task_table_new(&judge, &t, &err), STATUS_OK);
	const struct task_entry *a = put(t, "a", "bottleneck: 17\n", (struct task_place){ 0, 0, 10 });
	assert_int_equal(a->state, TASK_REFUSED);
	assert_false(a->defined);
	assert_string_equal(a->reason, "bottleneck: too wide");
	(void)put(t, "a", "bottleneck: 3\n", (struct task_place){ 0, 1, 11 });
	assert_int_equal(a->state, TASK_VALID);
	assert_null(a->reason);
	(void)put(t, "a", "labels: [x, y]\nbottleneck: 17\n", (struct task_place){ 0, 2, 12 });
	assert_int_equal(a->state, TASK_REFUSED);
	assert_true(a->defined);
	assert_int_equal(a->task.bottleneck, 3);
	task_table_free(t);
}

static void one_key_in_two_partitions(void **state)
{
	struct task_table *t = open_table();
	const struct task_entry *a = put(t, "a", "bottleneck: 3\n", (struct task_place){ 1, 7, 20 });
	assert_null(put(t, "a", "bottleneck: 4\n", (struct task_place){ 0, 90, 19 }));
	assert_null(drop(t, "a", (struct task_place){ 0, 91, 20 })); /* of equal times the higher partition */
	assert_int_equal(a->task.bottleneck, 3);
	assert_non_null(
		put(t, "a", "bottleneck: 5\n", (struct task_place){ 1, 8, 1 })); /* offsets are the order in one */
	assert_int_equal(a->task.bottleneck, 5);
	assert_non_null(drop(t, "a", (struct task_place){ 0, 92, 21 }));
	assert_int_equal(a->place.partition, 0);
	task_table_free(t);
}

/* Read in any order of the partitions, as after a restart, it comes to the same. */
static void what_is_refused_hides_nothing_elsewhere(void **state)
{
	const struct task_place good = { 1, 5, 10 }, gone = { 1, 6, 20 }, bad = { 0, 9, 30 };
	for (int bad_at = 0; bad_at < 3; bad_at++) {
		struct task_table *t = open_table();
		if (bad_at == 0)
			(void)apply(t, "a", text("nonsense"), bad);
		const struct task_entry *a = put(t, "a", "bottleneck: 3\n", good);
		if (bad_at == 1)
			assert_non_null(apply(t, "a", text("nonsense"), bad));
		assert_true(a && a->defined);
		assert_int_equal(a->place.partition, 1);
		assert_non_null(drop(t, "a", gone));
		if (bad_at == 2)
			assert_non_null(apply(t, "a", text("nonsense"), bad));
		assert_false(a->defined);
		task_table_free(t);
	}
}

static void keys_are_in_order(void **state)
{
	static const char *const names[] = { "m", "b", "z", "ba", "a" };
	static const char *const sorted[] = { "a", "b", "ba", "m", "z" };
	struct task_table *t = open_table();
	assert_null(task_table_next(t, NULL));
	for (size_t i = 0; i < 5; i++)
		(void)put(t, names[i], "", (struct task_place){ 0, (int64_t)i, 0 });
	assert_null(apply(t, NULL, text("x"), (struct task_place){ 0, 9, 0 })); /* without a key */
	const struct task_entry *entry = NULL;
	for (size_t i = 0; i < 5; i++) {
		entry = task_table_next(t, entry);
		assert_string_equal(entry->key, sorted[i]);
	}
	assert_null(task_table_next(t, entry));
	task_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(definitions_come_change_and_go),
		cmocka_unit_test(a_bad_record_leaves_the_definition_in_force),
		cmocka_unit_test(what_does_not_fit_is_refused_like_nonsense),
		cmocka_unit_test(one_key_in_two_partitions),
		cmocka_unit_test(what_is_refused_hides_nothing_elsewhere),
		cmocka_unit_test(keys_are_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
