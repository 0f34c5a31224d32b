/* YAML as a plain tree: maps with text keys, lists and scalars, each with its line. What a configuration needs and no
 * more: anchors, aliases, tags, merge keys, several documents, NUL bytes, deep nesting and large files are refused, so
 * that hostile input costs at most a small multiple of its size. Internal to config/. */
#ifndef CONFIG_NODE_H
#define CONFIG_NODE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODE_TEXT_MAX_BYTES 1048576 /* of a file */
#define NODE_DEPTH_MAX 16           /* of nested maps and lists */

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_kind kind;
	bool plain;     /* a scalar without quotes */
	int line;       /* of the key in a map, of the value elsewhere; from 1 */
	size_t key;     /* offset in texts; only for the children of a map */
	size_t text;    /* offset in texts; scalars only */
	uint32_t first; /* child of a list or map; 0: none (0 is the root, nobody's child) */
	uint32_t last;
	uint32_t next;  /* sibling; 0: none */
	uint32_t count; /* of children */
};

struct node_tree {
	struct node *nodes; /* [count]; 0 is the root */
	size_t count;
	size_t capacity;
	char *texts; /* NUL-terminated strings, one after another */
	size_t texts_length;
	size_t texts_capacity;
};

/* Parses `text`. An empty document is a null scalar. Errors: STATUS_CONFIG with "NAME:LINE: what", STATUS_MEMORY. */
enum status node_parse(const char *name, const char *text, size_t length, struct node_tree *ret,
		       struct error *err) MUST_CHECK;
void node_tree_free(struct node_tree *tree); /* frees and zeroes; a zeroed tree is fine */

const char *node_key(const struct node_tree *tree, const struct node *node);
const char *node_text(const struct node_tree *tree, const struct node *node);
bool node_is_null(const struct node_tree *tree, const struct node *node); /* ~, null or nothing at all */

/* The child after `child` (the first for NULL), NULL at the end. */
const struct node *node_child(const struct node_tree *tree, const struct node *parent, const struct node *child);

#endif
