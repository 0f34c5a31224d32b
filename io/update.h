/* UserUpdate records: encode for the daemon, decode for `watch` and tests (contract, "Topics"). Pure; any thread. */
#ifndef IO_UPDATE_H
#define IO_UPDATE_H

#include "base/buffer.h"
#include "base/error.h"

struct update_score { /* what one task's patch says of the user */
	struct slice task;
	int64_t version;
	struct slice patch;         /* 64 hex digits: what the exported version's SHA-256 is */
	const struct slice *labels; /* value i is that of labels[i], or with rows of labels[rows[i]] */
	const uint32_t *rows;       /* NULL: all of them, in their order */
	const float *values;        /* [count] */
	size_t count;
};

struct update {
	struct slice user_id;
	int64_t event_time_ms;   /* the newest event's timestamp */
	int64_t sequence_length; /* events kept */
	int32_t partition;       /* of the newest interaction reflected */
	int64_t offset;
	struct slice backbone;  /* 64 hex digits */
	const float *embedding; /* [dim]; on decode into the caller's buffer, see update_decode */
	uint32_t dim;
	const struct update_score *scores; /* [scores_count]; to be encoded */
	size_t scores_count;
	struct slice score_bytes; /* decoded: for update_decode_scores; borrowed */
};

void update_encode(const struct update *u, struct buffer *out); /* appends a plain datum */

/* Decodes a plain datum; slices borrow from `value`; the embedding is appended to *floats as raw float32, and
 * ret->embedding points there. Errors: STATUS_DATA, STATUS_MEMORY. */
enum status update_decode(struct slice value, struct buffer *floats, struct update *ret, struct error *err) MUST_CHECK;

struct update_scores {                    /* zeroed at first; may be used for one update after another */
	const struct update_score *items; /* [count], in the order of the tasks' names */
	size_t count;
	struct buffer memory, labels, values;
};

/* The scores of a decoded update, whose slices borrow from its value; rows are NULL. Errors: STATUS_MEMORY. */
enum status update_decode_scores(const struct update *u, struct update_scores *ret, struct error *err) MUST_CHECK;
void update_scores_free(struct update_scores *s);

#endif
