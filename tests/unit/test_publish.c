/* daemon/publish: what a batch becomes: updates, changelog, dead letters and positions, over a producer that remembers.
 * The store gets what the changelog gets. */
#include "publish_fixture.h"

#include "daemon/join.h"
#include "io/example.h"
#include "io/label.h"
#include "io/update.h"

static void expect_update(const char *name, int64_t length, int64_t time_ms, int64_t offset)
{
	const struct produced *r = of_user(TOPIC_UPDATES, name);
	struct buffer floats = { 0 };
	struct update update;
	assert_non_null(r);
	assert_int_equal(r->partition, SHARD_FIXTURE_PARTITION);
	assert_int_equal(update_decode((struct slice){ r->value.data, r->value.length }, &floats, &update, &fx.err),
			 STATUS_OK);
	assert_memory_equal(update.user_id.data, name, strlen(name));
	assert_int_equal(update.sequence_length, length);
	assert_int_equal(update.event_time_ms, time_ms);
	assert_int_equal(update.partition, SHARD_FIXTURE_PARTITION);
	assert_int_equal(update.offset, offset);
	assert_memory_equal(update.backbone.data, backbone_hash(fx.backbone), HASH_HEX_LENGTH);
	assert_int_equal(update.dim, backbone_dim(fx.backbone));
	buffer_free(&floats);
}

/* What the store holds of a key equals what the changelog says of it. */
static void expect_stored(const struct produced *r)
{
	struct buffer value = { 0 };
	bool found = false;
	assert_int_equal(
		store_shard_get(fx.shard->store, (struct slice){ r->key.data, r->key.length }, &value, &found, &fx.err),
		STATUS_OK);
	assert_int_equal(found, !r->tombstone);
	if (found) {
		assert_int_equal(value.length, r->value.length);
		assert_memory_equal(value.data, r->value.data, value.length);
	}
	buffer_free(&value);
}

/* ---- tests ---- */

static void each_changed_user_is_published_once_and_logged(void **state)
{
	fx_apply("ann", "item 1", 10);
	fx_apply("bob", "item 2", 20);
	fx_apply("ann", "item 3", 30);
	publish(0);
	expect_update("ann", 2, 30, 2);
	expect_update("bob", 1, 20, 1);
	assert_int_equal(fx.batch.updates, 2);
	assert_int_equal(count, 5); /* two updates, two users, a position */
	const struct produced *ann = of_user(TOPIC_CHANGELOG, "ann");
	struct sequence s = { 0 };
	int64_t newest;
	assert_int_equal(record_user_decode((struct slice){ ann->value.data, ann->value.length }, &s, &newest, &fx.err),
			 STATUS_OK);
	assert_int_equal(s.length, 2);
	assert_int_equal(newest, 2);
	sequence_free(&s);
	assert_null(owed_of("ann"));
	const struct produced bob = *of_user(TOPIC_CHANGELOG, "bob");
	commit();
	expect_stored(ann);
	expect_stored(&bob);
}

static void the_position_comes_last_with_its_shard_as_opaque(void **state)
{
	fx_apply("ann", "item 1", 10);
	publish(0);
	const struct produced *last = &records[count - 1];
	struct position position;
	assert_int_equal(last->topic, TOPIC_CHANGELOG);
	assert_int_equal(last->partition, SHARD_FIXTURE_PARTITION);
	assert_int_equal(
		record_position_decode((struct slice){ last->value.data, last->value.length }, &position, &fx.err),
		STATUS_OK);
	assert_int_equal(position.interactions, 1);
	assert_int_equal(position.stream_time_ms, 10);
	assert_int_equal(position.changelog, -1);
	assert_int_equal(fx.batch.shards[0].position.interactions, 1);
	assert_ptr_equal(publish_opaque_shard(&fx.batch, last->opaque), &fx.batch.shards[0]);
	for (size_t i = 0; i + 1 < count; i++)
		assert_null(records[i].opaque);
	struct batch other = { .number = fx.batch.number + 1, .shards = fx.batch.shards, .shards_count = 1 };
	assert_null(publish_opaque_shard(&other, last->opaque));
	assert_null(publish_opaque_shard(&fx.batch, NULL));
	fx.batch.shards_count = 0; /* an index beyond its shards */
	assert_null(publish_opaque_shard(&fx.batch, last->opaque));
	fx.batch.shards_count = 1;
}

static void a_batch_without_users_still_has_its_position(void **state)
{
	for (int i = 0; i < 4; i++)
		fx_apply("ann", "item 1", 10);
	publish(0);
	commit();
	fx_apply("ann", "item 1", 5);
	publish(0);
	assert_int_equal(count, 1);
	assert_non_null(publish_opaque_shard(&fx.batch, records[0].opaque));
}

