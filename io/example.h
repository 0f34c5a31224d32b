/* Example records: what a shard makes of a label, for the learner (io/schemas/Example.avsc). Pure; any thread. */
#ifndef IO_EXAMPLE_H
#define IO_EXAMPLE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

struct example {
	struct slice task, definition, backbone, user_id;
	int64_t timestamp_ms;
	bool forget;       /* no label: the user is forgotten */
	struct slice text; /* the label; data NULL: `number` */
	double number;
	float weight;
	int32_t partition; /* of the label or the tombstone */
	int64_t offset;
	struct slice events; /* an encoded sequence (io/sequence.h), empty where `forget` */
	struct slice states; /* float32, not aligned; empty: none */
};

/* Appends a plain datum. In two steps where the states come later: what `states` holds does not matter to the first. */
void example_encode(const struct example *e, struct buffer *out);
void example_encode_head(const struct example *e, struct buffer *out);
void example_encode_states(struct slice states, struct buffer *out);

/* Decodes a plain datum; slices borrow from `value`. The bytes inside `events` are not looked at. Errors: STATUS_DATA. */
enum status example_decode(struct slice value, struct example *ret, struct error *err) MUST_CHECK;

#endif
