/* Follows the patches topic and keeps the board up to date: the tasks in force, each with its live patch. */
#ifndef DAEMON_PATCHES_H
#define DAEMON_PATCHES_H

#include "daemon/live_patches.h"

struct patches;

/* Opens nothing yet. What is passed is borrowed. Errors: STATUS_MEMORY. */
enum status patches_new(const struct config *config, const struct backbone *backbone, struct network *net,
			struct task_board *board, struct patches **ret, struct error *err) MUST_CHECK;
void patches_free(struct patches *p); /* NULL is fine */

/* Reads the topic to its end, from its beginning where it is not followed yet or was lost, and puts these tasks on the board.
 * Blocking, up to timeout_ms for each step: not on a loop. Errors: those of patch_topic_open; STATUS_UNAVAILABLE: call it again, and
 * it goes on where it stopped (versions of large tables take longer than anybody should wait in one go); STATUS_MEMORY. */
enum status patches_start(struct patches *p, const struct task_set *tasks, int timeout_ms,
			  struct error *err) MUST_CHECK;

/* Takes what has come since, and these tasks. Waits for nothing, but large patches take their time to load. Errors:
 * STATUS_MEMORY; outages are waited out. */
enum status patches_follow(struct patches *p, const struct task_set *tasks, struct error *err) MUST_CHECK;

/* The topic was deleted, made anew or cut off, which was said: what serves stays as it is until it is started again. */
bool patches_lost(const struct patches *p);

uint64_t patches_swaps(const struct patches *p); /* as live_patches_swaps; any thread */

#endif
