#include "io/avro_names.h"

#include <stdlib.h>
#include <string.h>

/* A field's type in a record in a union is three levels of JSON; schemas are never near this. */
enum { DEPTH_MAX = 200, NAME_MAX_BYTES = 1024 };

static const char *const type_labels[] = {
	"null",   "boolean", "int",  "long",  "float", "double", "bytes",
	"string", "record",  "enum", "fixed", "array", "map",    "union",
};

const char *avro_type_label(enum avro_type type)
{
	return type_labels[type];
}

static const char *attribute(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	return text ? text : "";
}

/* The type of that name, TYPE_UNION where it is none that JSON can spell. */
static enum avro_type type_of(const char *label)
{
	for (enum avro_type type = TYPE_NULL; type < TYPE_UNION; type++) {
		if (strcmp(label, type_labels[type]) == 0)
			return type;
	}
	return TYPE_UNION;
}

static bool is_primitive(enum avro_type type)
{
	return type <= TYPE_STRING;
}

static bool is_named(enum avro_type type)
{
	return type == TYPE_RECORD || type == TYPE_ENUM || type == TYPE_FIXED;
}

static struct slice space_of(const char *full_name)
{
	const char *dot = strrchr(full_name, '.');
	return (struct slice){ (const uint8_t *)full_name, dot ? (size_t)(dot - full_name) : 0 };
}

struct slice avro_space(const struct avro_named *named)
{
	return space_of(named->name);
}

/* The full name of `name` in `space`; false where it is absurdly long. */
static bool full_name(const char *name, struct slice space, char ret[NAME_MAX_BYTES])
{
	if (strchr(name, '.') || space.length == 0)
		return snprintf(ret, NAME_MAX_BYTES, "%s", name) < NAME_MAX_BYTES;
	if (space.length >= NAME_MAX_BYTES)
		return false;
	return snprintf(ret, NAME_MAX_BYTES, "%.*s.%s", (int)space.length, (const char *)space.data, name) <
	       NAME_MAX_BYTES;
}

/* The full name that a definition gives its type. */
static bool defined_name(const json_t *json, struct slice space, char ret[NAME_MAX_BYTES])
{
	const char *own = json_string_value(json_object_get(json, "namespace"));
	if (own)
		space = (struct slice){ (const uint8_t *)own, strlen(own) };
	return full_name(attribute(json, "name"), space, ret);
}

static struct avro_named *find(const struct avro_names *names, const char *full)
{
	const json_t *number = json_object_get(names->index, full);
	return number ? &names->items[json_integer_value(number)] : NULL;
}

/* The type that `name`, used in namespace `space`, stands for. */
static struct avro_named *find_reference(const struct avro_names *names, const char *name, struct slice space)
{
	char full[NAME_MAX_BYTES];
	return full_name(name, space, full) ? find(names, full) : NULL;
}

static enum status define(struct avro_names *names, const json_t *json, enum avro_type type, struct slice space,
			  struct slice *ret_space, struct error *err)
{
	char full[NAME_MAX_BYTES];
	if (*attribute(json, "name") == '\0')
		return error_set(err, STATUS_CONFIG, "a type \"%s\" has no name", avro_type_label(type));
	if (!defined_name(json, space, full))
		return error_set(err, STATUS_CONFIG, "the name of a type is longer than %d bytes", NAME_MAX_BYTES - 1);
	if (find(names, full))
		return error_set(err, STATUS_CONFIG, "type %.200s is defined twice", full);
	if (names->count == names->capacity) {
		size_t capacity = names->capacity ? 2 * names->capacity : 8;
		struct avro_named *items = realloc(names->items, capacity * sizeof *items);
		if (!items)
			return error_set_memory(err);
		names->items = items;
		names->capacity = capacity;
	}
	char *name = strdup(full);
	if (!name)
		return error_set_memory(err);
	names->items[names->count] = (struct avro_named){ .name = name, .json = json, .type = type };
	if (json_object_set_new(names->index, full, json_integer((json_int_t)names->count++)) < 0)
		return error_set_memory(err);
	*ret_space = space_of(name);
	return STATUS_OK;
}

