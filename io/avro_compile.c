#include "io/avro_names.h"

#include <avro.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { OPS_MAX = 1 << 20 };

/* Which fields lie further on, and how many components of their paths lie behind. */
struct way {
	uint32_t fields; /* bit i: fields[i] */
	unsigned depth;
};

struct compiler {
	struct avro_names names;
	const struct plan_field *fields;
	size_t count;
	struct buffer ops;     /* struct avro_op */
	struct buffer targets; /* uint32_t */
	struct buffer symbols; /* struct slice, `data` an offset into text until finish() */
	struct buffer text;
	struct buffer bodies; /* struct avro_named *, records that need a subroutine, number - 1 is the index */
	uint32_t delivered;   /* bit i: some branch gives fields[i] */
	uint32_t mistyped;    /* bit i: some branch has fields[i], of a type that is not accepted */
	struct error faults[AVRO_PLAN_FIELDS_MAX]; /* why a branch does not */
	bool too_large;
};

static struct avro_op *op_at(const struct compiler *c, uint32_t at)
{
	return (struct avro_op *)(void *)c->ops.data + at;
}

static uint32_t *target_at(const struct compiler *c, uint32_t at)
{
	return (uint32_t *)(void *)c->targets.data + at;
}

static uint32_t here(const struct compiler *c)
{
	return (uint32_t)(c->ops.length / sizeof(struct avro_op));
}

static bool stopped(const struct compiler *c)
{
	return c->too_large || c->ops.failed || c->targets.failed || c->symbols.failed || c->text.failed ||
	       c->bodies.failed;
}

static void emit_op(struct compiler *c, struct avro_op op)
{
	if (here(c) >= OPS_MAX || c->targets.length / sizeof(uint32_t) >= OPS_MAX)
		c->too_large = true;
	else
		buffer_append(&c->ops, &op, sizeof op);
}

static void emit(struct compiler *c, enum avro_code code, int64_t n)
{
	emit_op(c, (struct avro_op){ .code = (uint8_t)code, .n = n });
}

static void emit_jump(struct compiler *c, enum avro_code code, uint32_t target)
{
	emit_op(c, (struct avro_op){ .code = (uint8_t)code, .target = target });
}

/* The component of a path after `depth` others; length 0 where it has no more. */
static struct slice component(const char *path, unsigned depth)
{
	for (; depth > 0; depth--) {
		const char *dot = strchr(path, '.');
		if (!dot)
			return (struct slice){ NULL, 0 };
		path = dot + 1;
	}
	return (struct slice){ (const uint8_t *)path, strcspn(path, ".") };
}

static bool ends_here(const struct compiler *c, struct way way)
{
	for (size_t i = 0; i < c->count; i++) {
		if (way.fields >> i & 1 && component(c->fields[i].path, way.depth).length == 0)
			return true;
	}
	return false;
}

static void emit_type(struct compiler *c, const json_t *json, struct slice space, struct way way);

static void emit_call(struct compiler *c, struct avro_named *record)
{
	if (record->number == 0) {
		buffer_append(&c->bodies, &record, sizeof record);
		record->number = (uint32_t)(c->bodies.length / sizeof record);
	}
	emit_jump(c, AVRO_CODE_CALL, record->number);
}

static void emit_union(struct compiler *c, const struct avro_resolved *r, struct way way)
{
	uint32_t branches = (uint32_t)json_array_size(r->json);
	uint32_t first = (uint32_t)(c->targets.length / sizeof(uint32_t));
	uint32_t chain = 0; /* jumps to the end so far, each with the one before as target */
	(void)buffer_extend(&c->targets, branches * sizeof(uint32_t));
	emit_op(c, (struct avro_op){ .code = AVRO_CODE_UNION, .target = first, .n = branches });
	for (uint32_t i = 0; i < branches && !stopped(c); i++) {
		*target_at(c, first + i) = here(c);
		emit_type(c, json_array_get(r->json, i), r->space, way);
		uint32_t jump = here(c);
		emit_jump(c, AVRO_CODE_JUMP, chain);
		chain = jump;
	}
	while (chain != 0 && !stopped(c)) {
		uint32_t before = op_at(c, chain)->target;
		op_at(c, chain)->target = here(c);
		chain = before;
	}
}

static void emit_loop(struct compiler *c, const struct avro_resolved *r)
{
	static const struct way nowhere;
	bool map = r->type == TYPE_MAP;
	const json_t *items = json_object_get(r->json, map ? "values" : "items");
	int64_t width = avro_width(&c->names, items, r->space);
	if (!map && width >= 0) {
		emit(c, AVRO_CODE_SKIP_ARRAY, width);
		return;
	}
	emit(c, AVRO_CODE_LOOP, 0);
	uint32_t start = here(c);
	emit_jump(c, map ? AVRO_CODE_NEXT_ENTRY : AVRO_CODE_NEXT_ITEM, 0);
	emit_type(c, items, r->space, nowhere);
	emit_jump(c, AVRO_CODE_JUMP, start);
	if (!stopped(c))
		op_at(c, start)->target = here(c);
}

