/* The configuration: one immutable struct, read from YAML, every option declared once in options.def.
 *
 * Loaded on the main thread before any other starts; read by all afterwards. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/error.h"
#include "config/list.h"
#include "config/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct config_property { /* one line under `kafka:`, passed to librdkafka as it is */
	char *name;
	char *value;
	int line; /* in the file */
};

struct config_key { /* where a key stands in the file */
	char *key;
	int line;
};

struct config {
#define TEXT(field, ...) char *field;
#define REQUIRED(field, ...) char *field;
#define WHOLE(field, ...) int64_t field;
#define FLAG(field, ...) bool field;
#define LIST(field, ...) struct config_list field;
#define SECTION(...)
#include "config/options.def"
#undef TEXT
#undef REQUIRED
#undef WHOLE
#undef FLAG
#undef LIST
#undef SECTION
	struct config_property *kafka;
	size_t kafka_count;
	struct config_task *tasks;
	size_t tasks_count;
	struct config_key *keys; /* every key of the file, sorted: config_line */
	size_t keys_count;
	char *path; /* the file that it came from, for messages */
};

/* Reads and checks `path`. Errors name file, line and key: STATUS_NO_INPUT (no such file), STATUS_CONFIG (it cannot be read;
 * unknown key, with the nearest name suggested; wrong type; out of range; missing; twice), STATUS_MEMORY. */
enum status config_load(const char *path, struct config **ret, struct error *err) MUST_CHECK;

/* The same from memory; `name` stands for the file in messages. */
enum status config_parse(const char *name, const char *text, size_t length, struct config **ret,
			 struct error *err) MUST_CHECK;

/* A file of task definitions, "-" standard input: one task, whose keys stand by themselves, or a list of them under `tasks`. Of
 * *ret only tasks and path are filled. Errors as above, but STATUS_DATA for what is wrong in the file. */
enum status config_load_tasks(const char *path, struct config **ret, struct error *err) MUST_CHECK;
enum status config_parse_tasks(const char *name, const char *text, size_t length, struct config **ret,
			       struct error *err) MUST_CHECK;

void config_free(struct config *config); /* NULL is fine */

/* The annotated sample: every option with text, unit, range and default. Parses as written. */
void config_print_sample(FILE *out);

/* The line of the file where a key stands ("kafka.security.protocol"), 0 where it does not. */
int config_line(const struct config *config, const char *key);

/* The value of a property under `kafka:`, NULL where the file has none. The config's memory. */
const char *config_kafka(const struct config *config, const char *name);

/* A checked definition's cadence under this configuration: its own, or patch.max_age_ms for side patches and 60000 for others,
 * whose every swap costs a recomputation; patch.min_labels. */
int64_t config_task_max_age_ms(const struct config *config, const struct config_task *task);
int64_t config_task_min_labels(const struct config *config, const struct config_task *task);

/* Sets "FILE:LINE: key: what" with STATUS_CONFIG, for checks that find a value of the file at fault later (a topic that
 * does not exist, a schema file that is damaged); LINE is 1 where the key does not stand in the file. */
enum status config_fault(const struct config *config, const char *key, struct error *err, const char *format, ...)
	PRINTF_LIKE(4, 5);

#endif
