#include "tools/task_data.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct label {
	UT_hash_handle hh;
	uint32_t number; /* by first appearance, then by rank */
	bool numeric;
	double value;
	char text[];
};

struct loader {
	struct labels_file *file;
	const char *task;
	enum patch_type type;
	bool closed; /* no labels but those that are known */
	const struct audience *audience;
	struct label *labels;
	struct task_data *data;
	size_t capacity;
};

/* Of the forms that strtod takes, "12", "-0.5", "1e3": neither hexadecimal ones nor names. */
static bool is_decimal(const void *text, size_t length)
{
	const char *at = text;
	for (size_t i = 0; i < length; i++)
		if (!memchr("0123456789+-.eE", at[i], 15))
			return false;
	return true;
}

static struct label *add_label(struct loader *l, const void *text, size_t length)
{
	struct label *label = calloc(1, sizeof *label + length + 1);
	if (!label)
		return NULL;
	char *end;
	memcpy(label->text, text, length);
	errno = 0;
	label->value = strtod(label->text, &end);
	label->numeric = end != label->text && !*end && errno == 0 && is_decimal(text, length);
	label->number = l->data->classes++;
	HASH_ADD_KEYPTR(hh, l->labels, label->text, length, label);
	if (!label->hh.tbl) { /* uthash found no memory */
		free(label);
		return NULL;
	}
	return label;
}

static enum status read_target(struct loader *l, const struct labels_row *row, struct task_example *e,
			       struct error *err)
{
	if (l->type == PATCH_REGRESSION) {
		double value = 0;
		enum status status = labels_file_number(l->file, row, &value, err);
		if (!status && !is_decimal(row->label.data, row->label.length))
			return labels_file_fault(l->file, err, "label %.*s is not a decimal number",
						 row->label.length < 64 ? (int)row->label.length : 64,
						 (const char *)row->label.data);
		e->value = (float)value;
		if (!status && !isfinite(e->value))
			return labels_file_fault(l->file, err, "label %g is too large", value);
		return status;
	}
	struct label *label = NULL;
	HASH_FIND(hh, l->labels, row->label.data, row->label.length, label);
	if (!label && l->closed)
		return labels_file_fault(l->file, err, "label %.*s is none of the %u known of task %s",
					 row->label.length < 64 ? (int)row->label.length : 64,
					 (const char *)row->label.data, l->data->classes, l->task);
	if (!label)
		label = add_label(l, row->label.data, row->label.length);
	if (!label)
		return error_set_memory(err);
	e->target = label->number;
	return STATUS_OK;
}

/* How many of the user's events are older than the label. */
static size_t events_before(const struct audience *a, size_t user, int64_t time_ms)
{
	size_t high;
	const struct event *events = audience_sequence(a, user, &high);
	size_t low = 0;
	while (time_ms >= 0 && low < high) {
		size_t middle = low + (high - low) / 2;
		if (events[middle].time_ms < time_ms)
			low = middle + 1;
		else
			high = middle;
	}
	return high;
}

static enum status add_row(struct loader *l, const struct labels_row *row, struct error *err)
{
	struct task_data *d = l->data;
	struct task_example e = { .weight = row->weight, .time_ms = row->timestamp_ms };
	d->rows++;
	enum status status = read_target(l, row, &e, err);
	if (status)
		return status;
	if (!audience_find(l->audience, row->user_id, &e.user)) {
		d->unknown++;
		return STATUS_OK;
	}
	e.events = events_before(l->audience, e.user, row->timestamp_ms);
	if (e.events == 0) {
		d->early++;
		return STATUS_OK;
	}
	if (d->count == l->capacity) {
		size_t capacity = l->capacity ? 2 * l->capacity : 1024;
		struct task_example *grown = realloc(d->examples, capacity * sizeof *grown);
		if (!grown)
			return error_set_memory(err);
		d->examples = grown;
		l->capacity = capacity;
	}
	d->examples[d->count++] = e;
	return STATUS_OK;
}

static enum status read_rows(struct loader *l, struct error *err)
{
	for (;;) {
		struct labels_row row;
		bool found = false;
		enum status status = labels_file_next(l->file, &row, &found, err);
		if (!status && found)
			status = add_row(l, &row, err);
		if (status || !found)
			return status;
	}
}

static int by_rank(const struct label *a, const struct label *b)
{
	if (a->numeric != b->numeric)
		return a->numeric ? -1 : 1;
	if (a->numeric && a->value != b->value)
		return a->value < b->value ? -1 : 1;
	return strcmp(a->text, b->text);
}

/* Labels that occurred get their rows by rank, whatever the order of the file. */
static enum status rank_labels(struct loader *l, struct error *err)
{
	struct task_data *d = l->data;
	uint32_t *ranks = calloc((size_t)d->classes + 1, sizeof *ranks);
	uint32_t rank = 0;
	if (!ranks)
		return error_set_memory(err);
	HASH_SORT(l->labels, by_rank);
	for (struct label *label = l->labels; label; label = label->hh.next) {
		ranks[label->number] = rank;
		label->number = rank++;
	}
	for (size_t i = 0; i < d->count; i++)
		d->examples[i].target = ranks[d->examples[i].target];
	free(ranks);
	return STATUS_OK;
}

