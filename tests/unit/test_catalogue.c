/* io/catalogue: counting, order by falling count, forgetting rare items. */
#include "io/catalogue.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static void add(struct catalogue *c, const char *id)
{
	struct error err;
	struct slice slice = { (const uint8_t *)id, strlen(id) };
	if (catalogue_add(c, slice, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static uint32_t find(const struct catalogue *c, const char *id)
{
	return catalogue_find(c, hash_item(id, strlen(id)));
}

static struct catalogue *filled(const char *ids)
{
	struct error err;
	struct catalogue *c = NULL;
	assert_int_equal(catalogue_new(&c, &err), STATUS_OK);
	for (; *ids; ids++)
		add(c, (const char[]){ *ids, '\0' });
	return c;
}

static void falling_count_then_first_appearance(void **state)
{
	struct catalogue *c = filled("xabacbxbd");
	assert_int_equal(catalogue_size(c), 5);
	assert_int_equal(find(c, "x"), 0);
	assert_int_equal(find(c, "d"), 4);
	catalogue_rank(c, 1);
	static const char *const expected[] = { "b", "x", "a", "c", "d" };
	static const uint64_t counts[] = { 3, 2, 2, 1, 1 };
	assert_int_equal(catalogue_size(c), 5);
	for (uint32_t i = 0; i < 5; i++) {
		assert_string_equal(catalogue_ids(c)[i], expected[i]);
		assert_int_equal(find(c, expected[i]), i);
		assert_int_equal(catalogue_count(c, i), counts[i]);
	}
	assert_true(find(c, "nothing") == CATALOGUE_ABSENT);
	catalogue_free(c);
}

static void rare_items_go(void **state)
{
	struct catalogue *c = filled("xabacbxbd");
	catalogue_rank(c, 2);
	assert_int_equal(catalogue_size(c), 3);
	assert_int_equal(find(c, "a"), 2);
	assert_true(find(c, "c") == CATALOGUE_ABSENT);
	catalogue_rank(c, 4);
	assert_int_equal(catalogue_size(c), 0);
	catalogue_rank(c, 1);
	catalogue_free(c);
	catalogue_free(NULL);
}

static void many_items(void **state)
{
	enum { ITEMS = 5000 };
	char id[16];
	struct catalogue *c = filled("");
	for (int round = 0; round < 2; round++) {
		for (int i = round * ITEMS / 2; i < ITEMS; i++) {
			(void)snprintf(id, sizeof id, "i%d", i);
			add(c, id);
		}
	}
	catalogue_rank(c, 1);
	assert_int_equal(catalogue_size(c), ITEMS);
	assert_string_equal(catalogue_ids(c)[0], "i2500"); /* the first that was counted twice */
	assert_string_equal(catalogue_ids(c)[ITEMS / 2], "i0");
	catalogue_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(falling_count_then_first_appearance),
		cmocka_unit_test(rare_items_go),
		cmocka_unit_test(many_items),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
