#include "daemon/serving.h"

#include "base/log.h"
#include "daemon/patches.h"
#include "daemon/tasks.h"

#include <stdlib.h>

struct serving {
	struct tasks *tasks;
	struct patches *patches;
	bool started;
};

enum status serving_new(const struct config *config, const struct backbone *backbone, struct network *net,
			struct task_board *board, struct serving **ret, struct error *err)
{
	struct serving *s = calloc(1, sizeof *s);
	if (!s)
		return error_set_memory(err);
	enum status status = tasks_new(config, backbone, &s->tasks, err);
	if (status == STATUS_OK)
		status = patches_new(config, backbone, net, board, &s->patches, err);
	if (status != STATUS_OK) {
		tasks_free(s->tasks);
		free(s);
		return status;
	}
	*ret = s;
	return STATUS_OK;
}

void serving_free(struct serving *s)
{
	if (!s)
		return;
	patches_free(s->patches);
	tasks_free(s->tasks);
	free(s);
}

enum status serving_start(struct serving *s, int timeout_ms, struct error *err)
{
	enum status status = tasks_start(s->tasks, timeout_ms, err);
	if (status == STATUS_OK)
		status = patches_start(s->patches, tasks_in_force(s->tasks), timeout_ms, err);
	s->started = s->started || status == STATUS_OK;
	return status;
}

bool serving_is_possible(const struct config *config, const struct topics *topics)
{
	static const enum topic needed[] = { TOPIC_LABELS, TOPIC_TASKS, TOPIC_EXAMPLES, TOPIC_PATCHES };
	enum topic missing = TOPIC_COUNT;
	size_t there = 0;
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		if (topics->partitions[needed[i]] > 0)
			there++;
		else if (missing == TOPIC_COUNT)
			missing = needed[i];
	}
	if (missing != TOPIC_COUNT && there > 0)
		log_warning("topic %s is missing: labels are not read, and updates have no scores; peterctl topics "
			    "create makes it, for the next start",
			    topic_name(config, missing));
	return missing == TOPIC_COUNT;
}

bool serving_started(const struct serving *s)
{
	return s->started;
}

enum status serving_follow_tasks(struct serving *s, struct error *err)
{
	enum status status = tasks_follow(s->tasks, err);
	return status == STATUS_OK ? serving_follow_patches(s, err) : status;
}

enum status serving_follow_patches(struct serving *s, struct error *err)
{
	return patches_follow(s->patches, tasks_in_force(s->tasks), err);
}

bool serving_lost(const struct serving *s)
{
	return tasks_lost(s->tasks) || patches_lost(s->patches);
}

uint64_t serving_swaps(const struct serving *s)
{
	return patches_swaps(s->patches);
}
