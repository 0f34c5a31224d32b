/* UserUpdate records: encode for the daemon, decode for `watch` and tests (contract, "Topics"). Pure; any thread. */
#ifndef IO_UPDATE_H
#define IO_UPDATE_H

#include "base/buffer.h"
#include "base/error.h"

struct update {
	struct slice user_id;
	int64_t event_time_ms;   /* the newest event's timestamp */
	int64_t sequence_length; /* events kept */
	int32_t partition;       /* of the newest interaction reflected */
	int64_t offset;
	struct slice backbone;  /* 64 hex digits */
	const float *embedding; /* [dim]; on decode into the caller's buffer, see update_decode */
	uint32_t dim;
	/* scores: an empty array until tasks are served */
};

void update_encode(const struct update *u, struct buffer *out); /* appends a plain datum */

/* Decodes a plain datum; slices borrow from `value`; the embedding is appended to *floats as raw float32, and
 * ret->embedding points there. Errors: STATUS_DATA, STATUS_MEMORY. */
enum status update_decode(struct slice value, struct buffer *floats, struct update *ret, struct error *err) MUST_CHECK;

#endif
