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

/* One value that is passed over. */
static inline bool pass(const struct avro_op *op, struct avro_cursor *c)
{
	struct slice text;
	int64_t whole;
	switch (op->code) {
	case AVRO_CODE_INT:
		return avro_cursor_int(c, &whole);
	case AVRO_CODE_LONG:
		return avro_cursor_long(c, &whole);
	case AVRO_CODE_BOOLEAN:
		return avro_cursor_boolean(c);
	case AVRO_CODE_TEXT:
		return avro_cursor_text(c, &text);
	case AVRO_CODE_ENUM:
		return avro_cursor_index(c, op->n, &whole);
	case AVRO_CODE_SKIP:
		return avro_cursor_skip(c, op->n);
	default:
		return avro_cursor_skip_array(c, op->n);
	}
}

static inline int64_t divide_down(int64_t value, int64_t divisor)
{
	int64_t quotient = value / divisor;
	return quotient - (value % divisor < 0);
}

/* One value that is asked for. */
static inline bool take(const struct avro_plan *p, const struct avro_op *op, struct avro_cursor *c,
			struct plan_value *ret)
{
	int64_t index;
	switch (op->code) {
	case AVRO_CODE_TAKE_TEXT:
		ret->kind = PLAN_TEXT;
		return avro_cursor_text(c, &ret->text);
	case AVRO_CODE_TAKE_ENUM:
		if (!avro_cursor_index(c, op->n, &index))
			return false;
		ret->kind = PLAN_TEXT;
		ret->text = p->symbols[op->target + (size_t)index];
		return true;
	case AVRO_CODE_TAKE_INT:
		ret->kind = PLAN_WHOLE;
		return avro_cursor_int(c, &ret->whole);
	case AVRO_CODE_TAKE_LONG:
		ret->kind = PLAN_WHOLE;
		if (!avro_cursor_long(c, &ret->whole))
			return false;
		if (op->n != 1)
			ret->whole = divide_down(ret->whole, op->n);
		return true;
	default:
		ret->kind = PLAN_REFUSED;
		ret->refused = avro_type_label((enum avro_type)op->target);
		return true;
	}
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

static bool run(const struct avro_plan *p, struct slice value, struct plan_value values[], struct avro_cursor *c,
		struct error *err)
{
	int64_t stack[AVRO_STACK_MAX]; /* return addresses and counts of items left */
	size_t depth = 0;
	bool more;
	int64_t branch;
	for (const struct avro_op *op = p->ops;; op++) {
		const uint8_t *at = c->at;
		switch (op->code) {
		case AVRO_CODE_END:
			return true;
		case AVRO_CODE_UNION:
			if (!avro_cursor_index(c, op->n, &branch))
				return fail(op, value, at, err);
			op = p->ops + p->targets[op->target + (size_t)branch] - 1;
			break;
		case AVRO_CODE_JUMP:
			op = p->ops + op->target - 1;
			break;
		case AVRO_CODE_CALL:
		case AVRO_CODE_LOOP:
			if (depth == AVRO_STACK_MAX)
				return fail(op, value, at, err);
			stack[depth++] = op->code == AVRO_CODE_CALL ? op - p->ops : 0;
			if (op->code == AVRO_CODE_CALL)
				op = p->ops + op->target - 1;
			break;
		case AVRO_CODE_RETURN:
			op = p->ops + stack[--depth];
			break;
		case AVRO_CODE_NEXT_ITEM:
		case AVRO_CODE_NEXT_ENTRY:
			if (!next_item(op, c, &stack[depth - 1], &more))
				return fail(op, value, at, err);
			if (!more) {
				depth--;
				op = p->ops + op->target - 1;
			}
			break;
		default:
			if (op->code < AVRO_CODE_TAKE_TEXT ? !pass(op, c) : !take(p, op, c, &values[op->slot]))
				return fail(op, value, at, err);
		}
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
