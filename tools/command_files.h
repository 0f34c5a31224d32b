/* The files that a command line names, looked at before the work begins: that an output is an input or another output, or
 * cannot be written, should not be found out after hours. Main thread. */
#ifndef TOOLS_COMMAND_FILES_H
#define TOOLS_COMMAND_FILES_H

#include "base/error.h"

#include <stddef.h>

enum command_file_use {
	COMMAND_READS,  /* "-" is standard input */
	COMMAND_WRITES, /* as atomic_file_write does: a pipe or a device is fine */
	COMMAND_MAKES,  /* and reads it again: a regular file */
};

struct command_file {
	const char *option; /* without the dashes */
	const char *path;   /* NULL: was not given */
	enum command_file_use use;
};

/* Errors: STATUS_USAGE where two of the files are one of which one at least is written, by whatever names and links, where
 * two are standard input, and where a file to be made stands for a device or a pipe; STATUS_IO where an output cannot be
 * written. The text names the options. */
enum status command_files_check(const struct command_file files[], size_t count, struct error *err) MUST_CHECK;

#endif
