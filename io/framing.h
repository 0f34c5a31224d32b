/* Confluent's framing of a value: magic byte 0, the schema's id as four bytes big-endian, the Avro datum. Pure. */
#ifndef IO_FRAMING_H
#define IO_FRAMING_H

#include "base/buffer.h"

enum { FRAMING_HEADER_BYTES = 5 };

/* False where `value` is too short or does not begin with the magic byte; *ret_body is borrowed from `value`. */
bool framing_parse(struct slice value, uint32_t *ret_schema_id, struct slice *ret_body);

void framing_append(uint32_t schema_id, struct buffer *out); /* the header; the datum is appended next */

#endif
