/* What is logged between two calls, instead of on stderr. */
#ifndef TESTS_UNIT_LOG_FIXTURE_H
#define TESTS_UNIT_LOG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static int log_kept = -1; /* stderr */
static FILE *log_file;

static inline void log_begin(void)
{
	log_file = tmpfile();
	log_kept = dup(STDERR_FILENO);
	assert_true(log_file && log_kept >= 0 && dup2(fileno(log_file), STDERR_FILENO) >= 0);
}

/* Returns `text`, of `size` bytes. */
static inline const char *log_end(char *text, size_t size)
{
	assert_true(dup2(log_kept, STDERR_FILENO) >= 0);
	(void)close(log_kept);
	rewind(log_file);
	text[fread(text, 1, size - 1, log_file)] = '\0';
	(void)fclose(log_file);
	return text;
}

#endif
