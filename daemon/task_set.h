/* What is served: the tasks in force, each with its live patch, as the lanes see them. An immutable set, held by whoever uses
 * it, behind a board on which the control loop puts a new one when the tasks topic or the patches topic says so. Any thread. */
#ifndef DAEMON_TASK_SET_H
#define DAEMON_TASK_SET_H

#include "daemon/served_patch.h"
#include "daemon/served_task.h"

struct served {
	struct served_task *task;
	struct served_patch *patch; /* NULL: there is none, the task has no scores */
};

struct task_set {
	_Atomic unsigned holders;
	size_t count;
	struct served entries[]; /* [count], in the order of their names */
};

/* A set held once, which holds what the entries name. Errors: STATUS_MEMORY. */
enum status task_set_new(const struct served entries[], size_t count, struct task_set **ret,
			 struct error *err) MUST_CHECK;

/* The same of definitions, whose contents it takes, also when it fails, without patches. Errors: STATUS_MEMORY. */
enum status task_set_of(struct config_task definitions[], size_t count, uint32_t blocks, struct task_set **ret,
			struct error *err) MUST_CHECK;

struct task_set *task_set_hold(struct task_set *set); /* once more; returns it */
void task_set_release(struct task_set *set);          /* NULL is fine */

/* NULL: there is no such task. */
const struct served *task_set_entry(const struct task_set *set, struct slice name);
const struct served_task *task_set_find(const struct task_set *set, struct slice name);

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
