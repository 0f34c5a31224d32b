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
	struct slice user_id;    /* UTF-8 without NUL, 1 to 256 bytes; borrowed: see interaction_decode */
	struct slice item_id;    /* likewise, 1 to 1024 bytes */
	struct slice event_type; /* UTF-8; data NULL: null or no such field */
	int64_t timestamp_ms;    /* since the epoch */
	char user_digits[24];    /* an integer id as a decimal string */
	char item_digits[24];
	char type_digits[24];
};

struct interaction_fields { /* dotted paths into the writer's record; timestamp may be "$record" */
	const char *user_id;
	const char *item_id;
	const char *timestamp;
	const char *event_type;
};

struct interaction_decoder;

/* Compiles a plan. `schema_text` NULL: ours (Interaction). Coercions: string and enum as they are, int and long ids and
 * event types to decimal strings, unions by the branch that a record takes, timestamp-millis, -micros and -nanos
 * (rounded down to ms), plain int and long as ms; reasons for what a record may lack: io/reason.h. An event_type at its
 * default path need not exist. Errors: STATUS_CONFIG, naming the field path or the JSON's fault; STATUS_MEMORY. */
enum status interaction_decoder_new(const char *schema_text, const struct interaction_fields *fields,
				    struct interaction_decoder **ret, struct error *err) MUST_CHECK;
void interaction_decoder_free(struct interaction_decoder *d);

/* Decodes a plain datum. `record_time_ms`: Kafka's record timestamp, for "$record" and for the limit of a day ahead;
 * -1 unknown: "$record" is a missing field then, and the wall clock the limit. REASON_NONE and *ret filled, whose slices
 * borrow from `value`, from the decoder (enum symbols) and from *ret itself (decimal ids: a copy of *ret still points
 * into the original); or the reason, one line of text in *err and *ret untouched. Judged in this order: the bytes,
 * refused branches, missing fields, oversize, UTF-8, the timestamp. */
enum reason interaction_decode(const struct interaction_decoder *d, struct slice value, int64_t record_time_ms,
			       struct interaction *ret, struct error *err) MUST_CHECK;

/* Where the decoders of framed values come from: the schema registry's client. */
struct interaction_resolver {
	/* The decoder of a writer's schema id; it must outlive what is decoded with it. STATUS_DATA: no such id;
	 * STATUS_CONFIG: its schema does not give the fields; both make the record a dead letter. Anything else
	 * (STATUS_UNAVAILABLE) says nothing of the record: try again. */
	enum status (*resolve)(void *arg, uint32_t schema_id, const struct interaction_decoder **ret,
			       struct error *err);
	void *arg;
};

/* Decodes a value in Confluent's framing. STATUS_OK: *ret_reason is as interaction_decode returns it. Errors: what
 * `resolve` returned, STATUS_DATA and STATUS_CONFIG excepted. */
enum status interaction_decode_framed(const struct interaction_resolver *resolver, struct slice value,
				      int64_t record_time_ms, struct interaction *ret, enum reason *ret_reason,
				      struct error *err) MUST_CHECK;

/* Whether `id` may be a user's id (a tombstone's key): REASON_NONE, or REASON_MISSING_FIELD (absent or empty),
 * REASON_OVERSIZE, REASON_UNDECODABLE (not UTF-8, or with a NUL), with one line of text in *err. */
enum reason interaction_check_user_id(struct slice id, struct error *err) MUST_CHECK;

/* Our own Interaction record as a plain datum, appended to *out (replay, demo, tests). event_type.data NULL: null. */
void interaction_encode(const struct interaction *i, struct buffer *out);

#endif
