/* Whether a task can be served here. Any thread. */
#ifndef DAEMON_TASK_FIT_H
#define DAEMON_TASK_FIT_H

#include "base/error.h"
#include "config/task.h"
#include "io/task_table.h"
#include "model/backbone.h"

/* What there is here; the backbone is borrowed. */
struct task_fit {
	const struct backbone *backbone;
	int64_t sequences_keep;
};

/* Whether the backbone has what the definition asks for, and the kept sequences hold what a side patch reads of them: the
 * window's events and as many more as are averaged. STATUS_DATA, with the key named in *err, or STATUS_MEMORY. */
enum status task_fits(const struct task_fit *fit, const struct config_task *task, struct error *err) MUST_CHECK;

/* The same as a table of tasks asks for it; the fit is borrowed. */
struct task_judge task_fit_judge(const struct task_fit *fit);

#endif
