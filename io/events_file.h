/* Files of interactions and of labels, for peterctl: CSV or TSV with a header (contract, "Programs"; io/csv.h).
 *
 * Rows come in file order. Ids are checked as the daemon checks them; every error names file and line. One thread. */
#ifndef IO_EVENTS_FILE_H
#define IO_EVENTS_FILE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

struct events_file;

struct events_row {              /* slices until the next call */
	struct slice user_id;    /* UTF-8 without NUL, 1 to 256 bytes */
	struct slice item_id;    /* likewise, 1 to 1024 bytes */
	struct slice event_type; /* data NULL: none */
	int64_t timestamp_ms;    /* since the epoch; without a timestamp column the row's number, from 1 */
};

/* Columns user_id, item_id and, where there are, timestamp and event_type. Errors: STATUS_NO_INPUT, STATUS_IO, STATUS_DATA,
 * STATUS_MEMORY. */
enum status events_file_open(const char *path, struct events_file **ret, struct error *err) MUST_CHECK;
enum status events_file_next(struct events_file *f, struct events_row *ret, bool *ret_found,
			     struct error *err) MUST_CHECK;
double events_file_share(const struct events_file *f); /* of the file that has been read; below 0: unknown */
void events_file_close(struct events_file *f);         /* NULL is fine */

struct labels_file;

struct labels_row {        /* slices until the next call */
	struct slice task; /* not empty */
	struct slice user_id;
	struct slice label;   /* not empty, UTF-8 */
	int64_t timestamp_ms; /* -1: the file has none */
	float weight;         /* 1 where the file has none; finite, not negative */
};

/* Columns user_id, label and, where there are, timestamp and weight; and task, unless `task` (not NULL) stands for it. */
enum status labels_file_open(const char *path, const char *task, struct labels_file **ret,
			     struct error *err) MUST_CHECK;
enum status labels_file_next(struct labels_file *f, struct labels_row *ret, bool *ret_found,
			     struct error *err) MUST_CHECK;
/* The same for the labels of one task: where the file has a column task, rows of others are passed over. */
enum status labels_file_open_task(const char *path, const char *task, struct labels_file **ret,
				  struct error *err) MUST_CHECK;

/* The row's label as a number. Errors: STATUS_DATA naming file and line. */
enum status labels_file_number(const struct labels_file *f, const struct labels_row *row, double *ret,
			       struct error *err) MUST_CHECK;
/* Sets STATUS_DATA with "file: line N: " of the last row in front. */
enum status labels_file_fault(const struct labels_file *f, struct error *err, const char *format, ...)
	PRINTF_LIKE(3, 4);
void labels_file_close(struct labels_file *f); /* NULL is fine */

#endif
