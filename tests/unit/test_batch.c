/* daemon/batch: users and shards once each, dead letters with their events, and nothing left after clear. */
#include "daemon/batch.h"
#include "daemon/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct batch batch;
static int destroyed; /* events */

/* Stands in for librdkafka's: the events here are the addresses of ints that count. */
void rd_kafka_event_destroy(rd_kafka_event_t *event)
{
	++*(int *)(void *)event;
	destroyed++;
}

static int begin(void **state)
{
	batch = (struct batch){ .number = 1 };
	destroyed = 0;
	return 0;
}

static int end(void **state)
{
	batch_free(&batch);
	static const struct batch zero;
	return memcmp(&batch, &zero, sizeof zero) ? -1 : 0;
}

static void a_user_is_in_a_batch_once(void **state)
{
	struct user a = { 0 };
	struct user b = { 0 };
	assert_true(batch_empty(&batch));
	assert_true(batch_touch_user(&batch, &a));
	assert_true(batch_touch_user(&batch, &b));
	assert_true(batch_touch_user(&batch, &a));
	assert_false(batch_empty(&batch));
	assert_int_equal(batch.users_count, 2);
	assert_ptr_equal(batch.users[0], &a);
	assert_ptr_equal(batch.users[1], &b);
	assert_int_equal(a.batch, 1);
	/* and in the next one too */
	struct batch next = { .number = 2 };
	assert_true(batch_touch_user(&next, &a));
	assert_int_equal(next.users_count, 1);
	assert_int_equal(a.batch, 2);
	batch_free(&next);
}

static void a_shard_is_in_a_batch_once(void **state)
{
	struct shard a = { .partition = 0 };
	struct shard b = { .partition = 1 };
	assert_true(batch_touch_shard(&batch, &a));
	assert_true(batch_touch_shard(&batch, &b));
	assert_true(batch_touch_shard(&batch, &b));
	assert_int_equal(batch.shards_count, 2);
	assert_int_equal(b.batch_index, 1);
	assert_ptr_equal(batch.shards[b.batch_index].shard, &b);
	assert_null(batch.shards[1].store);
	assert_false(batch_empty(&batch));
}

static void arrays_grow(void **state)
{
	static struct shard shards[300];
	struct user *users[1000];
	for (size_t i = 0; i < 1000; i++) {
		users[i] = calloc(1, sizeof *users[i]);
		assert_true(batch_touch_user(&batch, users[i]));
	}
	for (size_t i = 0; i < 300; i++)
		assert_true(batch_touch_shard(&batch, &shards[i]));
	for (size_t i = 0; i < 1000; i++)
		batch_note_append(&batch, (int64_t)i);
	for (size_t i = 0; i < 1000; i++) {
		assert_ptr_equal(batch.users[i], users[i]);
		assert_int_equal(batch.appended_ms[i], i);
		free(users[i]);
	}
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(shards[i].batch_index, i);
}

static void a_rejected_event_is_held_until_the_batch_is_cleared(void **state)
{
	int events[100] = { 0 };
	char key[3] = "abc";
	rd_kafka_message_t message = { .key = key, .key_len = 3, .len = 7 };
	for (size_t i = 0; i < 100; i++)
		assert_true(batch_reject(&batch, (rd_kafka_event_t *)(void *)&events[i], &message, REASON_OVERSIZE,
					 "too long"));
	assert_int_equal(destroyed, 0);
	assert_int_equal(batch.rejected_count, 100);
	assert_int_equal(batch.rejected_bytes, 1000);
	assert_int_equal(batch.rejected[99].reason, REASON_OVERSIZE);
	assert_string_equal(batch.rejected[99].detail, "too long");
	assert_ptr_equal(batch.rejected[99].message, &message);
	batch_clear(&batch);
	assert_int_equal(destroyed, 100);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(events[i], 1);
	assert_int_equal(batch.rejected_bytes, 0);
}

static void a_long_detail_is_cut(void **state)
{
	static int event; /* the teardown gives it back */
	char detail[1000];
	rd_kafka_message_t message = { 0 };
	memset(detail, 'x', sizeof detail - 1);
	detail[sizeof detail - 1] = '\0';
	assert_true(batch_reject(&batch, (rd_kafka_event_t *)(void *)&event, &message, REASON_UNDECODABLE, detail));
	assert_int_equal(strlen(batch.rejected[0].detail), sizeof batch.rejected[0].detail - 1);
}

static void clearing_forgets_everything_but_the_memory(void **state)
{
	struct user u = { 0 };
	struct shard s = { .partition = 0 };
	assert_true(batch_touch_user(&batch, &u));
	assert_true(batch_touch_shard(&batch, &s));
	batch_note_append(&batch, 5);
	batch.records = batch.interactions = batch.late = batch.filtered = batch.forgotten = batch.updates = 3;
	batch.users_advanced = 1;
	batch.unknown_items = 2;
	void *users = batch.users;
	batch_clear(&batch);
	assert_ptr_equal(batch.users, users);
	assert_true(batch.users_capacity > 0);
	assert_true(batch_empty(&batch));
	const struct batch cleared = { .users = batch.users,
				       .users_capacity = batch.users_capacity,
				       .shards = batch.shards,
				       .shards_capacity = batch.shards_capacity,
				       .appended_ms = batch.appended_ms,
				       .appended_capacity = batch.appended_capacity };
	assert_memory_equal(&batch, &cleared, sizeof batch);
	/* the user who was in batch 1 enters batch 3 */
	batch.number = 3;
	assert_true(batch_touch_user(&batch, &u));
	assert_int_equal(batch.users_count, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_user_is_in_a_batch_once),
		TEST(a_shard_is_in_a_batch_once),
		TEST(arrays_grow),
		TEST(a_rejected_event_is_held_until_the_batch_is_cleared),
		TEST(a_long_detail_is_cut),
		TEST(clearing_forgets_everything_but_the_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
