#include "base/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What cannot be written is never a missing input, whatever errno says. */
static enum status refuse(const char *path, struct error *err)
{
	(void)error_set_errno(err, "%s: cannot be written", path);
	return err->status = STATUS_IO;
}

static bool write_all(int fd, const struct atomic_file_part parts[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *at = parts[i].bytes;
		for (size_t rest = parts[i].length; rest > 0;) {
			ssize_t written = write(fd, at, rest);
			if (written < 0 && errno == EINTR)
				continue;
			if (written < 0)
				return false;
			at += written;
			rest -= (size_t)written;
		}
	}
	return true;
}

static bool sync_directory(const char *path)
{
	char copy[PATH_MAX];
	(void)snprintf(copy, sizeof copy, "%s", path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool done = fsync(fd) == 0;
	(void)close(fd);
	return done;
}

static enum status write_in_place(const char *path, const struct atomic_file_part parts[], size_t count,
				  struct error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return refuse(path, err);
	bool done = write_all(fd, parts, count);
	enum status status = done ? STATUS_OK : refuse(path, err);
	if (close(fd) && !status)
		status = refuse(path, err);
	return status;
}

/* Beside the path, so that a rename can take it there. False, with errno, where its name would be too long. */
static bool name_temporary(const char *path, char temporary[PATH_MAX])
{
	errno = *path ? ENAMETOOLONG : ENOENT;
	return *path && snprintf(temporary, PATH_MAX, "%s.%ld.tmp", path, (long)getpid()) < PATH_MAX;
}

/* A device, a pipe, or a link, which is nobody's to replace: /dev/stdout is one. */
static bool is_in_place(const char *path)
{
	struct stat about;
	return lstat(path, &about) == 0 && !S_ISREG(about.st_mode);
}

enum status atomic_file_try(const char *path, struct error *err)
{
	struct stat before;
	char temporary[PATH_MAX];
	const bool there = stat(path, &before) == 0;
	if (there && access(path, W_OK))
		return refuse(path, err);
	if (there && S_ISDIR(before.st_mode)) {
		errno = EISDIR;
		return refuse(path, err);
	}
	if (there && is_in_place(path))
		return STATUS_OK;
	int fd = name_temporary(path, temporary) ? open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
	if (fd < 0)
		return refuse(path, err);
	(void)close(fd);
	(void)unlink(temporary);
	return STATUS_OK;
}

enum status atomic_file_write(const char *path, const struct atomic_file_part parts[], size_t count, struct error *err)
{
	if (is_in_place(path))
		return write_in_place(path, parts, count, err);
	char temporary[PATH_MAX];
	if (!name_temporary(path, temporary))
		return refuse(path, err);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return refuse(path, err);
	bool done = write_all(fd, parts, count) && fsync(fd) == 0;
	int code = errno;
	if (close(fd) && done) {
		done = false;
		code = errno;
	}
	if (done && (rename(temporary, path) || !sync_directory(path))) {
		done = false;
		code = errno;
	}
	if (done)
		return STATUS_OK;
	(void)unlink(temporary);
	errno = code;
	return refuse(path, err);
}
