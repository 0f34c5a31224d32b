/* Records of the patches topic for people and as JSON. Main thread. */
#ifndef TOOLS_PATCH_VIEW_H
#define TOOLS_PATCH_VIEW_H

#include "io/patch_table.h"

/* Prints what was decided, of one task or, `only` NULL, of all: in the order of time, each task's in the order of its numbers. An
 * object a line, of every record; or a table, in which a checkpoint shows only where it is a task's newest. Errors: STATUS_IO,
 * STATUS_MEMORY. */
enum status patch_view_list(const struct patch_table *table, const struct patch_entry *only, bool json,
			    struct error *err) MUST_CHECK;

/* One record as a line, with its time of the day. Errors as above. */
enum status patch_view_record(const struct patch_record *record, bool json, struct error *err) MUST_CHECK;

/* One record with all of its numbers, and what stands in the task's slots. Errors as above. */
enum status patch_view_show(const struct patch_entry *entry, const struct patch_record *record, bool json,
			    struct error *err) MUST_CHECK;

/* The versions whose bytes are there, the oldest first: "3, 4 (predecessor), 7 (live)", or "none". Returns `ret`. */
const char *patch_view_versions(const struct patch_entry *entry, char *ret, size_t size);

/* By how much the loss of one was lower than the other's: "+0.2500 +- 0.1250 of 64", or "-" where there were too few labels to
 * say. Returns `ret`. */
enum { PATCH_VIEW_GAIN_SIZE = 64 };
const char *patch_view_gain(const struct patch_gate *gate, char ret[PATCH_VIEW_GAIN_SIZE]);

/* The metric that tells most of the record's task, of recent labels: "accuracy"; NULL: it has none. And a model's ("live",
 * "challenger") value of one, NaN where it has none. */
const char *patch_view_metric(const struct patch_record *record);
double patch_view_value(const struct patch_record *record, const char *model, const char *name);

#endif
