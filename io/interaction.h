/* Interactions on the wire: Avro of any schema that people's topics have, decoded to four fields.
 *
 * A decoder is a plan compiled once from the writer's schema (JSON) and the configured field paths; decoding walks the
 * bytes and touches the four fields only. Immutable after new; any thread may decode at once with its own `ret`.
 * Decoding allocates nothing, and never reads past `length` whatever the bytes. */
#ifndef IO_INTERACTION_H
#define IO_INTERACTION_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/reason.h"

#include <stdbool.h>

struct interaction {
	struct slice user_id;    /* UTF-8 without NUL, 1 to 256 bytes; borrowed from the value, or from digits below */
	struct slice item_id;    /* likewise, 1 to 1024 bytes */
	struct slice event_type; /* data NULL: null or no such field */
	int64_t timestamp_ms;    /* since the epoch */
	char user_digits[24];    /* an integer id as a decimal string */
	char item_digits[24];
};

struct interaction_fields { /* dotted paths into the writer's record; timestamp may be "$record" */
	const char *user_id;
	const char *item_id;
	const char *timestamp;
	const char *event_type;
};

struct interaction_decoder;

/* Compiles a plan. `schema_json` NULL: ours (Interaction). Coercions: string and enum as they are, int and long ids to
 * decimal strings, [null, X] unions as X, timestamp-millis, timestamp-micros (converted), plain long as ms; reasons for
 * what a record may lack: io/reason.h. Errors: STATUS_CONFIG, naming the field path or the JSON's fault. */
enum status interaction_decoder_new(const char *schema_json, const struct interaction_fields *fields,
				    struct interaction_decoder **ret, struct error *err) MUST_CHECK;
void interaction_decoder_free(struct interaction_decoder *d);

/* Decodes a plain datum. `record_time_ms`: Kafka's record timestamp (for "$record", and for the limit of a day ahead;
 * -1 unknown: the caller's wall clock). REASON_NONE and *ret filled, or the reason and one line of text in *err. */
enum reason interaction_decode(const struct interaction_decoder *d, struct slice value, int64_t record_time_ms,
			       struct interaction *ret, struct error *err) MUST_CHECK;

/* Our own Interaction record as a plain datum, appended to *out (replay, demo, tests). event_type.data NULL: null. */
void interaction_encode(const struct interaction *i, struct buffer *out);

#endif
