/* Follows the patches topic and keeps the board up to date: the tasks in force, each with its live patch. */
#ifndef DAEMON_PATCHES_H
#define DAEMON_PATCHES_H

#include "daemon/live_patches.h"

struct patches;

/* Reads the topic to its end and puts the tasks on the board. Blocking, up to timeout_ms for each step: not on a loop. What is
 * passed is borrowed, but for `tasks`, of this call only. Errors: those of patch_topic_open, STATUS_UNAVAILABLE, STATUS_MEMORY. */
enum status patches_open(const struct config *config, const struct backbone *backbone, struct network *net,
			 const struct task_set *tasks, struct task_board *board, int timeout_ms, struct patches **ret,
			 struct error *err) MUST_CHECK;
void patches_close(struct patches *p); /* NULL is fine */

/* Takes what has come since, and these tasks. Waits for nothing, but large patches take their time to load. Errors:
 * STATUS_MEMORY; outages are waited out. */
enum status patches_follow(struct patches *p, const struct task_set *tasks, struct error *err) MUST_CHECK;

uint64_t patches_swaps(const struct patches *p); /* as live_patches_swaps */

#endif
