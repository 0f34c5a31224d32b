/* The labels of one task joined to the users of an events file: what offline training and evaluation learn from.
 *
 * An example is a row of the labels file whose user has events before it: strictly before its timestamp, or all of the
 * user's where it has none. Rows of users that the events file does not know, and of users without earlier events, are
 * counted and left out. Of rows that label one user at one time (or without any) twice, the last counts: for ranking,
 * where a user may have many targets, of those with the same target. Main thread. */
#ifndef TOOLS_TASK_DATA_H
#define TOOLS_TASK_DATA_H

#include "base/error.h"
#include "io/audience.h"
#include "model/patch.h"

#include <stddef.h>
#include <stdint.h>

struct task_example {
	size_t user;     /* of the audience */
	size_t events;   /* its first so many */
	uint32_t target; /* index of its label: classification and ranking */
	float value;     /* regression */
	float weight;
	int64_t time_ms; /* -1: none */
};

struct task_data {
	struct task_example *examples; /* in the file's order */
	size_t count;
	char **labels;     /* [classes]; regression: none */
	uint32_t classes;  /* regression: 1 */
	size_t rows;       /* of the task in the file */
	size_t unknown;    /* of users that the events file does not have */
	size_t early;      /* without any event before them */
	size_t duplicates; /* left out for a later row */
	size_t users;      /* that have examples */
};

struct task_labels { /* the labels that rows may have */
	const char *const *list;
	size_t count;
};

/* Reads the rows of `task` (all, where the file has no column task). `known` NULL: labels are what occurs, numbers first in
 * their order, then texts by their bytes. Errors: STATUS_DATA naming file and line (a label that is not known, a regression's
 * that is no decimal number, ...), STATUS_NO_INPUT, STATUS_IO, STATUS_MEMORY. No example at all is none. */
enum status task_data_load(const char *path, const char *task, enum patch_type type, const struct task_labels *known,
			   const struct audience *audience, struct task_data *ret, struct error *err) MUST_CHECK;
void task_data_free(struct task_data *data); /* zeroes it */

/* Errors: STATUS_DATA where there is no example, with what there is instead. */
enum status task_data_check(const struct task_data *data, const char *task, struct error *err) MUST_CHECK;

/* What was left out, one line on stderr; nothing where nothing was. */
void task_data_say(const struct task_data *data, const char *path);

#endif
