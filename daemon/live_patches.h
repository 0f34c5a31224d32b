/* Which version of each task's patch serves: that of the newest decision on the patches topic, where it belongs to the lineage
 * of the definition and the backbone in force, else the lineage's identity patch. A version that cannot be served is refused, with
 * a line on the log, and what served goes on. One thread. */
#ifndef DAEMON_LIVE_PATCHES_H
#define DAEMON_LIVE_PATCHES_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "io/patch_table.h"
#include "model/backbone.h"
#include "model/network.h"

struct live_patches;

/* What is passed is borrowed. Errors: STATUS_MEMORY. */
enum status live_patches_new(const struct config *config, const struct backbone *backbone, struct network *net,
			     struct live_patches **ret, struct error *err) MUST_CHECK;
void live_patches_free(struct live_patches *l); /* NULL is fine */

/* The tasks with their patches, as a set that the caller holds; NULL: it would be that of the last call. Errors:
 * STATUS_MEMORY, after which the call may be made again. */
enum status live_patches_choose(struct live_patches *l, const struct task_set *tasks, const struct patch_table *table,
				struct task_set **ret, struct error *err) MUST_CHECK;

/* Versions that took another's place in a lineage. Any thread. */
uint64_t live_patches_swaps(const struct live_patches *l);

#endif
