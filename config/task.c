#include "config/task.h"

#include "config/options.h"
#include "config/reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX_BYTES 1024 /* a ranking task's labels are item ids */
#define NAME_BYTES_MOST 100
#define INSIDE_MAX_AGE_MS 60000 /* serial and parallel patches that say nothing */
#define CHOICES_MOST 8
#define CHOICES_BYTES 96
#define REAL_TEXT "%.9g" /* for people */

#define MUST NULL
#define ROW(kind_, field_, scope_, effect_, text_)                                                                     \
	.kind = kind_, .name = #field_, .offset = offsetof(struct config_task, field_), .scope = TASK_##scope_,        \
	.trains = EFFECT_##effect_, .text = text_
#define EFFECT_TRAINS true
#define EFFECT_SERVES false
const struct task_row task_rows[TASK_KEYS] = {
#define NAME(field_, text_) { ROW(TASK_NAME, field_, ANY, SERVES, text_) },
#define CHOICE(field_, choices_, default_, scope_, effect_, text_)                                                     \
	{ ROW(TASK_CHOICE, field_, scope_, effect_, text_), .choices = choices_, .text_default = default_ },
#define LIST(field_, scope_, effect_, text_) { ROW(TASK_LIST, field_, scope_, effect_, text_) },
#define BLOCKS(field_, scope_, effect_, text_)                                                                         \
	{ ROW(TASK_BLOCKS, field_, scope_, effect_, text_), .high = TASK_BLOCK_AT_MOST },
#define WHOLE(field_, default_, low_, high_, unit_, scope_, effect_, text_)                                            \
	{ ROW(TASK_WHOLE, field_, scope_, effect_, text_), .whole_default = default_, .low = low_, .high = high_,      \
	  .unit = unit_ },
#define REAL(field_, default_, low_, high_, scope_, effect_, text_)                                                    \
	{ ROW(TASK_REAL, field_, scope_, effect_, text_), .real_default = default_, .least = low_, .most = high_ },
#define FLAG(field_, default_, scope_, effect_, text_)                                                                 \
	{ ROW(TASK_FLAG, field_, scope_, effect_, text_), .whole_default = default_ },
#include "config/task.def"
#undef NAME
#undef CHOICE
#undef LIST
#undef BLOCKS
#undef WHOLE
#undef REAL
#undef FLAG
};
_Static_assert(TASK_KEYS <= 32, "`given` has a bit for each");

const struct task_row *task_row_find(const char *name)
{
	for (size_t i = 0; i < TASK_KEYS; i++)
		if (!strcmp(task_rows[i].name, name))
			return &task_rows[i];
	return NULL;
}

void *task_field(struct config_task *t, const struct task_row *row)
{
	return (char *)t + row->offset;
}

const void *task_field_const(const struct config_task *t, const struct task_row *row)
{
	return (const char *)t + row->offset;
}

void config_numbers_clear(struct config_numbers *numbers)
{
	free(numbers->items);
	memset(numbers, 0, sizeof *numbers);
}

void config_task_clear(struct config_task *task)
{
	for (size_t i = 0; i < TASK_KEYS; i++) {
		void *field = task_field(task, &task_rows[i]);
		if (task_rows[i].kind == TASK_NAME || task_rows[i].kind == TASK_CHOICE)
			free(*(char **)field);
		if (task_rows[i].kind == TASK_LIST)
			config_list_clear(field);
		if (task_rows[i].kind == TASK_BLOCKS)
			config_numbers_clear(field);
	}
	memset(task, 0, sizeof *task);
}

static bool is_given(const struct config_task *t, enum task_key key)
{
	return t->given >> key & 1;
}

/* ---- one key ---- */

/* "a|b|c" as names (ends with NULL) and as "a, b or c". */
static void split(const char *choices, char copy[CHOICES_BYTES], const char *names[CHOICES_MOST + 1],
		  char text[CHOICES_BYTES])
{
	size_t count = 0;
	size_t used = 0;
	char *rest = copy;
	(void)snprintf(copy, CHOICES_BYTES, "%s", choices);
	for (char *name; count < CHOICES_MOST && (name = strsep(&rest, "|"));) {
		const char *before = count == 0 ? "" : rest ? ", " : " or ";
		used += (size_t)snprintf(text + used, CHOICES_BYTES - used, "%s%s", before, name);
		names[count++] = name;
	}
	names[count] = NULL;
}