static void the_forgotten_get_tombstones_everywhere(void **state)
{
	fx_apply("ann", "item 1", 10);
	publish(0);
	commit();
	fx_tombstone("ann");
	publish(0);
	assert_true(of_user(TOPIC_UPDATES, "ann")->tombstone);
	assert_true(of_user(TOPIC_CHANGELOG, "ann")->tombstone);
	const struct produced ann = *of_user(TOPIC_CHANGELOG, "ann");
	assert_int_equal(fx.batch.updates, 1);
	commit();
	expect_stored(&ann);
}

static void join(const char *task, const char *user, int64_t time_ms)
{
	static rd_kafka_message_t message;
	struct buffer value = { 0 };
	const struct label l = { .task = fx_text(task),
				 .user_id = fx_text(user),
				 .timestamp_ms = time_ms,
				 .text = fx_text("x"),
				 .weight = 1 };
	label_encode(&l, &value);
	message = (rd_kafka_message_t){ .offset = 7, .payload = value.data, .len = value.length };
	int *event = &fx.destroys[fx.events++];
	if (join_label(fx.shard, &fx.ctx, &fx.batch, (rd_kafka_event_t *)(void *)event, &message, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	assert_int_equal(fx.batch.rejected_count, 0);
	buffer_free(&value);
}

/* The states in the record are those that the patch's levels have after the events in it. */
static void expect_states(const struct example *e, const struct served_task *task)
{
	uint32_t items[8];
	float states[64];
	struct sequence past = { 0 };
	const uint8_t *at = e->events.data;
	struct backbone_workspace *ws;
	assert_int_equal(sequence_decode(&past, &at, e->events.data + e->events.length, &fx.err), STATUS_OK);
	for (uint32_t i = 0; i < past.length; i++)
		items[i] = backbone_item(fx.backbone, past.events[i].item);
	assert_int_equal(backbone_workspace_new(fx.backbone, &ws, &fx.err), STATUS_OK);
	assert_int_equal(backbone_workspace_reserve(fx.backbone, ws, (uint32_t)task->definition.mean_window, &fx.err),
			 STATUS_OK);
	const size_t offsets[] = { 0, past.length };
	backbone_side_states(fx.backbone, ws, 1, offsets, items, (uint32_t)task->definition.mean_window, task->levels,
			     task->levels_count, states);
	assert_int_equal(e->states.length, task->levels_count * 2 * backbone_dim(fx.backbone) * sizeof(float));
	assert_memory_equal(e->states.data, states, e->states.length);
	backbone_workspace_free(ws);
	sequence_free(&past);
}

static void examples_go_out_with_what_their_patch_reads(void **state)
{
	static const char yaml[] = "tasks:\n- {name: beside, type: classification, mean_window: 2}\n"
				   "- {name: head, type: classification, blocks: []}\n"
				   "- {name: inside, type: classification, insertion: serial}\n";
	static const size_t levels[] = { 2, 1, 0 };
	struct config *c;
	assert_int_equal(config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &fx.err), STATUS_OK);
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, 1, &fx.ctx.tasks, &fx.err), STATUS_OK);
	config_free(c);
	for (int64_t time_ms = 10; time_ms < 50; time_ms += 10)
		fx_apply("ann", "item 1", time_ms);
	join("beside", "ann", 45);
	join("head", "ann", 45);
	join("inside", "ann", 45);
	fx_apply("ann", "item 2", 44); /* comes too late to be in them */
	publish(0);
	for (size_t i = 0; i < fx.ctx.tasks->count; i++) {
		const struct served_task *task = fx.ctx.tasks->entries[i].task;
		const struct produced *r = of_user(TOPIC_EXAMPLES, task->definition.name);
		struct example e;
		assert_non_null(r);
		assert_int_equal(r->partition, RD_KAFKA_PARTITION_UA);
		assert_int_equal(example_decode((struct slice){ r->value.data, r->value.length }, &e, &fx.err),
				 STATUS_OK);
		assert_memory_equal(e.task.data, task->definition.name, e.task.length);
		assert_int_equal(task->levels_count, levels[i]);
		expect_states(&e, task);
	}
	batch_clear(&fx.batch);
	task_set_release(fx.ctx.tasks);
}