/* Strings, or objects' "name"s, none twice. */
static enum status check_distinct(const json_t *array, const char *what, const char *owner, struct error *err)
{
	json_t *seen = json_object();
	enum status status = seen ? STATUS_OK : error_set_memory(err);
	for (size_t i = 0; status == STATUS_OK && i < json_array_size(array); i++) {
		const json_t *item = json_array_get(array, i);
		const char *name = json_is_string(item) ? json_string_value(item) : attribute(item, "name");
		if (*name == '\0')
			status = error_set(err, STATUS_CONFIG, "%.200s: a %s without a name", owner, what);
		else if (json_object_get(seen, name))
			status = error_set(err, STATUS_CONFIG, "%.200s: %s %.200s is there twice", owner, what, name);
		else if (json_object_set_new(seen, name, json_true()) < 0)
			status = error_set_memory(err);
	}
	json_decref(seen);
	return status;
}

static enum status collect(struct avro_names *names, const json_t *json, struct slice space, int depth,
			   struct error *err);

static enum status collect_record(struct avro_names *names, const json_t *json, struct slice space, int depth,
				  struct error *err)
{
	const json_t *fields = json_object_get(json, "fields");
	if (!json_is_array(fields))
		return error_set(err, STATUS_CONFIG, "record %.200s has no fields", attribute(json, "name"));
	enum status status = check_distinct(fields, "field", attribute(json, "name"), err);
	for (size_t i = 0; status == STATUS_OK && i < json_array_size(fields); i++) {
		const json_t *field = json_array_get(fields, i);
		status = collect(names, json_object_get(field, "type"), space, depth + 1, err);
		if (status != STATUS_OK && status != STATUS_MEMORY)
			return error_prefix(err, "%.100s", attribute(field, "name"));
	}
	return status;
}

static enum status collect_union(struct avro_names *names, const json_t *json, struct slice space, int depth,
				 struct error *err)
{
	enum status status = STATUS_OK;
	if (json_array_size(json) == 0)
		return error_set(err, STATUS_CONFIG, "a union without branches");
	for (size_t i = 0; status == STATUS_OK && i < json_array_size(json); i++) {
		if (json_is_array(json_array_get(json, i)))
			return error_set(err, STATUS_CONFIG, "a union in a union");
		status = collect(names, json_array_get(json, i), space, depth + 1, err);
	}
	return status;
}

static enum status collect_enum(const json_t *json, struct error *err)
{
	const json_t *symbols = json_object_get(json, "symbols");
	if (json_array_size(symbols) == 0)
		return error_set(err, STATUS_CONFIG, "enum %.200s has no symbols", attribute(json, "name"));
	return check_distinct(symbols, "symbol", attribute(json, "name"), err);
}

static enum status collect_fixed(const json_t *json, struct error *err)
{
	const json_t *size = json_object_get(json, "size");
	if (json_is_integer(size) && json_integer_value(size) >= 0 && json_integer_value(size) <= INT32_MAX)
		return STATUS_OK;
	return error_set(err, STATUS_CONFIG, "fixed %.200s has no size", attribute(json, "name"));
}

/* A type by its name alone. */
static enum status collect_reference(const struct avro_names *names, const char *label, struct slice space,
				     struct error *err)
{
	if (is_primitive(type_of(label)) || find_reference(names, label, space))
		return STATUS_OK;
	return error_set(err, STATUS_CONFIG, "unknown type \"%.200s\"", label);
}

static enum status collect_object(struct avro_names *names, const json_t *json, struct slice space, int depth,
				  struct error *err)
{
	const char *label = attribute(json, "type");
	enum avro_type type = type_of(label);
	enum status status;
	if (is_primitive(type) || type == TYPE_UNION)
		return collect_reference(names, label, space, err);
	if (is_named(type)) {
		status = define(names, json, type, space, &space, err);
		if (status != STATUS_OK)
			return status;
	}
	switch (type) {
	case TYPE_RECORD:
		return collect_record(names, json, space, depth, err);
	case TYPE_ENUM:
		return collect_enum(json, err);
	case TYPE_FIXED:
		return collect_fixed(json, err);
	case TYPE_ARRAY:
		return collect(names, json_object_get(json, "items"), space, depth + 1, err);
	default:
		return collect(names, json_object_get(json, "values"), space, depth + 1, err);
	}
}

