/* A daemon started by this program: peterd, found beside our own executable.
 *
 * It gets SIGTERM when we die, whatever kills us; a process group of its own, so that a terminal's Ctrl-C reaches only us;
 * and a notification socket as systemd would give it. One thread. */
#ifndef TOOLS_CHILD_H
#define TOOLS_CHILD_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct child;

/* Starts peterd on a configuration; its stderr goes to `log`. Errors: STATUS_NO_INPUT (no peterd there), STATUS_IO. */
enum status child_start(const char *config, const char *log, struct child **ret, struct error *err) MUST_CHECK;

/* Waits for READY=1. Errors: STATUS_UNAVAILABLE (time-out, a signal to us), or that of a daemon that ended, with the last
 * line of its log. */
enum status child_await_ready(struct child *c, int64_t timeout_ms, struct error *err) MUST_CHECK;

/* STATUS_OK while it runs; as above where it ended. */
enum status child_check(struct child *c, struct error *err) MUST_CHECK;

/* SIGTERM, and SIGKILL after the time-out. Errors: STATUS_BUG unless it then exits with 0. */
enum status child_stop(struct child *c, int64_t timeout_ms, struct error *err) MUST_CHECK;

/* CPU time of all its threads since its start, to the kernel's tick (10 ms). */
int64_t child_cpu_us(const struct child *c);

void child_free(struct child *c); /* kills it where it still runs; NULL is fine */

#endif
