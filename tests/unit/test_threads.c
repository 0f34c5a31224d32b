/* tools/threads: every part once, all of them before the return, at once where there are threads. */
#include "tools/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { PARTS = 37, ROUNDS = 300 };

static struct threads *pool(uint32_t count)
{
	struct threads *t;
	struct error err;
	if (threads_new(count, &t, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return t;
}

/* Not atomic on purpose: a part that runs twice at once, or that the return does not wait for, is a race. */
static void count(void *job, uint32_t number)
{
	((uint32_t *)job)[number]++;
}

static void every_part_once(void **state)
{
	for (uint32_t n = 1; n <= 5; n++) {
		struct threads *t = pool(n);
		struct parallel p = threads_parallel(t);
		uint32_t runs[PARTS] = { 0 };
		assert_int_equal(p.parts, n);
		for (uint32_t round = 1; round <= ROUNDS; round++) {
			uint32_t parts = round % PARTS + 1;
			memset(runs, 0, sizeof runs);
			p.run(p.arg, parts, count, runs);
			for (uint32_t i = 0; i < PARTS; i++)
				assert_int_equal(runs[i], i < parts ? 1 : 0);
		}
		threads_free(t);
	}
}

static void meet(void *job, uint32_t number)
{
	(void)pthread_barrier_wait(job); /* returns only where all of them run at the same time */
}

static void parts_run_at_once(void **state)
{
	pthread_barrier_t barrier;
	struct threads *t = pool(4);
	struct parallel p = threads_parallel(t);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, 4), 0);
	for (int i = 0; i < 50; i++)
		p.run(p.arg, 4, meet, &barrier);
	(void)pthread_barrier_destroy(&barrier);
	threads_free(t);
}

static void tarry(void *job, uint32_t number)
{
	const struct timespec moment = { .tv_nsec = number ? 2000000 : 0 };
	(void)nanosleep(&moment, NULL);
	atomic_store(&((atomic_bool *)job)[number], true);
}

static void the_return_waits(void **state)
{
	struct threads *t = pool(3);
	struct parallel p = threads_parallel(t);
	for (int round = 0; round < 10; round++) {
		atomic_bool ready[3] = { false };
		p.run(p.arg, 3, tarry, ready);
		for (int i = 0; i < 3; i++)
			assert_true(atomic_load(&ready[i]));
	}
	threads_free(t);
}

struct masks {
	pthread_barrier_t barrier;
	pthread_t caller;
	atomic_bool blocked[3];
};

static void look_at_mask(void *job, uint32_t number)
{
	struct masks *m = job;
	sigset_t set;
	(void)pthread_barrier_wait(&m->barrier);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &set);
	bool blocked = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGTERM) == 1;
	m->blocked[number] = pthread_equal(pthread_self(), m->caller) ? !blocked : blocked;
}

static void signals_are_the_callers(void **state)
{
	struct masks m = { .caller = pthread_self() };
	struct threads *t = pool(3);
	struct parallel p = threads_parallel(t);
	assert_int_equal(pthread_barrier_init(&m.barrier, NULL, 3), 0);
	p.run(p.arg, 3, look_at_mask, &m);
	(void)pthread_barrier_destroy(&m.barrier);
	for (int i = 0; i < 3; i++)
		assert_true(m.blocked[i]);
	threads_free(t);
}

static void opens_and_closes(void **state)
{
	for (uint32_t n = 1; n < 40; n++)
		threads_free(pool(n % 8 + 1));
	threads_free(NULL);
	assert_true(threads_cores() >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_part_once),  cmocka_unit_test(parts_run_at_once),
		cmocka_unit_test(the_return_waits), cmocka_unit_test(signals_are_the_callers),
		cmocka_unit_test(opens_and_closes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