static enum status collect(struct avro_names *names, const json_t *json, struct slice space, int depth,
			   struct error *err)
{
	if (depth > DEPTH_MAX)
		return error_set(err, STATUS_CONFIG, "the schema is nested deeper than %d levels", DEPTH_MAX);
	if (json_is_array(json))
		return collect_union(names, json, space, depth, err);
	if (json_is_object(json))
		return collect_object(names, json, space, depth, err);
	if (json_is_string(json))
		return collect_reference(names, json_string_value(json), space, err);
	return error_set(err, STATUS_CONFIG, "a type is missing");
}

struct avro_resolved avro_resolve(const struct avro_names *names, const json_t *type, struct slice space)
{
	char full[NAME_MAX_BYTES];
	if (json_is_array(type))
		return (struct avro_resolved){ TYPE_UNION, type, space, NULL };
	bool object = json_is_object(type);
	const char *label = object ? attribute(type, "type") : json_string_value(type);
	enum avro_type known = type_of(label);
	struct avro_named *named = NULL;
	if (object && is_named(known))
		named = defined_name(type, space, full) ? find(names, full) : NULL;
	else if (known == TYPE_UNION || (!object && !is_primitive(known)))
		named = find_reference(names, label, space);
	if (named)
		return (struct avro_resolved){ named->type, named->json, avro_space(named), named };
	return (struct avro_resolved){ known, type, space, NULL };
}

static int64_t record_width(const struct avro_names *names, struct avro_named *record)
{
	const json_t *fields = json_object_get(record->json, "fields");
	int64_t sum = 0;
	if (record->state == WIDTH_KNOWN)
		return record->width;
	for (size_t i = 0; i < json_array_size(fields); i++) {
		int64_t width =
			avro_width(names, json_object_get(json_array_get(fields, i), "type"), avro_space(record));
		if (width < 0 || __builtin_add_overflow(sum, width, &sum))
			return -1;
	}
	return sum;
}

int64_t avro_width(const struct avro_names *names, const json_t *type, struct slice space)
{
	struct avro_resolved r = avro_resolve(names, type, space);
	switch (r.type) {
	case TYPE_NULL:
		return 0;
	case TYPE_FLOAT:
		return 4;
	case TYPE_DOUBLE:
		return 8;
	case TYPE_FIXED:
		return json_integer_value(json_object_get(r.json, "size"));
	case TYPE_RECORD:
		return record_width(names, r.named);
	default:
		return -1;
	}
}

/* Finds the width of a record and of the records directly in it; a record directly in itself has no end. */
static enum status measure(struct avro_names *names, struct avro_named *record, int depth, struct error *err)
{
	const json_t *fields = json_object_get(record->json, "fields");
	if (record->state == WIDTH_KNOWN)
		return STATUS_OK;
	if (record->state == WIDTH_VISITING)
		return error_set(err, STATUS_CONFIG, "record %.200s contains itself without end", record->name);
	if (depth > DEPTH_MAX)
		return error_set(err, STATUS_CONFIG, "records are nested deeper than %d levels", DEPTH_MAX);
	record->state = WIDTH_VISITING;
	for (size_t i = 0; i < json_array_size(fields); i++) {
		struct avro_resolved r =
			avro_resolve(names, json_object_get(json_array_get(fields, i), "type"), avro_space(record));
		enum status status = r.type == TYPE_RECORD ? measure(names, r.named, depth + 1, err) : STATUS_OK;
		if (status != STATUS_OK)
			return status;
	}
	record->width = record_width(names, record);
	record->state = WIDTH_KNOWN;
	return STATUS_OK;
}

enum status avro_names_collect(struct avro_names *names, const json_t *schema, struct error *err)
{
	*names = (struct avro_names){ .index = json_object() };
	if (!names->index)
		return error_set_memory(err);
	enum status status = collect(names, schema, (struct slice){ NULL, 0 }, 0, err);
	for (size_t i = 0; status == STATUS_OK && i < names->count; i++) {
		if (names->items[i].type == TYPE_RECORD)
			status = measure(names, &names->items[i], 0, err);
	}
	return status;
}

void avro_names_free(struct avro_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i].name);
	free(names->items);
	json_decref(names->index);
	*names = (struct avro_names){ 0 };
}
