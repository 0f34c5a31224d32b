/* daemon/shard: what each kind of record does to users, batch and position, over a real store. */
#include "shard_fixture.h"

static void events_are_appended(void **state)
{
	fx_apply("ann", "a", 10);
	fx_apply("ann", "b", 20);
	fx_apply("bob", "c", 15);
	fx_apply("ann", "d", 20); /* a tie: in order of arrival */
	fx_expect("ann", "a@10 b@20 d@20");
	fx_expect("bob", "c@15");
	assert_int_equal(fx_user("ann")->newest_offset, 3);
	assert_int_equal(fx_user("bob")->newest_offset, 2);
	assert_int_equal(fx_user("ann")->fresh, 3);
	assert_int_equal(fx.shard->position.interactions, 4);
	assert_int_equal(fx.shard->position.stream_time_ms, 20);
	assert_int_equal(fx.shard->committed.interactions, 0);
	assert_int_equal(fx.batch.users_count, 2);
	assert_int_equal(fx.batch.shards_count, 1);
	assert_int_equal(fx.batch.interactions, 4);
	assert_int_equal(fx.batch.records, 4);
	assert_int_equal(fx.batch.appended_count, 4);
}

static void out_of_order_events_are_placed_and_void_the_state(void **state)
{
	fx_apply("ann", "b", 20);
	fx_apply("ann", "c", 30);
	struct user *ann = fx_user("ann");
	ann->stale = false;
	fx_apply("ann", "d", 40);
	assert_false(ann->stale);
	fx_apply("ann", "a", 20); /* a tie with b: after it */
	assert_true(ann->stale);
	fx_expect("ann", "b@20 a@20 c@30 d@40");
	assert_int_equal(ann->newest_offset, 3);
	assert_int_equal(fx.shard->position.stream_time_ms, 40);
}

static void a_full_sequence_drops_its_oldest_and_ignores_the_late(void **state)
{
	for (int i = 0; i < 5; i++)
		fx_apply("ann", "a", 10 * i + 10);
	fx_expect("ann", "a@20 a@30 a@40 a@50");
	struct user *ann = fx_user("ann");
	ann->changed = 0;
	fx_apply("ann", "z", 15);
	fx_expect("ann", "a@20 a@30 a@40 a@50");
	assert_int_equal(fx.batch.late, 1);
	assert_int_equal(fx.batch.interactions, 5);
	assert_int_equal(fx.batch.records, 6);
	assert_int_equal(ann->changed, 0);
	assert_int_equal(ann->newest_offset, 4);
	assert_int_equal(fx.shard->position.interactions, 6);
	assert_int_equal(fx.batch.rejected_count, 0);
	fx_apply("ann", "z", 25);
	fx_expect("ann", "z@25 a@30 a@40 a@50");
}

static void exact_duplicates_are_events(void **state)
{
	fx_apply("ann", "a", 10);
	fx_apply("ann", "a", 10);
	fx_expect("ann", "a@10 a@10");
}

/* An item that the backbone does not know is an event like any other, and counted where it enters a sequence. */
static void unknown_items_are_kept_and_counted(void **state)
{
	fx_apply("ann", "item 3", 10);
	fx_apply("ann", "item 49", 20);
	assert_int_equal(fx.batch.unknown_items, 0);
	fx_apply("ann", "item 50", 30);
	fx_apply("ann", "x", 40);
	assert_int_equal(fx.batch.unknown_items, 2);
	assert_int_equal(fx_user("ann")->sequence.length, 4);
	assert_true(fx_user("ann")->sequence.events[2].item == hash_item("item 50", 7));
	fx_apply("ann", "y", 5); /* late: not in it */
	assert_int_equal(fx.batch.unknown_items, 2);
}

static void a_late_record_alone_moves_the_position(void **state)
{
	for (int i = 0; i < 4; i++)
		fx_apply("ann", "a", 10);
	fx_commit();
	fx_apply("ann", "z", 5);
	assert_int_equal(fx.batch.users_count, 0);
	assert_int_equal(fx.batch.shards_count, 1);
	assert_false(batch_empty(&fx.batch));
	assert_int_equal(fx.shard->position.interactions, 5);
}

