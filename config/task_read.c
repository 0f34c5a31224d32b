/* Tasks in YAML: the entries of `tasks:`, and files of definitions. */
#include "config/options.h"
#include "config/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct task_reader {
	struct reader *r;
	const char *prefix; /* "tasks[0]"; "": the keys stand by themselves */
	struct config_task *task;
	int lines[TASK_KEYS]; /* of the keys; 0: not there */
};

static enum status read_real(const struct reader *r, const char *key, const struct node *node, double *ret)
{
	char found[SHOWN_BYTES];
	char *end = NULL;
	const char *text = node->kind == NODE_SCALAR && node->plain ? node_text(&r->tree, node) : "";
	double value = strtod(text, &end);
	if (!*text || *end || text[strspn(text, "+-.0123456789eE")])
		return reader_refuse(r, node->line, key, "must be a number%s%s", *text ? ", found " : "",
				     shown(text, found));
	*ret = value;
	return STATUS_OK;
}

static enum status read_blocks(const struct reader *r, const char *key, const struct node *node,
			       struct config_numbers *ret)
{
	struct config_numbers numbers = { 0 };
	if (node->kind != NODE_LIST)
		return reader_refuse(r, node->line, key, "must be a list of numbers: [0, 1]");
	numbers.items = calloc(node->count ? node->count : 1, sizeof *numbers.items);
	if (!numbers.items)
		return error_set_memory(r->err);
	for (const struct node *item = node_child(&r->tree, node, NULL); item;
	     item = node_child(&r->tree, node, item)) {
		int64_t number;
		enum status s = reader_whole(r, key, item, 0, TASK_BLOCK_AT_MOST, "blocks", &number);
		if (s) {
			config_numbers_clear(&numbers);
			return s;
		}
		numbers.items[numbers.count++] = (uint32_t)number;
	}
	*ret = numbers;
	return STATUS_OK;
}

static enum status read_value(const struct reader *r, const char *key, const struct task_row *row,
			      const struct node *node, void *field)
{
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		return reader_text(r, key, node, field);
	case TASK_LIST:
		return reader_list(r, key, node, field);
	case TASK_BLOCKS:
		return read_blocks(r, key, node, field);
	case TASK_WHOLE:
		return reader_whole(r, key, node, row->low, row->high, row->unit, field);
	case TASK_REAL:
		return read_real(r, key, node, field);
	case TASK_FLAG:
		return reader_flag(r, key, node, field);
	}
	return STATUS_OK;
}

static enum status refuse_unknown(const struct reader *r, const char *key, const struct node *node)
{
	const char *names[TASK_KEYS + 1] = { NULL };
	for (size_t i = 0; i < TASK_KEYS; i++)
		names[i] = task_rows[i].name;
	return reader_refuse(r, node->line, key, "unknown key; did you mean %s?",
			     nearest_name(node_key(&r->tree, node), names));
}

/* A key that stands twice is refused with the other duplicates of the file; until then the first one counts. */
static enum status read_key(struct task_reader *t, const struct node *node)
{
	struct reader *r = t->r;
	char key[KEY_MAX_BYTES];
	const struct task_row *row = task_row_find(node_key(&r->tree, node));
	enum status s = reader_key(r, t->prefix, node, key);
	if (s)
		return s;
	if (!row)
		return refuse_unknown(r, key, node);
	const enum task_key number = (enum task_key)(row - task_rows);
	if (t->lines[number])
		return STATUS_OK;
	t->lines[number] = node->line;
	if ((row->kind == TASK_LIST || row->kind == TASK_BLOCKS) && node_is_null(&r->tree, node))
		return STATUS_OK;
	s = read_value(r, key, row, node, task_field(t->task, row));
	if (!s)
		t->task->given |= UINT32_C(1) << number;
	return s;
}

static enum status check(struct task_reader *t)
{
	struct error why;
	enum task_key at;
	char key[KEY_MAX_BYTES];
	enum status s = config_task_check(t->task, &at, &why);
	if (s == STATUS_OK || s == STATUS_MEMORY) {
		if (s)
			*t->r->err = why;
		return s;
	}
	(void)snprintf(key, sizeof key, "%s%s%s", t->prefix, *t->prefix ? "." : "", task_rows[at].name);
	return reader_refuse(t->r, t->lines[at] ? t->lines[at] : t->task->line, key, "%s", why.text);
}

static enum status read_task(struct reader *r, const char *prefix, const struct node *node, struct config_task *task)
{
	struct task_reader t = { .r = r, .prefix = prefix, .task = task };
	task->line = node->line;
	if (node->kind != NODE_MAP)
		return reader_refuse(r, node->line, *prefix ? prefix : "task", "must be a map: {name: ..., type: ...}");
	for (const struct node *child = node_child(&r->tree, node, NULL); child;
	     child = node_child(&r->tree, node, child)) {
		enum status s = read_key(&t, child);
		if (s)
			return s;
	}
	return check(&t);
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

/* Of one task: its keys stand by themselves. */
static enum status read_one(struct reader *r, const struct node *root)
{
	r->config->tasks = calloc(1, sizeof *r->config->tasks);
	if (!r->config->tasks)
		return error_set_memory(r->err);
	r->config->tasks_count = 1;
	return read_task(r, "", root, r->config->tasks);
}

enum status tasks_read_file(struct reader *r)
{
	const struct node *root = &r->tree.nodes[0];
	const struct node *list = NULL;
	if (root->kind == NODE_MAP)
		for (const struct node *child = node_child(&r->tree, root, NULL); child;
		     child = node_child(&r->tree, root, child))
			if (!strcmp(node_key(&r->tree, child), "tasks"))
				list = child;
	if (!list)
		return read_one(r, root);
	for (const struct node *child = node_child(&r->tree, root, NULL); child;
	     child = node_child(&r->tree, root, child)) {
		char key[KEY_MAX_BYTES];
		enum status s = reader_key(r, "", child, key);
		if (!s && strcmp(key, "tasks") != 0)
			s = reader_refuse(r, child->line, key, "a file of several tasks has nothing beside `tasks`");
		if (s)
			return s;
	}
	return tasks_read(r, list);
}
