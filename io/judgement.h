/* What every input record is judged by, whatever its schema (contract, "Configuration"): ids, texts and timestamps.
 * Pure, but for the wall clock where a record has no time; any thread. */
#ifndef IO_JUDGEMENT_H
#define IO_JUDGEMENT_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/reason.h"

#include <stdbool.h>

/* Whether the bytes are UTF-8, and without NUL where `no_nul`. */
bool judge_is_text(struct slice s, bool no_nul);

/* A name or id that must be there: 1 to `max_bytes` bytes of UTF-8 without NUL. REASON_NONE; or REASON_MISSING_FIELD,
 * REASON_OVERSIZE, REASON_UNDECODABLE with one line in *err that begins with `name`. */
enum reason judge_id(const char *name, struct slice id, size_t max_bytes, struct error *err) MUST_CHECK;

/* From 1970 to a day after Kafka's record timestamp (-1: unknown, the wall clock instead): REASON_NONE or
 * REASON_TIMESTAMP. */
enum reason judge_time(const char *name, int64_t time_ms, int64_t record_time_ms, struct error *err) MUST_CHECK;

#endif
