#include "io/csv.h"

#include "base/plural.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct csv {
	FILE *file;
	char *name;
	char delimiter;
	int64_t line;       /* the last record's first line */
	int64_t next_line;  /* the line that the next byte stands on */
	struct buffer text; /* the record's fields, end to end */
	size_t *ends;       /* where each field ends in `text` */
	struct slice *fields;
	size_t count;    /* fields of the record */
	size_t capacity; /* of `ends` and `fields` */
	char **columns;
	size_t columns_count;
};

enum status csv_fault(const struct csv *c, struct error *err, const char *format, ...)
{
	char what[400];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof what, format, args);
	va_end(args);
	return error_set(err, STATUS_DATA, "%s: line %lld: %s", c->name, (long long)c->line, what);
}

static bool end_field(struct csv *c)
{
	if (c->count == c->capacity) {
		size_t capacity = c->capacity ? 2 * c->capacity : 16;
		size_t *ends = realloc(c->ends, capacity * sizeof *ends);
		if (!ends)
			return false;
		c->ends = ends;
		struct slice *fields = realloc(c->fields, capacity * sizeof *fields);
		if (!fields)
			return false;
		c->fields = fields;
		c->capacity = capacity;
	}
	c->ends[c->count++] = c->text.length;
	return true;
}

/* Reads the rest of a quoted field; returns the byte after the closing quote, EOF - 1 where it never closes. */
static int read_quoted(struct csv *c)
{
	for (;;) {
		int byte = getc_unlocked(c->file);
		if (byte == EOF)
			return EOF - 1;
		if (byte == '"') {
			byte = getc_unlocked(c->file);
			if (byte != '"')
				return byte;
		}
		c->next_line += byte == '\n';
		buffer_append_byte(&c->text, (uint8_t)byte);
	}
}

/* Reads one field; *ret_end is the byte that ended it: the delimiter, '\n' or EOF. */
static enum status read_field(struct csv *c, int byte, int *ret_end, struct error *err)
{
	if (byte == '"') {
		byte = read_quoted(c);
		if (byte == EOF - 1)
			return csv_fault(c, err, "a quote does not close");
		if (byte == '\r')
			byte = getc_unlocked(c->file);
		if (byte != c->delimiter && byte != '\n' && byte != EOF)
			return csv_fault(c, err, "text after a closing quote");
	}
	while (byte != c->delimiter && byte != '\n' && byte != EOF) {
		buffer_append_byte(&c->text, (uint8_t)byte);
		byte = getc_unlocked(c->file);
		if (byte == '\n' && !c->text.failed && c->text.data[c->text.length - 1] == '\r')
			c->text.length--;
	}
	*ret_end = byte;
	return end_field(c) ? STATUS_OK : error_set_memory(err);
}

/* Reads one record; c->count is 0 at the end of the file. */
static enum status read_record(struct csv *c, struct error *err)
{
	int byte;
	buffer_clear(&c->text);
	c->count = 0;
	do {
		c->line = c->next_line;
		byte = getc_unlocked(c->file);
		if (byte == '\r') {
			byte = getc_unlocked(c->file);
			if (byte != '\n' && byte != EOF)
				return csv_fault(c, err, "a carriage return without a line feed");
		}
		c->next_line += byte == '\n';
	} while (byte == '\n');
	while (byte != EOF || c->count > 0) {
		int end = EOF;
		enum status status = read_field(c, byte, &end, err);
		if (status)
			return status;
		if (end != c->delimiter) {
			c->next_line += end == '\n';
			break;
		}
		byte = getc_unlocked(c->file);
	}
	if (ferror(c->file)) {
		errno = errno ? errno : EIO;
		return error_set_errno(err, "%s", c->name);
	}
	if (c->text.failed)
		return error_set_memory(err);
	for (size_t i = 0; i < c->count; i++) {
		size_t begin = i ? c->ends[i - 1] : 0;
		c->fields[i] = (struct slice){ c->text.data + begin, c->ends[i] - begin };
	}
	return STATUS_OK;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t n = strlen(text);
	size_t m = strlen(suffix);
	return n >= m && !strcmp(text + n - m, suffix);
}

