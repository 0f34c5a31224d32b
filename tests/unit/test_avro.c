/* Decode plans against Avro C: random schemas, random data written by its generic writer, random field paths; then the
 * same bytes damaged, judged by a plain recursive reader. */
#include "io/avro_plan.h"

#include "io/avro_cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>

enum { SCHEMAS = 500, DATA_PER_SCHEMA = 6, TYPES_MAX = 64, PATHS_MAX = 64, PATH_BYTES = 128 };

static uint64_t seed_state;

static uint64_t draw(void)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return seed_state;
}

static size_t below(size_t n)
{
	return (size_t)(draw() % n);
}

/* ---- random schemas ---- */

struct generator {
	struct buffer text;
	char names[TYPES_MAX][32];
	bool open[TYPES_MAX]; /* still being defined: only references that may end are legal */
	bool in_union[TYPES_MAX];
	size_t count;
};

static void put(struct generator *g, const char *format, ...) PRINTF_LIKE(2, 3);

static void put(struct generator *g, const char *format, ...)
{
	char piece[256];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(piece, sizeof piece, format, args);
	va_end(args);
	buffer_append(&g->text, piece, (size_t)n);
}

static void put_type(struct generator *g, int depth, bool union_fine);

static size_t put_name(struct generator *g, const char *type)
{
	size_t number = g->count++;
	if (below(2))
		(void)snprintf(g->names[number], sizeof g->names[number], "n%zu.T%zu", below(3), number);
	else
		(void)snprintf(g->names[number], sizeof g->names[number], "n.T%zu", number);
	const char *dot = strchr(g->names[number], '.');
	if (below(2))
		put(g, "{\"type\":\"%s\",\"name\":\"%s\"", type, g->names[number]);
	else
		put(g, "{\"namespace\":\"%.*s\",\"type\":\"%s\",\"name\":\"%s\"", (int)(dot - g->names[number]),
		    g->names[number], type, dot + 1);
	return number;
}

static void put_record(struct generator *g, int depth)
{
	size_t number = put_name(g, "record");
	g->open[number] = true;
	put(g, ",\"fields\":[");
	size_t fields = below(6) + (depth == 0);
	for (size_t i = 0; i < fields; i++) {
		put(g, "%s{\"name\":\"f%zu\",\"doc\":\"a field\",\"type\":", i ? "," : "", i);
		put_type(g, depth + 1, true);
		put(g, "}");
	}
	put(g, "]}");
	g->open[number] = false;
}

static void put_named(struct generator *g, int depth)
{
	size_t n = below(4) + 1;
	switch (g->count + 1 < TYPES_MAX ? below(4) : 4) {
	case 0:
		(void)put_name(g, "enum");
		put(g, ",\"symbols\":[");
		for (size_t i = 0; i < n; i++)
			put(g, "%s\"S%zu\"", i ? "," : "", i);
		put(g, "]}");
		break;
	case 1:
		(void)put_name(g, "fixed");
		put(g, ",\"size\":%zu}", below(12) + 1);
		break;
	case 4:
		put(g, "\"double\"");
		break;
	default:
		put_record(g, depth);
	}
}

/* A union of one branch of each of some kinds; a record still being defined may be one of them. */
static void put_union(struct generator *g, int depth)
{
	static const char *const simple[] = { "\"null\"",    "\"string\"", "\"long\"",
					      "\"boolean\"", "\"double\"", "{\"type\":\"array\",\"items\":\"int\"}" };
	put(g, "[\"null\"");
	for (size_t i = 1; i < sizeof simple / sizeof simple[0]; i++) {
		if (below(3) == 0)
			put(g, ",%s", simple[i]);
	}
	if (g->count > 0 && below(2))
		put(g, ",\"%s\"", g->names[below(g->count)]);
	else if (below(3) && g->count + 1 < TYPES_MAX && depth < 5) {
		put(g, ",");
		put_record(g, depth + 1);
	}
	put(g, "]");
}

static void put_type(struct generator *g, int depth, bool union_fine)
{
	static const char *const simple[] = {
		"\"null\"",
		"\"boolean\"",
		"\"int\"",
		"\"long\"",
		"\"float\"",
		"\"double\"",
		"\"bytes\"",
		"\"string\"",
		"\"string\"",
		"{\"type\":\"string\",\"avro.java.string\":\"String\"}",
		"{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}",
		"{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":4,\"scale\":2}"
	};
	size_t number;
	switch (depth > 4 ? 0 : below(9)) {
	case 4:
		put(g, below(2) ? "{\"type\":\"array\",\"items\":" : "{\"type\":\"map\",\"values\":");
		number = below(TYPES_MAX);
		if (number < g->count)
			put(g, "\"%s\"", g->names[number]);
		else
			put_type(g, depth + 1, true);
		put(g, "}");
		break;
	case 5:
	case 6:
		put_named(g, depth);
		break;
	case 7:
		number = below(g->count + 1);
		if (number < g->count && !g->open[number])
			put(g, "\"%s\"", g->names[number]);
		else
			put(g, "\"int\"");
		break;
	case 8:
		if (union_fine) {
			put_union(g, depth);
			break;
		}
		/* fallthrough */
	default:
		put(g, "%s", simple[below(sizeof simple / sizeof simple[0])]);
	}
}

