/* A task in force: its definition and what follows from it, immutable, held by whoever uses it. Any thread. */
#ifndef DAEMON_SERVED_TASK_H
#define DAEMON_SERVED_TASK_H

#include "base/buffer.h"
#include "base/error.h"
#include "config/task.h"
#include "model/patch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct served_task {
	_Atomic unsigned holders;
	struct config_task definition; /* checked */
	char hash[HASH_HEX_LENGTH + 1];
	struct patch_spec spec;
	uint32_t *
		levels; /* [levels_count]: those whose states a side patch reads, ascending; the last one's among them */
	size_t levels_count; /* 0: the patch sits inside the trunk */
	const char **labels; /* [labels_count], sorted, into `definition` */
	size_t labels_count; /* 0: any label may come */
};

/* Held once, of a checked definition that fits a backbone of so many blocks, whose contents it takes, also when it fails.
 * Errors: STATUS_MEMORY. */
enum status served_task_new(struct config_task *definition, uint32_t blocks, struct served_task **ret,
			    struct error *err) MUST_CHECK;
struct served_task *served_task_hold(struct served_task *task); /* once more; returns it */
void served_task_release(struct served_task *task);             /* NULL is fine */

/* Whether the task takes the label: its definition names it, or names none. */
bool served_task_takes(const struct served_task *task, struct slice label);

#endif