static enum status check_choice(const struct task_row *row, const char *value, struct error *err)
{
	char copy[CHOICES_BYTES];
	char text[CHOICES_BYTES];
	char found[SHOWN_BYTES];
	const char *names[CHOICES_MOST + 1];
	split(row->choices, copy, names, text);
	for (size_t i = 0; names[i]; i++)
		if (!strcmp(names[i], value))
			return STATUS_OK;
	return error_set(err, STATUS_DATA, "must be %s, found %s; did you mean %s?", text, shown(value, found),
			 nearest_name(value, names));
}

static enum status check_name(const char *name, struct error *err)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t length = strlen(name);
	if (length == 0 || length > NAME_BYTES_MOST || name[strspn(name, legal)])
		return error_set(err, STATUS_DATA, "must be 1 to %d of a-z A-Z 0-9 . _ -", NAME_BYTES_MOST);
	return STATUS_OK;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Labels keep their order (it is the head's row order), so duplicates are looked for in a sorted copy. */
static enum status check_labels(const struct config_list *labels, struct error *err)
{
	char found[SHOWN_BYTES];
	for (size_t i = 0; i < labels->count; i++) {
		size_t length = strlen(labels->items[i]);
		if (length == 0 || length > LABEL_MAX_BYTES)
			return error_set(err, STATUS_DATA, "a label must be 1 to %d bytes", LABEL_MAX_BYTES);
	}
	if (labels->count < 2)
		return STATUS_OK;
	char **sorted = malloc(labels->count * sizeof *sorted);
	if (!sorted)
		return error_set_memory(err);
	memcpy(sorted, labels->items, labels->count * sizeof *sorted);
	qsort(sorted, labels->count, sizeof *sorted, compare_texts);
	enum status s = STATUS_OK;
	for (size_t i = 1; i < labels->count && !s; i++)
		if (!strcmp(sorted[i - 1], sorted[i]))
			s = error_set(err, STATUS_DATA, "the label %s stands twice", shown(sorted[i], found));
	free(sorted);
	return s;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static enum status check_blocks(struct config_numbers *blocks, struct error *err)
{
	if (blocks->count)
		qsort(blocks->items, blocks->count, sizeof *blocks->items, compare_numbers);
	for (size_t i = 0; i < blocks->count; i++) {
		if (blocks->items[i] > TASK_BLOCK_AT_MOST)
			return error_set(err, STATUS_DATA, "must be from 0 to %d blocks, found %" PRIu32,
					 TASK_BLOCK_AT_MOST, blocks->items[i]);
		if (i && blocks->items[i - 1] == blocks->items[i])
			return error_set(err, STATUS_DATA, "the block %" PRIu32 " stands twice", blocks->items[i]);
	}
	return STATUS_OK;
}

static enum status check_whole(const struct task_row *row, int64_t value, struct error *err)
{
	if (value < row->low || value > row->high)
		return error_set(err, STATUS_DATA, "must be from %" PRId64 " to %" PRId64 " %s, found %" PRId64,
				 row->low, row->high, row->unit, value);
	return STATUS_OK;
}

static enum status check_real(const struct task_row *row, double value, struct error *err)
{
	if (!(value >= row->least && value <= row->most))
		return error_set(err, STATUS_DATA, "must be from " REAL_TEXT " to " REAL_TEXT ", found " REAL_TEXT,
				 row->least, row->most, value);
	return STATUS_OK;
}

static enum status check_given(struct config_task *t, const struct task_row *row, struct error *err)
{
	void *field = task_field(t, row);
	switch (row->kind) {
	case TASK_NAME:
		return check_name(*(char **)field, err);
	case TASK_CHOICE:
		return check_choice(row, *(char **)field, err);
	case TASK_LIST:
		return check_labels(field, err);
	case TASK_BLOCKS:
		return check_blocks(field, err);
	case TASK_WHOLE:
		return check_whole(row, *(int64_t *)field, err);
	case TASK_REAL:
		return check_real(row, *(double *)field, err);
	case TASK_FLAG:
		break;
	}
	return STATUS_OK;
}

/* ---- defaults ---- */

static enum status fill_in(struct config_task *t, const struct task_row *row, struct error *err)
{
	void *field = task_field(t, row);
	switch (row->kind) {
	case TASK_CHOICE:
		if (!*row->text_default)
			return STATUS_OK;
		*(char **)field = strdup(row->text_default);
		return *(char **)field ? STATUS_OK : error_set_memory(err);
	case TASK_WHOLE:
		*(int64_t *)field = row->whole_default;
		return STATUS_OK;
	case TASK_REAL:
		*(double *)field = row->real_default;
		return STATUS_OK;
	case TASK_FLAG:
		*(bool *)field = row->whole_default != 0;
		return STATUS_OK;
	case TASK_NAME:
	case TASK_LIST:
	case TASK_BLOCKS:
		return STATUS_OK;
	}
	return STATUS_OK;
}

/* One loss there is for classes and for numbers; among those of ranking the learner chooses when it knows the targets. */
static enum status fill_in_loss(struct config_task *t, struct error *err)
{
	if (t->loss || !strcmp(t->type, "ranking"))
		return STATUS_OK;
	t->loss = strdup(!strcmp(t->type, "regression") ? "squared" : "softmax");
	return t->loss ? STATUS_OK : error_set_memory(err);
}

/* ---- keys together ---- */

static bool in_scope(const struct config_task *t, const struct task_row *row)
{
	switch (row->scope) {
	case TASK_ANY:
		return true;
	case TASK_SIDE:
		return !strcmp(t->insertion, "side");
	case TASK_INSIDE:
		return strcmp(t->insertion, "side") != 0;
	case TASK_CLASSES:
		return strcmp(t->type, "regression") != 0;
	case TASK_RANKING:
		return !strcmp(t->type, "ranking");
	}
	return true;
}

static enum status refuse_scope(const struct task_row *row, struct error *err)
{
	static const char *const reasons[] = {
		[TASK_ANY] = "",
		[TASK_SIDE] = "is for side patches only",
		[TASK_INSIDE] = "is for serial and parallel patches only",
		[TASK_CLASSES] = "a regression task has no labels, it predicts a number",
		[TASK_RANKING] = "is for ranking tasks only",
	};
	return error_set(err, STATUS_DATA, "%s", reasons[row->scope]);
}

static enum status check_loss(const struct config_task *t, enum task_key *ret_key, struct error *err)
{
	const bool squared = !strcmp(t->loss, "squared");
	*ret_key = TASK_KEY_loss;
	if (!strcmp(t->type, "regression") && !squared)
		return error_set(err, STATUS_DATA, "%s: for regression it is squared", t->loss);
	if (!strcmp(t->type, "classification") && strcmp(t->loss, "softmax") != 0)
		return error_set(err, STATUS_DATA, "%s: for classification it is softmax", t->loss);
	if (!strcmp(t->type, "ranking") && squared)
		return error_set(err, STATUS_DATA, "squared: for ranking it is softmax, sampled, bpr, bce or hard");
	*ret_key = TASK_KEY_negatives;
	if (is_given(t, TASK_KEY_negatives) && strcmp(t->loss, "sampled") != 0 && strcmp(t->loss, "hard") != 0)
		return error_set(err, STATUS_DATA, "the loss %s draws none; sampled and hard do", t->loss);
	return STATUS_OK;
}

static enum status check_together(const struct config_task *t, enum task_key *ret_key, struct error *err)
{
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		/* an empty list is as good as none */
		const bool empty = key == TASK_KEY_labels && t->labels.count == 0;
		*ret_key = key;
		if (is_given(t, key) && !empty && !in_scope(t, &task_rows[key]))
			return refuse_scope(&task_rows[key], err);
	}
	*ret_key = TASK_KEY_labels;
	if (!strcmp(t->type, "classification") && t->labels.count == 1)
		return error_set(err, STATUS_DATA,
				 "a classification task needs two labels or more, or none: they come as they arrive");
	return t->loss ? check_loss(t, ret_key, err) : STATUS_OK;
}

enum status config_task_check(struct config_task *task, enum task_key *ret_key, struct error *err)
{
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		*ret_key = key;
		enum status s = is_given(task, key) ? check_given(task, &task_rows[key], err) : STATUS_OK;
		if (s)
			return s;
	}
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		const struct task_row *row = &task_rows[key];
		*ret_key = key;
		if (is_given(task, key))
			continue;
		if (row->kind == TASK_NAME || (row->kind == TASK_CHOICE && !row->text_default))
			return error_set(err, STATUS_DATA, "missing; a task needs it");
		enum status s = fill_in(task, row, err);
		if (s)
			return s;
	}
	enum status s = fill_in_loss(task, err);
	return s ? s : check_together(task, ret_key, err);
}

