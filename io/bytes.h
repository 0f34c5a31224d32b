/* Pieces that several encodings share, beside those of base/buffer.h. Pure; any thread. */
#ifndef IO_BYTES_H
#define IO_BYTES_H

#include "base/buffer.h"

void bytes_append_string(struct buffer *out, const char *text); /* Avro's string of a C string */

/* Bytes that may be absent: the varint length, -1 then, and the bytes. */
void bytes_append_nullable(struct buffer *out, struct slice bytes);

/* Reads them at *at, before `end`; advances *at; *ret borrows. False: cut. */
bool bytes_read_nullable(const uint8_t **at, const uint8_t *end, struct slice *ret);

#endif
