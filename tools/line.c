#include "tools/line.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum status line_json(json_t *object, size_t digits, struct error *err)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(digits)) : NULL;
	json_decref(object);
	if (!text)
		return error_set_memory(err);
	int end = puts(text);
	free(text);
	return end == EOF ? error_set_errno(err, "standard output") : STATUS_OK;
}

void line_safe(struct slice text, size_t most)
{
	for (size_t i = 0; i < text.length && i < most; i++)
		(void)putchar(text.data[i] >= ' ' && text.data[i] < 127 ? text.data[i] : '.');
	if (text.length > most)
		printf("...");
}

json_t *line_text(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

json_t *line_number(double number)
{
	return isfinite(number) ? json_real(number) : json_null();
}

const char *line_time(int64_t time_ms, bool date, char ret[LINE_TIME_SIZE])
{
	const time_t seconds = (time_t)(time_ms / 1000);
	struct tm local;
	ret[0] = '\0';
	if (!localtime_r(&seconds, &local))
		return ret;
	const size_t length = strftime(ret, LINE_TIME_SIZE, date ? "%F %T" : "%T", &local);
	if (!date)
		(void)snprintf(ret + length, LINE_TIME_SIZE - length, ".%03d", (int)(time_ms % 1000));
	return ret;
}
