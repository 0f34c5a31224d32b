/* daemon/user_cache: least recently used first, never the pinned, and every byte counted. */
#include "daemon/shard.h"
#include "daemon/user_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static struct thinning thinning;
static struct shard *shard;
static struct user_cache cache;

static int begin(void **state)
{
	thinning = (struct thinning){ .interval_us = 1000 };
	cache = (struct user_cache){ .budget_bytes = SIZE_MAX, .state_bytes = 1000 };
	shard = shard_new(3, &thinning);
	return shard ? 0 : -1;
}

static int end(void **state)
{
	shard_free(shard, &cache);
	bool clean = cache.users == 0 && cache.bytes == 0 && cache.owed == 0 && !cache.newest && !cache.oldest;
	return clean ? 0 : -1;
}

static struct slice id(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static struct user *add(const char *name)
{
	struct user *u = user_cache_add(&cache, shard, id(name));
	assert_non_null(u);
	return u;
}

static bool cached(const char *name)
{
	struct user *u;
	struct slice key = id(name);
	HASH_FIND(hh, shard->users, key.data, key.length, u);
	return u != NULL;
}

static void a_new_user_is_empty_and_found_by_its_id(void **state)
{
	struct user *ann = add("ann");
	assert_ptr_equal(user_cache_find(&cache, shard, id("ann")), ann);
	assert_null(user_cache_find(&cache, shard, id("an")));
	assert_null(user_cache_find(&cache, shard, id("anna")));
	assert_int_equal(ann->newest_offset, -1);
	assert_int_equal(ann->sequence.length, 0);
	assert_ptr_equal(ann->shard, shard);
	assert_memory_equal(user_id(ann).data, "ann", 3);
	assert_int_equal(user_id(ann).length, 3);
	assert_int_equal(cache.users, 1);
}

static void shards_do_not_share_users(void **state)
{
	struct shard *other = shard_new(4, &thinning);
	struct user *mine = add("ann");
	struct user *theirs = user_cache_add(&cache, other, id("ann"));
	assert_ptr_not_equal(mine, theirs);
	assert_ptr_equal(user_cache_find(&cache, other, id("ann")), theirs);
	shard_free(other, &cache);
	assert_ptr_equal(user_cache_find(&cache, shard, id("ann")), mine);
	assert_int_equal(cache.users, 1);
}

/* Room for all but one: the one evicted is the least recently used, whoever was added first. */
static void the_least_recently_used_goes_first(void **state)
{
	add("a");
	add("b");
	add("c");
	assert_non_null(user_cache_find(&cache, shard, id("a")));
	cache.budget_bytes = cache.bytes - 1;
	assert_true(user_cache_trim(&cache));
	assert_true(cached("a") && cached("c") && !cached("b"));
	assert_non_null(user_cache_find(&cache, shard, id("c")));
	cache.budget_bytes = cache.bytes - 1;
	assert_true(user_cache_trim(&cache));
	assert_true(cached("c") && !cached("a"));
	assert_int_equal(cache.evictions, 2);
	assert_int_equal(cache.users, 1);
}

static void nothing_goes_within_the_budget(void **state)
{
	add("a");
	add("b");
	cache.budget_bytes = cache.bytes;
	assert_true(user_cache_trim(&cache));
	assert_int_equal(cache.users, 2);
	assert_int_equal(cache.evictions, 0);
}

static void users_of_unstored_batches_are_pinned(void **state)
{
	add("old")->batch = 7;
	add("older")->batch = 6;
	add("idle");
	cache.stored = 6;
	cache.budget_bytes = 0;
	assert_false(user_cache_trim(&cache));
	assert_true(cached("old") && !cached("older") && !cached("idle"));
	cache.stored = 7;
	assert_true(user_cache_trim(&cache));
	assert_int_equal(cache.users, 0);
}

static void the_owed_are_pinned(void **state)
{
	struct user *owed = add("owed");
	user_cache_set_owed(&cache, owed, true);
	user_cache_set_owed(&cache, owed, true);
	assert_int_equal(cache.owed, 1);
	cache.budget_bytes = 0;
	assert_false(user_cache_trim(&cache));
	assert_true(cached("owed"));
	user_cache_set_owed(&cache, owed, false);
	assert_int_equal(cache.owed, 0);
	assert_true(user_cache_trim(&cache));
	assert_false(cached("owed"));
}

static void eviction_leaves_the_thinning_queue(void **state)
{
	thinning_published(&thinning, add("a"), 1);
	thinning_published(&thinning, add("b"), 2);
	thinning_published(&thinning, add("c"), 3);
	cache.budget_bytes = cache.bytes - 1;
	assert_true(user_cache_trim(&cache));
	assert_ptr_equal(thinning.first, user_cache_find(&cache, shard, id("b")));
	assert_null(thinning.first->cooling_previous);
	cache.budget_bytes = 0;
	assert_true(user_cache_trim(&cache));
	assert_null(thinning.first);
	assert_null(thinning.last);
}

static void states_and_sequences_count(void **state)
{
	struct error err;
	enum sequence_place place;
	struct user *u = add("a");
	size_t empty = cache.bytes;
	assert_true(empty >= sizeof *u + 1);
	assert_true(user_cache_give_state(&cache, u));
	assert_int_equal(cache.bytes, empty + 1000);
	assert_true(u->stale);
	assert_int_equal((uintptr_t)u->state % 64, 0);
	void *kept = u->state;
	u->stale = false;
	assert_true(user_cache_give_state(&cache, u)); /* has one */
	assert_ptr_equal(u->state, kept);
	assert_false(u->stale);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sequence_insert(&u->sequence, 100, (struct event){ 1, i }, &place, &err), STATUS_OK);
	user_cache_resize(&cache, u);
	assert_int_equal(cache.bytes, empty + 1000 + u->sequence.capacity * sizeof(struct event));
	assert_int_equal(u->bytes, cache.bytes);
	user_cache_drop(&cache, u);
	assert_int_equal(cache.bytes, 0);
}

