/* Why a record is a dead letter: the codes of the header `peterd.reason`. */
#ifndef IO_REASON_H
#define IO_REASON_H

enum reason {
	REASON_NONE = 0,
	REASON_UNDECODABLE, /* not Avro of the writer's schema, bytes left over, empty, or an id that is not UTF-8 */
	REASON_SCHEMA,      /* framed where it should be plain, the unknown schema id, a branch that no rule coerces */
	REASON_MISSING_FIELD, /* an id or timestamp that is null or empty, a tombstone without key */
	REASON_TIMESTAMP,     /* before 1970 or more than a day after Kafka's record timestamp */
	REASON_OVERSIZE,      /* user_id or task above 256 bytes, item_id or label above 1024 */
	REASON_VALUE,         /* a label or weight that is not finite, a negative weight */
	REASON_LATE,          /* a label whose moment lies before what is kept of its user */
	REASON_UNKNOWN_TASK,  /* a label of a task that there is not */
	REASON_UNKNOWN_LABEL, /* a label that the task's definition does not have */
	REASON_UNKNOWN_USER,  /* a label of a user without events at its moment */
	REASON_COUNT
};

/* The code as written into the header; "none" for REASON_NONE. Static. */
const char *reason_name(enum reason reason);

#endif
