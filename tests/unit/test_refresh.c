/* Who is refreshed after a swap: the most recently used first, everybody with recent events once, whatever happens meanwhile. */
#include "daemon/refresh.h"
#include "shard_fixture.h"

#define NOW INT64_C(100000000)

static struct refresh refresh;

static int begin(void **state)
{
	refresh = (struct refresh){ .cache = &fx.cache, .window_ms = 60000 };
	return fx_begin(state);
}

/* Users of these names, a letter each, in the order in which they come; their last update was scored by `version`. */
static void come(const char *names, int64_t time_ms, uint64_t version)
{
	for (; *names; names++) {
		char name[2] = { *names, '\0' };
		fx_apply(name, "item 1", time_ms);
		fx_user(name)->scored = refresh_number(version);
	}
	fx_commit();
}

/* The names that a call chooses, in their order. */
static void expect_refreshed(uint64_t version, size_t at_most, const char *names)
{
	char got[64] = "";
	const size_t before = fx.batch.users_count;
	assert_true(refresh_collect(&refresh, &fx.batch, version, NOW, at_most));
	for (size_t i = before; i < fx.batch.users_count; i++)
		got[i - before] = fx.batch.users[i]->id[0];
	assert_string_equal(got, names);
	assert_true(fx.batch.users_count == 0 || fx.batch.shards_count == 1);
}

static void next_batch(void)
{
	batch_clear(&fx.batch);
	fx.batch.number = ++fx.batches;
}

static void slices_come_newest_first(void **state)
{
	come("abcde", NOW - 1000, 1);
	expect_refreshed(1, 9, ""); /* nobody needs it */
	expect_refreshed(2, 2, "ed");
	assert_int_equal(fx.batch.refreshed, 2);
	next_batch();
	expect_refreshed(2, 2, "cb");
	next_batch();
	expect_refreshed(2, 2, "a");
	next_batch();
	expect_refreshed(2, 2, "");
}

static void nobody_is_refreshed_unless_asked_for(void **state)
{
	refresh.window_ms = 0;
	come("ab", NOW, 1);
	expect_refreshed(2, 9, "");
}

static void the_old_and_the_forgotten_are_left_out(void **state)
{
	come("a", NOW - 70000, 1);
	come("b", NOW - 60000, 1);
	come("c", NOW - 1, 1);
	fx_tombstone("c");
	fx_commit();
	expect_refreshed(2, 9, "b");
}

static void those_of_the_batch_are_in_it_already(void **state)
{
	come("abc", NOW, 1);
	fx_apply("b", "item 2", NOW);
	expect_refreshed(2, 9, "ca");
	assert_int_equal(fx.batch.users_count, 3);
}

static void a_shard_that_is_not_live_waits(void **state)
{
	come("ab", NOW, 1);
	fx.shard->phase = SHARD_DRAINING;
	expect_refreshed(2, 9, "");
	fx.shard->phase = SHARD_LIVE;
}

/* Another swap comes while a pass is under way: it goes on, and then there is another one. */
static void swaps_do_not_start_it_over(void **state)
{
	come("abcd", NOW, 1);
	expect_refreshed(2, 2, "dc");
	next_batch();
	expect_refreshed(3, 2, "ba");
	next_batch();
	expect_refreshed(3, 9, "dc"); /* a and b have had the newest by now */
	next_batch();
	expect_refreshed(3, 9, "");
}

/* Users who are looked up, evicted or dropped in the middle of a pass. */
static void a_pass_survives_what_users_do(void **state)
{
	come("abcdef", NOW, 1);
	expect_refreshed(2, 1, "f");
	next_batch();
	user_cache_drop(&fx.cache, fx_user("e")); /* where it goes on; looking it up moved it */
	(void)fx_user("b");                       /* to the newest end, behind the walk */
	expect_refreshed(2, 2, "dc");
	next_batch();
	user_cache_drop(&fx.cache, fx_user("a"));
	expect_refreshed(2, 9, "");
	expect_refreshed(2, 9, "b"); /* a pass for those whom the first one missed */
	next_batch();
	expect_refreshed(2, 9, "");
	shard_drop_users(fx.shard, &fx.cache);
	expect_refreshed(3, 9, "");
}

static void many_users_take_many_calls(void **state)
{
	char name[16];
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof name, "user %d", i);
		struct user *u = user_cache_add(&fx.cache, fx.shard, fx_text(name));
		u->scored = refresh_number(2);
	}
	struct user *first = fx.cache.oldest;
	struct event event = { 1, NOW };
	enum sequence_place where;
	assert_int_equal(sequence_insert(&first->sequence, 4, event, &where, &fx.err), STATUS_OK);
	first->scored = 0;
	user_cache_resize(&fx.cache, first);
	expect_refreshed(2, 9, ""); /* it has looked at many */
	expect_refreshed(2, 9, "u");
}

static void numbers_are_never_zero(void **state)
{
	assert_int_equal(refresh_number(0), 1);
	assert_int_equal(refresh_number(7), 7);
	assert_int_equal(refresh_number(UINT64_C(1) << 32), 1);
	assert_int_equal(refresh_slice(0), 501);
	assert_int_equal(refresh_slice(1000), 11);
	assert_int_equal(refresh_slice(1e9), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, fx_end)
	const struct CMUnitTest tests[] = {
		TEST(slices_come_newest_first),
		TEST(nobody_is_refreshed_unless_asked_for),
		TEST(the_old_and_the_forgotten_are_left_out),
		TEST(those_of_the_batch_are_in_it_already),
		TEST(a_shard_that_is_not_live_waits),
		TEST(swaps_do_not_start_it_over),
		TEST(a_pass_survives_what_users_do),
		TEST(many_users_take_many_calls),
		cmocka_unit_test(numbers_are_never_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