static void a_tombstone_forgets(void **state)
{
	fx_apply("ann", "a", 10);
	fx_commit();
	fx_tombstone("ann");
	struct user *ann = fx_user("ann");
	assert_int_equal(ann->sequence.length, 0);
	assert_int_equal(ann->newest_offset, -1);
	assert_true(ann->stale);
	assert_int_equal(ann->changed, fx.batch.number);
	assert_int_equal(fx.batch.users_count, 1);
	assert_int_equal(fx.batch.forgotten, 1);
	fx_commit();
	fx_evict_all();
	fx_expect("ann", "");
}

static void one_forgotten_begins_anew_in_the_same_batch(void **state)
{
	for (int i = 0; i < 4; i++)
		fx_apply("ann", "a", 100 + i);
	fx_commit();
	fx_apply("ann", "b", 200);
	fx_tombstone("ann");
	fx_apply("ann", "c", 50); /* older than all that was forgotten: no matter */
	fx_expect("ann", "c@50");
	struct user *ann = fx_user("ann");
	assert_int_equal(ann->newest_offset, 6);
	assert_int_equal(ann->fresh, 1);
	assert_true(ann->stale);
	assert_int_equal(fx.batch.users_count, 1);
	fx_commit();
	fx_evict_all();
	fx_expect("ann", "c@50");
	assert_int_equal(fx_user("ann")->newest_offset, 6);
}

static void an_unknown_user_can_be_forgotten(void **state)
{
	fx_tombstone("nobody");
	assert_int_equal(fx.batch.users_count, 1);
	assert_int_equal(fx.batch.forgotten, 1);
	assert_int_equal(fx.shard->position.interactions, 1);
}

static void an_evicted_user_comes_back_as_stored(void **state)
{
	fx_apply("ann", "a", 10);
	fx_apply("ann", "b", 20);
	fx_commit();
	fx_evict_all();
	assert_int_equal(fx.cache.users, 0);
	uint64_t misses = metrics_sum(fx.metrics, 1, METRIC_CACHE_MISSES);
	fx_apply("ann", "c", 30);
	assert_int_equal(metrics_sum(fx.metrics, 1, METRIC_CACHE_MISSES), misses + 1);
	fx_expect("ann", "a@10 b@20 c@30");
	assert_true(fx_user("ann")->stale);
	assert_int_equal(fx_user("ann")->fresh, 1);
	fx.cache.budget_bytes = 0;
	assert_true(user_cache_trim(&fx.cache)); /* not in the store yet: pinned */
	fx_expect("ann", "a@10 b@20 c@30");
}

static void only_wanted_event_types_count(void **state)
{
	char *types[] = { strdup("view"), strdup("buy") };
	fx.config.interactions_event_types = (struct config_list){ types, 2 };
	fx_apply_typed("ann", "a", 10, "view");
	fx_apply_typed("ann", "b", 20, "click");
	fx_apply_typed("ann", "c", 30, "vie");
	fx_apply_typed("ann", "d", 40, "views");
	fx_apply_typed("ann", "e", 50, NULL);
	fx_apply_typed("ann", "f", 60, "buy");
	fx_expect("ann", "a@10 f@60");
	assert_int_equal(fx.batch.filtered, 4);
	assert_int_equal(fx.batch.interactions, 2);
	assert_int_equal(fx.batch.records, 6);
	assert_int_equal(fx.shard->position.interactions, 6);
	free(types[0]);
	free(types[1]);
}

/* ---- dead letters ---- */

static void expect_rejected(enum reason reason)
{
	assert_true(fx.batch.rejected_count > 0);
	const struct batch_rejected *r = &fx.batch.rejected[fx.batch.rejected_count - 1];
	assert_string_equal(reason_name(r->reason), reason_name(reason));
	assert_true(r->detail[0]);
	assert_int_equal(r->message->offset, fx.offset - 1);
}

