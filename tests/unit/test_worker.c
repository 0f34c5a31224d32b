/* daemon/worker: one job at a time, in order, run on the worker's thread and reported on the loop's; close waits. */
#include "daemon/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

enum { JOBS = 200 };

struct counted_job {
	struct worker_job job;
	struct worker *worker;
	int number;
	pthread_t ran_on;
	int ran_as; /* its place among all runs */
	int done_as;
	struct counted_job *then; /* submitted from `done` */
};

static uv_loop_t loop;
static struct worker *worker;
static _Atomic int running;
static _Atomic int most_running;
static _Atomic int runs;
static int dones;

static int begin(void **state)
{
	struct error err;
	atomic_store(&running, 0);
	atomic_store(&most_running, 0);
	atomic_store(&runs, 0);
	dones = 0;
	return uv_loop_init(&loop) || worker_new(&loop, "test", &worker, &err) != STATUS_OK;
}

/* The test has closed the worker: nothing of it is left on the loop. */
static int end(void **state)
{
	while (uv_run(&loop, UV_RUN_DEFAULT)) /* the first may only take note of `done`'s uv_stop */
		continue;
	return uv_loop_close(&loop);
}

static void run(struct worker_job *base)
{
	struct counted_job *job = (struct counted_job *)base;
	int now = atomic_fetch_add(&running, 1) + 1;
	if (now > atomic_load(&most_running))
		atomic_store(&most_running, now);
	if (job->number % 50 == 0)
		(void)usleep(2000);
	job->ran_on = pthread_self();
	job->ran_as = atomic_fetch_add(&runs, 1);
	atomic_fetch_sub(&running, 1);
}

static void done(struct worker_job *base)
{
	struct counted_job *job = (struct counted_job *)base;
	job->done_as = dones++;
	if (job->then)
		worker_submit(job->worker, &job->then->job);
	if (dones == JOBS)
		uv_stop(&loop);
}

static void submit(struct counted_job *job, int number)
{
	*job = (struct counted_job){ .job = { run, done, NULL }, .worker = worker, .number = number, .done_as = -1 };
	worker_submit(worker, &job->job);
}

static void jobs_run_and_report_in_order(void **state)
{
	static struct counted_job jobs[JOBS];
	for (int i = 0; i < JOBS; i++)
		submit(&jobs[i], i);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(dones, JOBS);
	assert_int_equal(atomic_load(&most_running), 1);
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].ran_as, i);
		assert_int_equal(jobs[i].done_as, i);
		assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
		assert_true(pthread_equal(jobs[i].ran_on, jobs[0].ran_on));
	}
	worker_close(worker);
}

static void done_may_submit_the_next(void **state)
{
	static struct counted_job jobs[JOBS];
	for (int i = JOBS - 1; i >= 0; i--) {
		jobs[i] = (struct counted_job){ .job = { run, done, NULL }, .worker = worker, .number = i };
		jobs[i].then = i + 1 < JOBS ? &jobs[i + 1] : NULL;
	}
	worker_submit(worker, &jobs[0].job);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].ran_as, i);
		assert_int_equal(jobs[i].done_as, i);
	}
	worker_close(worker);
}

static void close_waits_for_every_job_and_reports_it(void **state)
{
	static struct counted_job jobs[JOBS];
	for (int i = 0; i < JOBS; i++)
		submit(&jobs[i], i);
	worker_close(worker); /* the loop has not run */
	assert_int_equal(dones, JOBS);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(jobs[i].done_as, i);
}

static void an_idle_worker_closes(void **state)
{
	worker_close(worker);
	worker_close(NULL);
	assert_int_equal(dones, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(jobs_run_and_report_in_order),
		TEST(done_may_submit_the_next),
		TEST(close_waits_for_every_job_and_reports_it),
		TEST(an_idle_worker_closes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