/* ---- random data ---- */

static void fill(avro_value_t *value, int depth);

static void fill_items(avro_value_t *value, int depth)
{
	size_t n = depth > 6 ? 0 : below(4);
	for (size_t i = 0; i < n; i++) {
		avro_value_t item;
		char key[32];
		(void)snprintf(key, sizeof key, "key%zu", i);
		if (avro_value_get_type(value) == AVRO_MAP)
			assert_int_equal(avro_value_add(value, key, &item, NULL, NULL), 0);
		else if (avro_value_append(value, &item, NULL) != 0)
			return; /* Avro C cannot hold items of no size */
		fill(&item, depth + 1);
	}
}

static void fill_union(avro_value_t *value, int depth)
{
	avro_value_t branch;
	size_t n = avro_schema_union_size(avro_value_get_schema(value));
	assert_int_equal(avro_value_set_branch(value, depth > 6 ? 0 : (int)below(n), &branch), 0);
	fill(&branch, depth + 1);
}

static void fill_record(avro_value_t *value, int depth)
{
	avro_value_t field;
	size_t n = 0;
	assert_int_equal(avro_value_get_size(value, &n), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(avro_value_get_by_index(value, i, &field, NULL), 0);
		fill(&field, depth + 1);
	}
}

static int64_t random_long(void)
{
	return (int64_t)(draw() >> below(64)) * (below(2) ? 1 : -1);
}

static void fill(avro_value_t *value, int depth)
{
	char bytes[64] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	avro_schema_t schema = avro_value_get_schema(value);
	int rc = 0;
	switch (avro_value_get_type(value)) {
	case AVRO_NULL:
		rc = avro_value_set_null(value);
		break;
	case AVRO_BOOLEAN:
		rc = avro_value_set_boolean(value, (int)below(2));
		break;
	case AVRO_INT32:
		rc = avro_value_set_int(value, (int32_t)random_long());
		break;
	case AVRO_INT64:
		rc = avro_value_set_long(value, random_long());
		break;
	case AVRO_FLOAT:
		rc = avro_value_set_float(value, 1.5f);
		break;
	case AVRO_DOUBLE:
		rc = avro_value_set_double(value, -2.25);
		break;
	case AVRO_BYTES:
		rc = avro_value_set_bytes(value, bytes, below(40));
		break;
	case AVRO_STRING:
		bytes[below(40)] = '\0';
		rc = avro_value_set_string(value, bytes);
		break;
	case AVRO_ENUM:
		rc = avro_value_set_enum(value, (int)below((size_t)avro_schema_enum_number_of_symbols(schema)));
		break;
	case AVRO_FIXED:
		rc = avro_value_set_fixed(value, bytes, (size_t)avro_schema_fixed_size(schema));
		break;
	case AVRO_ARRAY:
	case AVRO_MAP:
		fill_items(value, depth);
		break;
	case AVRO_UNION:
		fill_union(value, depth);
		break;
	case AVRO_RECORD:
		fill_record(value, depth);
		break;
	default:
		fail_msg("type %d", (int)avro_value_get_type(value));
	}
	assert_int_equal(rc, 0);
}

/* ---- the oracles ---- */

/* Whether the bytes begin with a datum of the schema: recursive and slow. */
static bool read_any(avro_schema_t schema, struct avro_cursor *c);

static bool read_items(avro_schema_t items, bool map, struct avro_cursor *c)
{
	struct slice key;
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return true;
		for (; count > 0; count--) {
			const uint8_t *before = c->at;
			if ((map && !avro_cursor_text(c, &key)) || !read_any(items, c))
				return false;
			if (c->at == before)
				break; /* items of no size: the rest are alike */
		}
	}
	return false;
}

static bool read_record(avro_schema_t schema, struct avro_cursor *c)
{
	for (int i = 0; i < (int)avro_schema_record_size(schema); i++) {
		if (!read_any(avro_schema_record_field_get_by_index(schema, i), c))
			return false;
	}
	return true;
}

