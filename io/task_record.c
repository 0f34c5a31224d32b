#include "io/task_record.h"

#include "io/avro_cursor.h"
#include "io/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <unistr.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "doubles go out as they lie in memory");
_Static_assert(sizeof(double) == 8, "Avro's double");

enum { BRANCH_NULL, BRANCH_VALUE };

/* ---- encode ---- */

/* The head of an array's one block; nothing where it is empty. The end is the caller's. */
static void append_count(struct buffer *out, size_t count)
{
	if (count)
		buffer_append_varint(out, (int64_t)count);
}

static void append_value(struct buffer *out, const struct task_row *row, const void *field)
{
	const struct config_list *list = field;
	const struct config_numbers *numbers = field;
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		bytes_append_string(out, *(char *const *)field);
		break;
	case TASK_LIST:
		append_count(out, list->count);
		for (size_t i = 0; i < list->count; i++)
			bytes_append_string(out, list->items[i]);
		buffer_append_byte(out, 0);
		break;
	case TASK_BLOCKS:
		append_count(out, numbers->count);
		for (size_t i = 0; i < numbers->count; i++)
			buffer_append_varint(out, numbers->items[i]);
		buffer_append_byte(out, 0);
		break;
	case TASK_WHOLE:
		buffer_append_varint(out, *(const int64_t *)field);
		break;
	case TASK_REAL:
		buffer_append(out, field, sizeof(double));
		break;
	case TASK_FLAG:
		buffer_append_byte(out, *(const bool *)field);
		break;
	}
}

/* What must be given is no union with null. */
static bool is_optional(enum task_key key)
{
	return key != TASK_KEY_name && key != TASK_KEY_type;
}

void task_record_encode(const struct config_task *task, struct buffer *out)
{
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		const bool has = config_task_has(task, key);
		if (is_optional(key))
			buffer_append_varint(out, has ? BRANCH_VALUE : BRANCH_NULL);
		if (has)
			append_value(out, &task_rows[key], task_field_const(task, &task_rows[key]));
	}
}

/* ---- decode ---- */

enum outcome { FINE, DAMAGED, NOT_TEXT, NO_MEMORY };

static enum outcome take_text(struct avro_cursor *c, char **ret)
{
	struct slice text;
	if (!avro_cursor_text(c, &text))
		return DAMAGED;
	if (memchr(text.data, 0, text.length) || u8_check(text.data, text.length))
		return NOT_TEXT;
	*ret = strndup((const char *)text.data, text.length);
	return *ret ? FINE : NO_MEMORY;
}

/* A block announces its items: one item takes a byte at least, so that memory stays in proportion to the value. */
static enum outcome take_list(struct avro_cursor *c, struct config_list *list)
{
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return FINE;
		if (count > (int64_t)avro_cursor_left(c))
			return DAMAGED;
		char **items = reallocarray(list->items, list->count + (size_t)count, sizeof *items);
		if (!items)
			return NO_MEMORY;
		list->items = items;
		for (; count > 0; count--) {
			enum outcome outcome = take_text(c, &list->items[list->count]);
			if (outcome != FINE)
				return outcome;
			list->count++;
		}
	}
	return DAMAGED;
}

static enum outcome take_blocks(struct avro_cursor *c, struct config_numbers *numbers)
{
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return FINE;
		if (count > (int64_t)avro_cursor_left(c))
			return DAMAGED;
		uint32_t *items = reallocarray(numbers->items, numbers->count + (size_t)count, sizeof *items);
		if (!items)
			return NO_MEMORY;
		numbers->items = items;
		for (; count > 0; count--) {
			int64_t number;
			if (!avro_cursor_int(c, &number))
				return DAMAGED;
			numbers->items[numbers->count++] = number < 0 ? UINT32_MAX : (uint32_t)number;
		}
	}
	return DAMAGED;
}

static enum outcome take_value(struct avro_cursor *c, const struct task_row *row, void *field)
{
	switch (row->kind) {
	case TASK_NAME:
	case TASK_CHOICE:
		return take_text(c, field);
	case TASK_LIST:
		return take_list(c, field);
	case TASK_BLOCKS:
		return take_blocks(c, field);
	case TASK_WHOLE:
		return avro_cursor_long(c, field) ? FINE : DAMAGED;
	case TASK_REAL:
		return avro_cursor_copy(c, field, sizeof(double)) ? FINE : DAMAGED;
	case TASK_FLAG:
		if (!avro_cursor_boolean(c))
			return DAMAGED;
		*(bool *)field = c->at[-1] != 0;
		return FINE;
	}
	return DAMAGED;
}

static enum outcome take(struct avro_cursor *c, struct config_task *task, enum task_key key)
{
	int64_t branch = BRANCH_VALUE;
	if (is_optional(key) && !avro_cursor_index(c, 2, &branch))
		return DAMAGED;
	if (branch == BRANCH_NULL)
		return FINE;
	task->given |= UINT32_C(1) << key;
	return take_value(c, &task_rows[key], task_field(task, &task_rows[key]));
}

static enum status take_all(struct slice value, struct config_task *task, struct error *err)
{
	static const uint8_t nothing;
	struct avro_cursor c = { .at = value.data ? value.data : &nothing };
	c.end = c.at + value.length;
	for (enum task_key key = 0; key < TASK_KEYS; key++) {
		switch (take(&c, task, key)) {
		case FINE:
			break;
		case DAMAGED:
			return error_set(err, STATUS_DATA, "%s: cut or damaged at byte %zu of %zu", task_rows[key].name,
					 value.length - avro_cursor_left(&c), value.length);
		case NOT_TEXT:
			return error_set(err, STATUS_DATA, "%s: not UTF-8, or holds a NUL", task_rows[key].name);
		case NO_MEMORY:
			return error_set_memory(err);
		}
	}
	if (c.at != c.end)
		return error_set(err, STATUS_DATA, "%zu bytes are left over after %zu", avro_cursor_left(&c),
				 value.length - avro_cursor_left(&c));
	return STATUS_OK;
}

enum status task_record_decode(struct slice key, struct slice value, struct config_task *ret, struct error *err)
{
	struct config_task task = { 0 };
	enum task_key at;
	enum status status = take_all(value, &task, err);
	if (!status) {
		status = config_task_check(&task, &at, err);
		if (status == STATUS_DATA)
			(void)error_prefix(err, "%s", task_rows[at].name);
	}
	if (!status && (strlen(task.name) != key.length || memcmp(task.name, key.data, key.length) != 0))
		status = error_set(err, STATUS_DATA, "name: %s is not the record's key", task.name);
	if (status) {
		config_task_clear(&task);
		return status;
	}
	*ret = task;
	return STATUS_OK;
}
