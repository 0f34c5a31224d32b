/* Tasks without memory: files, records and the table say so and leak nothing (the sanitizers watch). */
#include "config/config.h"
#include "io/task_record.h"
#include "io/task_table.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char yaml[] =
	"tasks:\n- {name: a, type: ranking, labels: [x, y, z], insertion: serial, blocks: [1, 0], rate: 0.5}\n"
	"- {name: b, type: regression}\n";

static struct config *parse(void)
{
	struct config *c = NULL;
	struct error err;
	assert_int_equal(config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &err), STATUS_OK);
	return c;
}

static void files(void **state)
{
	for (size_t n = 1;; n++) {
		struct config *c = NULL;
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_true(n > 20);
			config_free(c);
			return;
		}
		assert_int_equal(s, STATUS_MEMORY);
		assert_string_equal(err.text, "out of memory");
		assert_null(c);
	}
}

static void records_into_a_table(void **state)
{
	struct config *c = parse();
	struct buffer value = { 0 };
	const struct task_place place = { 0, 0, 0 };
	const struct slice key = { (const uint8_t *)"a", 1 };
	task_record_encode(&c->tasks[0], &value);
	for (size_t n = 1;; n++) {
		struct task_table *t = NULL;
		const struct task_entry *entry = NULL;
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = task_table_new(NULL, &t, &err);
		if (!s)
			s = task_table_apply(t, key, (struct slice){ value.data, value.length }, &place, &entry, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_int_equal(entry->state, TASK_VALID);
			task_table_free(t);
			break;
		}
		assert_int_equal(s, STATUS_MEMORY);
		if (t)
			assert_null(task_table_next(t, NULL));
		task_table_free(t);
	}
	buffer_free(&value);
	config_free(c);
}

static void a_refusal(void **state)
{
	struct task_table *t = NULL;
	const struct task_entry *entry = NULL;
	struct error err = { 0 };
	const struct task_place place = { 0, 0, 0 };
	const struct slice key = { (const uint8_t *)"a", 1 };
	assert_int_equal(task_table_new(NULL, &t, &err), STATUS_OK);
	oom_fail_at(1); /* the reason's copy */
	assert_int_equal(task_table_apply(t, key, key, &place, &entry, &err), STATUS_MEMORY);
	oom_reset();
	assert_null(task_table_find(t, key));
	task_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files),
		cmocka_unit_test(records_into_a_table),
		cmocka_unit_test(a_refusal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
