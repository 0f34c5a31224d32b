#include "config/node.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct builder {
	const char *name; /* of the file, for messages */
	yaml_parser_t parser;
	struct node_tree tree;
	uint32_t open[NODE_DEPTH_MAX]; /* containers that the parser is in, the root first */
	size_t depth;
	bool has_key; /* a map's key was read, its value comes next */
	size_t key;   /* offset in texts */
	int key_line;
	int documents;
	struct error *err;
};

static int line_of(const yaml_event_t *event)
{
	return (int)event->start_mark.line + 1;
}

static enum status refuse(struct builder *b, int line, const char *what)
{
	return error_set(b->err, STATUS_CONFIG, "%s:%d: %s", b->name, line, what);
}

static enum status add_text(struct builder *b, const yaml_event_t *event, size_t *ret)
{
	struct node_tree *t = &b->tree;
	size_t length = event->data.scalar.length;
	const char *value = (const char *)event->data.scalar.value;
	if (memchr(value, 0, length))
		return refuse(b, line_of(event), "a NUL in a text");
	if (t->texts_capacity - t->texts_length < length + 1) {
		size_t capacity = (t->texts_length + length + 1) * 2;
		char *texts = realloc(t->texts, capacity);
		if (!texts)
			return error_set_memory(b->err);
		t->texts = texts;
		t->texts_capacity = capacity;
	}
	*ret = t->texts_length;
	memcpy(t->texts + t->texts_length, value, length);
	t->texts[t->texts_length + length] = '\0';
	t->texts_length += length + 1;
	return STATUS_OK;
}

/* Appends a node to the innermost open container, under the pending key where that is a map. */
static enum status add_node(struct builder *b, struct node node, uint32_t *ret)
{
	struct node_tree *t = &b->tree;
	if (t->count == t->capacity) {
		size_t capacity = t->capacity ? t->capacity * 2 : 64;
		struct node *nodes = realloc(t->nodes, capacity * sizeof *nodes);
		if (!nodes)
			return error_set_memory(b->err);
		t->nodes = nodes;
		t->capacity = capacity;
	}
	uint32_t index = (uint32_t)t->count;
	if (b->depth) {
		struct node *parent = &t->nodes[b->open[b->depth - 1]];
		if (parent->kind == NODE_MAP) {
			node.key = b->key;
			node.line = b->key_line;
			b->has_key = false;
		}
		if (parent->last)
			t->nodes[parent->last].next = index;
		else
			parent->first = index;
		parent->last = index;
		parent->count++;
	}
	t->nodes[index] = node;
	t->count++;
	*ret = index;
	return STATUS_OK;
}

static bool expects_key(const struct builder *b)
{
	return b->depth && !b->has_key && b->tree.nodes[b->open[b->depth - 1]].kind == NODE_MAP;
}

static enum status on_scalar(struct builder *b, const yaml_event_t *event)
{
	if (event->data.scalar.anchor || event->data.scalar.tag)
		return refuse(b, line_of(event), "anchors and tags are not used in a configuration");
	size_t text = 0;
	enum status s = add_text(b, event, &text);
	if (s)
		return s;
	if (expects_key(b)) {
		b->key = text;
		b->key_line = line_of(event);
		b->has_key = true;
		if (!b->tree.texts[text])
			return refuse(b, b->key_line, "an empty key");
		return STATUS_OK;
	}
	uint32_t index;
	return add_node(b,
			(struct node){ .kind = NODE_SCALAR,
				       .plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
				       .line = line_of(event),
				       .text = text },
			&index);
}

static enum status on_start(struct builder *b, const yaml_event_t *event)
{
	bool list = event->type == YAML_SEQUENCE_START_EVENT;
	const yaml_char_t *anchor = list ? event->data.sequence_start.anchor : event->data.mapping_start.anchor;
	const yaml_char_t *tag = list ? event->data.sequence_start.tag : event->data.mapping_start.tag;
	if (anchor || tag)
		return refuse(b, line_of(event), "anchors and tags are not used in a configuration");
	if (expects_key(b))
		return refuse(b, line_of(event), "a key must be a text");
	if (b->depth == NODE_DEPTH_MAX)
		return refuse(b, line_of(event), "nested too deeply");
	uint32_t index = 0;
	enum status s =
		add_node(b, (struct node){ .kind = list ? NODE_LIST : NODE_MAP, .line = line_of(event) }, &index);
	if (s)
		return s;
	b->open[b->depth++] = index;
	return STATUS_OK;
}

static enum status on_event(struct builder *b, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		return b->documents++ ? refuse(b, line_of(event), "a second document: one is read") : STATUS_OK;
	case YAML_ALIAS_EVENT:
		return refuse(b, line_of(event), "aliases are not used in a configuration");
	case YAML_SCALAR_EVENT:
		return on_scalar(b, event);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return on_start(b, event);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		return STATUS_OK;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return STATUS_OK;
	}
	return STATUS_OK;
}

static enum status parser_error(struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	if (p->error == YAML_MEMORY_ERROR)
		return error_set_memory(b->err);
	size_t line = p->error == YAML_READER_ERROR ? b->parser.mark.line : p->problem_mark.line;
	return error_set(b->err, STATUS_CONFIG, "%s:%zu: not YAML: %s%s%s", b->name, line + 1,
			 p->problem ? p->problem : "cannot be read", p->context ? " " : "",
			 p->context ? p->context : "");
}

static enum status build(struct builder *b)
{
	for (bool more = true; more;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&b->parser, &event))
			return parser_error(b);
		more = event.type != YAML_STREAM_END_EVENT;
		enum status s = on_event(b, &event);
		yaml_event_delete(&event);
		if (s)
			return s;
	}
	if (b->tree.count)
		return STATUS_OK;
	const yaml_event_t nothing = { .data.scalar = { .value = (yaml_char_t *)"",
							.style = YAML_PLAIN_SCALAR_STYLE } };
	return on_scalar(b, &nothing);
}

enum status node_parse(const char *name, const char *text, size_t length, struct node_tree *ret, struct error *err)
{
	struct builder b = { .name = name, .err = err };
	if (length > NODE_TEXT_MAX_BYTES)
		return error_set(err, STATUS_CONFIG, "%s:1: larger than %d bytes", name, NODE_TEXT_MAX_BYTES);
	if (!yaml_parser_initialize(&b.parser))
		return error_set_memory(err);
	yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, length);
	enum status s = build(&b);
	yaml_parser_delete(&b.parser);
	if (s) {
		node_tree_free(&b.tree);
		return s;
	}
	*ret = b.tree;
	return STATUS_OK;
}

void node_tree_free(struct node_tree *tree)
{
	free(tree->nodes);
	free(tree->texts);
	memset(tree, 0, sizeof *tree);
}

const char *node_key(const struct node_tree *tree, const struct node *node)
{
	return tree->texts + node->key;
}

const char *node_text(const struct node_tree *tree, const struct node *node)
{
	return tree->texts + node->text;
}

bool node_is_null(const struct node_tree *tree, const struct node *node)
{
	if (node->kind != NODE_SCALAR || !node->plain)
		return false;
	const char *text = node_text(tree, node);
	return !*text || !strcmp(text, "~") || !strcmp(text, "null") || !strcmp(text, "Null") || !strcmp(text, "NULL");
}

const struct node *node_child(const struct node_tree *tree, const struct node *parent, const struct node *child)
{
	uint32_t index = child ? child->next : parent->first;
	return index ? &tree->nodes[index] : NULL;
}
