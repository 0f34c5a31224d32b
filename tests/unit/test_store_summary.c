/* What inspect says of a local store, also of one that is open, and of what is none. */
#include "io/store_summary.h"

#include "base/file.h"
#include "io/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static void put_user(struct store_batch *batch, const char *user, uint32_t events)
{
	struct sequence sequence = { 0 };
	struct buffer value = { 0 };
	struct error err;
	enum sequence_place place;
	for (uint32_t i = 0; i < events; i++)
		assert_int_equal(sequence_insert(&sequence, 100, (struct event){ i, i }, &place, &err), STATUS_OK);
	record_user_encode(&sequence, 9, &value);
	store_batch_put(batch, text(user), (struct slice){ value.data, value.length });
	sequence_free(&sequence);
	buffer_free(&value);
}

static void fill(struct store *store, int32_t partition)
{
	struct store_shard *shard;
	struct error err;
	struct buffer owed = { 0 }, label = { 0 };
	const struct record_label waits = { .offset = 7, .value = text("v") };
	const struct position position = { .interactions = 10, .labels = -1, .stream_time_ms = 3, .changelog = 4 };
	assert_int_equal(store_shard_open(store, partition, &shard, &err), STATUS_OK);
	struct store_batch *batch = store_batch_new(shard);
	assert_non_null(batch);
	put_user(batch, "a", 3);
	put_user(batch, "b", 5);
	store_batch_put(batch, text("broken"), text("no record"));
	record_key_owed(text("a"), &owed);
	store_batch_put(batch, (struct slice){ owed.data, owed.length }, text(""));
	buffer_clear(&owed);
	record_key_label(7, &owed);
	record_label_encode(&waits, &label);
	store_batch_put(batch, (struct slice){ owed.data, owed.length }, (struct slice){ label.data, label.length });
	assert_int_equal(store_batch_write(batch, &position, &err), STATUS_OK);
	store_batch_free(batch);
	store_shard_close(shard);
	buffer_free(&owed);
	buffer_free(&label);
}

static void expect_shard(const struct store_summary_shard *s, int32_t partition)
{
	assert_int_equal(s->partition, partition);
	assert_int_equal(s->users, 2);
	assert_int_equal(s->events, 8);
	assert_int_equal(s->owed, 1);
	assert_int_equal(s->labels, 1);
	assert_int_equal(s->damaged, 1);
	assert_true(s->has_position);
	assert_int_equal(s->position.interactions, 10);
	assert_int_equal(s->position.changelog, 4);
}

static void shards_of_a_store(void **state)
{
	char root[] = "/tmp/peterd-summary-XXXXXX";
	char inner[64];
	struct store *store;
	struct store_summary summary;
	struct error err;
	assert_non_null(mkdtemp(root));
	(void)snprintf(inner, sizeof inner, "%s/store", root);
	assert_int_equal(store_summary_read(root, &summary, &err), STATUS_DATA);
	assert_int_equal(store_open(root, "somebody", 16 << 20, INT64_C(86400000), &store, &err), STATUS_OK);
	fill(store, 7);
	fill(store, 2);
	assert_int_equal(store_summary_read(root, &summary, &err), STATUS_OK); /* the store is open */
	store_summary_free(&summary);
	store_close(store);
	assert_int_equal(store_summary_read(inner, &summary, &err), STATUS_OK);
	assert_non_null(strstr(summary.identity, "somebody"));
	assert_int_equal(summary.count, 2);
	expect_shard(&summary.shards[0], 2);
	expect_shard(&summary.shards[1], 7);
	store_summary_free(&summary);
	assert_int_equal(file_remove_folder(inner, &err), STATUS_OK);
	assert_int_equal(file_remove_folder(root, &err), STATUS_OK);
	assert_int_equal(store_summary_read(root, &summary, &err), STATUS_NO_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shards_of_a_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