enum status config_task_fits(const struct config_task *task, uint32_t channels, uint32_t blocks, enum task_key *ret_key,
			     struct error *err)
{
	const bool side = !strcmp(task->insertion, "side");
	const uint32_t count = blocks + (side ? 1 : 0);
	*ret_key = TASK_KEY_blocks;
	for (size_t i = 0; i < task->blocks.count; i++)
		if (task->blocks.items[i] >= count)
			return error_set(err, STATUS_DATA, "%" PRIu32 ": the backbone's %s are 0 to %" PRIu32,
					 task->blocks.items[i], side ? "levels" : "blocks", count - 1);
	*ret_key = TASK_KEY_bottleneck;
	if (task->bottleneck > 2 * (int64_t)channels)
		return error_set(err, STATUS_DATA,
				 "%" PRId64 ": at most twice the backbone's %" PRIu32 " channels: it is to be narrow",
				 task->bottleneck, channels);
	return STATUS_OK;
}

int64_t config_task_max_age_ms(const struct config *config, const struct config_task *task)
{
	if (task->max_age_ms > 0)
		return task->max_age_ms;
	return !strcmp(task->insertion, "side") ? config->patch_max_age_ms : INSIDE_MAX_AGE_MS;
}

int64_t config_task_min_labels(const struct config *config, const struct config_task *task)
{
	return task->min_labels > 0 ? task->min_labels : config->patch_min_labels;
}

