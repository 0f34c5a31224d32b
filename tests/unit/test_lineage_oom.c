/* Lineages without memory: opening, taking and training say so and leak nothing (the sanitizers watch). */
#include "lineage_fixture.h"
#include "oom.h"

enum { KNOWN = 24, MORE = 8 };

/* A topic that has a life of KNOWN examples. */
static void live(const char *name)
{
	struct error err;
	record_examples(name);
	struct lineage *l = open_lineage(name);
	for (int i = 0; i < KNOWN; i++)
		hand(l, i);
	assert_int_equal(lineage_work(l, fx.examples[KNOWN - 1].offset + 1, &err), STATUS_OK);
	assert_int_equal(lineage_write(l, NULL, &err), STATUS_OK);
	lineage_close(l);
}

static enum status take(struct lineage *l, int i, struct error *err)
{
	struct example e;
	const struct buffer *b = &fx.examples[i].bytes;
	assert_int_equal(example_decode((struct slice){ b->data, b->length }, &e, err), STATUS_OK);
	return lineage_take(l, fx.examples[i].offset, &e, err);
}

/* Opened again, what is recorded done again, and a cut of its own. */
static enum status live_again(const char *name, struct error *err)
{
	struct lineage *l = NULL;
	enum status status = lineage_open(&fx.ctx, task_of(name), patch_table_find(fx.table, name), PARTITION, FIRST,
					  FIRST + 2 * EXAMPLES, &l, err);
	for (int i = 0; i < KNOWN + MORE && status == STATUS_OK; i++)
		status = take(l, i, err);
	for (int i = 0; i < 2 && status == STATUS_OK; i++)
		status = lineage_work(l, fx.examples[KNOWN + MORE - 1].offset + 1, err);
	lineage_close(l);
	return status;
}

static void sweep(const char *name)
{
	live(name);
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = live_again(name, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 100);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
	}
}

static void side(void **state)
{
	sweep("hue");
}

static void serial(void **state)
{
	sweep("size");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(side, begin, end),
		cmocka_unit_test_setup_teardown(serial, begin, end),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