static void reject(struct slice key, struct slice value, enum reason reason)
{
	size_t before = fx.batch.rejected_count;
	int64_t destroyed = fx.destroyed;
	if (fx_apply_raw(fx.offset++, key, value) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	assert_int_equal(fx.batch.rejected_count, before + 1);
	assert_int_equal(fx.destroyed, destroyed); /* the batch holds its event */
	expect_rejected(reason);
	assert_int_equal(fx.shard->position.interactions, fx.offset);
}

static void reject_interaction(const char *user, size_t user_bytes, const char *item, size_t item_bytes,
			       int64_t time_ms, enum reason reason)
{
	struct buffer value = { 0 };
	struct interaction i = { .user_id = { (const uint8_t *)user, user_bytes },
				 .item_id = { (const uint8_t *)item, item_bytes },
				 .timestamp_ms = time_ms };
	interaction_encode(&i, &value);
	reject(fx_text("k"), (struct slice){ value.data, value.length }, reason);
	buffer_free(&value);
}

static void bad_records_are_dead_letters_with_their_reason(void **state)
{
	static char longest[1100];
	static const uint8_t framed[] = { 0, 0, 0, 0, 1, 2, 'u', 2, 'i', 2, 0 };
	memset(longest, 'x', sizeof longest);
	reject(fx_text("k"), (struct slice){ (const uint8_t *)"", 0 }, REASON_UNDECODABLE);
	reject(fx_text("k"), fx_text("\x7f\x7f nonsense"), REASON_UNDECODABLE);
	reject(fx_text("k"), (struct slice){ framed, sizeof framed }, REASON_SCHEMA);
	reject_interaction("", 0, "a", 1, 10, REASON_MISSING_FIELD);
	reject_interaction("u", 1, "", 0, 10, REASON_MISSING_FIELD);
	reject_interaction("u", 1, "a", 1, -1, REASON_TIMESTAMP);
	reject_interaction("u", 1, "a", 1, fx.record_ms + SHARD_FIXTURE_DAY_MS + 1, REASON_TIMESTAMP);
	reject_interaction(longest, 257, "a", 1, 10, REASON_OVERSIZE);
	reject_interaction("u", 1, longest, 1025, 10, REASON_OVERSIZE);
	reject_interaction("\xff", 1, "a", 1, 10, REASON_UNDECODABLE);
	reject_interaction("u\0v", 3, "a", 1, 10, REASON_UNDECODABLE);
	/* tombstones without a key that could be a user's */
	reject((struct slice){ NULL, 0 }, (struct slice){ NULL, 0 }, REASON_MISSING_FIELD);
	reject((struct slice){ (const uint8_t *)longest, 257 }, (struct slice){ NULL, 0 }, REASON_OVERSIZE);
	reject((struct slice){ (const uint8_t *)"\0position", 9 }, (struct slice){ NULL, 0 }, REASON_UNDECODABLE);

	assert_int_equal(fx.batch.users_count, 0);
	assert_int_equal(fx.cache.users, 0);
	assert_int_equal(fx.batch.interactions, 0);
	assert_int_equal(fx.batch.records, fx.offset);
	assert_int_equal(fx.shard->position.stream_time_ms, -1);
	assert_true(fx.batch.rejected_bytes > 1000);
}

static void the_good_between_the_bad_take_effect(void **state)
{
	fx_apply("ann", "a", 10);
	reject(fx_text("ann"), fx_text("\x01"), REASON_UNDECODABLE);
	fx_apply("ann", "b", 20);
	fx_expect("ann", "a@10 b@20");
	assert_int_equal(fx.batch.records, 3);
	assert_int_equal(fx.batch.rejected[0].message->offset, 1);
}

/* ---- damage ---- */

static void a_damaged_user_is_an_error_that_changes_nothing(void **state)
{
	struct store_batch *b = store_batch_new(fx.shard->store);
	store_batch_put(b, fx_text("ann"), fx_text("nonsense"));
	assert_int_equal(store_batch_write(b, &fx.shard->position, &fx.err), STATUS_OK);
	store_batch_free(b);
	struct buffer value = { 0 };
	struct interaction i = { .user_id = fx_text("ann"), .item_id = fx_text("a"), .timestamp_ms = 10 };
	interaction_encode(&i, &value);
	assert_int_equal(fx_apply_raw(0, fx_text("ann"), (struct slice){ value.data, value.length }), STATUS_DATA);
	assert_int_equal(fx_apply_raw(0, fx_text("ann"), (struct slice){ NULL, 0 }), STATUS_DATA);
	buffer_free(&value);
	assert_int_equal(fx.shard->position.interactions, 0);
	assert_int_equal(fx.cache.users, 0);
	assert_int_equal(fx.batch.records, 0);
	assert_int_equal(fx.batch.users_count, 0);
}

static void dropping_users_leaves_nothing_behind(void **state)
{
	fx_apply("ann", "a", 10);
	fx_apply("bob", "a", 10);
	fx_commit();
	thinning_published(&fx.thinning, fx_user("ann"), 0);
	user_cache_set_owed(&fx.cache, fx_user("bob"), true);
	fx.thinning.interval_us = 10;
	thinning_overdue(&fx.thinning, fx_user("bob"));
	shard_drop_users(fx.shard, &fx.cache);
	assert_null(fx.thinning.first);
	assert_null(fx.shard->users);
	assert_int_equal(fx.cache.users, 0);
	assert_int_equal(fx.cache.owed, 0);
	fx_expect("ann", "a@10");
}

/* Whatever becomes of its contents, a user's place in the thinning queue stays. */
static void a_husk_is_filled_from_the_store(void **state)
{
	fx_apply("ann", "a", 10);
	fx_apply("ann", "b", 20);
	fx_commit();
	struct user *ann = fx_user("ann");
	fx.thinning.interval_us = 1000;
	thinning_published(&fx.thinning, ann, 5);
	fx.cache.state_bytes = 1000;
	assert_true(user_cache_give_state(&fx.cache, ann));
	fx.cache.budget_bytes = ann->bytes - 1;
	assert_true(user_cache_trim(&fx.cache));
	assert_true(ann->husk);
	fx.cache.budget_bytes = SIZE_MAX;
	uint64_t misses = metrics_sum(fx.metrics, 1, METRIC_CACHE_MISSES);
	fx_apply("ann", "c", 30);
	assert_ptr_equal(fx_user("ann"), ann);
	assert_int_equal(metrics_sum(fx.metrics, 1, METRIC_CACHE_MISSES), misses + 1);
	fx_expect("ann", "a@10 b@20 c@30");
	assert_false(ann->husk);
	assert_true(ann->stale);
	assert_true(thinning_holds(&fx.thinning, ann, 1004));
}

static void a_husk_whose_record_is_damaged_stays_one(void **state)
{
	struct user *ann = user_cache_add_husk(&fx.cache, fx.shard, fx_text("ann"));
	struct store_batch *b = store_batch_new(fx.shard->store);
	store_batch_put(b, fx_text("ann"), fx_text("nonsense"));
	assert_int_equal(store_batch_write(b, &fx.shard->position, &fx.err), STATUS_OK);
	store_batch_free(b);
	struct user *found;
	assert_int_equal(shard_user(fx.shard, &fx.ctx, fx_text("ann"), &found, &fx.err), STATUS_DATA);
	assert_true(ann->husk);
	assert_int_equal(ann->sequence.length, 0);
	assert_int_equal(fx.cache.husks_bytes, ann->bytes);
}

/* ---- sequences.ttl_days ---- */

static void sweep(void)
{
	if (apply_expiry(fx.shard, &fx.ctx, &fx.batch, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
}

static void the_sweep_forgets_those_whom_the_stream_has_outlived(void **state)
{
	fx.config.sequences_ttl_days = 2;
	fx_apply("old", "a", 1 * SHARD_FIXTURE_DAY_MS - 1);
	fx_apply("edge", "a", 1 * SHARD_FIXTURE_DAY_MS);
	fx_apply("new", "a", 3 * SHARD_FIXTURE_DAY_MS);
	fx_commit();
	sweep();
	assert_int_equal(fx.batch.forgotten, 1);
	assert_int_equal(fx_user("old")->sequence.length, 0);
	assert_int_equal(fx_user("old")->changed, fx.batch.number);
	assert_int_equal(fx_user("edge")->sequence.length, 1);
	assert_int_equal(fx_user("new")->sequence.length, 1);
	sweep(); /* not in the store yet, but known: once is enough */
	assert_int_equal(fx.batch.forgotten, 1);
	fx_commit();
	fx_evict_all();
	sweep();
	assert_int_equal(fx.batch.forgotten, 0);
	fx_expect("old", "");
}

static void one_who_came_back_is_not_swept(void **state)
{
	fx.config.sequences_ttl_days = 2;
	fx_apply("ann", "a", SHARD_FIXTURE_DAY_MS / 2);
	fx_apply("bob", "b", 2 * SHARD_FIXTURE_DAY_MS);
	fx_commit();
	fx_apply("ann", "b", 4 * SHARD_FIXTURE_DAY_MS); /* the store's copy is outlived, the cache's is not */
	sweep();
	assert_int_equal(fx_user("ann")->sequence.length, 2);
	assert_int_equal(fx.batch.forgotten, 0);
}

static void the_sweep_goes_round(void **state)
{
	char name[16];
	fx.config.sequences_ttl_days = 1;
	for (int i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof name, "user%03d", i);
		fx_apply(name, "a", i % 2 ? 10 : 3 * SHARD_FIXTURE_DAY_MS);
	}
	fx_commit();
	uint64_t forgotten = 0;
	for (int i = 0; i < 5; i++) { /* 64 users each */
		sweep();
		forgotten += fx.batch.forgotten;
		fx_commit();
	}
	assert_int_equal(forgotten, 100);
	/* and comes by those before the cursor again */
	fx_apply("zoe", "a", 9 * SHARD_FIXTURE_DAY_MS);
	fx_commit();
	forgotten = 0;
	for (int i = 0; i < 5; i++) {
		sweep();
		forgotten += fx.batch.forgotten;
		fx_commit();
	}
	assert_int_equal(forgotten, 100);
}

/* Whether and when the sweep came by makes no difference to any sequence: it is a function of the log. */
static void expiry_is_a_function_of_the_log(void **state)
{
	static const struct {
		const char *user;
		const char *item;
		int64_t half_days;
	} log[] = { { "ann", "a", 2 }, { "bob", "b", 3 }, { "bob", "c", 7 },  { "ann", "d", 8 },  { "eve", "e", 1 },
		    { "ann", "f", 9 }, { "eve", "g", 2 }, { "bob", "h", 30 }, { "ann", "i", 26 }, { "ann", "j", 31 } };
	char first[3][256];
	static const char *const names[] = { "ann", "bob", "eve" };
	fx.config.sequences_ttl_days = 2;
	for (unsigned plan = 0; plan < 1u << 9; plan += 73) { /* bit i: a sweep and a commit after record i */
		fx_evict_all();
		assert_int_equal(store_shard_reset(fx.shard->store, &fx.err), STATUS_OK);
		fx.shard->position = (struct position){ 0, -1, -1, -1 };
		buffer_clear(&fx.shard->expiry_cursor);
		for (size_t i = 0; i < sizeof log / sizeof log[0]; i++) {
			fx_apply(log[i].user, log[i].item, log[i].half_days * SHARD_FIXTURE_DAY_MS / 2);
			if (plan >> i & 1) {
				sweep();
				fx_commit();
			}
		}
		fx_commit();
		fx_evict_all();
		/* a last sweep, so that what is outlived is gone in every history */
		sweep();
		fx_commit();
		for (size_t n = 0; n < 3; n++) {
			struct buffer value = { 0 };
			const struct user *u = fx_user(names[n]);
			record_user_encode(&u->sequence, 0, &value);
			assert_true(value.length < sizeof first[n]);
			if (plan == 0)
				memcpy(first[n], value.data, value.length);
			assert_memory_equal(first[n], value.data, value.length);
			buffer_free(&value);
		}
	}
	fx_expect("bob", "b@129600000 c@302400000 h@1296000000"); /* not outlived when h came */
	fx_expect("ann", "i@1123200000 j@1339200000");
	fx_expect("eve", "");
}

static void without_a_ttl_nobody_is_forgotten(void **state)
{
	fx_apply("old", "a", 1);
	fx_apply("new", "a", 900 * SHARD_FIXTURE_DAY_MS);
	fx_commit();
	sweep();
	assert_true(batch_empty(&fx.batch));
	fx_apply("old", "b", 900 * SHARD_FIXTURE_DAY_MS);
	assert_int_equal(fx_user("old")->sequence.length, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_begin, fx_end)
	const struct CMUnitTest tests[] = {
		TEST(events_are_appended),
		TEST(out_of_order_events_are_placed_and_void_the_state),
		TEST(a_full_sequence_drops_its_oldest_and_ignores_the_late),
		TEST(exact_duplicates_are_events),
		TEST(unknown_items_are_kept_and_counted),
		TEST(a_late_record_alone_moves_the_position),
		TEST(a_tombstone_forgets),
		TEST(one_forgotten_begins_anew_in_the_same_batch),
		TEST(an_unknown_user_can_be_forgotten),
		TEST(an_evicted_user_comes_back_as_stored),
		TEST(only_wanted_event_types_count),
		TEST(bad_records_are_dead_letters_with_their_reason),
		TEST(the_good_between_the_bad_take_effect),
		TEST(a_damaged_user_is_an_error_that_changes_nothing),
		TEST(dropping_users_leaves_nothing_behind),
		TEST(a_husk_is_filled_from_the_store),
		TEST(a_husk_whose_record_is_damaged_stays_one),
		TEST(the_sweep_forgets_those_whom_the_stream_has_outlived),
		TEST(one_who_came_back_is_not_swept),
		TEST(the_sweep_goes_round),
		TEST(expiry_is_a_function_of_the_log),
		TEST(without_a_ttl_nobody_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
