/* Folders and files on the local disk. Any thread; blocking. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Makes `path` and what is missing above it, for this user and its group alone. Errors: STATUS_IO. */
enum status file_make_folder(const char *path, struct error *err) MUST_CHECK;

/* Removes every file in the folder, and the folder; one that does not exist is fine. It must not hold folders.
 * Errors: STATUS_IO. */
enum status file_remove_folder(const char *path, struct error *err) MUST_CHECK;

/* Whether the disk under the folder takes `bytes` more: writes that much into a file there and removes it. Errors:
 * STATUS_IO. */
enum status file_probe_room(const char *folder, size_t bytes, struct error *err) MUST_CHECK;

/* Takes the exclusive lock of a file, made where missing, until the descriptor is closed or the process ends. *ret_taken
 * is false (and *ret_fd untouched) where another holder has it. Errors: STATUS_IO. */
enum status file_lock(const char *path, int *ret_fd, bool *ret_taken, struct error *err) MUST_CHECK;

#endif
