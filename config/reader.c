#include "config/reader.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *shown(const char *text, char ret[SHOWN_BYTES])
{
	size_t n = 0;
	for (; text[n] && n < SHOWN_BYTES - 1; n++)
		ret[n] = iscntrl((unsigned char)text[n]) ? '?' : text[n];
	ret[n] = '\0';
	if (text[n])
		memcpy(ret + SHOWN_BYTES - 4, "...", 3);
	return ret;
}

enum status reader_refuse(const struct reader *r, int line, const char *key, const char *format, ...)
{
	char what[384];
	char key_shown[SHOWN_BYTES];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof what, format, args);
	va_end(args);
	return error_set(r->err, STATUS_CONFIG, "%s:%d: %s: %s", r->name, line, shown(key, key_shown), what);
}

static enum status note_key(struct reader *r, const char *key, int line)
{
	struct config *c = r->config;
	if (c->keys_count == r->keys_capacity) {
		size_t capacity = r->keys_capacity ? r->keys_capacity * 2 : 64;
		struct config_key *keys = realloc(c->keys, capacity * sizeof *keys);
		if (!keys)
			return error_set_memory(r->err);
		c->keys = keys;
		r->keys_capacity = capacity;
	}
	char *copy = strdup(key);
	if (!copy)
		return error_set_memory(r->err);
	c->keys[c->keys_count++] = (struct config_key){ .key = copy, .line = line };
	return STATUS_OK;
}

enum status reader_key(struct reader *r, const char *prefix, const struct node *node, char ret[KEY_MAX_BYTES])
{
	const char *key = node_key(&r->tree, node);
	int n = snprintf(ret, KEY_MAX_BYTES, "%s%s%s", prefix, *prefix ? "." : "", key);
	if (n < 0 || n >= KEY_MAX_BYTES)
		return reader_refuse(r, node->line, key, "too long for a key");
	return note_key(r, ret, node->line);
}

enum status reader_text(const struct reader *r, const char *key, const struct node *node, char **ret)
{
	if (node->kind != NODE_SCALAR)
		return reader_refuse(r, node->line, key, "must be a text, not a %s",
				     node->kind == NODE_LIST ? "list" : "map");
	if (node_is_null(&r->tree, node))
		return reader_refuse(r, node->line, key, "has no value; \"\" is the empty text");
	const char *text = node_text(&r->tree, node);
	for (const char *at = text; *at; at++)
		if (iscntrl((unsigned char)*at))
			return reader_refuse(r, node->line, key, "holds a control character");
	char *copy = strdup(text);
	if (!copy)
		return error_set_memory(r->err);
	*ret = copy;
	return STATUS_OK;
}

static bool parse_whole(const char *text, int64_t *ret, bool *ret_huge)
{
	const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
	if (!*digits || (*digits == '0' && digits[1]))
		return false;
	uint64_t value = 0;
	*ret_huge = false;
	for (; *digits; digits++) {
		if (*digits < '0' || *digits > '9')
			return false;
		if (value > (INT64_MAX - 9) / 10)
			*ret_huge = true;
		else
			value = value * 10 + (uint64_t)(*digits - '0');
	}
	*ret = *text == '-' ? -(int64_t)value : (int64_t)value;
	return true;
}

enum status reader_whole(const struct reader *r, const char *key, const struct node *node, int64_t low, int64_t high,
			 const char *unit, int64_t *ret)
{
	char found[SHOWN_BYTES];
	if (node->kind != NODE_SCALAR)
		return reader_refuse(r, node->line, key, "must be a whole number, not a %s",
				     node->kind == NODE_LIST ? "list" : "map");
	const char *text = node_text(&r->tree, node);
	if (node_is_null(&r->tree, node))
		return reader_refuse(r, node->line, key, "has no value; a whole number is expected");
	int64_t value;
	bool huge;
	if (!node->plain || !parse_whole(text, &value, &huge))
		return reader_refuse(r, node->line, key, "must be a whole number%s, found %s%s%s",
				     node->plain ? "" : " without quotes", node->plain ? "" : "\"", shown(text, found),
				     node->plain ? "" : "\"");
	if (huge || value < low || value > high)
		return reader_refuse(r, node->line, key, "must be from %" PRId64 " to %" PRId64 " %s, found %s", low,
				     high, unit, shown(text, found));
	*ret = value;
	return STATUS_OK;
}

enum status reader_flag(const struct reader *r, const char *key, const struct node *node, bool *ret)
{
	char found[SHOWN_BYTES];
	const char *text = node->kind == NODE_SCALAR ? node_text(&r->tree, node) : "";
	bool yes = !strcmp(text, "true") || !strcmp(text, "True") || !strcmp(text, "TRUE");
	bool no = !strcmp(text, "false") || !strcmp(text, "False") || !strcmp(text, "FALSE");
	if (node->kind != NODE_SCALAR || !node->plain || (!yes && !no))
		return reader_refuse(r, node->line, key, "must be true or false%s%s", *text ? ", found " : "",
				     shown(text, found));
	*ret = yes;
	return STATUS_OK;
}

enum status reader_list(const struct reader *r, const char *key, const struct node *node, struct config_list *ret)
{
	struct config_list list = { 0 };
	if (node_is_null(&r->tree, node)) {
		*ret = list;
		return STATUS_OK;
	}
	if (node->kind != NODE_LIST)
		return reader_refuse(r, node->line, key, "must be a list: [a, b]");
	list.items = calloc(node->count ? node->count : 1, sizeof *list.items);
	if (!list.items)
		return error_set_memory(r->err);
	for (const struct node *item = node_child(&r->tree, node, NULL); item;
	     item = node_child(&r->tree, node, item)) {
		enum status s = reader_text(r, key, item, &list.items[list.count]);
		if (s) {
			config_list_clear(&list);
			return s;
		}
		list.count++;
	}
	*ret = list;
	return STATUS_OK;
}

void config_list_clear(struct config_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	memset(list, 0, sizeof *list);
}