static void emit_pass(struct compiler *c, const struct avro_resolved *r)
{
	static const struct way nowhere;
	int64_t width = avro_width(&c->names, r->json, r->space);
	if (width >= 0) {
		if (width > 0)
			emit(c, AVRO_CODE_SKIP, width);
		return;
	}
	switch (r->type) {
	case TYPE_BOOLEAN:
		emit(c, AVRO_CODE_BOOLEAN, 0);
		break;
	case TYPE_INT:
		emit(c, AVRO_CODE_INT, 0);
		break;
	case TYPE_LONG:
		emit(c, AVRO_CODE_LONG, 0);
		break;
	case TYPE_ENUM:
		emit(c, AVRO_CODE_ENUM, (int64_t)json_array_size(json_object_get(r->json, "symbols")));
		break;
	case TYPE_RECORD:
		emit_call(c, r->named);
		break;
	case TYPE_UNION:
		emit_union(c, r, nowhere);
		break;
	case TYPE_ARRAY:
	case TYPE_MAP:
		emit_loop(c, r);
		break;
	default:
		emit(c, AVRO_CODE_TEXT, 0);
	}
}

static void fault(struct compiler *c, size_t field, const char *what, const char *which)
{
	struct error *err = &c->faults[field];
	if (err->status == STATUS_OK)
		(void)error_set(err, STATUS_CONFIG, what, which);
}

/* This branch cannot give the fields. */
static void emit_refuse(struct compiler *c, struct way way, enum avro_type type)
{
	for (size_t i = 0; i < c->count; i++) {
		if (way.fields >> i & 1)
			emit_op(c, (struct avro_op){ .code = AVRO_CODE_REFUSE, .slot = (uint8_t)i, .target = type });
	}
}

static void emit_record(struct compiler *c, const struct avro_resolved *r, struct way way)
{
	const json_t *fields = json_object_get(r->json, "fields");
	uint32_t absent = way.fields;
	for (size_t i = 0; i < json_array_size(fields) && !stopped(c); i++) {
		const json_t *field = json_array_get(fields, i);
		const char *name = json_string_value(json_object_get(field, "name"));
		struct way inner = { 0, way.depth + 1 };
		for (size_t k = 0; k < c->count; k++) {
			struct slice next = component(c->fields[k].path, way.depth);
			if (way.fields >> k & 1 && strlen(name) == next.length &&
			    memcmp(name, next.data, next.length) == 0)
				inner.fields |= UINT32_C(1) << k;
		}
		absent &= ~inner.fields;
		emit_type(c, json_object_get(field, "type"), r->space, inner);
	}
	for (size_t k = 0; k < c->count; k++) {
		if (absent >> k & 1)
			fault(c, k, "record %.150s has no such field", r->named->name);
		if (c->fields[k].optional)
			absent &= ~(UINT32_C(1) << k);
	}
	emit_refuse(c, (struct way){ absent, way.depth }, TYPE_RECORD);
}

static void emit_take_enum(struct compiler *c, const struct avro_resolved *r, size_t slot)
{
	const json_t *symbols = json_object_get(r->json, "symbols");
	uint32_t first = (uint32_t)(c->symbols.length / sizeof(struct slice));
	for (size_t i = 0; i < json_array_size(symbols); i++) {
		const char *symbol = json_string_value(json_array_get(symbols, i));
		struct slice slice = { NULL, strlen(symbol) };
		buffer_append(&c->text, symbol, slice.length);
		buffer_append(&c->symbols, &slice, sizeof slice);
	}
	emit_op(c, (struct avro_op){ .code = AVRO_CODE_TAKE_ENUM,
				     .slot = (uint8_t)slot,
				     .target = first,
				     .n = (int64_t)json_array_size(symbols) });
}

/* How many of a logical type's units a millisecond has, 0 where it is no moment. Unknown logical types mean nothing
 * (Avro's specification), so what is left is ms. */
static int64_t units_per_ms(const struct avro_resolved *r)
{
	static const struct {
		const char *name;
		int64_t units;
	} known[] = {
		{ "timestamp-millis", 1 },
		{ "timestamp-micros", 1000 },
		{ "timestamp-nanos", 1000000 },
		{ "local-timestamp-millis", 0 },
		{ "local-timestamp-micros", 0 },
		{ "local-timestamp-nanos", 0 },
		{ "time-millis", 0 },
		{ "time-micros", 0 },
		{ "date", 0 },
	};
	const char *name = json_string_value(json_object_get(r->json, "logicalType"));
	for (size_t i = 0; name && i < sizeof known / sizeof known[0]; i++) {
		if (strcmp(name, known[i].name) == 0)
			return known[i].units;
	}
	return 1;
}

