/* A growable byte buffer, and the varints of Avro (zig-zag) written to and read from bytes.
 *
 * A buffer's memory belongs to the buffer until buffer_free; a zeroed struct is an empty buffer. A failed growth sets
 * `failed`, makes every later append a no-op and is asked for once at the end, so that encoders read straight. Not
 * thread-safe. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
	uint8_t *data;
	size_t length;   /* bytes used */
	size_t capacity; /* bytes allocated */
	bool failed;     /* an allocation failed: the contents are not complete */
};

/* Borrowed bytes: whoever hands one out says until when it is valid. `data` NULL: absent. */
struct slice {
	const uint8_t *data;
	size_t length; /* bytes */
};

void buffer_free(struct buffer *b);                 /* frees and zeroes; NULL is fine */
void buffer_clear(struct buffer *b);                /* length 0, memory kept, `failed` forgotten */
uint8_t *buffer_extend(struct buffer *b, size_t n); /* n more bytes, uninitialised; NULL when out of memory */
void buffer_append(struct buffer *b, const void *bytes, size_t n);
void buffer_append_byte(struct buffer *b, uint8_t byte);
void buffer_append_varint(struct buffer *b, int64_t value); /* zig-zag, 1 to 10 bytes */

void buffer_append_text(struct buffer *b,
			struct slice text); /* Avro's string or bytes: a varint of the length, the bytes */

/* Reads a zig-zag varint at *at, before `end`; advances *at. False (and *at undefined) where it is cut or too long. */
bool varint_read(const uint8_t **at, const uint8_t *end, int64_t *ret);

#endif
