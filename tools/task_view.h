/* Task definitions for people and as JSON. */
#ifndef TOOLS_TASK_VIEW_H
#define TOOLS_TASK_VIEW_H

#include "config/config.h"
#include "io/task_table.h"

/* Prints the table's tasks, and those of the configuration that it has not or that were removed from it: a line each, or an object a
 * line. The latter are held against the judge, NULL: none. Errors: STATUS_IO, STATUS_MEMORY. */
enum status task_view_list(const struct task_table *table, const struct config *config, const struct task_judge *judge,
			   bool json, struct error *err) MUST_CHECK;

#endif
