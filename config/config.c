#include "config/options.h"
#include "config/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void *field_of(struct config *c, const struct option *o)
{
	return (char *)c + o->offset;
}

static enum status set_defaults(struct config *c, struct error *err)
{
	for (size_t i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		if (o->kind == OPTION_WHOLE)
			*(int64_t *)field_of(c, o) = o->whole_default;
		if (o->kind == OPTION_FLAG)
			*(bool *)field_of(c, o) = o->whole_default != 0;
		if (o->kind == OPTION_TEXT) {
			char *text = strdup(o->text_default);
			if (!text)
				return error_set_memory(err);
			*(char **)field_of(c, o) = text;
		}
	}
	return STATUS_OK;
}

static enum status read_option(struct reader *r, const struct option *o, const struct node *node)
{
	void *field = field_of(r->config, o);
	if (o->kind == OPTION_WHOLE)
		return reader_whole(r, o->key, node, o->low, o->high, o->unit, field);
	if (o->kind == OPTION_FLAG)
		return reader_flag(r, o->key, node, field);
	if (o->kind == OPTION_LIST) {
		config_list_clear(field);
		return reader_list(r, o->key, node, field);
	}
	char *text;
	enum status s = reader_text(r, o->key, node, &text);
	if (s)
		return s;
	free(*(char **)field);
	*(char **)field = text;
	return STATUS_OK;
}

static enum status read_section(struct reader *r, const char *prefix, const struct node *node);

static enum status read_key(struct reader *r, const char *prefix, const struct node *node)
{
	char key[KEY_MAX_BYTES];
	enum status s = reader_key(r, prefix, node, key);
	if (s)
		return s;
	const struct option *o = option_find(key);
	if (o)
		return read_option(r, o, node);
	if (!strcmp(key, "kafka"))
		return kafka_read(r, key, node);
	if (!strncmp(key, "kafka.", strlen("kafka.")))
		return node->kind == NODE_MAP ? kafka_read(r, key, node) : kafka_read_property(r, key, node);
	if (!strcmp(key, "tasks"))
		return tasks_read(r, node);
	if (option_is_section(key))
		return read_section(r, key, node);
	return reader_refuse(r, node->line, key, "unknown option; did you mean %s?", option_nearest(key));
}

static enum status read_section(struct reader *r, const char *prefix, const struct node *node)
{
	if (node_is_null(&r->tree, node))
		return STATUS_OK;
	if (node->kind != NODE_MAP)
		return reader_refuse(r, node->line, *prefix ? prefix : "configuration", "must be a map of options");
	for (const struct node *child = node_child(&r->tree, node, NULL); child;
	     child = node_child(&r->tree, node, child)) {
		enum status s = read_key(r, prefix, child);
		if (s)
			return s;
	}
	return STATUS_OK;
}

