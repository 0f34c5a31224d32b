#include "config/options.h"
#include "config/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK_NAME_MAX_BYTES 100
#define TASK_LABEL_MAX_BYTES 1024 /* a ranking task's labels are item ids */
#define TASK_BOTTLENECK_MAX 65536
#define TASK_BOTTLENECK 16 /* the default */

static const char *const key_names[] = { "name", "type", "labels", "insertion", "bottleneck", NULL };
static const char *const type_names[] = { "classification", "ranking", "regression", NULL };
static const char *const insertion_names[] = { "serial", "parallel", "side", NULL };

void config_task_clear(struct config_task *task)
{
	free(task->name);
	free(task->type);
	free(task->insertion);
	config_list_clear(&task->labels);
	memset(task, 0, sizeof *task);
}

static bool is_one_of(const char *text, const char *const names[])
{
	for (size_t i = 0; names[i]; i++)
		if (!strcmp(names[i], text))
			return true;
	return false;
}

static enum status read_choice(struct reader *r, const char *key, const struct node *node, const char *const names[],
			       char **ret)
{
	char found[SHOWN_BYTES];
	char *text;
	enum status s = reader_text(r, key, node, &text);
	if (s)
		return s;
	if (!is_one_of(text, names)) {
		s = reader_refuse(r, node->line, key, "must be %s, %s or %s, found %s; did you mean %s?", names[0],
				  names[1], names[2], shown(text, found), nearest_name(text, names));
		free(text);
		return s;
	}
	free(*ret);
	*ret = text;
	return STATUS_OK;
}

static enum status read_name(struct reader *r, const char *key, const struct node *node, char **ret)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	char *name;
	enum status s = reader_text(r, key, node, &name);
	if (s)
		return s;
	size_t length = strlen(name);
	if (length == 0 || length > TASK_NAME_MAX_BYTES || name[strspn(name, legal)]) {
		free(name);
		return reader_refuse(r, node->line, key, "must be 1 to %d of a-z A-Z 0-9 . _ -", TASK_NAME_MAX_BYTES);
	}
	free(*ret);
	*ret = name;
	return STATUS_OK;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Labels keep their order (it is the head's row order), so duplicates are looked for in a sorted copy. */
static enum status check_labels(const struct reader *r, const char *key, int line, const struct config_list *labels)
{
	char found[SHOWN_BYTES];
	for (size_t i = 0; i < labels->count; i++) {
		size_t length = strlen(labels->items[i]);
		if (length == 0 || length > TASK_LABEL_MAX_BYTES)
			return reader_refuse(r, line, key, "a label must be 1 to %d bytes", TASK_LABEL_MAX_BYTES);
	}
	if (labels->count < 2)
		return STATUS_OK;
	char **sorted = malloc(labels->count * sizeof *sorted);
	if (!sorted)
		return error_set_memory(r->err);
	memcpy(sorted, labels->items, labels->count * sizeof *sorted);
	qsort(sorted, labels->count, sizeof *sorted, compare_texts);
	enum status s = STATUS_OK;
	for (size_t i = 1; i < labels->count && !s; i++)
		if (!strcmp(sorted[i - 1], sorted[i]))
			s = reader_refuse(r, line, key, "the label %s stands twice", shown(sorted[i], found));
	free(sorted);
	return s;
}

static enum status read_key(struct reader *r, const char *prefix, const struct node *node, struct config_task *task)
{
	const char *name = node_key(&r->tree, node);
	char key[KEY_MAX_BYTES];
	enum status s = reader_key(r, prefix, node, key);
	if (s)
		return s;
	if (!strcmp(name, "name"))
		return read_name(r, key, node, &task->name);
	if (!strcmp(name, "type"))
		return read_choice(r, key, node, type_names, &task->type);
	if (!strcmp(name, "insertion"))
		return read_choice(r, key, node, insertion_names, &task->insertion);
	if (!strcmp(name, "bottleneck"))
		return reader_whole(r, key, node, 1, TASK_BOTTLENECK_MAX, "units", &task->bottleneck);
	if (!strcmp(name, "labels")) {
		config_list_clear(&task->labels);
		s = reader_list(r, key, node, &task->labels);
		return s ? s : check_labels(r, key, node->line, &task->labels);
	}
	return reader_refuse(r, node->line, key, "unknown key; did you mean %s?", nearest_name(name, key_names));
}

/* What the keys say together. */
static enum status check_task(struct reader *r, const char *prefix, int labels_line, struct config_task *task)
{
	char key[KEY_MAX_BYTES];
	if (!task->name || !task->type) {
		(void)snprintf(key, sizeof key, "%s.%s", prefix, task->name ? "type" : "name");
		return reader_refuse(r, task->line, key, "missing; a task needs it");
	}
	(void)snprintf(key, sizeof key, "%s.labels", prefix);
	if (!strcmp(task->type, "regression") && task->labels.count)
		return reader_refuse(r, labels_line, key, "a regression task has no labels, it predicts a number");
	if (!strcmp(task->type, "classification") && task->labels.count == 1)
		return reader_refuse(
			r, labels_line, key,
			"a classification task needs two labels or more, or none: they come as they arrive");
	if (!task->insertion)
		task->insertion = strdup("side");
	return task->insertion ? STATUS_OK : error_set_memory(r->err);
}

static enum status read_task(struct reader *r, const char *prefix, const struct node *node, struct config_task *task)
{
	int labels_line = node->line;
	task->line = node->line;
	task->bottleneck = TASK_BOTTLENECK;
	if (node->kind != NODE_MAP)
		return reader_refuse(r, node->line, prefix, "must be a map: {name: ..., type: ...}");
	for (const struct node *child = node_child(&r->tree, node, NULL); child;
	     child = node_child(&r->tree, node, child)) {
		if (!strcmp(node_key(&r->tree, child), "labels"))
			labels_line = child->line;
		enum status s = read_key(r, prefix, child, task);
		if (s)
			return s;
	}
	return check_task(r, prefix, labels_line, task);
}

static int compare_names(const void *a, const void *b)
{
	const struct config_task *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);
	return order ? order : (*x < *y ? -1 : *x > *y);
}

