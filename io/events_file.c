#include "io/events_file.h"

#include "io/csv.h"
#include "io/record.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

struct events_file {
	struct csv *csv;
	int user_id; /* columns; -1: none */
	int item_id;
	int timestamp;
	int event_type;
	int64_t rows; /* read so far */
};

struct labels_file {
	struct csv *csv;
	struct slice task; /* stands for the column; data NULL: the column */
	struct slice only; /* rows of other tasks are passed over; data NULL: none are */
	int task_column;   /* -1: none */
	int user_id;
	int label;
	int timestamp;
	int weight;
};

static enum status check_text(const struct csv *c, const char *column, struct slice text, size_t most,
			      struct error *err)
{
	if (text.length == 0)
		return csv_fault(c, err, "%s is empty", column);
	if (text.length > most)
		return csv_fault(c, err, "%s of %zu bytes, at most %zu", column, text.length, most);
	if (memchr(text.data, 0, text.length))
		return csv_fault(c, err, "%s holds a NUL", column);
	if (u8_check(text.data, text.length))
		return csv_fault(c, err, "%s is not UTF-8", column);
	return STATUS_OK;
}

/* Copies a number's text, NUL-terminated, for the C library's parsers. */
static bool copy_number(struct slice text, char *out, size_t size)
{
	if (text.length == 0 || text.length >= size || isspace(text.data[0]) || memchr(text.data, 0, text.length))
		return false;
	memcpy(out, text.data, text.length);
	out[text.length] = '\0';
	return true;
}

