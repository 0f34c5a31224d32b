/* The named types of a schema and what a type's JSON stands for: the first half of the plan compiler. One thread. */
#ifndef IO_AVRO_NAMES_H
#define IO_AVRO_NAMES_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/avro_program.h"

#include <jansson.h>

struct avro_named {
	char *name;         /* full: "namespace.name" */
	const json_t *json; /* its definition, borrowed from the document */
	enum avro_type type;
	enum { WIDTH_UNKNOWN, WIDTH_VISITING, WIDTH_KNOWN } state;
	int64_t width;    /* bytes on the wire where they are always the same, otherwise -1 */
	uint32_t number;  /* records: of the subroutine that passes over one, from 1; 0 while none is called */
	uint32_t address; /* of that subroutine */
};

struct avro_names {
	struct avro_named *items;
	size_t count;
	size_t capacity;
	json_t *index; /* full name -> number in items */
};

struct avro_resolved {
	enum avro_type type;
	const json_t *json;       /* the type's own JSON: a string, an object, or an array (union) */
	struct slice space;       /* the namespace that names inside it are in */
	struct avro_named *named; /* record, enum, fixed */
};

/* Collects and checks the types of `schema`: every name known before it is used and defined once, no duplicate fields
 * or symbols, no union in a union, no record that contains itself without end. Errors: STATUS_CONFIG, STATUS_MEMORY;
 * *names must be freed all the same. */
enum status avro_names_collect(struct avro_names *names, const json_t *schema, struct error *err) MUST_CHECK;
void avro_names_free(struct avro_names *names);

/* The namespace that a type's definition opens; valid as long as *names. */
struct slice avro_space(const struct avro_named *named);

/* What `type`, standing in namespace `space`, is. Only for schemas that passed avro_names_collect. */
struct avro_resolved avro_resolve(const struct avro_names *names, const json_t *type, struct slice space);

/* Bytes on the wire where every value of the type has the same number of them and each is legal, otherwise -1. */
int64_t avro_width(const struct avro_names *names, const json_t *type, struct slice space);

#endif
