#include "daemon/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct queue {
	struct worker_job *first;
	struct worker_job **last;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	struct queue waiting;  /* under mutex */
	struct queue finished; /* under mutex */
	bool closing;          /* under mutex */
	uv_async_t reported;   /* the loop's */
};

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_push(struct queue *q, struct worker_job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct worker_job *queue_pop(struct queue *q)
{
	struct worker_job *job = q->first;
	if (job && !(q->first = job->next))
		q->last = &q->first;
	return job;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	pthread_mutex_lock(&w->mutex);
	for (;;) {
		struct worker_job *job = queue_pop(&w->waiting);
		if (!job && w->closing)
			break;
		if (!job) {
			pthread_cond_wait(&w->wake, &w->mutex);
			continue;
		}
		pthread_mutex_unlock(&w->mutex);
		job->run(job);
		pthread_mutex_lock(&w->mutex);
		queue_push(&w->finished, job);
		uv_async_send(&w->reported);
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

static void report_finished(struct worker *w)
{
	for (;;) {
		pthread_mutex_lock(&w->mutex);
		struct worker_job *job = queue_pop(&w->finished);
		pthread_mutex_unlock(&w->mutex);
		if (!job)
			return;
		job->done(job);
	}
}

static void on_reported(uv_async_t *handle)
{
	report_finished(handle->data);
}

static void on_closed(uv_handle_t *handle)
{
	struct worker *w = handle->data;
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}

enum status worker_new(uv_loop_t *loop, const char *name, struct worker **ret, struct error *err)
{
	struct worker *w = calloc(1, sizeof *w);
	if (!w)
		return error_set_memory(err);
	queue_init(&w->waiting);
	queue_init(&w->finished);
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->wake, NULL);
	w->reported.data = w;
	if (uv_async_init(loop, &w->reported, on_reported) != 0) {
		free(w);
		return error_set_memory(err);
	}
	if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
		uv_close((uv_handle_t *)&w->reported, on_closed);
		return error_set(err, STATUS_IO, "cannot start the thread %s", name);
	}
	pthread_setname_np(w->thread, name);
	*ret = w;
	return STATUS_OK;
}

void worker_submit(struct worker *w, struct worker_job *job)
{
	pthread_mutex_lock(&w->mutex);
	queue_push(&w->waiting, job);
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->mutex);
}

void worker_close(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->mutex);
	w->closing = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->mutex);
	pthread_join(w->thread, NULL);
	report_finished(w);
	uv_close((uv_handle_t *)&w->reported, on_closed);
}