/* Takes the value if the field accepts its type. */
static bool emit_take(struct compiler *c, const struct avro_resolved *r, size_t slot)
{
	unsigned accepts = c->fields[slot].accepts;
	struct avro_op op = { .slot = (uint8_t)slot, .n = 1 };
	switch (r->type) {
	case TYPE_STRING:
		if (!(accepts & PLAN_ACCEPTS_TEXT))
			return false;
		op.code = AVRO_CODE_TAKE_TEXT;
		break;
	case TYPE_ENUM:
		if (!(accepts & PLAN_ACCEPTS_TEXT))
			return false;
		emit_take_enum(c, r, slot);
		return true;
	case TYPE_INT:
	case TYPE_LONG:
		if (accepts & PLAN_ACCEPTS_TIME)
			op.n = units_per_ms(r);
		else if (!(accepts & PLAN_ACCEPTS_WHOLE))
			return false;
		if (op.n == 0)
			return false;
		op.code = r->type == TYPE_INT ? AVRO_CODE_TAKE_INT : AVRO_CODE_TAKE_LONG;
		break;
	default:
		return false;
	}
	emit_op(c, op);
	return true;
}

static void emit_leaf(struct compiler *c, const struct avro_resolved *r, struct way way)
{
	size_t slot = (size_t)__builtin_ctz(way.fields);
	const char *logical = json_string_value(json_object_get(r->json, "logicalType"));
	if (way.fields & (way.fields - 1)) {
		for (size_t i = slot; i < c->count; i++)
			fault(c, i, "%s", "another field has this path, or begins with it");
	} else if (emit_take(c, r, slot)) {
		c->delivered |= way.fields;
		return;
	}
	c->mistyped |= way.fields;
	fault(c, slot, "its type is %.100s, which is not accepted here", logical ? logical : avro_type_label(r->type));
	emit_refuse(c, way, r->type);
	emit_pass(c, r);
}

static void emit_type(struct compiler *c, const json_t *json, struct slice space, struct way way)
{
	struct avro_resolved r = avro_resolve(&c->names, json, space);
	if (stopped(c))
		return;
	if (way.fields == 0) {
		emit_pass(c, &r);
	} else if (r.type == TYPE_UNION) {
		emit_union(c, &r, way);
	} else if (r.type == TYPE_NULL) {
		return; /* nothing on the wire: the field stays missing */
	} else if (ends_here(c, way)) {
		emit_leaf(c, &r, way);
	} else if (r.type == TYPE_RECORD) {
		emit_record(c, &r, way);
	} else {
		for (size_t i = 0; i < c->count; i++) {
			if (way.fields >> i & 1)
				fault(c, i, "its path goes through the type %s, which has no fields",
				      avro_type_label(r.type));
		}
		c->mistyped |= way.fields;
		emit_refuse(c, way, r.type);
		emit_pass(c, &r);
	}
}

/* The subroutines, which may ask for more of them. */
static void emit_bodies(struct compiler *c)
{
	static const struct way nowhere;
	struct avro_named *record;
	for (size_t at = 0; at < c->bodies.length && !stopped(c); at += sizeof record) {
		memcpy(&record, c->bodies.data + at, sizeof record);
		const json_t *fields = json_object_get(record->json, "fields");
		struct slice space = avro_space(record);
		record->address = here(c);
		for (size_t i = 0; i < json_array_size(fields); i++)
			emit_type(c, json_object_get(json_array_get(fields, i), "type"), space, nowhere);
		emit(c, AVRO_CODE_RETURN, 0);
	}
}

static uint32_t follow(const struct compiler *c, uint32_t at)
{
	while (op_at(c, at)->code == AVRO_CODE_JUMP)
		at = op_at(c, at)->target;
	return at;
}

/* Gives calls their addresses, makes a call before a return a jump (a linked list then has no depth), and shortens
 * jumps to jumps. No cycle is of jumps alone: each goes through a union, a loop or an end. */
static void link_program(struct compiler *c)
{
	struct avro_named *record;
	for (uint32_t i = 0; i < here(c); i++) {
		if (op_at(c, i)->code != AVRO_CODE_CALL)
			continue;
		memcpy(&record, c->bodies.data + (op_at(c, i)->target - 1) * sizeof record, sizeof record);
		op_at(c, i)->target = record->address;
	}
	for (uint32_t i = 0; i < here(c); i++) {
		if (op_at(c, i)->code == AVRO_CODE_CALL && op_at(c, follow(c, i + 1))->code == AVRO_CODE_RETURN)
			op_at(c, i)->code = AVRO_CODE_JUMP;
	}
	for (uint32_t i = 0; i < here(c); i++) {
		uint8_t code = op_at(c, i)->code;
		if (code == AVRO_CODE_JUMP || code == AVRO_CODE_CALL || code == AVRO_CODE_NEXT_ITEM ||
		    code == AVRO_CODE_NEXT_ENTRY)
			op_at(c, i)->target = follow(c, op_at(c, i)->target);
	}
	for (uint32_t i = 0; i < c->targets.length / sizeof(uint32_t); i++)
		*target_at(c, i) = follow(c, *target_at(c, i));
}

