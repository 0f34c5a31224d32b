/* Memory that runs out in a lane's parts: every failed allocation is an error that says so, and nothing leaks or is left
 * half done (the sanitizers watch). */
#include "oom.h"
#include "shard_fixture.h"

#include "daemon/join.h"
#include "daemon/publish.h"
#include "daemon/store_gate.h"
#include "daemon/trunk.h"
#include "daemon/worker.h"
#include "io/label.h"

/* Messages of these tests have none. */
rd_kafka_resp_err_t rd_kafka_message_headers(const rd_kafka_message_t *message, rd_kafka_headers_t **ret)
{
	return RD_KAFKA_RESP_ERR__NOENT;
}

/* Fails the 1st, 2nd, ... allocation of `once` until none fails. It returns its status, having cleaned up. Of so many
 * allocations the failure is `tolerated`. */
static void sweep(enum status (*once)(struct error *err), size_t at_least, size_t tolerated)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = once(&err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > at_least);
			assert_int_equal(tolerated, 0);
			return;
		}
		if (status == STATUS_OK && tolerated > 0) {
			tolerated--;
			continue;
		}
		if (status != STATUS_MEMORY)
			fail_msg("allocation %zu: status %d, %s", n, status, err.text);
	}
}

static enum status open_trunk(struct error *err)
{
	struct trunk *t = NULL;
	enum status status = trunk_new(fx.backbone, &fx.cache, &t, err);
	trunk_free(t);
	return status;
}

static enum status open_publisher(struct error *err)
{
	struct publisher p = { .config = &fx.config, .backbone = fx.backbone };
	enum status status = publisher_init(&p, err);
	publisher_free(&p);
	return status;
}

static enum status open_worker(struct error *err)
{
	uv_loop_t loop;
	struct worker *w = NULL;
	assert_int_equal(uv_loop_init(&loop), 0);
	enum status status = worker_new(&loop, "test", &w, err);
	worker_close(w);
	while (uv_run(&loop, UV_RUN_DEFAULT))
		continue;
	assert_int_equal(uv_loop_close(&loop), 0);
	return status;
}

static enum status open_gate(struct error *err)
{
	struct store_gate *g = NULL;
	enum status status = store_gate_new(&fx.config, &g, err);
	store_gate_free(g);
	return status;
}

static enum status open_shard(struct error *err)
{
	struct thinning thinning = { 0 };
	struct shard *shard = shard_new(9, &thinning);
	shard_free(shard, &fx.cache);
	return shard ? STATUS_OK : error_set_memory(err);
}

static void parts_open_or_say_that_memory_is_short(void **state)
{
	sweep(open_trunk, 3, 0);
	sweep(open_publisher, 2, 0);
	sweep(open_worker, 1, 0);
	sweep(open_gate, 1, 0);
	sweep(open_shard, 1, 0);
}

/* The table grows as users come; a user who could not be added is nowhere. */
static void a_cache_that_cannot_grow_stays_whole(void **state)
{
	char name[16];
	size_t users = 0;
	for (int i = 0; i < 500; i++) {
		struct slice id = { (const uint8_t *)name, (size_t)snprintf(name, sizeof name, "user %d", i) };
		for (size_t n = 1;; n++) {
			size_t bytes = fx.cache.bytes;
			oom_fail_at(n);
			struct user *u = user_cache_add(&fx.cache, fx.shard, id);
			bool failed = oom_failed();
			oom_reset();
			if (u) {
				users++;
				/* the table may do without what it asked for */
				assert_ptr_equal(user_cache_find(&fx.cache, fx.shard, id), u);
				break;
			}
			assert_true(failed);
			assert_int_equal(fx.cache.bytes, bytes);
			assert_int_equal(fx.cache.users, users);
			assert_int_equal(HASH_COUNT(fx.shard->users), users);
			assert_null(user_cache_find(&fx.cache, fx.shard, id));
		}
		assert_int_equal(HASH_COUNT(fx.shard->users), users);
	}
	for (int i = 0; i < 500; i++) {
		struct slice id = { (const uint8_t *)name, (size_t)snprintf(name, sizeof name, "user %d", i) };
		assert_non_null(user_cache_find(&fx.cache, fx.shard, id));
	}
}

static void a_state_that_cannot_be_had_is_not_counted(void **state)
{
	fx.cache.state_bytes = 1000;
	struct user *u = user_cache_add(&fx.cache, fx.shard, fx_text("ann"));
	size_t bytes = fx.cache.bytes;
	oom_fail_at(1);
	assert_false(user_cache_give_state(&fx.cache, u));
	oom_reset();
	assert_int_equal(fx.cache.bytes, bytes);
	assert_null(u->state);
	assert_true(user_cache_give_state(&fx.cache, u));
	user_cache_set_states(&fx.cache, 2000);
	oom_fail_at(1);
	assert_false(user_cache_give_state(&fx.cache, u)); /* the one of the old layout is gone */
	oom_reset();
	assert_int_equal(fx.cache.bytes, bytes);
	assert_null(u->state);
}

