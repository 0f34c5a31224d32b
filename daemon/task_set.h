/* The tasks in force, as the lanes see them: an immutable set of definitions, held by whoever uses it, behind a board on
 * which the control loop puts a new one when the tasks topic says so. Any thread. */
#ifndef DAEMON_TASK_SET_H
#define DAEMON_TASK_SET_H

#include "base/buffer.h"
#include "base/error.h"
#include "config/task.h"
#include "model/patch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct served_task {
	struct config_task definition; /* checked */
	char hash[HASH_HEX_LENGTH + 1];
	struct patch_spec spec;
	uint32_t *
		levels; /* [levels_count]: those whose states a side patch reads, ascending; the last block's among them */
	size_t levels_count; /* 0: the patch sits inside the trunk */
	const char **labels; /* [labels_count], sorted, into `definition` */
	size_t labels_count; /* 0: any label may come */
};

struct task_set {
	_Atomic unsigned holders;
	struct served_task *entries; /* [count], in the order of their names */
	size_t count;
};

/* A set held once, of checked definitions that fit a backbone of so many blocks. The set takes what they hold, also when it
 * fails; the array stays the caller's. Errors: STATUS_MEMORY. */
enum status task_set_new(struct config_task definitions[], size_t count, uint32_t blocks, struct task_set **ret,
			 struct error *err) MUST_CHECK;
struct task_set *task_set_hold(struct task_set *set); /* once more; returns it */
void task_set_release(struct task_set *set);          /* NULL is fine */

/* NULL: there is no such task. */
const struct served_task *task_set_find(const struct task_set *set, struct slice name);

/* Whether the task takes the label: its definition names it, or names none. */
bool served_task_takes(const struct served_task *task, struct slice label);

struct task_board;

struct task_board *task_board_new(void); /* with an empty set; NULL: out of memory */
void task_board_free(struct task_board *board);

/* Puts the set on the board, which takes the caller's hold. */
void task_board_put(struct task_board *board, struct task_set *set);

/* The set on the board, held for the caller. */
struct task_set *task_board_get(struct task_board *board);

/* Changes whenever a set is put: cheap enough to ask for every batch. */
uint64_t task_board_version(const struct task_board *board);

#endif
