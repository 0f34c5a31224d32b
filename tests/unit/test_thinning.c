/* daemon/thinning: who cools, in which order updates come due, what is overdue, and what hurry takes. */
#include "daemon/shard.h"
#include "daemon/thinning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#define INTERVAL_US 1000

static struct thinning thinning;
static struct user *users[4];

static int begin(void **state)
{
	thinning = (struct thinning){ .interval_us = INTERVAL_US };
	for (size_t i = 0; i < 4; i++)
		if (!(users[i] = calloc(1, sizeof *users[i])))
			return -1;
	return 0;
}

static int end(void **state)
{
	for (size_t i = 0; i < 4; i++)
		free(users[i]);
	return 0;
}

static void one_that_was_just_published_is_held(void **state)
{
	assert_false(thinning_holds(&thinning, users[0], 5));
	thinning_published(&thinning, users[0], 100);
	assert_true(thinning_holds(&thinning, users[0], 100));
	assert_true(thinning_holds(&thinning, users[0], 1099));
	assert_false(thinning_holds(&thinning, users[0], 1100));
	assert_false(thinning_holds(&thinning, users[1], 100));
}

static void updates_come_due_in_the_order_of_publishing(void **state)
{
	for (size_t i = 0; i < 4; i++) {
		thinning_published(&thinning, users[i], (int64_t)i * 10);
		users[i]->owed = i != 1; /* 1 has nothing to say */
	}
	assert_null(thinning_due(&thinning, 999, false));
	assert_ptr_equal(thinning_due(&thinning, 1000, false), users[0]);
	assert_false(users[0]->cooling);
	assert_null(thinning_due(&thinning, 1010, false));
	assert_false(users[1]->cooling); /* cooled, and off the queue */
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[2]);
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[3]);
	assert_null(thinning_due(&thinning, 5000, false));
	assert_null(thinning.first);
	assert_null(thinning.last);
}

static void publishing_again_goes_to_the_end(void **state)
{
	for (size_t i = 0; i < 3; i++) {
		thinning_published(&thinning, users[i], (int64_t)i);
		users[i]->owed = true;
	}
	thinning_published(&thinning, users[0], 500);
	assert_ptr_equal(thinning_due(&thinning, 1100, false), users[1]);
	assert_ptr_equal(thinning_due(&thinning, 1100, false), users[2]);
	assert_null(thinning_due(&thinning, 1100, false));
	assert_ptr_equal(thinning_due(&thinning, 1500, false), users[0]);
}

static void the_overdue_come_first_and_at_once(void **state)
{
	thinning_published(&thinning, users[0], 0);
	users[0]->owed = users[1]->owed = users[2]->owed = true;
	thinning_overdue(&thinning, users[1]);
	thinning_overdue(&thinning, users[2]);
	assert_false(thinning_holds(&thinning, users[1], 1));
	struct user *first = thinning_due(&thinning, 1, false);
	struct user *second = thinning_due(&thinning, 1, false);
	assert_true((first == users[1] && second == users[2]) || (first == users[2] && second == users[1]));
	assert_null(thinning_due(&thinning, 1, false));
	assert_ptr_equal(thinning_due(&thinning, 1000, false), users[0]);
}

/* An owed user who was cooling when it is read back as overdue stands in the queue once. */
static void overdue_moves_one_that_cools(void **state)
{
	users[0]->owed = true;
	thinning_published(&thinning, users[0], 900);
	thinning_published(&thinning, users[1], 901);
	thinning_overdue(&thinning, users[0]);
	assert_ptr_equal(thinning.first, users[0]);
	assert_ptr_equal(thinning.last, users[1]);
	assert_ptr_equal(thinning_due(&thinning, 902, false), users[0]);
	assert_null(thinning_due(&thinning, 902, false));
}

static void hurry_takes_the_owed_before_they_have_cooled(void **state)
{
	for (size_t i = 0; i < 3; i++)
		thinning_published(&thinning, users[i], 100 + (int64_t)i);
	users[1]->owed = true;
	assert_null(thinning_due(&thinning, 103, false));
	assert_ptr_equal(thinning_due(&thinning, 103, true), users[1]);
	assert_null(thinning_due(&thinning, 103, true));
	assert_null(thinning.first);
}

static int readings; /* of husks */
static bool readable;

static bool read_back(void *arg, struct user *u)
{
	assert_ptr_equal(arg, &readings);
	readings++;
	u->husk = !readable;
	return readable;
}

/* One who cannot be read yet stays in its place, and nobody overtakes it. */
static void husks_are_read_back_when_they_are_due(void **state)
{
	thinning.read_back = read_back;
	thinning.read_back_arg = &readings;
	readings = 0;
	for (size_t i = 0; i < 4; i++) {
		thinning_published(&thinning, users[i], (int64_t)i);
		users[i]->husk = i < 3;
		users[i]->owed = i > 0;
	}
	readable = false;
	assert_null(thinning_due(&thinning, 999, false));
	assert_int_equal(readings, 0);
	assert_null(thinning_due(&thinning, 5000, false));
	assert_int_equal(readings, 1);
	assert_false(users[0]->cooling); /* it is owed nothing */
	assert_ptr_equal(thinning.first, users[1]);
	readable = true;
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[1]);
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[2]);
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[3]);
	assert_int_equal(readings, 3);
	assert_null(thinning.first);
}

static void without_an_interval_nobody_cools(void **state)
{
	thinning.interval_us = 0;
	thinning_published(&thinning, users[0], 100);
	assert_false(users[0]->cooling);
	assert_false(thinning_holds(&thinning, users[0], 100));
	users[1]->owed = true; /* since a process that did thin */
	thinning_overdue(&thinning, users[1]);
	assert_ptr_equal(thinning_due(&thinning, 100, false), users[1]);
}

static void removal_keeps_the_others_in_order(void **state)
{
	for (size_t i = 0; i < 4; i++) {
		thinning_published(&thinning, users[i], (int64_t)i);
		users[i]->owed = true;
	}
	thinning_remove(&thinning, users[1]);
	thinning_remove(&thinning, users[1]); /* not there any more: fine */
	thinning_remove(&thinning, users[3]);
	thinning_remove(&thinning, users[0]);
	assert_ptr_equal(thinning.first, users[2]);
	assert_ptr_equal(thinning.last, users[2]);
	thinning_published(&thinning, users[0], 50);
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[2]);
	assert_ptr_equal(thinning_due(&thinning, 5000, false), users[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(one_that_was_just_published_is_held),   TEST(updates_come_due_in_the_order_of_publishing),
		TEST(publishing_again_goes_to_the_end),      TEST(the_overdue_come_first_and_at_once),
		TEST(overdue_moves_one_that_cools),          TEST(hurry_takes_the_owed_before_they_have_cooled),
		TEST(without_an_interval_nobody_cools),      TEST(removal_keeps_the_others_in_order),
		TEST(husks_are_read_back_when_they_are_due),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