static enum status check_names(struct reader *r)
{
	const struct config *c = r->config;
	if (c->tasks_count < 2)
		return STATUS_OK;
	const struct config_task **sorted = malloc(c->tasks_count * sizeof *sorted);
	if (!sorted)
		return error_set_memory(r->err);
	for (size_t i = 0; i < c->tasks_count; i++)
		sorted[i] = &c->tasks[i];
	qsort(sorted, c->tasks_count, sizeof *sorted, compare_names);
	enum status s = STATUS_OK;
	for (size_t i = 1; i < c->tasks_count && !s; i++) {
		char key[KEY_MAX_BYTES];
		(void)snprintf(key, sizeof key, "tasks[%td].name", sorted[i] - c->tasks);
		if (!strcmp(sorted[i - 1]->name, sorted[i]->name))
			s = reader_refuse(r, sorted[i]->line, key, "the task %s stands twice, first on line %d",
					  sorted[i]->name, sorted[i - 1]->line);
	}
	free(sorted);
	return s;
}

enum status tasks_read(struct reader *r, const struct node *node)
{
	struct config *c = r->config;
	if (node_is_null(&r->tree, node) || c->tasks)
		return STATUS_OK; /* a second `tasks` is refused with the other duplicates */
	if (node->kind != NODE_LIST)
		return reader_refuse(r, node->line, "tasks", "must be a list of tasks");
	c->tasks = calloc(node->count ? node->count : 1, sizeof *c->tasks);
	if (!c->tasks)
		return error_set_memory(r->err);
	for (const struct node *child = node_child(&r->tree, node, NULL); child;
	     child = node_child(&r->tree, node, child)) {
		char prefix[32];
		(void)snprintf(prefix, sizeof prefix, "tasks[%zu]", c->tasks_count);
		enum status s = read_task(r, prefix, child, &c->tasks[c->tasks_count++]);
		if (s)
			return s;
	}
	return check_names(r);
}