static bool read_any(avro_schema_t schema, struct avro_cursor *c)
{
	struct slice text;
	int64_t n;
	switch (avro_typeof(schema)) {
	case AVRO_NULL:
		return true;
	case AVRO_BOOLEAN:
		return avro_cursor_boolean(c);
	case AVRO_INT32:
		return avro_cursor_int(c, &n);
	case AVRO_INT64:
		return avro_cursor_long(c, &n);
	case AVRO_FLOAT:
		return avro_cursor_skip(c, 4);
	case AVRO_DOUBLE:
		return avro_cursor_skip(c, 8);
	case AVRO_BYTES:
	case AVRO_STRING:
		return avro_cursor_text(c, &text);
	case AVRO_ENUM:
		return avro_cursor_index(c, avro_schema_enum_number_of_symbols(schema), &n);
	case AVRO_FIXED:
		return avro_cursor_skip(c, avro_schema_fixed_size(schema));
	case AVRO_ARRAY:
		return read_items(avro_schema_array_items(schema), false, c);
	case AVRO_MAP:
		return read_items(avro_schema_map_values(schema), true, c);
	case AVRO_UNION:
		return avro_cursor_index(c, (int64_t)avro_schema_union_size(schema), &n) &&
		       read_any(avro_schema_union_branch(schema, (int)n), c);
	case AVRO_LINK:
		return read_any(avro_schema_link_target(schema), c);
	default:
		return read_record(schema, c);
	}
}

static bool reads(avro_schema_t schema, struct slice value)
{
	struct avro_cursor c = { value.data, value.data + value.length };
	return read_any(schema, &c) && c.at == c.end;
}

/* What the plan must find at `path` in `value`. */
static struct plan_value look_up(avro_value_t value, const char *path, bool time)
{
	struct plan_value ret = { .kind = PLAN_REFUSED };
	while (avro_value_get_type(&value) == AVRO_UNION)
		assert_int_equal(avro_value_get_current_branch(&value, &value), 0);
	avro_type_t type = avro_value_get_type(&value);
	if (type == AVRO_NULL)
		ret.kind = PLAN_MISSING;
	if (*path && type == AVRO_RECORD) {
		char name[PATH_BYTES];
		avro_value_t field;
		size_t length = strcspn(path, ".");
		(void)snprintf(name, sizeof name, "%.*s", (int)length, path);
		if (avro_value_get_by_name(&value, name, &field, NULL) != 0)
			return ret;
		return look_up(field, path + length + (path[length] == '.'), time);
	}
	if (*path)
		return ret;
	if (type == AVRO_STRING && !time) {
		const char *text;
		size_t size;
		assert_int_equal(avro_value_get_string(&value, &text, &size), 0);
		ret = (struct plan_value){ .kind = PLAN_TEXT, .text = { (const uint8_t *)text, size - 1 } };
	} else if (type == AVRO_ENUM && !time) {
		int symbol;
		assert_int_equal(avro_value_get_enum(&value, &symbol), 0);
		const char *text = avro_schema_enum_get(avro_value_get_schema(&value), symbol);
		ret = (struct plan_value){ .kind = PLAN_TEXT, .text = { (const uint8_t *)text, strlen(text) } };
	} else if (type == AVRO_INT32) {
		int32_t whole;
		assert_int_equal(avro_value_get_int(&value, &whole), 0);
		ret = (struct plan_value){ .kind = PLAN_WHOLE, .whole = whole };
	} else if (type == AVRO_INT64) {
		ret.kind = PLAN_WHOLE;
		assert_int_equal(avro_value_get_long(&value, &ret.whole), 0);
	}
	return ret;
}

/* ---- the comparison ---- */

struct paths {
	char items[PATHS_MAX][PATH_BYTES];
	size_t count;
};

static void add_paths(struct paths *paths, avro_schema_t schema, const char *prefix, int depth)
{
	if (avro_typeof(schema) == AVRO_LINK)
		schema = avro_schema_link_target(schema);
	if (avro_typeof(schema) == AVRO_UNION) {
		for (int i = 0; i < (int)avro_schema_union_size(schema); i++)
			add_paths(paths, avro_schema_union_branch(schema, i), prefix, depth);
	} else if (avro_typeof(schema) == AVRO_RECORD && depth < 4) {
		for (int i = 0; i < (int)avro_schema_record_size(schema); i++) {
			char path[PATH_BYTES];
			(void)snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "",
				       avro_schema_record_field_name(schema, i));
			add_paths(paths, avro_schema_record_field_get_by_index(schema, i), path, depth + 1);
		}
	} else if (paths->count < PATHS_MAX && *prefix && strlen(prefix) < PATH_BYTES - 8) {
		(void)snprintf(paths->items[paths->count++], PATH_BYTES, "%s", prefix);
	}
}

static struct slice write_value(avro_value_t *value, uint8_t **ret)
{
	size_t size = 0;
	assert_int_equal(avro_value_sizeof(value, &size), 0);
	*ret = malloc(size + 1);
	avro_writer_t writer = avro_writer_memory((char *)*ret, (int64_t)size + 1);
	assert_int_equal(avro_value_write(writer, value), 0);
	assert_int_equal(avro_writer_tell(writer), size);
	avro_writer_free(writer);
	return (struct slice){ *ret, size };
}

