/* Files that appear whole or not at all: written beside their place, synced, and renamed into it.
 *
 * What is no regular file (a pipe, a link as /dev/stdout) is written as it is. One thread. */
#ifndef BASE_ATOMIC_FILE_H
#define BASE_ATOMIC_FILE_H

#include "base/error.h"

#include <stddef.h>

/* `parts` are written one after the other. Errors: STATUS_IO with the path, also where its directory does not exist; an
 * older file of that name is as it was then. */
struct atomic_file_part {
	const void *bytes;
	size_t length;
};
enum status atomic_file_write(const char *path, const struct atomic_file_part parts[], size_t count,
			      struct error *err) MUST_CHECK;

/* Whether atomic_file_write could write there as things stand; leaves nothing behind. Errors: STATUS_IO with the path. */
enum status atomic_file_try(const char *path, struct error *err) MUST_CHECK;

#endif
