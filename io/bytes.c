#include "io/bytes.h"

#include <string.h>

void bytes_append_string(struct buffer *out, const char *text)
{
	buffer_append_text(out, (struct slice){ (const uint8_t *)text, strlen(text) });
}

void bytes_append_nullable(struct buffer *out, struct slice bytes)
{
	buffer_append_varint(out, bytes.data ? (int64_t)bytes.length : -1);
	if (bytes.data)
		buffer_append(out, bytes.data, bytes.length);
}

bool bytes_read_nullable(const uint8_t **at, const uint8_t *end, struct slice *ret)
{
	int64_t length;
	if (!varint_read(at, end, &length) || length < -1 || length > end - *at)
		return false;
	*ret = length < 0 ? (struct slice){ NULL, 0 } : (struct slice){ *at, (size_t)length };
	*at += ret->length;
	return true;
}