/* ---- the hash ---- */

bool config_task_has(const struct config_task *task, enum task_key key)
{
	const struct task_row *row = &task_rows[key];
	const void *field = task_field_const(task, row);
	if (!in_scope(task, row))
		return false;
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		return *(char *const *)field != NULL;
	case TASK_LIST:
		return ((const struct config_list *)field)->count > 0;
	case TASK_BLOCKS:
		return is_given(task, key);
	case TASK_WHOLE:
		return *(const int64_t *)field >= 0;
	case TASK_REAL:
	case TASK_FLAG:
		break;
	}
	return true;
}

/* Labels with their lengths: they may hold anything. */
static void print_value(FILE *out, const struct task_row *row, const void *field)
{
	const struct config_list *list = field;
	const struct config_numbers *numbers = field;
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		(void)fputs(*(char *const *)field, out);
		break;
	case TASK_LIST:
		for (size_t i = 0; i < list->count; i++)
			(void)fprintf(out, "%zu:%s", strlen(list->items[i]), list->items[i]);
		break;
	case TASK_BLOCKS:
		for (size_t i = 0; i < numbers->count; i++)
			(void)fprintf(out, "%s%" PRIu32, i ? "," : "", numbers->items[i]);
		break;
	case TASK_WHOLE:
		(void)fprintf(out, "%" PRId64, *(const int64_t *)field);
		break;
	case TASK_REAL:
		(void)fprintf(out, "%.17g", *(const double *)field);
		break;
	case TASK_FLAG:
		(void)fputs(*(const bool *)field ? "true" : "false", out);
		break;
	}
}

enum status config_task_canonical(const struct config_task *task, char **ret, struct error *err)
{
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	if (!out)
		return error_set_memory(err);
	(void)fputs("peterd.task.v1\n", out);
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		const struct task_row *row = &task_rows[key];
		if (!row->trains || !in_scope(task, row))
			continue;
		(void)fprintf(out, "%s", row->name);
		if (config_task_has(task, key)) {
			(void)fputc('=', out);
			print_value(out, row, task_field_const(task, row));
		}
		(void)fputc('\n', out);
	}
	const bool failed = ferror(out) != 0;
	if (fclose(out) || failed) {
		free(text);
		return error_set_memory(err);
	}
	*ret = text;
	return STATUS_OK;
}

enum status config_task_hash(const struct config_task *task, char ret[HASH_HEX_LENGTH + 1], struct error *err)
{
	char *text;
	enum status s = config_task_canonical(task, &text, err);
	if (s)
		return s;
	hash_sha256_hex(text, strlen(text), ret);
	free(text);
	return STATUS_OK;
}
