/* The inside of a lane, where no broker can be made to bring the moment about: what an abort leaves of a partition that is
 * being given away, and which of the waiting store writes go with one that has left. */
#include "shard_fixture.h"

#include "base/clock.h"
#include "daemon/lane_private.h"

static struct lane *lane;
static struct shard *leaving;

static int begin(void **state)
{
	if (fx_begin(state) != 0 || !(lane = calloc(1, sizeof *lane)) || !(leaving = shard_new(8, &lane->thinning)))
		return -1;
	if (store_shard_open(fx.store, 8, &leaving->store, &fx.err) != STATUS_OK)
		return -1;
	lane->ctx.config = &fx.config;
	lane->store_last = &lane->store_first;
	lane->cache.budget_bytes = SIZE_MAX;
	lane->thinning.interval_us = 1000000;
	lane_prepare_thinning(lane);
	fx.ctx.cache = &lane->cache;
	fx.shard->thinning = &lane->thinning;
	lane->apply = fx.ctx;
	lane->phase = LANE_RUNNING;
	fx.shard->next = leaving;
	lane->shards = fx.shard;
	lane_next_batch(lane);
	return 0;
}

static int end(void **state)
{
	lane_store_forget(lane);
	shard_free(leaving, &lane->cache);
	shard_drop_users(fx.shard, &lane->cache);
	bool clean = lane->cache.users == 0 && lane->cache.owed == 0 && !lane->thinning.first;
	fx.ctx.scratch = lane->apply.scratch;
	free(lane);
	return clean ? fx_end(state) : -1;
}

static struct position at(int64_t offset)
{
	return (struct position){ offset, -1, 7, -1 };
}

/* A user who comes due may bring a draining partition into the next batch, which commits its position: that must not lie
 * beyond what the abort has dropped. */
static void an_abort_rewinds_partitions_that_drain(void **state)
{
	leaving->phase = SHARD_DRAINING;
	leaving->position = at(20);
	leaving->committed = at(10);
	fx.shard->position = at(40);
	fx.shard->committed = at(30);
	lane->breakage = true;
	lane_resume_after_abort(lane);
	assert_int_equal(leaving->position.interactions, 10);
	assert_int_equal(fx.shard->position.interactions, 30);
	assert_false(lane->breakage);
}

static void a_partition_that_failed_or_is_restored_stays_as_it_is(void **state)
{
	leaving->phase = SHARD_FAILED;
	leaving->position = at(20);
	leaving->committed = at(10);
	lane_resume_after_abort(lane);
	assert_int_equal(leaving->position.interactions, 20);
}

/* Whoever was owed an update as of the last commit is owed it again, and at once. */
static void an_abort_brings_back_who_is_owed(void **state)
{
	struct buffer key = { 0 };
	struct position position = at(5);
	struct store_batch *b = store_batch_new(fx.shard->store);
	record_key_owed(fx_text("ann"), &key);
	store_batch_put(b, (struct slice){ key.data, key.length }, fx_text("x"));
	assert_int_equal(store_batch_write(b, &position, &fx.err), STATUS_OK);
	store_batch_free(b);
	buffer_free(&key);
	lane_resume_after_abort(lane);
	assert_int_equal(lane->cache.owed, 1);
	struct user *ann = user_cache_find(&lane->cache, fx.shard, fx_text("ann"));
	assert_true(ann->owed && ann->owed_recorded);
	lane_resume_after_abort(lane); /* once */
	assert_int_equal(lane->cache.owed, 1);
	assert_true(ann->husk);
	assert_ptr_equal(thinning_due(&lane->thinning, 0, false), ann);
	assert_false(ann->husk);
	assert_null(thinning_due(&lane->thinning, 0, false));
}

static void dropping_batches_drops_their_users_once(void **state)
{
	struct user *both = user_cache_add(&lane->cache, fx.shard, fx_text("both"));
	struct user *first = user_cache_add(&lane->cache, fx.shard, fx_text("first"));
	struct user *second = user_cache_add(&lane->cache, fx.shard, fx_text("second"));
	(void)user_cache_add(&lane->cache, fx.shard, fx_text("neither"));
	uint64_t number = lane->open.number;
	assert_true(batch_touch_user(&lane->open, both) && batch_touch_user(&lane->open, first));
	lane->committing = lane->open;
	lane->open = (struct batch){ 0 };
	lane_next_batch(lane);
	assert_true(batch_touch_user(&lane->open, both) && batch_touch_user(&lane->open, second));
	thinning_published(&lane->thinning, both, 1);
	thinning_published(&lane->thinning, first, 1);
	lane_drop_batches(lane);
	assert_int_equal(lane->cache.users, 1);
	assert_non_null(user_cache_find(&lane->cache, fx.shard, fx_text("neither")));
	assert_null(lane->thinning.first);
	assert_true(batch_empty(&lane->open) && batch_empty(&lane->committing));
	assert_true(lane->open.number > number + 1); /* no late delivery report finds it */
	batch_free(&lane->open);
	batch_free(&lane->committing);
}

/* ---- store writes that wait for the disk ---- */

