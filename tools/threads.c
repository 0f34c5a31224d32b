#include "tools/threads.h"

#include "model/blas.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Under `lock` but for `job` and `part`, which are read while the parts of a job are out and written while none is. */
struct threads {
	pthread_mutex_t lock;
	pthread_cond_t begun; /* there are parts to take, or the end has come */
	pthread_cond_t done;  /* the last part has returned */
	void (*part)(void *job, uint32_t number);
	void *job;
	uint32_t parts;
	uint32_t next;    /* part to be taken */
	uint32_t running; /* parts taken that have not returned */
	bool closing;
	uint32_t started; /* own threads */
	pthread_t own[];
};

/* Takes parts until none is left. Enters and leaves with the lock. */
static void take_parts(struct threads *t)
{
	while (t->next < t->parts) {
		uint32_t number = t->next++;
		t->running++;
		(void)pthread_mutex_unlock(&t->lock);
		t->part(t->job, number);
		(void)pthread_mutex_lock(&t->lock);
		t->running--;
	}
	if (t->running == 0)
		(void)pthread_cond_signal(&t->done);
}

static void *work(void *arg)
{
	struct threads *t = arg;
	(void)pthread_mutex_lock(&t->lock);
	while (!t->closing) {
		take_parts(t);
		if (!t->closing)
			(void)pthread_cond_wait(&t->begun, &t->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void run(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	struct threads *t = arg;
	(void)pthread_mutex_lock(&t->lock);
	t->part = part;
	t->job = job;
	t->next = 0;
	t->parts = parts;
	if (parts > 1)
		(void)pthread_cond_broadcast(&t->begun);
	take_parts(t);
	while (t->running > 0)
		(void)pthread_cond_wait(&t->done, &t->lock);
	t->parts = 0;
	t->next = 0;
	(void)pthread_mutex_unlock(&t->lock);
}

static enum status start(struct threads *t, uint32_t count, struct error *err)
{
	sigset_t all;
	sigset_t before;
	int code = 0;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	for (; t->started < count && !code; t->started += !code)
		code = pthread_create(&t->own[t->started], NULL, work, t);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code ? error_set(err, STATUS_IO, "thread %u of %u: %s", t->started + 2, count + 1, strerror(code))
		    : STATUS_OK;
}

enum status threads_new(uint32_t count, struct threads **ret, struct error *err)
{
	if (blas_reserve(count, err))
		return err->status;
	struct threads *t = calloc(1, sizeof *t + count * sizeof t->own[0]);
	if (!t)
		return error_set_memory(err);
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_cond_init(&t->begun, NULL);
	(void)pthread_cond_init(&t->done, NULL);
	enum status status = start(t, count - 1, err);
	if (status) {
		threads_free(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void threads_free(struct threads *t)
{
	if (!t)
		return;
	(void)pthread_mutex_lock(&t->lock);
	t->closing = true;
	(void)pthread_cond_broadcast(&t->begun);
	(void)pthread_mutex_unlock(&t->lock);
	for (uint32_t i = 0; i < t->started; i++)
		(void)pthread_join(t->own[i], NULL);
	(void)pthread_cond_destroy(&t->done);
	(void)pthread_cond_destroy(&t->begun);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

struct parallel threads_parallel(struct threads *t)
{
	return (struct parallel){ .parts = t->started + 1, .run = run, .arg = t };
}

uint32_t threads_cores(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
	return count < 1 ? 1 : count > THREADS_AT_MOST ? THREADS_AT_MOST : (uint32_t)count;
}
