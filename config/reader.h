/* What the parts of the parser share. Internal to config/. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/config.h"
#include "config/node.h"

#define KEY_MAX_BYTES 256 /* of a dotted key, with the NUL */

struct reader {
	const char *name; /* of the file */
	struct node_tree tree;
	struct config *config; /* being filled */
	size_t keys_capacity;
	size_t kafka_capacity;
	struct error *err;
};

/* "FILE:LINE: key: what", STATUS_CONFIG. */
enum status reader_refuse(const struct reader *r, int line, const char *key, const char *format, ...) PRINTF_LIKE(4, 5);

/* `text` fit for one line of a message: cut, and control characters replaced. Returns `ret`. */
#define SHOWN_BYTES 64
const char *shown(const char *text, char ret[SHOWN_BYTES]);

/* Joins prefix ("" none) and key with a dot; notes the key's line. Errors: STATUS_CONFIG (too long), STATUS_MEMORY. */
enum status reader_key(struct reader *r, const char *prefix, const struct node *node,
		       char ret[KEY_MAX_BYTES]) MUST_CHECK;

/* A scalar's text without control characters. `key` is for messages. The result is the caller's. */
enum status reader_text(const struct reader *r, const char *key, const struct node *node, char **ret) MUST_CHECK;
enum status reader_whole(const struct reader *r, const char *key, const struct node *node, int64_t low, int64_t high,
			 const char *unit, int64_t *ret) MUST_CHECK;
enum status reader_list(const struct reader *r, const char *key, const struct node *node,
			struct config_list *ret) MUST_CHECK;
enum status reader_flag(const struct reader *r, const char *key, const struct node *node, bool *ret) MUST_CHECK;

/* kafka.c: the properties under `prefix` ("kafka", or "kafka.ssl" for nested maps). */
enum status kafka_read(struct reader *r, const char *prefix, const struct node *node) MUST_CHECK;
enum status kafka_read_property(struct reader *r, const char *key, const struct node *node) MUST_CHECK;

/* task_read.c: the value of `tasks:`; a whole file of definitions */
enum status tasks_read(struct reader *r, const struct node *node) MUST_CHECK;
enum status tasks_read_file(struct reader *r) MUST_CHECK;

/* check.c: what no single option can tell. */
enum status config_check(const struct config *config, struct error *err) MUST_CHECK;

#endif
