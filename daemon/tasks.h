/* Follows the tasks topic: which tasks are in force. A definition that makes no sense, or asks for
 * what the backbone does not have, is refused with its reason on the log, and what was in force before stays so. */
#ifndef DAEMON_TASKS_H
#define DAEMON_TASKS_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "model/backbone.h"

struct tasks;

/* Reads the topic to its end and writes to it the configured tasks that it has never had. Blocking, up to timeout_ms for each
 * step: not on a loop. Errors: those of io/task_topic.h. */
enum status tasks_open(const struct config *config, const struct backbone *backbone, int timeout_ms, struct tasks **ret,
		       struct error *err) MUST_CHECK;
void tasks_close(struct tasks *t); /* NULL is fine */

/* Takes what has come since. Does not block. Errors: STATUS_MEMORY; outages are waited out. */
enum status tasks_follow(struct tasks *t, struct error *err) MUST_CHECK;

/* The tasks in force, without patches: until the next call of tasks_follow, another set where anything has changed. */
const struct task_set *tasks_in_force(const struct tasks *t);

#endif
