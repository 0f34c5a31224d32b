/* Sequences and the store when memory runs out: STATUS_MEMORY, nothing changed, nothing leaked. */
#include "io/store.h"
#include "base/file.h"
#include "tests/unit/oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEEK_MS ((int64_t)7 * 86400000)

static char root[64];

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static void a_sequence_stays_as_it_was(void **state)
{
	for (size_t n = 1;; n++) {
		struct sequence s = { 0 };
		struct error err;
		enum sequence_place place;
		uint32_t inserted = 0;
		enum status status = STATUS_OK;
		oom_fail_at(n);
		for (; inserted < 40 && status == STATUS_OK; inserted += status == STATUS_OK)
			status = sequence_insert(&s, 64, (struct event){ inserted, inserted }, &place, &err);
		bool failed = oom_failed();
		oom_reset();
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		assert_int_equal(s.length, inserted);
		for (uint32_t i = 0; i < s.length; i++)
			assert_int_equal(s.events[i].item, i);
		sequence_free(&s);
		if (!failed)
			break;
	}
}

static enum status see(void *arg, struct slice id, struct slice value, struct error *err)
{
	++*(int *)arg;
	return STATUS_OK;
}

/* A store's life; every step's status, the first bad one ends it. */
static enum status live(struct error *err)
{
	struct store *s = NULL;
	struct store_shard *shard = NULL;
	struct store_batch *batch = NULL;
	struct buffer value = { 0 };
	struct position position = { 1, -1, 2, 3 };
	bool found = false;
	bool more = false;
	int users = 0;
	enum status status = store_open(root, "one", (size_t)8 << 20, WEEK_MS, &s, err);
	if (status == STATUS_OK)
		status = store_shard_open(s, 0, &shard, err);
	if (status == STATUS_OK && !(batch = store_batch_new(shard)))
		status = error_set_memory(err);
	if (status == STATUS_OK) {
		store_batch_put(batch, text("ann"), text("value"));
		store_batch_put(batch, text("bob"), text("value"));
		status = store_batch_write(batch, &position, err);
	}
	if (status == STATUS_OK)
		status = store_shard_position(shard, &position, &found, err);
	if (status == STATUS_OK)
		status = store_shard_get(shard, text("ann"), &value, &found, err);
	if (status == STATUS_OK)
		status = store_shard_walk(shard, text("ann"), 5, see, &users, &more, err);
	if (status == STATUS_OK)
		status = store_shard_reset(shard, err);
	if (status == STATUS_OK)
		assert_true(found && users == 1);
	buffer_free(&value);
	store_batch_free(batch);
	store_shard_close(shard);
	store_close(s);
	return status;
}

static void a_store_says_so_at_every_step(void **state)
{
	size_t n = 1;
	(void)strcpy(root, "/tmp/peterd-store-XXXXXX");
	assert_non_null(mkdtemp(root));
	for (;; n++) {
		struct error err;
		oom_fail_at(n);
		enum status status = live(&err);
		bool failed = oom_failed();
		oom_reset();
		if (status != (failed ? STATUS_MEMORY : STATUS_OK))
			fail_msg("allocation %zu: %d: %s", n, status, err.text);
		if (!failed)
			break;
	}
	assert_true(n > 8);
	char path[128];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/store", root);
	assert_int_equal(file_remove_folder(path, &err), STATUS_OK);
	assert_int_equal(file_remove_folder(root, &err), STATUS_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sequence_stays_as_it_was),
		cmocka_unit_test(a_store_says_so_at_every_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