static void dropping_the_owed_counts_them_down(void **state)
{
	struct user *u = add("a");
	user_cache_set_owed(&cache, u, true);
	user_cache_drop(&cache, u);
	assert_int_equal(cache.owed, 0);
	assert_int_equal(cache.users, 0);
	assert_null(cache.newest);
}

/* Against a model: a list of names in the order of their last use. */
static void a_long_random_history_evicts_as_the_model_says(void **state)
{
	enum { NAMES = 40, ROOM = 12 };
	uint64_t last_use[NAMES] = { 0 };
	uint64_t seed = 7;
	char name[16];
	size_t one = 0;
	for (uint64_t step = 1; step <= 5000; step++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		int pick = (int)((seed >> 33) % NAMES);
		(void)snprintf(name, sizeof name, "user%02d", pick);
		if (!user_cache_find(&cache, shard, id(name)))
			add(name);
		one = cache.newest->bytes;
		last_use[pick] = step;
		cache.budget_bytes = ROOM * one;
		assert_true(user_cache_trim(&cache));
		uint64_t cut = 0; /* the ROOM-th newest use */
		for (int i = 0; i < NAMES; i++) {
			int newer = 0;
			for (int j = 0; j < NAMES; j++)
				newer += last_use[j] > last_use[i];
			if (newer == ROOM - 1 && last_use[i])
				cut = last_use[i];
		}
		for (int i = 0; i < NAMES; i++) {
			(void)snprintf(name, sizeof name, "user%02d", i);
			assert_int_equal(cached(name), last_use[i] && last_use[i] >= cut);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_new_user_is_empty_and_found_by_its_id), TEST(shards_do_not_share_users),
		TEST(the_least_recently_used_goes_first),      TEST(nothing_goes_within_the_budget),
		TEST(users_of_unstored_batches_are_pinned),    TEST(the_owed_are_pinned),
		TEST(eviction_leaves_the_thinning_queue),      TEST(states_and_sequences_count),
		TEST(dropping_the_owed_counts_them_down),      TEST(a_long_random_history_evicts_as_the_model_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