static enum status check_paths(const struct compiler *c, struct error *err)
{
	for (size_t i = 0; i < c->count; i++) {
		const char *path = c->fields[i].path;
		size_t length = strlen(path);
		if (length == 0 || path[0] == '.' || path[length - 1] == '.' || strstr(path, ".."))
			return error_set(err, STATUS_CONFIG, "%s: \"%.100s\" is not a dotted path of field names",
					 c->fields[i].name, path);
	}
	return STATUS_OK;
}

static enum status check_delivered(const struct compiler *c, struct error *err)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct error *why = &c->faults[i];
		if (c->delivered >> i & 1 || (c->fields[i].optional && !(c->mistyped >> i & 1)))
			continue;
		return error_set(err, STATUS_CONFIG, "%s: %.100s: %s", c->fields[i].name, c->fields[i].path,
				 why->status == STATUS_OK ? "its type is null" : why->text);
	}
	return STATUS_OK;
}

static enum status emit_program(struct compiler *c, const json_t *schema, struct error *err)
{
	struct way all = { (UINT32_C(1) << c->count) - 1, 0 };
	emit_type(c, schema, (struct slice){ NULL, 0 }, all);
	emit(c, AVRO_CODE_END, 0);
	emit_bodies(c);
	if (c->too_large)
		return error_set(err, STATUS_CONFIG, "the schema is too large: more than %d values", OPS_MAX);
	if (stopped(c))
		return error_set_memory(err);
	link_program(c);
	return check_delivered(c, err);
}

/* Moves what was emitted into a plan. */
static enum status finish(struct compiler *c, struct avro_plan **ret, struct error *err)
{
	struct avro_plan *p = malloc(sizeof *p);
	if (!p)
		return error_set_memory(err);
	*p = (struct avro_plan){
		.ops = (struct avro_op *)(void *)c->ops.data,
		.targets = (uint32_t *)(void *)c->targets.data,
		.symbols = (struct slice *)(void *)c->symbols.data,
		.text = c->text.data,
		.count = c->count,
	};
	const uint8_t *at = p->text;
	for (size_t i = 0; i < c->symbols.length / sizeof(struct slice); i++) {
		p->symbols[i].data = at;
		at += p->symbols[i].length;
	}
	c->ops = c->targets = c->symbols = c->text = (struct buffer){ 0 };
	*ret = p;
	return STATUS_OK;
}

/* Avro C as the judge of what is a schema. Its error texts live in one buffer for the whole process. */
static enum status check_schema(const char *text, size_t length, struct error *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	avro_schema_t schema = NULL;
	enum status status = STATUS_OK;
	(void)pthread_mutex_lock(&lock);
	if (avro_schema_from_json_length(text, length, &schema) != 0)
		status = error_set(err, STATUS_CONFIG, "not an Avro schema: %.300s", avro_strerror());
	else
		avro_schema_decref(schema);
	(void)pthread_mutex_unlock(&lock);
	return status;
}

static enum status parse(const char *text, json_t **ret, struct error *err)
{
	json_error_t fault;
	size_t length = strlen(text);
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
	if (!json && json_error_code(&fault) == json_error_out_of_memory)
		return error_set_memory(err);
	if (!json)
		return error_set(err, STATUS_CONFIG, "line %d: not JSON: %s", fault.line, fault.text);
	enum status status = check_schema(text, length, err);
	if (status == STATUS_OK)
		*ret = json;
	else
		json_decref(json);
	return status;
}

enum status avro_plan_new(const char *schema_json, const struct plan_field fields[], size_t count,
			  struct avro_plan **ret, struct error *err)
{
	struct compiler c = { .fields = fields, .count = count };
	json_t *schema = NULL;
	enum status status = check_paths(&c, err);
	if (status == STATUS_OK)
		status = parse(schema_json, &schema, err);
	if (status == STATUS_OK)
		status = avro_names_collect(&c.names, schema, err);
	if (status == STATUS_OK)
		status = emit_program(&c, schema, err);
	if (status == STATUS_OK)
		status = finish(&c, ret, err);
	buffer_free(&c.ops);
	buffer_free(&c.targets);
	buffer_free(&c.symbols);
	buffer_free(&c.text);
	buffer_free(&c.bodies);
	avro_names_free(&c.names);
	json_decref(schema);
	return status;
}