/* Reads the first line raw, so that its own delimiter is known before it is cut up. */
static enum status choose_delimiter(struct csv *c, char **ret_line, size_t *ret_length, struct error *err)
{
	size_t capacity = 0;
	*ret_line = NULL;
	errno = 0;
	ssize_t got = getline(ret_line, &capacity, c->file);
	if (got < 0)
		return errno ? error_set_errno(err, "%s", c->name)
			     : error_set(err, STATUS_DATA, "%s: line 1: the header is missing", c->name);
	*ret_length = (size_t)got;
	bool tabs = memchr(*ret_line, '\t', *ret_length);
	bool commas = memchr(*ret_line, ',', *ret_length);
	bool named = ends_with(c->name, ".tsv") || ends_with(c->name, ".tab") || ends_with(c->name, ".inter");
	c->delimiter = tabs && (named || !commas) ? '\t' : ',';
	return STATUS_OK;
}

static enum status take_columns(struct csv *c, struct error *err)
{
	c->columns = calloc(c->count ? c->count : 1, sizeof *c->columns);
	if (!c->columns)
		return error_set_memory(err);
	for (size_t i = 0; i < c->count; i++) {
		struct slice field = c->fields[i];
		const uint8_t *colon = field.length ? memchr(field.data, ':', field.length) : NULL;
		char *name = strndup((const char *)field.data, colon ? (size_t)(colon - field.data) : field.length);
		if (!name)
			return error_set_memory(err);
		if (csv_column(c, name) >= 0) {
			enum status status = csv_fault(c, err, "column %s stands twice", name);
			free(name);
			return status;
		}
		c->columns[c->columns_count++] = name;
	}
	return STATUS_OK;
}

/* The header is parsed by the record reader from memory, then reading goes on in the file. */
static enum status read_header(struct csv *c, struct error *err)
{
	char *line = NULL;
	size_t length = 0;
	enum status status = choose_delimiter(c, &line, &length, err);
	if (!status) {
		size_t mark = length >= 3 && !memcmp(line, "\xef\xbb\xbf", 3) ? 3 : 0;
		FILE *rest = c->file;
		c->file = length > mark ? fmemopen(line + mark, length - mark, "r") : NULL;
		status = c->file || length == mark ? STATUS_OK : error_set_memory(err);
		if (c->file) {
			status = read_record(c, err);
			(void)fclose(c->file);
		}
		c->file = rest;
		c->next_line = 2;
	}
	if (!status && c->count == 0)
		status = error_set(err, STATUS_DATA, "%s: line 1: the header is missing", c->name);
	if (!status)
		status = take_columns(c, err);
	free(line);
	return status;
}

enum status csv_open(const char *path, struct csv **ret, struct error *err)
{
	struct csv *c = calloc(1, sizeof *c);
	if (!c)
		return error_set_memory(err);
	bool standard = !strcmp(path, "-");
	c->next_line = 1;
	c->name = strdup(standard ? "standard input" : path);
	enum status status = c->name ? STATUS_OK : error_set_memory(err);
	if (!status) {
		c->file = standard ? stdin : fopen(path, "re");
		status = c->file ? read_header(c, err) : error_set_errno(err, "%s", path);
	}
	if (status) {
		csv_close(c);
		return status;
	}
	*ret = c;
	return STATUS_OK;
}

void csv_close(struct csv *c)
{
	if (!c)
		return;
	if (c->file && c->file != stdin)
		(void)fclose(c->file);
	for (size_t i = 0; i < c->columns_count; i++)
		free(c->columns[i]);
	free(c->columns);
	free(c->ends);
	free(c->fields);
	free(c->name);
	buffer_free(&c->text);
	free(c);
}

int csv_column(const struct csv *c, const char *name)
{
	for (size_t i = 0; i < c->columns_count; i++)
		if (!strcmp(c->columns[i], name))
			return (int)i;
	return -1;
}

enum status csv_next(struct csv *c, const struct slice **ret_fields, struct error *err)
{
	enum status status = read_record(c, err);
	if (status)
		return status;
	if (c->count && c->count != c->columns_count)
		return csv_fault(c, err, "%zu field%s, expected %zu", c->count, plural((int64_t)c->count),
				 c->columns_count);
	*ret_fields = c->count ? c->fields : NULL;
	return STATUS_OK;
}

const char *csv_name(const struct csv *c)
{
	return c->name;
}

int64_t csv_line(const struct csv *c)
{
	return c->line;
}

double csv_share(const struct csv *c)
{
	struct stat about;
	off_t at = ftello(c->file);
	if (at < 0 || fstat(fileno(c->file), &about) || !S_ISREG(about.st_mode) || about.st_size == 0)
		return -1;
	return (double)at / (double)about.st_size;
}