static void thinning_holds_back_and_says_so(void **state)
{
	fx.thinning.interval_us = 1000;
	fx_apply("ann", "item 1", 10);
	publish(100);
	assert_non_null(of_user(TOPIC_UPDATES, "ann"));
	commit();

	fx_apply("ann", "item 2", 20);
	publish(200);
	assert_null(of_user(TOPIC_UPDATES, "ann"));
	assert_non_null(of_user(TOPIC_CHANGELOG, "ann")); /* the sequence is logged all the same */
	const struct produced *owed = owed_of("ann");
	assert_non_null(owed);
	assert_false(owed->tombstone);
	assert_int_equal(fx.cache.owed, 1);
	assert_int_equal(fx.batch.updates, 0);
	commit();
	expect_stored(owed);

	fx_apply("ann", "item 3", 30);
	publish(300);
	assert_null(of_user(TOPIC_UPDATES, "ann"));
	assert_null(owed_of("ann")); /* the changelog knows already */
	commit();

	struct user *due = thinning_due(&fx.thinning, 1100, false);
	assert_ptr_equal(due, fx_user("ann"));
	assert_true(batch_touch_shard(&fx.batch, fx.shard));
	assert_true(batch_touch_user(&fx.batch, due));
	publish(1100);
	expect_update("ann", 3, 30, 2);
	assert_null(of_user(TOPIC_CHANGELOG, "ann")); /* nothing has changed */
	owed = owed_of("ann");
	assert_true(owed->tombstone);
	assert_int_equal(fx.cache.owed, 0);
	commit();
	expect_stored(owed);
	assert_true(fx_user("ann")->cooling);
}

static void one_forgotten_is_not_owed_any_more(void **state)
{
	fx.thinning.interval_us = 1000;
	fx_apply("ann", "item 1", 10);
	publish(100);
	commit();
	fx_apply("ann", "item 2", 20);
	publish(200);
	commit();
	fx_tombstone("ann");
	publish(300); /* at once: thinning does not hold a tombstone */
	assert_true(of_user(TOPIC_UPDATES, "ann")->tombstone);
	assert_true(owed_of("ann")->tombstone);
	assert_int_equal(fx.cache.owed, 0);
	commit();
	assert_null(thinning_due(&fx.thinning, 5000, false));
}

static void many_users_take_several_passes(void **state)
{
	char name[16];
	for (int i = 0; i < 3 * PUBLISH_ROWS + 5; i++) {
		(void)snprintf(name, sizeof name, "user %d", i);
		fx_apply(name, i % 2 ? "item 1" : "item 2", i);
		if (i % 10 == 0)
			fx_tombstone(name);
	}
	publish(0);
	int updates = 0;
	const struct produced *odd = NULL;
	for (int i = 0; i < 3 * PUBLISH_ROWS + 5; i++) {
		(void)snprintf(name, sizeof name, "user %d", i);
		const struct produced *r = of_user(TOPIC_UPDATES, name);
		assert_int_equal(r->tombstone, i % 10 == 0);
		updates += !r->tombstone;
		if (r->tombstone || i % 2 == 0)
			continue;
		/* one item, one embedding: rows are not mixed up */
		struct buffer a = { 0 };
		struct buffer b = { 0 };
		struct update mine;
		struct update first;
		odd = odd ? odd : r;
		assert_int_equal(update_decode((struct slice){ r->value.data, r->value.length }, &a, &mine, &fx.err),
				 STATUS_OK);
		assert_int_equal(
			update_decode((struct slice){ odd->value.data, odd->value.length }, &b, &first, &fx.err),
			STATUS_OK);
		assert_true(fixture_difference(mine.embedding, first.embedding, mine.dim) <= 1e-6);
		buffer_free(&a);
		buffer_free(&b);
	}
	assert_int_equal(fx.batch.updates, 3 * PUBLISH_ROWS + 5);
	assert_true(updates > 2 * PUBLISH_ROWS);
}

static void dead_letters_go_out(void **state)
{
	fx_apply("ann", "item 1", 10);
	assert_int_equal(fx_apply_raw(fx.offset++, fx_text("k"), fx_text("\x01")), STATUS_OK);
	publish(0);
	size_t letters = 0;
	for (size_t i = 0; i < count; i++) {
		if (records[i].topic != TOPIC_DEADLETTERS)
			continue;
		letters++;
		assert_int_equal(records[i].partition, 1); /* its offset */
		assert_true(records[i].value.length > 0);
	}
	assert_int_equal(letters, 1);
}

