/* Example records, for the learner (io/schemas/Example.avsc): what a shard makes of a label, or of a user's tombstone, and what a
 * person asks for. Pure; any thread. */
#ifndef IO_EXAMPLE_H
#define IO_EXAMPLE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>

enum example_kind {
	EXAMPLE_TEXT,   /* a label: `text` */
	EXAMPLE_NUMBER, /* a label: `number` */
	EXAMPLE_FORGET, /* no label: the user is forgotten */
	EXAMPLE_ROLLBACK, /* a person's request: the version before the live one is to serve again; no user, nothing read */
	EXAMPLE_KINDS
};

struct example {
	enum example_kind kind;
	struct slice task, definition, backbone, user_id;
	int64_t timestamp_ms;
	struct slice text;
	double number;
	float weight;
	int32_t partition; /* of the label or the tombstone; -1: a request */
	int64_t offset;
	struct slice events; /* an encoded sequence (io/sequence.h), empty where there is no label */
	struct slice states; /* float32, not aligned; empty: none */
};

/* Appends a plain datum. In two steps where the states come later: what `states` holds does not matter to the first. */
void example_encode(const struct example *e, struct buffer *out);
void example_encode_head(const struct example *e, struct buffer *out);
void example_encode_states(struct slice states, struct buffer *out);

/* Decodes a plain datum; slices borrow from `value`. The bytes inside `events` are not looked at. Errors: STATUS_DATA. */
enum status example_decode(struct slice value, struct example *ret, struct error *err) MUST_CHECK;

#endif
