/* The instructions of a decode plan: between its compiler (avro_compile.c) and its machine (avro_plan.c) only. */
#ifndef IO_AVRO_PROGRAM_H
#define IO_AVRO_PROGRAM_H

#include "io/avro_plan.h"

enum avro_code {
	AVRO_CODE_END,
	AVRO_CODE_INT,        /* passed over, as all down to TAKE_TEXT */
	AVRO_CODE_LONG,       /* */
	AVRO_CODE_BOOLEAN,    /* */
	AVRO_CODE_TEXT,       /* string or bytes */
	AVRO_CODE_ENUM,       /* n: symbols */
	AVRO_CODE_SKIP,       /* n: bytes */
	AVRO_CODE_SKIP_ARRAY, /* n: bytes an item */
	AVRO_CODE_TAKE_TEXT,  /* into values[slot] */
	AVRO_CODE_TAKE_ENUM,  /* n: symbols; target: the first one in plan->symbols */
	AVRO_CODE_TAKE_INT,   /* */
	AVRO_CODE_TAKE_LONG,  /* n: divisor, rounding down */
	AVRO_CODE_REFUSE,     /* values[slot] is refused; target: enum avro_type. What is passed over follows */
	AVRO_CODE_UNION,      /* n: branches; target: the first one in plan->targets */
	AVRO_CODE_JUMP,       /* target */
	AVRO_CODE_CALL,       /* target; pushes the return address */
	AVRO_CODE_RETURN,     /* */
	AVRO_CODE_LOOP,       /* an array or map begins: pushes the count of items left */
	AVRO_CODE_NEXT_ITEM,  /* the next item, or its end: pops and goes to target */
	AVRO_CODE_NEXT_ENTRY, /* likewise of a map: passes over the key */
};

struct avro_op {
	uint8_t code; /* enum avro_code */
	uint8_t slot;
	uint32_t target;
	int64_t n;
};

enum avro_type {
	TYPE_NULL,
	TYPE_BOOLEAN,
	TYPE_INT,
	TYPE_LONG,
	TYPE_FLOAT,
	TYPE_DOUBLE,
	TYPE_BYTES,
	TYPE_STRING,
	TYPE_RECORD,
	TYPE_ENUM,
	TYPE_FIXED,
	TYPE_ARRAY,
	TYPE_MAP,
	TYPE_UNION,
};

const char *avro_type_label(enum avro_type type); /* "null" .. "union"; static */

enum { AVRO_STACK_MAX = 512 };

struct avro_plan {
	struct avro_op *ops;
	uint32_t *targets;     /* of all unions' branches */
	struct slice *symbols; /* of all enums that are taken; into `text` */
	uint8_t *text;
	size_t count; /* fields */
};

#endif