static int compare_keys(const void *a, const void *b)
{
	const struct config_key *x = a, *y = b;
	int order = strcmp(x->key, y->key);
	return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* Sorts the keys, for config_line, and finds the first in the file that stands twice. */
static enum status check_duplicates(struct reader *r)
{
	struct config *c = r->config;
	const struct config_key *twice = NULL;
	if (c->keys_count)
		qsort(c->keys, c->keys_count, sizeof *c->keys, compare_keys);
	for (size_t i = 1; i < c->keys_count; i++)
		if (!strcmp(c->keys[i - 1].key, c->keys[i].key) && (!twice || c->keys[i].line < twice->line))
			twice = &c->keys[i];
	if (twice)
		return reader_refuse(r, twice->line, twice->key, "stands twice, first on line %d", twice[-1].line);
	return STATUS_OK;
}

static enum status check_required(const struct config *c, struct error *err)
{
	for (size_t i = 0; i < options_count; i++)
		if (options[i].kind == OPTION_REQUIRED && !*(char *const *)((const char *)c + options[i].offset))
			return config_fault(c, options[i].key, err, "missing; it must be given");
	return STATUS_OK;
}

static enum status read_tree(struct reader *r)
{
	enum status s = read_section(r, "", &r->tree.nodes[0]);
	if (!s)
		s = check_duplicates(r);
	if (!s)
		s = check_required(r->config, r->err);
	if (!s)
		s = config_check(r->config, r->err);
	return s;
}

enum status config_parse(const char *name, const char *text, size_t length, struct config **ret, struct error *err)
{
	struct reader r = { .name = name, .err = err, .config = calloc(1, sizeof *r.config) };
	if (!r.config)
		return error_set_memory(err);
	r.config->path = strdup(name);
	enum status s = r.config->path ? set_defaults(r.config, err) : error_set_memory(err);
	if (!s)
		s = node_parse(name, text, length, &r.tree, err);
	if (!s)
		s = read_tree(&r);
	node_tree_free(&r.tree);
	if (s) {
		config_free(r.config);
		return s;
	}
	*ret = r.config;
	return STATUS_OK;
}

/* Without its configuration a program cannot be told to do better: a folder, or a file that may not be read, is as wrong as
 * one whose contents are. One that does not exist is a missing input. */
static enum status unreadable(const char *path, struct error *err)
{
	enum status s = error_set_errno(err, "%s: cannot be read", path);
	return s == STATUS_IO ? err->status = STATUS_CONFIG : s;
}

/* Reads at most one byte more than a configuration may have, which node_parse then refuses. */
static enum status read_file(int fd, const char *path, char *text, size_t *ret_length, struct error *err)
{
	size_t length = 0;
	while (length <= NODE_TEXT_MAX_BYTES) {
		ssize_t n = read(fd, text + length, NODE_TEXT_MAX_BYTES + 1 - length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return unreadable(path, err);
		if (n == 0)
			break;
		length += (size_t)n;
	}
	*ret_length = length;
	return STATUS_OK;
}

/* *ret is the caller's. */
static enum status read_path(const char *path, bool or_stdin, char **ret, size_t *ret_length, struct error *err)
{
	const bool from_stdin = or_stdin && !strcmp(path, "-");
	int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return unreadable(path, err);
	char *text = malloc(NODE_TEXT_MAX_BYTES + 1);
	enum status s = text ? read_file(fd, path, text, ret_length, err) : error_set_memory(err);
	if (!from_stdin)
		(void)close(fd);
	if (s) {
		free(text);
		return s;
	}
	*ret = text;
	return STATUS_OK;
}

enum status config_load(const char *path, struct config **ret, struct error *err)
{
	char *text;
	size_t length = 0;
	enum status s = read_path(path, false, &text, &length, err);
	if (s)
		return s;
	s = config_parse(path, text, length, ret, err);
	free(text);
	return s;
}

enum status config_parse_tasks(const char *name, const char *text, size_t length, struct config **ret,
			       struct error *err)
{
	struct reader r = { .name = name, .err = err, .config = calloc(1, sizeof *r.config) };
	if (!r.config)
		return error_set_memory(err);
	r.config->path = strdup(name);
	enum status s = r.config->path ? node_parse(name, text, length, &r.tree, err) : error_set_memory(err);
	if (!s)
		s = tasks_read_file(&r);
	if (!s)
		s = check_duplicates(&r);
	node_tree_free(&r.tree);
	if (s) {
		config_free(r.config);
		return s == STATUS_CONFIG ? err->status = STATUS_DATA : s;
	}
	*ret = r.config;
	return STATUS_OK;
}

enum status config_load_tasks(const char *path, struct config **ret, struct error *err)
{
	char *text;
	size_t length = 0;
	enum status s = read_path(path, true, &text, &length, err);
	if (!s) {
		s = config_parse_tasks(strcmp(path, "-") != 0 ? path : "standard input", text, length, ret, err);
		free(text);
	}
	return s == STATUS_CONFIG ? err->status = STATUS_DATA : s;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < options_count; i++) {
		if (options[i].kind == OPTION_TEXT || options[i].kind == OPTION_REQUIRED)
			free(*(char **)field_of(c, &options[i]));
		if (options[i].kind == OPTION_LIST)
			config_list_clear(field_of(c, &options[i]));
	}
	for (size_t i = 0; i < c->kafka_count; i++) {
		free(c->kafka[i].name);
		free(c->kafka[i].value);
	}
	free(c->kafka);
	for (size_t i = 0; i < c->tasks_count; i++)
		config_task_clear(&c->tasks[i]);
	free(c->tasks);
	for (size_t i = 0; i < c->keys_count; i++)
		free(c->keys[i].key);
	free(c->keys);
	free(c->path);
	free(c);
}

static int compare_key(const void *key, const void *element)
{
	return strcmp(key, ((const struct config_key *)element)->key);
}

int config_line(const struct config *config, const char *key)
{
	if (!config->keys_count)
		return 0;
	const struct config_key *found =
		bsearch(key, config->keys, config->keys_count, sizeof *config->keys, compare_key);
	return found ? found->line : 0;
}

const char *config_kafka(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->kafka_count; i++)
		if (!strcmp(config->kafka[i].name, name))
			return config->kafka[i].value;
	return NULL;
}

enum status config_fault(const struct config *config, const char *key, struct error *err, const char *format, ...)
{
	char what[384];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof what, format, args);
	va_end(args);
	int line = config_line(config, key);
	return error_set(err, STATUS_CONFIG, "%s:%d: %s: %s", config->path, line ? line : 1, key, what);
}