static void a_batch_that_cannot_grow_changes_nothing(void **state)
{
	rd_kafka_message_t message = { .len = 5 };
	struct user *u = user_cache_add(&fx.cache, fx.shard, fx_text("ann"));
	oom_fail_at(1);
	assert_false(batch_touch_user(&fx.batch, u));
	oom_fail_at(1);
	assert_false(batch_touch_shard(&fx.batch, fx.shard));
	oom_fail_at(1);
	assert_false(batch_reject(&fx.batch, NULL, &message, REASON_OVERSIZE, "x"));
	oom_fail_at(1);
	batch_note_append(&fx.batch, 1);
	oom_reset();
	assert_true(batch_empty(&fx.batch));
	assert_int_equal(u->batch, 0);
	assert_int_equal(fx.shard->batch, 0);
	assert_int_equal(fx.batch.rejected_count, 0);
	assert_int_equal(fx.batch.rejected_bytes, 0);
	assert_int_equal(fx.batch.appended_count, 0);
	assert_true(batch_touch_user(&fx.batch, u));
	assert_true(batch_touch_shard(&fx.batch, fx.shard));
}

static struct buffer record;

/* What the lane does on STATUS_MEMORY is to end: users and batch are dropped, nothing is written. */
static enum status apply_three(struct error *err)
{
	static const struct slice nothing;
	int64_t at = fx.shard->position.interactions;
	enum status status = fx_apply_raw(at, fx_text("ann"), (struct slice){ record.data, record.length });
	if (status == STATUS_OK)
		status = fx_apply_raw(at + 1, fx_text("k"), fx_text("\x01"));
	if (status == STATUS_OK)
		status = fx_apply_raw(at + 2, fx_text("bob"), nothing);
	*err = fx.err;
	size_t letters = fx.batch.rejected_count;
	shard_drop_users(fx.shard, &fx.cache);
	batch_free(&fx.batch);
	buffer_free(&fx.ctx.scratch);
	fx.batch.number = ++fx.batches;
	fx.shard->position = fx.shard->committed;
	assert_true(letters <= 1);
	return status;
}

static void applying_fails_whole(void **state)
{
	struct interaction i = { .user_id = fx_text("ann"), .item_id = fx_text("a"), .timestamp_ms = 10 };
	fx_apply("ann", "a", 5); /* in the store, so that it is read */
	fx_commit();
	fx_evict_all();
	interaction_encode(&i, &record);
	sweep(apply_three, 5, 1); /* a sample of the latency histogram */
	fx_expect("ann", "a@5");
	buffer_free(&record);
}

static struct buffer labels[2];

/* One label begins to wait and is joined, one is given up. */
static enum status wait_and_join(struct error *err)
{
	static rd_kafka_message_t messages[2];
	enum status status = STATUS_OK;
	for (int i = 0; i < 2 && status == STATUS_OK; i++) {
		int *event = &fx.destroys[fx.events++];
		messages[i] = (rd_kafka_message_t){ .partition = SHARD_FIXTURE_PARTITION,
						    .offset = i,
						    .payload = labels[i].data,
						    .len = labels[i].length };
		status = join_label(fx.shard, &fx.ctx, &fx.batch, (rd_kafka_event_t *)(void *)event, &messages[i],
				    &fx.err);
		if (status != STATUS_OK)
			rd_kafka_event_destroy((rd_kafka_event_t *)(void *)event);
	}
	if (status == STATUS_OK)
		status = fx_apply_raw(fx.shard->position.interactions, fx_text("ann"),
				      (struct slice){ record.data, record.length });
	if (status == STATUS_OK)
		status = fx_apply_raw(fx.shard->position.interactions, fx_text("bob"), (struct slice){ NULL, 0 });
	*err = fx.err;
	assert_true(status != STATUS_OK ||
		    (fx.shard->waiting.count == 0 && fx.batch.rejected_count == 1 && fx.batch.waits_count == 4));
	waiting_clear(&fx.shard->waiting);
	shard_drop_users(fx.shard, &fx.cache);
	batch_free(&fx.batch);
	buffer_free(&fx.ctx.scratch);
	fx.batch.number = ++fx.batches;
	fx.shard->position = fx.shard->committed;
	return status;
}

