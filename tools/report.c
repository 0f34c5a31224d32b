#include "tools/report.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static struct report_row *add(struct report *r, const char *key, const char *name)
{
	assert(r->count < REPORT_ROWS);
	struct report_row *row = &r->rows[r->count++];
	*row = (struct report_row){ .error = (double)NAN };
	(void)snprintf(row->key, sizeof row->key, "%s", key ? key : "");
	(void)snprintf(row->name, sizeof row->name, "%s", name ? name : "");
	return row;
}

void report_text(struct report *r, const char *key, const char *name, const char *text)
{
	struct report_row *row = add(r, key, name);
	row->kind = REPORT_TEXT;
	(void)snprintf(row->text, sizeof row->text, "%s", text);
}

void report_count(struct report *r, const char *key, const char *name, uint64_t count)
{
	struct report_row *row = add(r, key, name);
	row->kind = REPORT_COUNT;
	row->count = count;
}

void report_number(struct report *r, const char *key, const char *name, double value, double error)
{
	struct report_row *row = add(r, key, name);
	row->kind = REPORT_NUMBER;
	row->value = value;
	row->error = error;
}

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static bool add_json(json_t *object, const struct report_row *row)
{
	char key[sizeof row->key + 8];
	if (row->kind == REPORT_TEXT)
		return json_object_set_new(object, row->key, json_string(row->text)) == 0;
	if (row->kind == REPORT_COUNT)
		return json_object_set_new(object, row->key, json_integer((json_int_t)row->count)) == 0;
	if (json_object_set_new(object, row->key, number(row->value)))
		return false;
	(void)snprintf(key, sizeof key, "%s_error", row->key);
	return isnan(row->error) || json_object_set_new(object, key, number(row->error)) == 0;
}

static enum status print_json(const struct report *r, struct error *err)
{
	json_t *object = json_object();
	bool complete = object != NULL;
	for (size_t i = 0; i < r->count && complete; i++)
		complete = !*r->rows[i].key || add_json(object, &r->rows[i]);
	char *text = complete ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(object);
	if (!text)
		return error_set_memory(err);
	printf("%s\n", text);
	free(text);
	return STATUS_OK;
}

enum status report_print(const struct report *r, bool json, struct error *err)
{
	if (json)
		return print_json(r, err);
	for (size_t i = 0; i < r->count; i++) {
		const struct report_row *row = &r->rows[i];
		if (!*row->name)
			continue;
		if (row->kind == REPORT_TEXT)
			printf("%-18s %s\n", row->name, row->text);
		else if (row->kind == REPORT_COUNT)
			printf("%-18s %" PRIu64 "\n", row->name, row->count);
		else if (isnan(row->error))
			printf("%-18s %.5f\n", row->name, row->value);
		else
			printf("%-18s %.5f +- %.5f\n", row->name, row->value, row->error);
	}
	return STATUS_OK;
}