/* Milliseconds: a whole number from 0, or one with a fraction that is dropped (RecBole's timestamp:float). */
static enum status parse_timestamp(const struct csv *c, struct slice text, int64_t *ret, struct error *err)
{
	char copy[64];
	char *end = copy;
	long long value = -1;
	errno = 0;
	if (copy_number(text, copy, sizeof copy))
		value = strtoll(copy, &end, 10);
	if (end != copy && *end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	if (errno || end == copy || *end || value < 0 || copy[0] == '-')
		return csv_fault(c, err, "timestamp %.*s is not a whole number of milliseconds from 0",
				 text.length < 40 ? (int)text.length : 40, (const char *)text.data);
	*ret = value;
	return STATUS_OK;
}

static enum status parse_real(const struct csv *c, const char *column, struct slice text, double *ret,
			      struct error *err)
{
	char copy[64];
	char *end = copy;
	double value = 0;
	if (copy_number(text, copy, sizeof copy))
		value = strtod(copy, &end);
	if (end == copy || *end || !isfinite(value))
		return csv_fault(c, err, "%s %.*s is not a finite number", column,
				 text.length < 40 ? (int)text.length : 40, (const char *)text.data);
	*ret = value;
	return STATUS_OK;
}

struct column {
	const char *name;
	const char *instead; /* what the error of a required one adds; NULL: it may be missing */
	int *ret;            /* -1: there is none */
};

static enum status open_columns(const char *path, const struct column columns[], size_t count, struct csv **ret,
				struct error *err)
{
	struct csv *csv;
	enum status status = csv_open(path, &csv, err);
	if (status)
		return status;
	for (size_t i = 0; i < count && !status; i++) {
		*columns[i].ret = csv_column(csv, columns[i].name);
		if (*columns[i].ret < 0 && columns[i].instead)
			status = error_set(err, STATUS_DATA, "%s: line 1: the header has no column %s%s", csv_name(csv),
					   columns[i].name, columns[i].instead);
	}
	if (status)
		csv_close(csv);
	else
		*ret = csv;
	return status;
}

enum status events_file_open(const char *path, struct events_file **ret, struct error *err)
{
	struct events_file *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	const struct column columns[] = {
		{ "user_id", "", &f->user_id },
		{ "item_id", "", &f->item_id },
		{ "timestamp", NULL, &f->timestamp },
		{ "event_type", NULL, &f->event_type },
	};
	enum status status = open_columns(path, columns, sizeof columns / sizeof *columns, &f->csv, err);
	if (status) {
		free(f);
		return status;
	}
	*ret = f;
	return STATUS_OK;
}

enum status events_file_next(struct events_file *f, struct events_row *ret, bool *ret_found, struct error *err)
{
	const struct slice *fields;
	enum status status = csv_next(f->csv, &fields, err);
	if (status)
		return status;
	*ret_found = fields != NULL;
	if (!fields)
		return STATUS_OK;
	f->rows++;
	*ret = (struct events_row){ .user_id = fields[f->user_id],
				    .item_id = fields[f->item_id],
				    .timestamp_ms = f->rows };
	status = check_text(f->csv, "user_id", ret->user_id, USER_ID_MAX_BYTES, err);
	if (!status)
		status = check_text(f->csv, "item_id", ret->item_id, ITEM_ID_MAX_BYTES, err);
	if (!status && f->timestamp >= 0)
		status = parse_timestamp(f->csv, fields[f->timestamp], &ret->timestamp_ms, err);
	if (!status && f->event_type >= 0 && fields[f->event_type].length) {
		ret->event_type = fields[f->event_type];
		status = check_text(f->csv, "event_type", ret->event_type, SIZE_MAX, err);
	}
	return status;
}

double events_file_share(const struct events_file *f)
{
	return csv_share(f->csv);
}

void events_file_close(struct events_file *f)
{
	if (!f)
		return;
	csv_close(f->csv);
	free(f);
}

/* `only`: the task is a column's where there is one. */
static enum status open_labels(const char *path, const char *task, bool only, struct labels_file **ret,
			       struct error *err)
{
	const struct slice name = { (const uint8_t *)task, task ? strlen(task) : 0 };
	struct labels_file *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	const struct column columns[] = {
		{ "task", task ? NULL : "; --task names the task of all rows", &f->task_column },
		{ "user_id", "", &f->user_id },
		{ "label", "", &f->label },
		{ "timestamp", NULL, &f->timestamp },
		{ "weight", NULL, &f->weight },
	};
	enum status status = open_columns(path, columns, sizeof columns / sizeof *columns, &f->csv, err);
	if (status) {
		free(f);
		return status;
	}
	*(only && f->task_column >= 0 ? &f->only : &f->task) = name;
	*ret = f;
	return STATUS_OK;
}

enum status labels_file_open(const char *path, const char *task, struct labels_file **ret, struct error *err)
{
	return open_labels(path, task, false, ret, err);
}

enum status labels_file_open_task(const char *path, const char *task, struct labels_file **ret, struct error *err)
{
	return open_labels(path, task, true, ret, err);
}

/* The next record that is of the task asked for. */
static enum status next_fields(struct labels_file *f, const struct slice **ret, struct error *err)
{
	const struct slice *fields;
	for (;;) {
		enum status status = csv_next(f->csv, &fields, err);
		if (status)
			return status;
		if (!fields || !f->only.data ||
		    (fields[f->task_column].length == f->only.length &&
		     !memcmp(fields[f->task_column].data, f->only.data, f->only.length)))
			break;
	}
	*ret = fields;
	return STATUS_OK;
}

enum status labels_file_next(struct labels_file *f, struct labels_row *ret, bool *ret_found, struct error *err)
{
	const struct slice *fields;
	enum status status = next_fields(f, &fields, err);
	if (status)
		return status;
	*ret_found = fields != NULL;
	if (!fields)
		return STATUS_OK;
	*ret = (struct labels_row){ .task = f->task.data ? f->task : fields[f->task_column],
				    .user_id = fields[f->user_id],
				    .label = fields[f->label],
				    .timestamp_ms = -1,
				    .weight = 1 };
	status = check_text(f->csv, "task", ret->task, SIZE_MAX, err);
	if (!status)
		status = check_text(f->csv, "user_id", ret->user_id, USER_ID_MAX_BYTES, err);
	if (!status)
		status = check_text(f->csv, "label", ret->label, SIZE_MAX, err);
	if (!status && f->timestamp >= 0 && fields[f->timestamp].length)
		status = parse_timestamp(f->csv, fields[f->timestamp], &ret->timestamp_ms, err);
	if (!status && f->weight >= 0 && fields[f->weight].length) {
		double weight = 1;
		status = parse_real(f->csv, "weight", fields[f->weight], &weight, err);
		if (!status && (weight < 0 || !isfinite((float)weight)))
			status = csv_fault(f->csv, err, "weight is below 0 or too large");
		if (!status)
			ret->weight = (float)weight;
	}
	return status;
}

enum status labels_file_number(const struct labels_file *f, const struct labels_row *row, double *ret,
			       struct error *err)
{
	return parse_real(f->csv, "label", row->label, ret, err);
}

enum status labels_file_fault(const struct labels_file *f, struct error *err, const char *format, ...)
{
	char text[sizeof err->text];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	return csv_fault(f->csv, err, "%s", text);
}

void labels_file_close(struct labels_file *f)
{
	if (!f)
		return;
	csv_close(f->csv);
	free(f);
}
