/* A bounds-checked walk over Avro's binary encoding. Every function advances the cursor and returns true, or returns
 * false where the bytes are cut or not legal, with the cursor anywhere up to `end`. Nothing is allocated or copied. */
#ifndef IO_AVRO_CURSOR_H
#define IO_AVRO_CURSOR_H

#include "base/buffer.h"

#include <string.h>

struct avro_cursor {
	const uint8_t *at;
	const uint8_t *end;
};

static inline size_t avro_cursor_left(const struct avro_cursor *c)
{
	return (size_t)(c->end - c->at);
}

static inline bool avro_cursor_long(struct avro_cursor *c, int64_t *ret)
{
	const uint8_t *at = c->at;
	uint64_t value = 0;
	for (unsigned shift = 0; at < c->end && shift < 64; shift += 7) {
		uint8_t byte = *at++;
		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			c->at = at;
			*ret = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
			return true;
		}
	}
	return false;
}

static inline bool avro_cursor_int(struct avro_cursor *c, int64_t *ret)
{
	return avro_cursor_long(c, ret) && *ret >= INT32_MIN && *ret <= INT32_MAX;
}

/* An index into `count` enum symbols or union branches. */
static inline bool avro_cursor_index(struct avro_cursor *c, int64_t count, int64_t *ret)
{
	return avro_cursor_long(c, ret) && *ret >= 0 && *ret < count;
}

static inline bool avro_cursor_boolean(struct avro_cursor *c)
{
	return c->at < c->end && *c->at++ <= 1;
}

static inline bool avro_cursor_skip(struct avro_cursor *c, int64_t n)
{
	if (n < 0 || (uint64_t)n > avro_cursor_left(c))
		return false;
	c->at += n;
	return true;
}

/* float or double, as they lie in memory on the machines that the io floor is for */
static inline bool avro_cursor_copy(struct avro_cursor *c, void *out, size_t size)
{
	const uint8_t *at = c->at;
	if (!avro_cursor_skip(c, (int64_t)size))
		return false;
	memcpy(out, at, size);
	return true;
}

/* string or bytes */
static inline bool avro_cursor_text(struct avro_cursor *c, struct slice *ret)
{
	int64_t length;
	if (!avro_cursor_long(c, &length))
		return false;
	ret->data = c->at;
	ret->length = (size_t)length;
	return avro_cursor_skip(c, length);
}

/* The head of a block of an array or map: *ret items follow, 0 ends it. The byte size that a negative count carries is
 * passed over: it only helps readers that trust it, and no general decoder does. */
static inline bool avro_cursor_block(struct avro_cursor *c, int64_t *ret)
{
	int64_t bytes;
	if (!avro_cursor_long(c, ret) || *ret == INT64_MIN)
		return false;
	if (*ret >= 0)
		return true;
	*ret = -*ret;
	return avro_cursor_long(c, &bytes);
}

/* A whole array of items of `width` bytes each, without looping over them. */
static inline bool avro_cursor_skip_array(struct avro_cursor *c, int64_t width)
{
	int64_t count;
	int64_t bytes;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return true;
		if (__builtin_mul_overflow(count, width, &bytes) || !avro_cursor_skip(c, bytes))
			return false;
	}
	return false;
}

#endif