static enum status copy_labels(struct loader *l, struct error *err)
{
	struct task_data *d = l->data;
	d->labels = calloc((size_t)d->classes + 1, sizeof *d->labels);
	if (!d->labels)
		return error_set_memory(err);
	for (struct label *label = l->labels; label; label = label->hh.next) {
		d->labels[label->number] = strdup(label->text);
		if (!d->labels[label->number])
			return error_set_memory(err);
	}
	return STATUS_OK;
}

struct key { /* of an example, for the search of duplicates */
	struct task_example e;
	size_t at;
};

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	if (x->e.user != y->e.user)
		return x->e.user < y->e.user ? -1 : 1;
	if (x->e.time_ms != y->e.time_ms)
		return x->e.time_ms < y->e.time_ms ? -1 : 1;
	if (x->e.target != y->e.target)
		return x->e.target < y->e.target ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static bool same(const struct key *x, const struct key *y)
{
	return x->e.user == y->e.user && x->e.time_ms == y->e.time_ms && x->e.target == y->e.target;
}

/* Leaves the last of each set of rows that say the same thing twice, and counts users. */
static enum status drop_duplicates(struct loader *l, struct error *err)
{
	struct task_data *d = l->data;
	const size_t count = d->count;
	struct key *keys = calloc(count + 1, sizeof *keys);
	bool *dropped = calloc(count + 1, sizeof *dropped);
	if (!keys || !dropped) {
		free(keys);
		free(dropped);
		return error_set_memory(err);
	}
	for (size_t i = 0; i < count; i++) {
		keys[i] = (struct key){ d->examples[i], i };
		keys[i].e.target = l->type == PATCH_RANKING ? keys[i].e.target : 0;
	}
	qsort(keys, count, sizeof *keys, by_key);
	for (size_t i = 0; i < count; i++) {
		dropped[keys[i].at] = i + 1 < count && same(&keys[i], &keys[i + 1]);
		d->users += i == 0 || keys[i].e.user != keys[i - 1].e.user;
	}
	d->count = 0;
	for (size_t i = 0; i < count; i++)
		if (!dropped[i])
			d->examples[d->count++] = d->examples[i];
	d->duplicates = count - d->count;
	free(keys);
	free(dropped);
	return STATUS_OK;
}

static enum status load(struct loader *l, const struct task_labels *known, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; known && i < known->count; i++)
		if (!add_label(l, known->list[i], strlen(known->list[i])))
			return error_set_memory(err);
	l->closed = known != NULL;
	status = read_rows(l, err);
	if (!status && !known)
		status = rank_labels(l, err);
	if (!status && l->type != PATCH_REGRESSION)
		status = copy_labels(l, err);
	if (l->type == PATCH_REGRESSION)
		l->data->classes = 1;
	return status ? status : drop_duplicates(l, err);
}

enum status task_data_load(const char *path, const char *task, enum patch_type type, const struct task_labels *known,
			   const struct audience *audience, struct task_data *ret, struct error *err)
{
	struct task_data data = { 0 };
	struct loader l = { .task = task, .type = type, .audience = audience, .data = &data };
	enum status status = labels_file_open_task(path, task, &l.file, err);
	if (!status)
		status = load(&l, type == PATCH_REGRESSION ? NULL : known, err);
	labels_file_close(l.file);
	for (struct label *label = l.labels, *next; label; label = next) {
		next = label->hh.next;
		HASH_DEL(l.labels, label);
		free(label);
	}
	if (status)
		task_data_free(&data);
	else
		*ret = data;
	return status;
}

void task_data_free(struct task_data *data)
{
	for (uint32_t i = 0; data->labels && i < data->classes; i++)
		free(data->labels[i]);
	free(data->labels);
	free(data->examples);
	*data = (struct task_data){ 0 };
}

enum status task_data_check(const struct task_data *data, const char *task, struct error *err)
{
	if (data->count > 0)
		return STATUS_OK;
	if (data->rows == 0)
		return error_set(err, STATUS_DATA, "no row is of task %s", task);
	return error_set(err, STATUS_DATA,
			 "task %s: no label of a user with earlier events (%zu rows, %zu of unknown users)", task,
			 data->rows, data->unknown);
}

void task_data_say(const struct task_data *data, const char *path)
{
	if (data->unknown + data->early + data->duplicates == 0)
		return;
	(void)fprintf(stderr,
		      "%s: of %zu rows, left out: %zu of unknown users, %zu of users without earlier events, "
		      "%zu repeated\n",
		      path, data->rows, data->unknown, data->early, data->duplicates);
}
