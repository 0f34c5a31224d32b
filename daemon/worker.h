/* A lane's worker: one thread that runs blocking jobs, one at a time, in order, and reports each back to the loop.
 *
 * Owned by one loop. `run` is called on the worker's thread, `done` on the loop's, once each, in the order of
 * submission. A job may be submitted from `done`. Submission cannot fail: the job is the caller's memory, and stays so
 * until `done` was called. */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include "base/error.h"

#include <uv.h>

struct worker;

struct worker_job {
	void (*run)(struct worker_job *job);  /* worker's thread */
	void (*done)(struct worker_job *job); /* loop's thread */
	struct worker_job *next;              /* the worker's */
};

/* Starts the thread. Errors: STATUS_MEMORY, STATUS_IO (no more threads). */
enum status worker_new(uv_loop_t *loop, const char *name, struct worker **ret, struct error *err) MUST_CHECK;

void worker_submit(struct worker *w, struct worker_job *job);

/* Waits for every submitted job to have run, calls their `done`, ends the thread, and closes its handle on the loop,
 * which must run once more for the handle's memory. NULL is fine. */
void worker_close(struct worker *w);

#endif
