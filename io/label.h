/* Label records: decode for the daemon, encode for replay (contract, "Topics"). Pure; any thread. */
#ifndef IO_LABEL_H
#define IO_LABEL_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/reason.h"

#include <stdbool.h>

enum { TASK_NAME_MAX_BYTES = 256 };

struct label {
	struct slice task;    /* 1 to 256 bytes */
	struct slice user_id; /* 1 to 256 bytes */
	int64_t timestamp_ms; /* since the epoch */
	struct slice text;    /* a class or an item, 1 to 1024 bytes; data NULL: `number` */
	double number;        /* a regression target */
	float weight;         /* not negative */
};

void label_encode(const struct label *l, struct buffer *out); /* appends a plain datum */

/* Decodes a plain datum of our schema. record_time_ms: Kafka's timestamp of the record, -1 unknown. REASON_NONE and *ret
 * filled, whose slices borrow from `value`; or the reason, one line of text in *err and *ret untouched. Judged in this
 * order: the bytes, task, user_id, the label's text, the timestamp, the numbers. */
enum reason label_decode(struct slice value, int64_t record_time_ms, struct label *ret, struct error *err) MUST_CHECK;

#endif
