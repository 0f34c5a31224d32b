#include "tools/command_files.h"

#include "base/atomic_file.h"

#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What makes two names one file: device and number of a file that is there, folder and name of one that is not. What is
 * no regular file is never one with another: a terminal may well be input and output. */
struct identity {
	enum { OTHER, THERE, MISSING } kind;
	dev_t device;
	ino_t number;
	char path[PATH_MAX + NAME_MAX + 2];
};

static bool is_stdin(const struct command_file *file)
{
	return file->path && file->use == COMMAND_READS && !strcmp(file->path, "-");
}

static void identify_missing(const char *path, struct identity *id)
{
	char folder[PATH_MAX];
	char name[PATH_MAX];
	char resolved[PATH_MAX];
	if (strlen(path) >= sizeof folder)
		return;
	(void)snprintf(folder, sizeof folder, "%s", path);
	(void)snprintf(name, sizeof name, "%s", path);
	if (!realpath(dirname(folder), resolved))
		return;
	id->kind = MISSING;
	(void)snprintf(id->path, sizeof id->path, "%s/%.*s", resolved, NAME_MAX, basename(name));
}

static void identify(const struct command_file *file, struct identity *id)
{
	struct stat about;
	*id = (struct identity){ .kind = OTHER };
	if (!file->path)
		return;
	if (is_stdin(file) ? fstat(STDIN_FILENO, &about) : stat(file->path, &about)) {
		identify_missing(file->path, id);
	} else if (S_ISREG(about.st_mode)) {
		id->kind = THERE;
		id->device = about.st_dev;
		id->number = about.st_ino;
	}
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	if (a->kind != b->kind || a->kind == OTHER)
		return false;
	return a->kind == THERE ? a->device == b->device && a->number == b->number : !strcmp(a->path, b->path);
}

static enum status check_pair(const struct command_file *a, const struct command_file *b, struct error *err)
{
	struct identity first, second;
	if (is_stdin(a) && is_stdin(b))
		return error_set(err, STATUS_USAGE, "--%s and --%s: both are standard input", a->option, b->option);
	if (a->use == COMMAND_READS && b->use == COMMAND_READS)
		return STATUS_OK;
	identify(a, &first);
	identify(b, &second);
	if (!is_same(&first, &second))
		return STATUS_OK;
	const bool later = b->use != COMMAND_READS; /* blame what is written */
	return error_set(err, STATUS_USAGE, "--%s: %.200s is the file of --%s", (later ? b : a)->option,
			 (later ? b : a)->path, (later ? a : b)->option);
}

static enum status check_output(const struct command_file *file, struct error *err)
{
	struct stat about;
	if (!strcmp(file->path, "-"))
		return error_set(err, STATUS_USAGE, "--%s: - is standard input alone; for the output say /dev/stdout",
				 file->option);
	if (file->use == COMMAND_MAKES && stat(file->path, &about) == 0 && !S_ISREG(about.st_mode))
		return error_set(err, STATUS_USAGE, "--%s: %.200s is no regular file", file->option, file->path);
	return atomic_file_try(file->path, err) ? error_prefix(err, "--%s", file->option) : STATUS_OK;
}

enum status command_files_check(const struct command_file files[], size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t j = i + 1; j < count; j++) {
			enum status status = check_pair(&files[i], &files[j], err);
			if (status)
				return status;
		}
	}
	for (size_t i = 0; i < count; i++) {
		enum status status =
			files[i].path && files[i].use != COMMAND_READS ? check_output(&files[i], err) : STATUS_OK;
		if (status)
			return status;
	}
	return STATUS_OK;
}
