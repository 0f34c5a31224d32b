#include "daemon/patches.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/patch_topic.h"

#include <stdlib.h>

enum { RECORDS_AT_MOST = 512 }; /* of one call: the loop has more to do */

struct patches {
	const struct config *config;
	struct task_board *board;
	struct patch_topic *topic; /* NULL: not opened yet */
	bool lost;                 /* the topic is not the one that was read */
	struct live_patches *live;
};

static enum status choose(struct patches *p, const struct task_set *tasks, struct error *err)
{
	struct task_set *set;
	enum status status = live_patches_choose(p->live, tasks, patch_topic_table(p->topic), &set, err);
	if (status == STATUS_OK && set)
		task_board_put(p->board, set);
	return status;
}

enum status patches_new(const struct config *config, const struct backbone *backbone, struct network *net,
			struct task_board *board, struct patches **ret, struct error *err)
{
	struct patches *p = calloc(1, sizeof *p);
	if (!p)
		return error_set_memory(err);
	p->config = config;
	p->board = board;
	if (live_patches_new(config, backbone, net, &p->live, err) != STATUS_OK) {
		free(p);
		return err->status;
	}
	*ret = p;
	return STATUS_OK;
}

void patches_free(struct patches *p)
{
	if (!p)
		return;
	patch_topic_close(p->topic);
	live_patches_free(p->live);
	free(p);
}

enum status patches_start(struct patches *p, const struct task_set *tasks, int timeout_ms, struct error *err)
{
	enum status status = STATUS_OK;
	if (!p->topic)
		status = patch_topic_open(p->config, false, timeout_ms, &p->topic, err);
	else if (p->lost)
		status = patch_topic_restart(p->topic, timeout_ms, err);
	if (status != STATUS_OK)
		return status;
	p->lost = false;
	const int64_t begin_us = clock_monotonic_us();
	status = patch_topic_catch_up(p->topic, timeout_ms, err);
	if (status == STATUS_OK)
		return choose(p, tasks, err);
	/* it was deleted, or may not be read: no use in going on with it */
	p->lost = clock_monotonic_us() - begin_us < (int64_t)timeout_ms * 1000;
	return status;
}

static void tell(const struct patches *p, const struct patch_change *change)
{
	if (change->refusal)
		log_warning("topic %s: %s%s%s", p->config->patches_topic, change->entry ? change->entry->task : "",
			    change->entry ? ": " : "", change->refusal);
}

enum status patches_follow(struct patches *p, const struct task_set *tasks, struct error *err)
{
	struct patch_change change;
	bool got = true;
	enum status status = STATUS_OK;
	if (p->lost)
		return STATUS_OK;
	for (int n = 0; status == STATUS_OK && got && n < RECORDS_AT_MOST; n++) {
		status = patch_topic_poll(p->topic, 0, &got, &change, err);
		if (status == STATUS_OK && got)
			tell(p, &change);
	}
	if (status == STATUS_UNAVAILABLE) {
		log_warning("%s: it is read again from its beginning, and the patches stay as they are until then",
			    err->text);
		p->lost = true;
		return STATUS_OK;
	}
	return status == STATUS_OK ? choose(p, tasks, err) : status;
}

bool patches_lost(const struct patches *p)
{
	return p->lost;
}

uint64_t patches_swaps(const struct patches *p)
{
	return live_patches_swaps(p->live);
}
