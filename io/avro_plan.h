/* A decode plan: the way through records of one writer's schema to a few fields, compiled once.
 *
 * The plan is a program for a small machine: one instruction a value on the wire, subroutines for records that are
 * passed over (so that recursive types end), loops for arrays and maps, jump tables for unions. What is not asked for
 * is checked and passed over. Running it allocates nothing, never reads past the value and takes time linear in
 * the value's length whatever the bytes claim.
 *
 * A plan is immutable after new; any thread may run it. */
#ifndef IO_AVRO_PLAN_H
#define IO_AVRO_PLAN_H

#include "base/buffer.h"
#include "base/error.h"

enum { AVRO_PLAN_FIELDS_MAX = 8 };

enum plan_accepts {
	PLAN_ACCEPTS_TEXT = 1,  /* string, enum: PLAN_TEXT */
	PLAN_ACCEPTS_WHOLE = 2, /* int, long: PLAN_WHOLE */
	PLAN_ACCEPTS_TIME = 4,  /* long as ms, timestamp-millis, -micros, -nanos, int as ms: PLAN_WHOLE, in ms */
};

struct plan_field {
	const char *name; /* for messages */
	const char *path; /* "uid", "actor.uid": through records and unions of them */
	unsigned accepts; /* enum plan_accepts */
	bool optional;    /* a schema without this path is fine: always PLAN_MISSING */
};

enum plan_kind {
	PLAN_MISSING, /* null, or a null on the way */
	PLAN_TEXT,
	PLAN_WHOLE,
	PLAN_REFUSED, /* this record took a branch of a type that is not accepted */
};

struct plan_value {
	enum plan_kind kind;
	struct slice text;   /* PLAN_TEXT: borrowed from the value, or from the plan (enum); not checked for UTF-8 */
	int64_t whole;       /* PLAN_WHOLE */
	const char *refused; /* PLAN_REFUSED: the type's name, static */
};

struct avro_plan;

/* Compiles the way to fields[0 .. count - 1] (AVRO_PLAN_FIELDS_MAX at most). Errors: STATUS_CONFIG (not JSON, not an
 * Avro schema, a path that no record of it can have or whose type is never accepted), STATUS_MEMORY. */
enum status avro_plan_new(const char *schema_json, const struct plan_field fields[], size_t count,
			  struct avro_plan **ret, struct error *err) MUST_CHECK;
void avro_plan_free(struct avro_plan *p);

/* Walks one datum; all of `value` must be it. values: [count]. False, with the byte and the cause in *err, where the
 * bytes are no datum of the schema (or nest deeper than 512 levels of records and arrays). */
bool avro_plan_run(const struct avro_plan *p, struct slice value, struct plan_value values[],
		   struct error *err) MUST_CHECK;

#endif
