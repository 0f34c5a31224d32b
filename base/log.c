#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store(&threshold, level);
}

static void log_line(enum log_level level, const char *format, va_list args)
{
	static const char *const names[] = { "error: ", "warning: ", "info: ", "debug: " };
	static const char *const priorities[] = { "<3>", "<4>", "<6>", "<7>" };
	if ((int)level > atomic_load(&threshold))
		return;
	char line[1024];
	int used = snprintf(line, sizeof line, "%s", getenv("JOURNAL_STREAM") ? priorities[level] : names[level]);
	int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
	size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);
	if (length > sizeof line - 2)
		length = sizeof line - 2;
	for (size_t i = 0; i < length; i++) /* texts of strangers make no lines and no colours of their own */
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '.';
	line[length++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, length);
	(void)written;
}

#define LOG_AT(level)                                                                                                  \
	do {                                                                                                           \
		va_list args;                                                                                          \
		va_start(args, format);                                                                                \
		log_line(level, format, args);                                                                         \
		va_end(args);                                                                                          \
	} while (0)

void log_error(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_ERROR);
}

void log_warning(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_WARNING);
}

void log_info(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_INFO);
}

void log_debug(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_DEBUG);
}
