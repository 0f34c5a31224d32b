/* daemon/store_gate: one store a process, opened when it is first wanted; waiting for it can be cancelled. */
#include "daemon/store_gate.h"
#include "base/clock.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[64];
static char state_dir[96];
static struct config config;

static int begin(void **state)
{
	static char name[] = "x";
	(void)strcpy(root, "/tmp/peterd-gate-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	(void)snprintf(state_dir, sizeof state_dir, "%s/state", root);
	config = (struct config){
		.group = name, .interactions_topic = name, .changelog_topic = name, .state_dir = state_dir
	};
	return 0;
}

static int end(void **state)
{
	char path[128];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/store", state_dir);
	if (file_remove_folder(path, &err) != STATUS_OK || file_remove_folder(state_dir, &err) != STATUS_OK)
		return -1;
	return file_remove_folder(root, &err) == STATUS_OK ? 0 : -1;
}

static struct store_gate *new_gate(void)
{
	struct store_gate *g = NULL;
	struct error err;
	assert_int_equal(store_gate_new(&config, &g, &err), STATUS_OK);
	return g;
}

static void it_opens_the_store_once_when_it_is_wanted(void **state)
{
	static const _Atomic bool never = false;
	struct store_gate *g = new_gate();
	struct error err;
	struct store *first = NULL;
	struct store *second = NULL;
	assert_int_not_equal(access(state_dir, F_OK), 0);
	assert_int_equal(store_gate_wait(g, &never, &first, &err), STATUS_OK);
	assert_int_equal(store_gate_wait(g, &never, &second, &err), STATUS_OK);
	assert_non_null(first);
	assert_ptr_equal(first, second);
	store_gate_free(g);
	store_gate_free(NULL);
	store_gate_free(new_gate()); /* never opened */
}

struct waiter {
	struct store_gate *gate;
	_Atomic bool cancel;
	enum status status;
	struct store *store;
	struct error err;
	pthread_t thread;
};

static void *wait_for_store(void *arg)
{
	struct waiter *w = arg;
	w->status = store_gate_wait(w->gate, &w->cancel, &w->store, &w->err);
	return NULL;
}

static void begin_waiting(struct waiter *w, struct store_gate *g)
{
	*w = (struct waiter){ .gate = g };
	assert_int_equal(pthread_create(&w->thread, NULL, wait_for_store, w), 0);
}

static int take_lock(void)
{
	char path[128];
	struct error err;
	int fd = -1;
	bool taken = false;
	assert_int_equal(file_make_folder(state_dir, &err), STATUS_OK);
	(void)snprintf(path, sizeof path, "%s/lock", state_dir);
	assert_int_equal(file_lock(path, &fd, &taken, &err), STATUS_OK);
	assert_true(taken);
	return fd;
}

/* As a twin that has yet to notice that it is fenced holds it. */
static void it_waits_for_a_store_that_another_holds(void **state)
{
	struct waiter waiters[3];
	struct store_gate *g = new_gate();
	int lock = take_lock();
	for (size_t i = 0; i < 3; i++)
		begin_waiting(&waiters[i], g);
	(void)usleep(500000);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_tryjoin_np(waiters[i].thread, NULL), EBUSY);
	(void)close(lock);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(waiters[i].thread, NULL), 0);
		assert_int_equal(waiters[i].status, STATUS_OK);
		assert_non_null(waiters[i].store);
		assert_ptr_equal(waiters[i].store, waiters[0].store);
	}
	store_gate_free(g);
}

static void waiting_is_cancelled_alone(void **state)
{
	struct waiter quits;
	struct waiter stays;
	struct store_gate *g = new_gate();
	int lock = take_lock();
	begin_waiting(&quits, g);
	begin_waiting(&stays, g);
	(void)usleep(300000);
	int64_t start_us = clock_monotonic_us();
	atomic_store(&quits.cancel, true);
	assert_int_equal(pthread_join(quits.thread, NULL), 0);
	assert_true(clock_monotonic_us() - start_us < 2000000);
	assert_int_equal(quits.status, STATUS_UNAVAILABLE);
	assert_null(quits.store);
	assert_int_equal(pthread_tryjoin_np(stays.thread, NULL), EBUSY);
	(void)close(lock);
	assert_int_equal(pthread_join(stays.thread, NULL), 0);
	assert_int_equal(stays.status, STATUS_OK);
	store_gate_free(g);
}

/* A disk that cannot be written, then can. */
static void it_waits_for_the_disk(void **state)
{
	struct waiter w;
	struct error err;
	struct store_gate *g = new_gate();
	assert_int_equal(file_make_folder(root, &err), STATUS_OK);
	FILE *in_the_way = fopen(state_dir, "we");
	assert_non_null(in_the_way);
	(void)fclose(in_the_way);
	begin_waiting(&w, g);
	(void)usleep(300000);
	assert_int_equal(pthread_tryjoin_np(w.thread, NULL), EBUSY);
	assert_int_equal(unlink(state_dir), 0);
	assert_int_equal(pthread_join(w.thread, NULL), 0);
	assert_int_equal(w.status, STATUS_OK);
	store_gate_free(g);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(it_opens_the_store_once_when_it_is_wanted),
		TEST(it_waits_for_a_store_that_another_holds),
		TEST(waiting_is_cancelled_alone),
		TEST(it_waits_for_the_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
