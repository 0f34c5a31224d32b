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
	assert_true(user_cache_trim(&cache));
	assert_true(cached("old") && !cached("older") && !cached("idle"));
	cache.stored = 7;
	assert_true(user_cache_trim(&cache));
	assert_int_equal(cache.users, 0);
}

/* Gives it a sequence and a state, as one has who was read and published. */
static void fill(struct user *u)
{
	struct error err;
	enum sequence_place place;
	for (int i = 0; i < 100; i++)
		assert_int_equal(sequence_insert(&u->sequence, 100, (struct event){ 1, i }, &place, &err), STATUS_OK);
	user_cache_resize(&cache, u);
	assert_true(user_cache_give_state(&cache, u));
	u->embedded = true;
	u->stale = false;
}

static void of_one_who_cools_a_husk_stays(void **state)
{
	struct user *ann = add("ann"), *bob = add("bob");
	fill(ann);
	fill(bob);
	thinning_published(&thinning, ann, 100);
	user_cache_set_owed(&cache, ann, true);
	thinning_published(&thinning, bob, 200);
	size_t full = ann->bytes;
	cache.budget_bytes = full + full / 2;
	assert_true(user_cache_trim(&cache));
	assert_true(ann->husk && !bob->husk);
	assert_null(ann->state);
	assert_null(ann->sequence.events);
	assert_true(!ann->embedded && ann->stale);
	assert_int_equal(ann->bytes, sizeof *ann + 3);
	assert_int_equal(cache.husks_bytes, ann->bytes);
	assert_int_equal(cache.bytes, ann->bytes + full);
	assert_true(ann->cooling && ann->owed && ann->published_us == 100);
	assert_ptr_equal(thinning.first, ann);
	assert_ptr_equal(user_cache_find(&cache, shard, id("ann")), ann);
	assert_ptr_equal(cache.newest, bob);
	assert_true(user_cache_trim(&cache));
	assert_int_equal(cache.evictions, 1);

	fill(ann); /* read back */
	user_cache_revive(&cache, ann);
	assert_ptr_equal(cache.newest, ann);
	assert_int_equal(cache.husks_bytes, 0);
	assert_int_equal(cache.bytes, 2 * full);
	assert_true(user_cache_trim(&cache));
	assert_true(bob->husk && !ann->husk);
}

static void one_who_is_not_in_the_store_leaves_no_husk(void **state)
{
	struct user *ann = add("ann");
	fill(ann);
	ann->batch = 7;
	cache.stored = 6;
	thinning_published(&thinning, ann, 100);
	cache.budget_bytes = 0;
	assert_true(user_cache_trim(&cache));
	assert_false(ann->husk);
	cache.stored = 7;
	cache.budget_bytes = ann->bytes - 1;
	assert_true(user_cache_trim(&cache));
	assert_true(ann->husk);
}

/* Before anybody's contents. */
static void husks_that_have_cooled_go_first(void **state)
{
	struct user *ann = add("ann");
	thinning_published(&thinning, ann, 100);
	cache.budget_bytes = 0;
	assert_true(user_cache_add_husk(&cache, shard, id("bob"))->husk);
	thinning_published(&thinning, user_cache_find(&cache, shard, id("bob")), 100);
	struct user *eve = add("eve");
	fill(eve);
	cache.budget_bytes = cache.bytes - 1;
	assert_null(thinning_due(&thinning, 5000, false));
	assert_true(user_cache_trim(&cache));
	assert_false(cached("bob"));
	assert_true(cached("ann") && !eve->husk);
}

/* What is pinned is no reason to forget whose interval is not over. */
static void pinned_contents_leave_the_husks_alone(void **state)
{
	struct user *ann = add("ann"), *bob = add("bob");
	fill(bob);
	bob->batch = 1;
	thinning_published(&thinning, ann, 1);
	cache.budget_bytes = bob->bytes;
	for (int i = 0; i < 2; i++) {
		assert_true(user_cache_trim(&cache));
		assert_true(cached("ann") && ann->husk && ann->cooling);
		assert_true(cache.bytes > cache.budget_bytes);
	}
}

