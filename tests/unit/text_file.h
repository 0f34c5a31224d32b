/* A file of some text for the time of a test, in $TMPDIR or /tmp. */
#ifndef TESTS_UNIT_TEXT_FILE_H
#define TESTS_UNIT_TEXT_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes `length` bytes to a new file whose name ends in `suffix`; `path` receives its name, at most 256 bytes. */
static inline void text_file_make(const char *suffix, const void *bytes, size_t length, char path[256])
{
	const char *parent = getenv("TMPDIR");
	(void)snprintf(path, 256, "%.200s/peterd-test-XXXXXX%.20s", parent && *parent ? parent : "/tmp", suffix);
	int fd = mkstemps(path, (int)strlen(suffix));
	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length || close(fd))
		abort();
}

#endif
