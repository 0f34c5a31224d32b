#include "daemon/task_fit.h"

#include <inttypes.h>

enum status task_fits(const struct task_fit *fit, const struct config_task *task, struct error *err)
{
	enum task_key key;
	const struct backbone *backbone = fit->backbone;
	const int64_t window = backbone_window(backbone);
	enum status status = config_task_fits(task, backbone_dim(backbone), backbone_blocks(backbone), &key, err);
	if (status != STATUS_OK)
		return status == STATUS_DATA ? error_prefix(err, "%s", task_rows[key].name) : status;
	if (!config_task_has(task, TASK_KEY_mean_window) || fit->sequences_keep >= window + task->mean_window)
		return STATUS_OK;
	return error_set(err, STATUS_DATA,
			 "mean_window: %" PRId64 " events and the %" PRId64
			 " that the backbone's window reads are more than sequences.keep, %" PRId64,
			 task->mean_window, window, fit->sequences_keep);
}

static enum status fits(const void *arg, const struct config_task *task, struct error *err)
{
	return task_fits(arg, task, err);
}

struct task_judge task_fit_judge(const struct task_fit *fit)
{
	return (struct task_judge){ fits, fit };
}
