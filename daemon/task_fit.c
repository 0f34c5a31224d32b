#include "daemon/task_fit.h"

#include <inttypes.h>

enum status task_fits(const struct config_task *task, const struct backbone *backbone, int64_t sequences_keep,
		      struct error *err)
{
	enum task_key key;
	int64_t window = backbone_window(backbone);
	enum status status = config_task_fits(task, backbone_dim(backbone), backbone_blocks(backbone), &key, err);
	if (status != STATUS_OK)
		return status == STATUS_DATA ? error_prefix(err, "%s", task_rows[key].name) : status;
	if (!config_task_has(task, TASK_KEY_mean_window) || sequences_keep >= window + task->mean_window)
		return STATUS_OK;
	return error_set(err, STATUS_DATA,
			 "mean_window: %" PRId64 " events and the %" PRId64
			 " that the backbone's window reads are more than sequences.keep, %" PRId64,
			 task->mean_window, window, sequences_keep);
}
