#include "tools/task_view.h"

#include "base/plural.h"
#include "tools/line.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct view {
	struct slice name; /* any bytes */
	const char *state;
	const char *source;
	const char *reason;             /* NULL: none */
	const struct config_task *task; /* NULL: no definition that makes sense */
	const char *definition;         /* its hash */
	const struct task_place *place; /* NULL: it is not on the topic */
};

/* ---- JSON ---- */

static json_t *list_json(const struct config_list *list)
{
	json_t *array = json_array();
	for (size_t i = 0; i < list->count; i++)
		(void)json_array_append_new(array, json_string(list->items[i]));
	return array;
}

static json_t *numbers_json(const struct config_numbers *numbers)
{
	json_t *array = json_array();
	for (size_t i = 0; i < numbers->count; i++)
		(void)json_array_append_new(array, json_integer(numbers->items[i]));
	return array;
}

static json_t *value_json(const struct config_task *task, enum task_key key)
{
	const struct task_row *row = &task_rows[key];
	const void *field = task_field_const(task, row);
	if (!config_task_has(task, key))
		return json_null();
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		return json_string(*(char *const *)field);
	case TASK_LIST:
		return list_json(field);
	case TASK_BLOCKS:
		return numbers_json(field);
	case TASK_WHOLE:
		return json_integer(*(const int64_t *)field);
	case TASK_REAL:
		return json_real(*(const double *)field);
	case TASK_FLAG:
		return json_boolean(*(const bool *)field);
	}
	return json_null();
}

static void set_text(json_t *object, const char *name, const char *text)
{
	(void)json_object_set_new(object, name, line_text(text));
}

/* A name that is not UTF-8 is null. */
static enum status print_json(const struct view *v, struct error *err)
{
	json_t *object = json_object();
	json_t *name = json_stringn((const char *)v->name.data, v->name.length);
	(void)json_object_set_new(object, "name", name ? name : json_null());
	set_text(object, "state", v->state);
	set_text(object, "reason", v->reason);
	set_text(object, "source", v->source);
	set_text(object, "definition", v->definition);
	for (enum task_key key = TASK_KEY_name + 1; key < TASK_KEYS && v->task; key++)
		(void)json_object_set_new(object, task_rows[key].name, value_json(v->task, key));
	if (v->place) {
		(void)json_object_set_new(object, "timestamp", json_integer(v->place->timestamp_ms));
		(void)json_object_set_new(object, "partition", json_integer(v->place->partition));
		(void)json_object_set_new(object, "offset", json_integer(v->place->offset));
	}
	return line_json(object, 15, err);
}

/* ---- text ---- */

static enum status print_line(const struct view *v, struct error *err)
{
	line_safe(v->name, 100);
	printf("  %s", v->state);
	if (v->task) {
		printf("  %s %s  definition %.12s", v->task->insertion, v->task->type, v->definition);
		if (v->task->labels.count)
			printf("  %zu label%s", v->task->labels.count, plural((int64_t)v->task->labels.count));
		else if (strcmp(v->task->type, "regression") != 0)
			printf("  any labels");
	}
	printf("  from %s", v->source);
	if (v->reason) {
		printf("  ");
		line_safe((struct slice){ (const uint8_t *)v->reason, strlen(v->reason) }, 300);
	}
	return putchar('\n') == EOF ? error_set_errno(err, "standard output") : STATUS_OK;
}

/* ---- which ---- */

static const struct config_task *find_in_file(const struct config *config, const struct task_entry *entry)
{
	for (size_t i = 0; i < config->tasks_count; i++)
		if (strlen(config->tasks[i].name) == entry->key_length &&
		    !memcmp(config->tasks[i].name, entry->key, entry->key_length))
			return &config->tasks[i];
	return NULL;
}

static enum status show_entry(const struct task_entry *entry, const struct config *config, bool json, struct error *err)
{
	static const char *const states[] = {
		[TASK_VALID] = "valid", [TASK_REFUSED] = "refused", [TASK_REMOVED] = "removed"
	};
	char reason[512];
	struct view v = { .name = { (const uint8_t *)entry->key, entry->key_length },
			  .state = states[entry->state],
			  .source = "topic",
			  .reason = entry->reason,
			  .task = entry->defined ? &entry->task : NULL,
			  .definition = entry->defined ? entry->definition : NULL,
			  .place = &entry->place };
	const struct config_task *also = find_in_file(config, entry);
	if (entry->state == TASK_REMOVED && !also)
		return STATUS_OK;
	if (entry->state == TASK_REMOVED) {
		(void)snprintf(reason, sizeof reason, "it stands in %s:%d", config->path, also->line);
		v.reason = reason;
	}
	return json ? print_json(&v, err) : print_line(&v, err);
}

static enum status show_configured(const struct config_task *task, const struct task_table *table,
				   const struct task_judge *judge, bool json, struct error *err)
{
	char definition[HASH_HEX_LENGTH + 1];
	struct error unfit;
	const struct slice key = { (const uint8_t *)task->name, strlen(task->name) };
	if (task_table_find(table, key))
		return STATUS_OK;
	enum status status = config_task_hash(task, definition, err);
	if (status)
		return status;
	const bool fits = !judge || !judge->fits(judge->arg, task, &unfit);
	const struct view v = { .name = key,
				.state = fits ? "valid" : "refused",
				.source = "configuration",
				.reason = fits ? NULL : unfit.text,
				.task = task,
				.definition = definition };
	return json ? print_json(&v, err) : print_line(&v, err);
}

enum status task_view_list(const struct task_table *table, const struct config *config, const struct task_judge *judge,
			   bool json, struct error *err)
{
	enum status status = STATUS_OK;
	for (const struct task_entry *entry = NULL; !status && (entry = task_table_next(table, entry));)
		status = show_entry(entry, config, json, err);
	for (size_t i = 0; i < config->tasks_count && !status; i++)
		status = show_configured(&config->tasks[i], table, judge, json, err);
	return status;
}
