/* Follows the tasks topic: which tasks are in force. A definition that makes no sense, or asks for
 * what the backbone does not have, is refused with its reason on the log, and what was in force before stays so. */
#ifndef DAEMON_TASKS_H
#define DAEMON_TASKS_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "model/backbone.h"

struct tasks;

/* Opens nothing yet. What is passed is borrowed. Errors: STATUS_MEMORY. */
enum status tasks_new(const struct config *config, const struct backbone *backbone, struct tasks **ret,
		      struct error *err) MUST_CHECK;
void tasks_free(struct tasks *t); /* NULL is fine */

/* Unless it is followed already, reads the topic to its end and writes to it the configured tasks that it has never had.
 * Blocking, up to timeout_ms for each step: not on a loop. Errors: those of io/task_topic.h. */
enum status tasks_start(struct tasks *t, int timeout_ms, struct error *err) MUST_CHECK;

/* Takes what has come since. Does not block. Errors: STATUS_MEMORY; outages are waited out. */
enum status tasks_follow(struct tasks *t, struct error *err) MUST_CHECK;

/* The topic was deleted, made anew or cut off, which was said: the tasks stay as they are until it is started again. */
bool tasks_lost(const struct tasks *t);

/* The tasks in force, without patches: until the next call of tasks_follow, another set where anything has changed. */
const struct task_set *tasks_in_force(const struct tasks *t);

#endif
