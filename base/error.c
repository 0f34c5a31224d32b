#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(err->text, sizeof err->text, format, args);
	va_end(args);
	err->status = status;
	return status;
}

enum status error_set_errno(struct error *err, const char *format, ...)
{
	int code = errno;
	char what[256];
	char why[128];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(what, sizeof what, format, args);
	va_end(args);
	enum status status = code == ENOENT ? STATUS_NO_INPUT : code == ENOMEM ? STATUS_MEMORY : STATUS_IO;
	return error_set(err, status, "%s: %s", what, strerror_r(code, why, sizeof why));
}

enum status error_set_memory(struct error *err)
{
	return error_set(err, STATUS_MEMORY, "out of memory");
}

enum status error_prefix(struct error *err, const char *format, ...)
{
	char prefix[256];
	char text[sizeof err->text];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(prefix, sizeof prefix, format, args);
	va_end(args);
	memcpy(text, err->text, sizeof text);
	(void)snprintf(err->text, sizeof err->text, "%s: %.*s", prefix, (int)(sizeof text - sizeof prefix), text);
	return err->status;
}

int status_exit_code(enum status status)
{
	switch (status) {
	case STATUS_OK:
		return EX_OK;
	case STATUS_USAGE:
		return EX_USAGE;
	case STATUS_DATA:
		return EX_DATAERR;
	case STATUS_NO_INPUT:
		return EX_NOINPUT;
	case STATUS_UNAVAILABLE:
		return EX_UNAVAILABLE;
	case STATUS_BUG:
		return EX_SOFTWARE;
	case STATUS_MEMORY:
		return EX_OSERR;
	case STATUS_IO:
		return EX_IOERR;
	case STATUS_CONFIG:
		return EX_CONFIG;
	}
	return EX_SOFTWARE;
}
