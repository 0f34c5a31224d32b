/* Whether a task can be served here. Any thread. */
#ifndef DAEMON_TASK_FIT_H
#define DAEMON_TASK_FIT_H

#include "base/error.h"
#include "config/task.h"
#include "model/backbone.h"

/* Whether the backbone has what the definition asks for, and the kept sequences hold what a side patch reads of them: the
 * window's events and as many more as are averaged. STATUS_DATA, with the key named in *err, or STATUS_MEMORY. */
enum status task_fits(const struct config_task *task, const struct backbone *backbone, int64_t sequences_keep,
		      struct error *err) MUST_CHECK;

#endif
