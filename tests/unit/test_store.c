/* io/store: what is written is read, per shard; what is old, foreign, locked or damaged is never believed. */
#include "io/store.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HOUR_MS ((int64_t)3600000)
#define WEEK_MS ((int64_t)7 * 86400000)
#define MEMORY_BYTES ((size_t)16 << 20)

static char root[64];
static int64_t ahead_ms; /* of the real wall clock */

/* The wall clock, for the floors too. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	int result = (int)syscall(SYS_clock_gettime, id, ret);
	if (id == CLOCK_REALTIME)
		ret->tv_sec += ahead_ms / 1000;
	return result;
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static int make_root(void **state)
{
	(void)strcpy(root, "/tmp/peterd-store-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	char path[128];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/store", root);
	enum status status = file_remove_folder(path, &err);
	if (status == STATUS_OK)
		status = file_remove_folder(root, &err);
	return status == STATUS_OK ? 0 : -1;
}

static struct store *open_store(const char *identity, int64_t max_age_ms)
{
	struct store *s = NULL;
	struct error err = { 0 };
	if (store_open(root, identity, MEMORY_BYTES, max_age_ms, &s, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return s;
}

static struct store_shard *open_shard(struct store *s, int32_t partition)
{
	struct store_shard *shard = NULL;
	struct error err = { 0 };
	if (store_shard_open(s, partition, &shard, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return shard;
}

static struct position at(int64_t offset)
{
	return (struct position){ .interactions = offset, .labels = -1, .stream_time_ms = 5, .changelog = 2 * offset };
}

/* Writes one key (value NULL: forgets it) with the position `offset`. */
static void put(struct store_shard *shard, struct slice key, const char *value, int64_t offset)
{
	struct error err = { 0 };
	struct position position = at(offset);
	struct store_batch *batch = store_batch_new(shard);
	assert_non_null(batch);
	store_batch_put(batch, key, value ? text(value) : (struct slice){ NULL, 0 });
	if (store_batch_write(batch, &position, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	store_batch_free(batch);
}

/* Whether the key is there and holds exactly `value`. */
static bool holds(struct store_shard *shard, const char *key, const char *value)
{
	struct error err = { 0 };
	struct buffer got = { 0 };
	bool found = false;
	if (store_shard_get(shard, text(key), &got, &found, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	bool same =
		found && got.length == strlen(value) && (got.length == 0 || memcmp(got.data, value, got.length) == 0);
	buffer_free(&got);
	return same;
}

/* The position's offset; -1 where the shard is new. */
static int64_t offset_of(struct store_shard *shard)
{
	struct error err = { 0 };
	struct position position;
	bool found = false;
	if (store_shard_position(shard, &position, &found, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return found ? position.interactions : -1;
}

static void what_is_written_is_read_after_reopening(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *a = open_shard(s, 0);
	struct store_shard *b = open_shard(s, 17);
	assert_int_equal(offset_of(a), -1);
	put(a, text("ann"), "1", 10);
	put(b, text("ann"), "2", 20);
	put(a, text("bob"), "", 11);
	put(a, text("ann"), "3", 12);
	put(a, text("eve"), "4", 13);
	put(a, text("eve"), NULL, 14);
	assert_true(holds(a, "ann", "3"));
	store_shard_close(a);
	store_shard_close(b);
	store_close(s);

	s = open_store("one", WEEK_MS);
	a = open_shard(s, 0);
	b = open_shard(s, 17);
	assert_true(holds(a, "ann", "3"));
	assert_true(holds(a, "bob", ""));
	assert_false(holds(a, "eve", "4"));
	assert_true(holds(b, "ann", "2"));
	assert_false(holds(b, "bob", ""));
	assert_int_equal(offset_of(a), 14);
	assert_int_equal(offset_of(b), 20);

	struct error err = { 0 };
	assert_int_equal(store_shard_reset(a, &err), STATUS_OK);
	assert_int_equal(offset_of(a), -1);
	assert_false(holds(a, "ann", "3"));
	assert_true(holds(b, "ann", "2"));
	put(a, text("ann"), "5", 1);
	store_shard_close(a);
	store_shard_close(b);
	store_close(s);

	s = open_store("one", WEEK_MS);
	a = open_shard(s, 0);
	assert_true(holds(a, "ann", "5"));
	assert_int_equal(offset_of(a), 1);
	store_shard_close(a);
	store_close(s);
}

struct seen {
	char ids[256];
	size_t count;
	size_t stop_at;
};

static enum status see(void *arg, struct slice id, struct error *err)
{
	struct seen *seen = arg;
	assert_true(strlen(seen->ids) + id.length + 2 < sizeof seen->ids);
	(void)strncat(seen->ids, (const char *)id.data, id.length);
	(void)strcat(seen->ids, " ");
	if (++seen->count == seen->stop_at)
		return error_set(err, STATUS_USAGE, "enough");
	return STATUS_OK;
}

static enum status see_user(void *arg, struct slice id, struct slice value, struct error *err)
{
	assert_int_equal(value.length, 1);
	return see(arg, id, err);
}

static void users_and_owed_are_walked_apart(void **state)
{
	static const char *const ids[] = { "a", "ab", "b", "\xff\xfe", "zz" };
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 3);
	struct error err = { 0 };
	struct seen none = { 0 };
	bool more = true;
	assert_int_equal(store_shard_walk(shard, text(""), 10, see_user, &none, &more, &err), STATUS_OK);
	assert_false(more);
	assert_int_equal(none.count, 0);
	for (size_t i = 0; i < 5; i++)
		put(shard, text(ids[i]), "v", 1);
	struct buffer key = { 0 };
	record_key_owed(text("ab"), &key);
	put(shard, (struct slice){ key.data, key.length }, "o", 2);
	buffer_clear(&key);
	record_key_owed(text("zz"), &key);
	put(shard, (struct slice){ key.data, key.length }, "o", 2);
	for (int64_t offset = 300; offset >= 100; offset -= 100) {
		char value[2] = { (char)('0' + offset / 100), '\0' };
		buffer_clear(&key);
		record_key_label(offset, &key);
		put(shard, (struct slice){ key.data, key.length }, value, 2);
	}
	buffer_free(&key);

	struct seen all = { 0 };
	assert_int_equal(store_shard_walk(shard, text(""), 10, see_user, &all, &more, &err), STATUS_OK);
	assert_string_equal(all.ids, "a ab b zz \xff\xfe ");
	assert_false(more);
	struct seen some = { 0 };
	assert_int_equal(store_shard_walk(shard, text("a"), 2, see_user, &some, &more, &err), STATUS_OK);
	assert_string_equal(some.ids, "ab b ");
	assert_true(more);
	struct seen end = { 0 };
	assert_int_equal(store_shard_walk(shard, text("b"), 2, see_user, &end, &more, &err), STATUS_OK);
	assert_string_equal(end.ids, "zz \xff\xfe ");
	assert_false(more);
	struct seen owed = { 0 };
	assert_int_equal(store_shard_owed(shard, see, &owed, &err), STATUS_OK);
	assert_string_equal(owed.ids, "ab zz ");
	struct seen labels = { 0 };
	assert_int_equal(store_shard_labels(shard, see, &labels, &err), STATUS_OK);
	assert_string_equal(labels.ids, "1 2 3 "); /* by offset */
	struct seen stopped = { .stop_at = 1 };
	assert_int_equal(store_shard_owed(shard, see, &stopped, &err), STATUS_USAGE);
	assert_int_equal(stopped.count, 1);
	store_shard_close(shard);
	store_close(s);
}

static void another_identity_begins_anew(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 0);
	put(shard, text("ann"), "1", 10);
	store_shard_close(shard);
	store_close(s);
	s = open_store("two", WEEK_MS);
	shard = open_shard(s, 0);
	assert_int_equal(offset_of(shard), -1);
	assert_false(holds(shard, "ann", "1"));
	store_shard_close(shard);
	store_close(s);
}

static void an_old_shard_is_discarded_and_a_fresh_one_stays(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *old = open_shard(s, 0);
	struct store_shard *fresh = open_shard(s, 1);
	put(old, text("ann"), "1", 10);
	ahead_ms += HOUR_MS;
	put(fresh, text("ann"), "2", 20);
	store_shard_close(old);
	store_shard_close(fresh);
	store_close(s);
	s = open_store("one", HOUR_MS - 1000);
	fresh = open_shard(s, 1);
	old = open_shard(s, 0);
	assert_int_equal(offset_of(old), -1);
	assert_int_equal(offset_of(fresh), 20);

	/* and one that grows old while the process lives and another serves it */
	store_shard_close(fresh);
	ahead_ms += HOUR_MS;
	fresh = open_shard(s, 1);
	assert_int_equal(offset_of(fresh), -1);
	store_shard_close(old);
	store_shard_close(fresh);
	store_close(s);
}

static void a_restore_does_not_make_a_shard_younger(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 0);
	struct position position = at(11);
	struct error err = { 0 };
	put(shard, text("ann"), "1", 10);
	ahead_ms += HOUR_MS;
	struct store_batch *batch = store_batch_new(shard);
	store_batch_put(batch, text("bob"), text("2"));
	assert_true(store_batch_bytes(batch) >= 4);
	assert_int_equal(store_batch_write_behind(batch, &position, &err), STATUS_OK);
	store_batch_free(batch);
	assert_int_equal(offset_of(shard), 11);
	store_shard_close(shard);
	store_close(s);
	s = open_store("one", HOUR_MS - 1000);
	shard = open_shard(s, 0);
	assert_int_equal(offset_of(shard), -1);
	store_shard_close(shard);
	store_close(s);
}

static void a_time_to_come_is_not_believed(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 0);
	ahead_ms += 48 * HOUR_MS;
	put(shard, text("ann"), "1", 10);
	store_shard_close(shard);
	store_close(s);
	ahead_ms -= 48 * HOUR_MS;
	s = open_store("one", WEEK_MS);
	shard = open_shard(s, 0);
	assert_int_equal(offset_of(shard), -1);
	store_shard_close(shard);
	store_close(s);
}

static void a_batch_from_before_a_reset_is_void(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 0);
	struct position position = at(1);
	struct error err = { 0 };
	struct store_batch *batch = store_batch_new(shard);
	store_batch_put(batch, text("bob"), text("2"));
	assert_int_equal(store_shard_reset(shard, &err), STATUS_OK);
	assert_int_equal(store_batch_write(batch, &position, &err), STATUS_DATA);
	assert_int_equal(offset_of(shard), -1);
	store_batch_free(batch);
	store_shard_close(shard);
	store_close(s);
}

static void a_locked_store_is_left_alone(void **state)
{
	struct store *s = open_store("one", WEEK_MS);
	struct store_shard *shard = open_shard(s, 0);
	put(shard, text("ann"), "1", 10);
	struct error err = { 0 };
	struct store *second = NULL;
	/* neither another identity nor another age makes it discard what somebody holds */
	assert_int_equal(store_open(root, "two", MEMORY_BYTES, 0, &second, &err), STATUS_UNAVAILABLE);
	assert_null(second);
	assert_true(holds(shard, "ann", "1"));
	put(shard, text("ann"), "2", 11);
	store_shard_close(shard);
	store_close(s);
	s = open_store("one", WEEK_MS);
	shard = open_shard(s, 0);
	assert_true(holds(shard, "ann", "2"));
	store_shard_close(shard);
	store_close(s);
}

static void an_impossible_folder_is_an_io_error(void **state)
{
	char path[128];
	struct error err = { 0 };
	struct store *s = NULL;
	(void)snprintf(path, sizeof path, "%s/file", root);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(store_open(path, "one", MEMORY_BYTES, WEEK_MS, &s, &err), STATUS_IO);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(store_open("/proc/nothing/here", "one", MEMORY_BYTES, WEEK_MS, &s, &err), STATUS_IO);
	assert_null(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read_after_reopening),
		TEST(users_and_owed_are_walked_apart),
		TEST(another_identity_begins_anew),
		TEST(an_old_shard_is_discarded_and_a_fresh_one_stays),
		TEST(a_restore_does_not_make_a_shard_younger),
		TEST(a_time_to_come_is_not_believed),
		TEST(a_batch_from_before_a_reset_is_void),
		TEST(a_locked_store_is_left_alone),
		TEST(an_impossible_folder_is_an_io_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
