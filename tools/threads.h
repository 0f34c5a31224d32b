/* A pool of threads that runs the parts of a job (model/parallel.h): the caller's thread and the pool's own take part
 * after part until none is left.
 *
 * Each of them finds a buffer of OpenBLAS's ready. A pool belongs to one thread at a time, which alone may lend its `struct parallel`. The pool's threads have all
 * signals blocked, so that those come to the caller. */
#ifndef TOOLS_THREADS_H
#define TOOLS_THREADS_H

#include "base/error.h"
#include "model/parallel.h"

#include <stdint.h>

struct threads;

enum { THREADS_AT_MOST = 128 }; /* Debian's OpenBLAS has buffers for so many at one time */

/* `count` threads, the caller's among them: from 1 to THREADS_AT_MOST. Errors: STATUS_MEMORY, STATUS_IO (the system
 * starts no more threads). */
enum status threads_new(uint32_t count, struct threads **ret, struct error *err) MUST_CHECK;
void threads_free(struct threads *t); /* NULL is fine; nothing may be running */

/* As many parts as threads; valid until threads_free. */
struct parallel threads_parallel(struct threads *t);

uint32_t threads_cores(void); /* that this process may use, from 1 to THREADS_AT_MOST */

#endif