static void wait_for_disk(uint64_t number, int64_t offset, const char *value)
{
	struct store_job *job = calloc(1, sizeof *job);
	struct shard *shards[] = { fx.shard, leaving };
	assert_non_null(job);
	job->parts = calloc(2, sizeof *job->parts);
	assert_non_null(job->parts);
	job->lane = lane;
	job->number = number;
	job->count = 2;
	for (size_t i = 0; i < 2; i++) {
		job->parts[i].shard = shards[i];
		job->parts[i].position = at(offset);
		job->parts[i].batch = store_batch_new(shards[i]->store);
		store_batch_put(job->parts[i].batch, fx_text("ann"), fx_text(value));
	}
	*lane->store_last = job;
	lane->store_last = &job->next;
}

/* With a disk that fails a revocation takes only its own partitions' writes along: those that stay must get every batch,
 * or the store would be believed with a hole in it. */
static void a_partition_that_leaves_takes_only_its_own_writes(void **state)
{
	wait_for_disk(1, 10, "1");
	wait_for_disk(2, 20, "2");
	lane->store_first->written = 1; /* the disk took a part of the first */
	lane->store_retry_us = 1;
	lane_store_forget_shard(lane, leaving);
	assert_false(lane_stored(lane));
	assert_int_equal(lane->store_first->count, 1);
	const struct store_job *second = lane->store_first->next;
	assert_int_equal(second->count, 1);
	assert_ptr_equal(second->parts[0].shard, fx.shard);
	assert_int_equal(second->parts[0].position.interactions, 20);
	assert_int_equal(store_batch_write(second->parts[0].batch, &second->parts[0].position, &fx.err), STATUS_OK);
	lane_store_forget(lane);
	assert_true(lane_stored(lane));
	assert_int_equal(lane->store_retry_us, 0);
}

static void what_never_leaves_stays_whole(void **state)
{
	struct shard stranger = { .partition = 99 };
	wait_for_disk(1, 10, "1");
	lane_store_forget_shard(lane, &stranger);
	assert_int_equal(lane->store_first->count, 2);
	assert_ptr_equal(lane->store_first->parts[1].shard, leaving);
}

/* ---- what the outside is told ---- */

static void expect_told(struct status_board *board, enum lane_phase phase, int64_t for_us, const char *reason)
{
	struct lane_status status;
	lane->phase = phase;
	lane->committed_us = clock_monotonic_us() - for_us;
	lane_publish_health(lane);
	assert_int_equal(status_board_read(board, 0, &status, &fx.err), STATUS_OK);
	assert_string_equal(status.reason, reason);
	assert_int_equal(status.ready, reason[0] == '\0');
	lane_status_clear(&status);
}

/* Brokers may answer every question and yet not end a transaction: readiness says so. */
static void a_transaction_that_does_not_end_is_said(void **state)
{
	struct status_board *board;
	assert_int_equal(status_board_new(1, &board, &fx.err), STATUS_OK);
	lane->ctx.board = board;
	lane->assigned_once = true;
	lane->shards = NULL;
	expect_told(board, LANE_COMMITTING, 3000000, "");
	expect_told(board, LANE_COMMITTING, 7500000, "brokers: a commit has waited for 7 s");
	expect_told(board, LANE_ABORTING, 3000000, "");
	expect_told(board, LANE_ABORTING, 9500000, "brokers: an abort has waited for 9 s");
	expect_told(board, LANE_RUNNING, 9500000, "");
	status_board_free(board);
}

/* A full cache of users whom the store has is room, not a reason to cut; of users whom it has not, it is one. */
static void a_full_cache_makes_room_for_what_comes(void **state)
{
	char name[16];
	lane->cache.stored = 1;
	for (int i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof name, "u%d", i);
		struct user *u = user_cache_add(&lane->cache, fx.shard, fx_text(name));
		assert_non_null(u);
		u->batch = i < 4 ? 1 : 2;
	}
	lane->cache.budget_bytes = lane->cache.bytes - 1;
	assert_true(lane_cache_fits(lane));
	assert_int_equal(lane->cache.users, 7);
	lane->cache.budget_bytes = 1;
	assert_false(lane_cache_fits(lane));
	assert_int_equal(lane->cache.users, 4);
}

/* What is left to be computed at the cut is bounded: serving goes on between the cuts of a backlog of labels. */
static void a_batch_takes_so_many_states(void **state)
{
	fx.config.transaction_max_records = 10000;
	assert_true(lane_has_room(lane));
	lane->open.states_work = (size_t)63 * 64 * 64;
	assert_true(lane_has_room(lane));
	lane->open.states_work += (size_t)64 * 64;
	assert_false(lane_has_room(lane));
	batch_clear(&lane->open);
	assert_true(lane_has_room(lane));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(an_abort_rewinds_partitions_that_drain),
		TEST(a_partition_that_failed_or_is_restored_stays_as_it_is),
		TEST(an_abort_brings_back_who_is_owed),
		TEST(dropping_batches_drops_their_users_once),
		TEST(a_partition_that_leaves_takes_only_its_own_writes),
		TEST(what_never_leaves_stays_whole),
		TEST(a_transaction_that_does_not_end_is_said),
		TEST(a_full_cache_makes_room_for_what_comes),
		TEST(a_batch_takes_so_many_states),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