static void assert_found(const struct plan_value *found, const struct plan_value *expected)
{
	assert_int_equal(found->kind, expected->kind);
	if (found->kind == PLAN_WHOLE)
		assert_int_equal(found->whole, expected->whole);
	if (found->kind != PLAN_TEXT)
		return;
	assert_int_equal(found->text.length, expected->text.length);
	assert_memory_equal(found->text.data, expected->text.data, expected->text.length);
}

/* Cut at every byte, one byte more, and bits flipped: in memory of just that size, so that sanitizers see overreads. */
static void damage(const struct avro_plan *plan, avro_schema_t schema, struct slice value)
{
	struct plan_value values[AVRO_PLAN_FIELDS_MAX];
	struct error err;
	for (size_t cut = 0; cut < value.length; cut += 1 + value.length / 64) {
		uint8_t *copy = malloc(cut + 1);
		memcpy(copy + 1, value.data, cut);
		assert_false(avro_plan_run(plan, (struct slice){ copy + 1, cut }, values, &err));
		free(copy);
	}
	uint8_t *copy = malloc(value.length + 1);
	memcpy(copy, value.data, value.length);
	copy[value.length] = 0;
	assert_false(avro_plan_run(plan, (struct slice){ copy, value.length + 1 }, values, &err));
	for (size_t i = 0; i < 40 && value.length > 0; i++) {
		memcpy(copy + 1, value.data, value.length);
		for (size_t flips = below(3) + 1; flips > 0; flips--)
			copy[1 + below(value.length)] ^= (uint8_t)(1u << below(8));
		struct slice damaged = { copy + 1, value.length };
		assert_int_equal(avro_plan_run(plan, damaged, values, &err), reads(schema, damaged));
	}
	free(copy);
}

struct tally {
	size_t plans;
	size_t values[4]; /* by kind */
};

static void compare(avro_schema_t schema, const char *text, struct tally *tally)
{
	struct paths paths = { .count = 0 };
	struct plan_field fields[4];
	struct avro_plan *plan = NULL;
	struct error err = { .text = "" };
	size_t count = 0;
	add_paths(&paths, schema, "", 0);
	for (; count < 4 && paths.count > 0 && below(5); count++) {
		fields[count] = (struct plan_field){ .name = "field", .path = paths.items[below(paths.count)] };
		fields[count].accepts = PLAN_ACCEPTS_TEXT | PLAN_ACCEPTS_WHOLE;
	}
	while (avro_plan_new(text, fields, count, &plan, &err) != STATUS_OK) {
		assert_int_equal(err.status, STATUS_CONFIG);
		if (count == 0)
			fail_msg("%s: %s", text, err.text);
		count--; /* two fields of one path, or a type that is not accepted */
	}
	avro_value_iface_t *class = avro_generic_class_from_schema(schema);
	for (size_t i = 0; i < DATA_PER_SCHEMA; i++) {
		struct plan_value values[AVRO_PLAN_FIELDS_MAX];
		avro_value_t value;
		uint8_t *bytes;
		assert_int_equal(avro_generic_value_new(class, &value), 0);
		fill(&value, 0);
		struct slice written = write_value(&value, &bytes);
		assert_true(reads(schema, written));
		if (!avro_plan_run(plan, written, values, &err))
			fail_msg("%s: %s", text, err.text);
		for (size_t k = 0; k < count; k++) {
			struct plan_value expected = look_up(value, fields[k].path, false);
			assert_found(&values[k], &expected);
			tally->values[values[k].kind]++;
		}
		tally->plans += count > 0;
		damage(plan, schema, written);
		free(bytes);
		avro_value_decref(&value);
	}
	avro_value_iface_decref(class);
	avro_plan_free(plan);
}

static void test_random_schemas(void **state)
{
	struct tally tally = { 0 };
	(void)state;
	seed_state = 20240607;
	for (size_t i = 0; i < SCHEMAS; i++) {
		struct generator g = { .count = 0 };
		avro_schema_t schema = NULL;
		put_record(&g, 0);
		buffer_append_byte(&g.text, 0);
		const char *text = (const char *)g.text.data;
		if (avro_schema_from_json_length(text, strlen(text), &schema) != 0)
			fail_msg("%s: %s", text, avro_strerror());
		compare(schema, text, &tally);
		avro_schema_decref(schema);
		buffer_free(&g.text);
	}
	assert_true(tally.plans > SCHEMAS);
	for (size_t kind = PLAN_MISSING; kind <= PLAN_REFUSED; kind++)
		assert_true(tally.values[kind] > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_schemas),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
