#include "io/avro_plan.h"

#include "io/avro_cursor.h"
#include "io/avro_program.h"

#include <stdlib.h>

void avro_plan_free(struct avro_plan *p)
{
	if (!p)
		return;
	free(p->ops);
	free(p->targets);
	free(p->symbols);
	free(p->text);
	free(p);
}

static const char *code_label(enum avro_code code)
{
	switch (code) {
	case AVRO_CODE_INT:
	case AVRO_CODE_TAKE_INT:
		return "int";
	case AVRO_CODE_LONG:
	case AVRO_CODE_TAKE_LONG:
		return "long";
	case AVRO_CODE_BOOLEAN:
		return "boolean";
	case AVRO_CODE_TEXT:
	case AVRO_CODE_TAKE_TEXT:
		return "string or bytes";
	case AVRO_CODE_ENUM:
	case AVRO_CODE_TAKE_ENUM:
		return "enum index";
	case AVRO_CODE_SKIP:
		return "float, double or fixed";
	case AVRO_CODE_UNION:
		return "union branch";
	case AVRO_CODE_CALL:
	case AVRO_CODE_LOOP:
		return "value, nested too deep,";
	default:
		return "array or map";
	}
}

static bool fail(const struct avro_op *op, struct slice value, const uint8_t *at, struct error *err)
{
	(void)error_set(err, STATUS_DATA, "not a datum of the writer's schema: cut or bad %s at byte %zu of %zu",
			code_label((enum avro_code)op->code), (size_t)(at - value.data), value.length);
	return false;
}

static inline int64_t divide_down(int64_t value, int64_t divisor)
{
	int64_t quotient = value / divisor;
	return quotient - (value % divisor < 0);
}

static inline bool take_enum(const struct avro_plan *p, const struct avro_op *op, struct avro_cursor *c,
			     struct plan_value *ret)
{
	int64_t index;
	if (!avro_cursor_index(c, op->n, &index))
		return false;
	ret->kind = PLAN_TEXT;
	ret->text = p->symbols[op->target + (size_t)index];
	return true;
}

static inline bool take_long(const struct avro_op *op, struct avro_cursor *c, struct plan_value *ret)
{
	ret->kind = PLAN_WHOLE;
	if (!avro_cursor_long(c, &ret->whole))
		return false;
	if (op->n != 1)
		ret->whole = divide_down(ret->whole, op->n);
	return true;
}

/* Goes on with the next item of the array or map whose count is *left; *ret_more is false at its end. */
static inline bool next_item(const struct avro_op *op, struct avro_cursor *c, int64_t *left, bool *ret_more)
{
	struct slice key;
	*ret_more = true;
	if (*left == 0) {
		if (!avro_cursor_block(c, left))
			return false;
		if (*left == 0) {
			*ret_more = false;
			return true;
		}
	}
	--*left;
	return op->code == AVRO_CODE_NEXT_ITEM || avro_cursor_text(c, &key);
}

/* The machine. One switch, a line or two an instruction: every record of every topic goes through here. */
static bool run(const struct avro_plan *p, struct slice value, struct plan_value values[], struct avro_cursor *ret_end,
		struct error *err)
{
	int64_t stack[AVRO_STACK_MAX]; /* return addresses and counts of items left */
	size_t depth = 0;
	struct avro_cursor c = *ret_end;
	for (const struct avro_op *op = p->ops;; op++) {
		const uint8_t *at = c.at;
		struct slice text;
		int64_t n;
		bool fine = true;
		bool more;
		switch ((enum avro_code)op->code) {
		case AVRO_CODE_END:
			*ret_end = c;
			return true;
		case AVRO_CODE_INT:
			fine = avro_cursor_int(&c, &n);
			break;
		case AVRO_CODE_LONG:
			fine = avro_cursor_long(&c, &n);
			break;
		case AVRO_CODE_BOOLEAN:
			fine = avro_cursor_boolean(&c);
			break;
		case AVRO_CODE_TEXT:
			fine = avro_cursor_text(&c, &text);
			break;
		case AVRO_CODE_ENUM:
			fine = avro_cursor_index(&c, op->n, &n);
			break;
		case AVRO_CODE_SKIP:
			fine = avro_cursor_skip(&c, op->n);
			break;
		case AVRO_CODE_SKIP_ARRAY:
			fine = avro_cursor_skip_array(&c, op->n);
			break;
		case AVRO_CODE_TAKE_TEXT:
			values[op->slot].kind = PLAN_TEXT;
			fine = avro_cursor_text(&c, &values[op->slot].text);
			break;
		case AVRO_CODE_TAKE_ENUM:
			fine = take_enum(p, op, &c, &values[op->slot]);
			break;
		case AVRO_CODE_TAKE_INT:
			values[op->slot].kind = PLAN_WHOLE;
			fine = avro_cursor_int(&c, &values[op->slot].whole);
			break;
		case AVRO_CODE_TAKE_LONG:
			fine = take_long(op, &c, &values[op->slot]);
			break;
		case AVRO_CODE_REFUSE:
			values[op->slot].kind = PLAN_REFUSED;
			values[op->slot].refused = avro_type_label((enum avro_type)op->target);
			break;
		case AVRO_CODE_UNION:
			fine = avro_cursor_index(&c, op->n, &n);
			if (fine)
				op = p->ops + p->targets[op->target + (size_t)n] - 1;
			break;
		case AVRO_CODE_JUMP:
			op = p->ops + op->target - 1;
			break;
		case AVRO_CODE_CALL:
			fine = depth < AVRO_STACK_MAX;
			if (fine) {
				stack[depth++] = op - p->ops;
				op = p->ops + op->target - 1;
			}
			break;
		case AVRO_CODE_RETURN:
			op = p->ops + stack[--depth];
			break;
		case AVRO_CODE_LOOP:
			fine = depth < AVRO_STACK_MAX;
			if (fine)
				stack[depth++] = 0;
			break;
		case AVRO_CODE_NEXT_ITEM:
		case AVRO_CODE_NEXT_ENTRY:
			fine = next_item(op, &c, &stack[depth - 1], &more);
			if (fine && !more) {
				depth--;
				op = p->ops + op->target - 1;
			}
			break;
		}
		if (!fine)
			return fail(op, value, at, err);
	}
}

bool avro_plan_run(const struct avro_plan *p, struct slice value, struct plan_value values[], struct error *err)
{
	static const uint8_t nothing;
	struct avro_cursor c = { .at = value.data ? value.data : &nothing };
	c.end = c.at + value.length;
	for (size_t i = 0; i < p->count; i++)
		values[i].kind = PLAN_MISSING;
	if (!run(p, (struct slice){ c.at, value.length }, values, &c, err))
		return false;
	if (c.at == c.end)
		return true;
	(void)error_set(err, STATUS_DATA, "not a datum of the writer's schema: %zu bytes are left over after %zu",
			avro_cursor_left(&c), value.length - avro_cursor_left(&c));
	return false;
}