/* Then the interval is not kept; one who is owed an update is never forgotten. */
static void husks_beyond_the_budget_go_unless_they_are_owed(void **state)
{
	struct user *ann = add("ann"), *bob = add("bob"), *eve = add("eve");
	thinning_published(&thinning, ann, 1);
	thinning_published(&thinning, bob, 2);
	thinning_published(&thinning, eve, 3);
	user_cache_set_owed(&cache, ann, true);
	cache.budget_bytes = cache.bytes - 1;
	assert_true(user_cache_trim(&cache));
	assert_true(cached("ann") && !cached("bob") && cached("eve"));
	assert_ptr_equal(thinning.first, ann);
	assert_ptr_equal(thinning.last, eve);
	cache.budget_bytes = 0;
	assert_false(user_cache_trim(&cache));
	assert_true(cached("ann") && ann->husk && !cached("eve"));
	user_cache_set_owed(&cache, ann, false);
	assert_true(user_cache_trim(&cache));
	assert_null(thinning.first);
	assert_null(thinning.last);
	assert_null(cache.oldest_husk);
	assert_int_equal(cache.husks_bytes, 0);
}

static void husks_leave_room_for_contents(void **state)
{
	for (int i = 0; i < 20; i++) {
		char name[16];
		(void)snprintf(name, sizeof name, "user%d", i);
		user_cache_set_owed(&cache, user_cache_add_husk(&cache, shard, id(name)), true);
	}
	struct user *full = add("full");
	fill(full);
	full->batch = 1;
	cache.budget_bytes = cache.bytes;
	assert_true(user_cache_has_room(&cache));
	cache.budget_bytes = cache.husks_bytes; /* exceeded, but the contents take less than a quarter? */
	assert_int_equal(user_cache_has_room(&cache), full->bytes < cache.husks_bytes / 4);
	cache.budget_bytes = 4 * full->bytes + 4;
	assert_int_equal(user_cache_has_room(&cache), true);
	cache.budget_bytes = full->bytes;
	assert_false(user_cache_has_room(&cache));
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

static void states_of_another_layout_are_void(void **state)
{
	struct user *u = add("a");
	struct user *other = add("b");
	size_t empty = cache.bytes;
	assert_true(user_cache_give_state(&cache, u) && user_cache_give_state(&cache, other));
	u->stale = false;
	u->embedded = true;
	user_cache_set_states(&cache, 3000);
	user_cache_resize(&cache, u);
	assert_int_equal(cache.bytes, empty + 2 * 1000);
	assert_true(user_cache_give_state(&cache, u));
	assert_true(u->stale);
	assert_false(u->embedded);
	assert_int_equal(cache.bytes, empty + 1000 + 3000);
	memset(u->state, 1, 3000);
	u->stale = false;
	user_cache_set_states(&cache, 3000); /* as long, but not the same */
	assert_true(user_cache_give_state(&cache, u));
	assert_true(u->stale);
	user_cache_set_states(&cache, 1000);
	user_cache_drop(&cache, other);
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
		TEST(a_new_user_is_empty_and_found_by_its_id),
		TEST(shards_do_not_share_users),
		TEST(the_least_recently_used_goes_first),
		TEST(nothing_goes_within_the_budget),
		TEST(users_of_unstored_batches_are_pinned),
		TEST(of_one_who_cools_a_husk_stays),
		TEST(one_who_is_not_in_the_store_leaves_no_husk),
		TEST(husks_that_have_cooled_go_first),
		TEST(husks_beyond_the_budget_go_unless_they_are_owed),
		TEST(pinned_contents_leave_the_husks_alone),
		TEST(husks_leave_room_for_contents),
		TEST(states_and_sequences_count),
		TEST(states_of_another_layout_are_void),
		TEST(dropping_the_owed_counts_them_down),
		TEST(a_long_random_history_evicts_as_the_model_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
