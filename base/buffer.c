#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

void buffer_free(struct buffer *b)
{
	if (!b)
		return;
	free(b->data);
	memset(b, 0, sizeof *b);
}

void buffer_clear(struct buffer *b)
{
	b->length = 0;
	b->failed = false;
}

uint8_t *buffer_extend(struct buffer *b, size_t n)
{
	if (b->failed)
		return NULL;
	if (n > b->capacity - b->length) {
		size_t capacity = b->capacity ? b->capacity : 64;
		while (capacity - b->length < n && capacity <= SIZE_MAX / 2)
			capacity *= 2;
		uint8_t *data = capacity - b->length < n ? NULL : realloc(b->data, capacity);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->capacity = capacity;
	}
	uint8_t *at = b->data + b->length;
	b->length += n;
	return at;
}

void buffer_append(struct buffer *b, const void *bytes, size_t n)
{
	if (n == 0)
		return;
	uint8_t *at = buffer_extend(b, n);
	if (at)
		memcpy(at, bytes, n);
}

void buffer_append_byte(struct buffer *b, uint8_t byte)
{
	uint8_t *at = buffer_extend(b, 1);
	if (at)
		*at = byte;
}

void buffer_append_varint(struct buffer *b, int64_t value)
{
	uint8_t bytes[10];
	size_t n = 0;
	uint64_t rest = ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
	while (rest >= 0x80) {
		bytes[n++] = (uint8_t)(rest | 0x80);
		rest >>= 7;
	}
	bytes[n++] = (uint8_t)rest;
	buffer_append(b, bytes, n);
}

void buffer_append_text(struct buffer *b, struct slice text)
{
	buffer_append_varint(b, (int64_t)text.length);
	buffer_append(b, text.data, text.length);
}

bool varint_read(const uint8_t **at, const uint8_t *end, int64_t *ret)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;
		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
			return true;
		}
	}
	return false;
}
