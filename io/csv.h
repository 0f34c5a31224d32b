/* Delimited text with a header: CSV (RFC 4180) and its tab-separated sister.
 *
 * The delimiter is what the header uses: tabs or commas; where it holds both, the file's name decides (.tsv, .tab and
 * .inter are tabs). Quoted fields may hold delimiters, doubled quotes and line breaks. CR LF, a byte order mark and empty
 * lines are fine. Column names end at a colon (RecBole's "user_id:token"). Errors name file and line. One thread. */
#ifndef IO_CSV_H
#define IO_CSV_H

#include "base/buffer.h"
#include "base/error.h"

struct csv;

/* Opens `path` ("-": standard input) and reads the header. Errors: STATUS_NO_INPUT, STATUS_IO, STATUS_DATA (no header,
 * a column twice), STATUS_MEMORY. */
enum status csv_open(const char *path, struct csv **ret, struct error *err) MUST_CHECK;
void csv_close(struct csv *c); /* NULL is fine */

/* The index of a column, -1 where the header has no such name. */
int csv_column(const struct csv *c, const char *name);

/* The next record's fields, as many as the header has, valid until the next call; NULL at the end of the file.
 * Errors: STATUS_DATA (wrong number of fields, a quote that does not close), STATUS_IO, STATUS_MEMORY. */
enum status csv_next(struct csv *c, const struct slice **ret_fields, struct error *err) MUST_CHECK;

const char *csv_name(const struct csv *c); /* the file, for messages; until csv_close */
int64_t csv_line(const struct csv *c);     /* where the last record began, from 1 */

/* The share of the file that has been read, from 0 to 1; below 0 where that cannot be known (a pipe). */
double csv_share(const struct csv *c);

/* Sets STATUS_DATA with "file: line N: " in front. */
enum status csv_fault(const struct csv *c, struct error *err, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