/* A label's wait begins and ends in changelog and store alike. */
static void labels_that_wait_are_logged(void **state)
{
	static char labels[] = "labels";
	struct buffer key = { 0 }, value = { 0 }, whole = { 0 };
	const struct label label = { .task = fx_text("t"), .user_id = fx_text("ann"), .text = fx_text("x") };
	label_encode(&label, &value);
	const struct record_label record = { .offset = 77, .until_ms = 5, .value = { value.data, value.length } };
	fx.config.labels_topic = labels;
	record_key_label(77, &key);
	record_label_encode(&record, &whole);
	assert_true(batch_touch_shard(&fx.batch, fx.shard));
	assert_true(batch_note_wait(&fx.batch, fx.shard, 77, (struct slice){ whole.data, whole.length }));
	assert_int_equal(waiting_add(&fx.shard->waiting, (struct slice){ whole.data, whole.length }, &fx.err),
			 STATUS_OK);
	publish(0);
	const struct produced *r = find(TOPIC_CHANGELOG, key.data, key.length);
	assert_non_null(r);
	assert_int_equal(r->value.length, whole.length);
	assert_memory_equal(r->value.data, whole.data, whole.length);
	commit();
	expect_stored(r);
	fx_apply("bob", "item 1", 6);
	publish(0);
	r = find(TOPIC_CHANGELOG, key.data, key.length);
	assert_true(r->tombstone);
	assert_int_equal(records[3].topic, TOPIC_DEADLETTERS);
	assert_int_equal(records[3].partition, 77);
	commit();
	expect_stored(r);
	buffer_free(&key);
	buffer_free(&value);
	buffer_free(&whole);
}

static void a_full_queue_is_drained_and_tried_again(void **state)
{
	fx_apply("ann", "item 1", 10);
	full_for = 3;
	publish(0);
	assert_int_equal(drained, 3);
	expect_update("ann", 1, 10, 0);
	assert_int_equal(count, 3);
	commit();
	assert_int_equal(fx_apply_raw(fx.offset++, fx_text("k"), fx_text("\x01")), STATUS_OK);
	letters_full_for = 4;
	publish(0);
	assert_int_equal(drained, 7);
	assert_int_equal(count, 2);
}

/* Every record in turn: the error comes back, and nothing is left but what the abort clears. */
static void a_refused_record_fails_the_batch(void **state)
{
	fx_apply("ann", "item 1", 10);
	publish(0);
	commit();
	for (fail_at = 1; fail_at <= 8; fail_at++) {
		fx_apply("ann", "item 1", 20);
		fx_apply("bob", "item 2", 20);
		fx_tombstone("eve");
		forget_records();
		enum status status = publish_batch(&publisher, &fx.batch, 1, &fx.err);
		assert_int_equal(status, fail_at <= 7 ? STATUS_UNAVAILABLE : STATUS_OK);
		if (fail_at == 8)
			assert_int_equal(count, 7);
		/* what the lane does after an abort */
		shard_drop_users(fx.shard, &fx.cache);
		batch_clear(&fx.batch);
		fx.batch.number = ++fx.batches;
		fx.shard->position = fx.shard->committed;
		fx.offset = fx.shard->position.interactions;
		assert_int_equal(fx_user("ann")->sequence.length, 1);
		assert_int_equal(fx_user("bob")->sequence.length, 0);
	}
}

static void use_anew(void)
{
	publisher_release(&publisher);
	assert_int_equal(publisher_use(&publisher, (rd_kafka_t *)&publisher, &fx.err), STATUS_OK);
}

/* What was learnt of the dead letters' topic outlives the producer; what another topic refused cuts no letter. The size of
 * batches is the producer's own: whoever makes it takes it from here. */
static void what_a_topic_refuses_is_sent_smaller(void **state)
{
	assert_int_equal(publisher.message_bytes, 1000000);
	assert_int_equal(publisher.batch_bytes, 1000000);
	assert_true(publisher_cut_more(&publisher, false));
	assert_int_equal(publisher.batch_bytes, 500000);
	use_anew();
	assert_int_equal(publisher.message_bytes, 1000000);
	assert_true(publisher_cut_more(&publisher, true));
	use_anew();
	assert_true(publisher_cut_more(&publisher, true));
	use_anew();
	assert_int_equal(publisher.message_bytes, 250000);
	fx_apply_raw(fx.offset++, fx_text("ann"), fx_text("\x01"));
	publish(0);
	assert_int_equal(count, 2); /* a letter, whose limit is checked above, and the position */
	int cuts = 0;
	while (publisher_cut_more(&publisher, true))
		cuts++;
	assert_in_range(cuts, 7, 9);
	assert_in_range(publisher.message_bytes, 1024, 2047);
	assert_in_range(publisher.batch_bytes, 1024, 2047);
	assert_false(publisher_cut_more(&publisher, false));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(each_changed_user_is_published_once_and_logged),
		TEST(the_position_comes_last_with_its_shard_as_opaque),
		TEST(a_batch_without_users_still_has_its_position),
		TEST(the_forgotten_get_tombstones_everywhere),
		TEST(examples_go_out_with_what_their_patch_reads),
		TEST(thinning_holds_back_and_says_so),
		TEST(one_forgotten_is_not_owed_any_more),
		TEST(many_users_take_several_passes),
		TEST(dead_letters_go_out),
		TEST(labels_that_wait_are_logged),
		TEST(a_full_queue_is_drained_and_tried_again),
		TEST(a_refused_record_fails_the_batch),
		TEST(what_a_topic_refuses_is_sent_smaller),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
