#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status disk_error(struct error *err, const char *path)
{
	(void)error_set_errno(err, "%s", path);
	return err->status = STATUS_IO;
}

enum status file_make_folder(const char *path, struct error *err)
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof part)
		return error_set(err, STATUS_IO, "%.200s: not a path", path);
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0750) != 0 && errno != EEXIST)
			return disk_error(err, part);
	}
	struct stat info;
	if (stat(path, &info) != 0)
		return disk_error(err, path);
	if (!S_ISDIR(info.st_mode))
		return error_set(err, STATUS_IO, "%s: not a directory", path);
	return STATUS_OK;
}

enum status file_remove_folder(const char *path, struct error *err)
{
	DIR *folder = opendir(path);
	if (!folder)
		return errno == ENOENT ? STATUS_OK : disk_error(err, path);
	enum status status = STATUS_OK;
	struct dirent *entry;
	while (status == STATUS_OK && (entry = readdir(folder))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT) {
			(void)error_set_errno(err, "%s/%s", path, entry->d_name);
			status = err->status = STATUS_IO;
		}
	}
	(void)closedir(folder);
	if (status == STATUS_OK && rmdir(path) != 0 && errno != ENOENT)
		status = disk_error(err, path);
	return status;
}

static int write_zeros(int fd, size_t bytes)
{
	static const char zeros[16384];
	while (bytes > 0) {
		ssize_t n = write(fd, zeros, bytes < sizeof zeros ? bytes : sizeof zeros);
		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			bytes -= (size_t)n;
	}
	return fdatasync(fd);
}

enum status file_probe_room(const char *folder, size_t bytes, struct error *err)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/room.probe", folder) >= sizeof path)
		return error_set(err, STATUS_IO, "%.200s: the path is too long", folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return disk_error(err, path);
	enum status status = write_zeros(fd, bytes) == 0 ? STATUS_OK : disk_error(err, path);
	(void)close(fd);
	(void)unlink(path);
	return status;
}

enum status file_lock(const char *path, int *ret_fd, bool *ret_taken, struct error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return disk_error(err, path);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		*ret_fd = fd;
		*ret_taken = true;
		return STATUS_OK;
	}
	enum status status = STATUS_OK;
	if (errno == EWOULDBLOCK)
		*ret_taken = false;
	else
		status = disk_error(err, path);
	(void)close(fd);
	return status;
}
