/* Errors: one status type for the whole program, and a text for people.
 *
 * A function that can fail returns `enum status` and takes a `struct error *` as its last parameter. It either
 * handles an error or returns it, never both, and never logs one that it returns. On the way up each layer puts its
 * own noun in front of the text ("backbone b.safetensors: blocks.0.conv1.weight: shape [4, 4], expected [4, 4, 3]"),
 * and the top logs it once. Out-parameters (`ret_...`) are untouched on failure.
 *
 * Any thread; a `struct error` belongs to its caller. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>

enum status {
	STATUS_OK = 0,
	STATUS_USAGE,       /* the command line is wrong                  exit 64 */
	STATUS_DATA,        /* data or a model file is bad                exit 65 */
	STATUS_NO_INPUT,    /* a named input does not exist               exit 66 */
	STATUS_UNAVAILABLE, /* a broker or registry is away: try again    exit 69 */
	STATUS_BUG,         /* an assertion about ourselves failed        exit 70 */
	STATUS_MEMORY,      /* an allocation failed                       exit 71 */
	STATUS_IO,          /* reading, writing or the disk failed        exit 74 */
	STATUS_CONFIG,      /* the configuration is wrong, or fenced      exit 78 */
};

struct error {
	enum status status;
	char text[512]; /* one line, no trailing full stop or newline */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_, first) __attribute__((format(printf, format_, first)))

/* Sets status and text; returns `status`, so that `return error_set(err, ...)` reads well. */
enum status error_set(struct error *err, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* Sets "<formatted>: <strerror(errno)>" with STATUS_IO, or STATUS_NO_INPUT for ENOENT and STATUS_MEMORY for ENOMEM. */
enum status error_set_errno(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Sets STATUS_MEMORY, "out of memory". */
enum status error_set_memory(struct error *err);

/* Puts "<formatted>: " in front of the text; returns the unchanged status. */
enum status error_prefix(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* sysexits(3) of a status; 0 for STATUS_OK. */
int status_exit_code(enum status status);

#endif