static void waiting_for_a_user_fails_whole(void **state)
{
	static const char yaml[] = "tasks: [{name: t, type: ranking, wait_ms: 1000}]\n";
	const struct interaction i = { .user_id = fx_text("ann"), .item_id = fx_text("a"), .timestamp_ms = 10 };
	struct label label = {
		.task = fx_text("t"), .user_id = fx_text("ann"), .timestamp_ms = 20, .text = fx_text("x")
	};
	struct config *c;
	assert_int_equal(config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &fx.err), STATUS_OK);
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, 1, &fx.ctx.tasks, &fx.err), STATUS_OK);
	config_free(c);
	interaction_encode(&i, &record);
	label_encode(&label, &labels[0]);
	label.user_id = fx_text("bob");
	label_encode(&label, &labels[1]);
	sweep(wait_and_join, 10, 1); /* a sample of the latency histogram */
	task_set_release(fx.ctx.tasks);
	buffer_free(&record);
	buffer_free(&labels[0]);
	buffer_free(&labels[1]);
}

static enum status expire(struct error *err)
{
	enum status status = apply_expiry(fx.shard, &fx.ctx, &fx.batch, err);
	assert_true(status != STATUS_OK || fx.batch.forgotten == 2);
	shard_drop_users(fx.shard, &fx.cache);
	batch_free(&fx.batch);
	buffer_free(&fx.ctx.scratch);
	buffer_free(&fx.shard->expiry_cursor);
	fx.batch.number = ++fx.batches;
	return status;
}

static void the_sweep_for_expiry_fails_whole(void **state)
{
	fx.config.sequences_ttl_days = 1;
	fx_apply("ann", "a", 10);
	fx_apply("bob", "a", 20);
	fx_apply("eve", "a", 5 * SHARD_FIXTURE_DAY_MS);
	fx_commit();
	fx_evict_all();
	sweep(expire, 5, 0);
}

static void embedding_fails_whole(void **state)
{
	struct trunk *trunk = NULL;
	fx.cache.state_bytes = trunk_state_bytes(fx.backbone);
	assert_int_equal(trunk_new(fx.backbone, &fx.cache, &trunk, &fx.err), STATUS_OK);
	fx_apply("ann", "a", 10);
	fx_apply("bob", "a", 20);
	struct user *users[2] = { fx_user("ann"), fx_user("bob") };
	float out[2 * 64];
	struct error err;
	for (int tries = 0; tries < 2; tries++) { /* the first user's state, then the second's */
		oom_fail_at(tries == 0 ? 1 : 2);
		assert_int_equal(trunk_embed(trunk, users, 2, out, &err), STATUS_MEMORY);
		oom_reset();
	}
	assert_int_equal(trunk_embed(trunk, users, 2, out, &err), STATUS_OK);
	trunk_free(trunk);
}

static void expect_side_states(struct trunk *trunk, struct user *u, const float *expected)
{
	const uint32_t level = 1;
	float out[2 * 64];
	struct error err;
	assert_int_equal(trunk_side_states(trunk, &u, 1, &level, 1, 3, out, &err), STATUS_OK);
	assert_memory_equal(out, expected, 2 * backbone_dim(fx.backbone) * sizeof *out);
}

static void levels_that_cannot_be_kept_leave_those_that_were(void **state)
{
	struct trunk *trunk = NULL;
	const uint32_t level = 1;
	float expected[2 * 64];
	struct error err;
	fx.cache.state_bytes = trunk_state_bytes(fx.backbone);
	assert_int_equal(trunk_new(fx.backbone, &fx.cache, &trunk, &fx.err), STATUS_OK);
	fx_apply("ann", "a", 10);
	fx_apply("ann", "b", 20);
	struct user *u = fx_user("ann");
	assert_int_equal(trunk_keep_levels(trunk, &level, 1, 3, &err), STATUS_OK);
	oom_fail_at(1);
	assert_int_equal(trunk_side_states(trunk, &u, 1, &level, 1, 3, expected, &err), STATUS_MEMORY);
	oom_reset();
	assert_int_equal(trunk_side_states(trunk, &u, 1, &level, 1, 3, expected, &err), STATUS_OK);
	for (size_t n = 1;; n++) {
		oom_fail_at(n);
		enum status status = trunk_keep_levels(trunk, &level, 1, 7, &err);
		bool failed = oom_failed();
		oom_reset();
		expect_side_states(trunk, u, expected);
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 3);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
	}
	trunk_free(trunk);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_begin, fx_end)
	const struct CMUnitTest tests[] = {
		TEST(parts_open_or_say_that_memory_is_short),
		TEST(a_cache_that_cannot_grow_stays_whole),
		TEST(a_state_that_cannot_be_had_is_not_counted),
		TEST(a_batch_that_cannot_grow_changes_nothing),
		TEST(applying_fails_whole),
		TEST(waiting_for_a_user_fails_whole),
		TEST(the_sweep_for_expiry_fails_whole),
		TEST(embedding_fails_whole),
		TEST(levels_that_cannot_be_kept_leave_those_that_were),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
