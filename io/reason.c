#include "io/reason.h"

const char *reason_name(enum reason reason)
{
	static const char *const names[REASON_COUNT] = {
		[REASON_NONE] = "none",
		[REASON_UNDECODABLE] = "undecodable",
		[REASON_SCHEMA] = "schema",
		[REASON_MISSING_FIELD] = "missing_field",
		[REASON_TIMESTAMP] = "timestamp",
		[REASON_OVERSIZE] = "oversize",
		[REASON_VALUE] = "value",
		[REASON_LATE] = "late",
		[REASON_UNKNOWN_TASK] = "unknown_task",
		[REASON_UNKNOWN_LABEL] = "unknown_label",
		[REASON_UNKNOWN_USER] = "unknown_user",
	};
	return names[reason];
}
