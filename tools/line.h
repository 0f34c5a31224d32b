/* Lines on standard output: objects for programs, texts for people. Main thread. */
#ifndef TOOLS_LINE_H
#define TOOLS_LINE_H

#include "base/buffer.h"
#include "base/error.h"

#include <jansson.h>

/* Prints the object as a line, numbers with so many digits, and drops the reference. Errors: STATUS_MEMORY (it is NULL, or
 * cannot be written down), STATUS_IO. */
enum status line_json(json_t *object, size_t digits, struct error *err) MUST_CHECK;

/* For a terminal: what is no printable ASCII becomes a dot, what is longer than `most` bytes is cut. */
void line_safe(struct slice text, size_t most);

/* For a field of an object: null where the text is NULL or empty; where the number is not finite. */
json_t *line_text(const char *text);
json_t *line_number(double number);

enum { LINE_TIME_SIZE = 32 };

/* Local time, "2023-11-14 22:13:20"; without `date`, "22:13:20.123". Returns `ret`. */
const char *line_time(int64_t time_ms, bool date, char ret[LINE_TIME_SIZE]);

#endif
