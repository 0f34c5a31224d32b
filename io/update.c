#include "io/update.h"

#include "io/avro_cursor.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats go out as they lie in memory");
_Static_assert(sizeof(float) == 4, "Avro's float");

void update_encode(const struct update *u, struct buffer *out)
{
	buffer_append_text(out, u->user_id);
	buffer_append_varint(out, u->event_time_ms);
	buffer_append_varint(out, u->sequence_length);
	buffer_append_varint(out, u->partition);
	buffer_append_varint(out, u->offset);
	buffer_append_text(out, u->backbone);
	if (u->dim > 0) {
		buffer_append_varint(out, u->dim);
		buffer_append(out, u->embedding, u->dim * sizeof(float));
	}
	buffer_append_byte(out, 0); /* the end of embedding */
	buffer_append_byte(out, 0); /* no scores */
}

static bool read_floats(struct avro_cursor *c, struct buffer *floats)
{
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		const uint8_t *at = c->at;
		if (count == 0)
			return true;
		if (count > (int64_t)(avro_cursor_left(c) / sizeof(float)))
			return false;
		c->at += (size_t)count * sizeof(float);
		buffer_append(floats, at, (size_t)count * sizeof(float));
	}
	return false;
}

static bool skip_values(struct avro_cursor *c)
{
	struct slice label;
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return true;
		for (; count > 0; count--) {
			if (!avro_cursor_text(c, &label) || !avro_cursor_skip(c, sizeof(float)))
				return false;
		}
	}
	return false;
}

static bool skip_scores(struct avro_cursor *c)
{
	struct slice text;
	int64_t number;
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return true;
		for (; count > 0; count--) {
			if (!avro_cursor_text(c, &text) || !avro_cursor_long(c, &number) ||
			    !avro_cursor_text(c, &text) || !skip_values(c))
				return false;
		}
	}
	return false;
}

enum status update_decode(struct slice value, struct buffer *floats, struct update *ret, struct error *err)
{
	static const uint8_t nothing;
	struct avro_cursor c = { .at = value.data ? value.data : &nothing };
	struct update u = { 0 };
	int64_t partition;
	c.end = c.at + value.length;
	if (floats->length % sizeof(float) != 0)
		return error_set(err, STATUS_BUG, "update: the buffer holds more than floats");
	size_t start = floats->length;
	bool fine = avro_cursor_text(&c, &u.user_id) && avro_cursor_long(&c, &u.event_time_ms) &&
		    avro_cursor_long(&c, &u.sequence_length) && avro_cursor_int(&c, &partition) &&
		    avro_cursor_long(&c, &u.offset) && avro_cursor_text(&c, &u.backbone) && read_floats(&c, floats) &&
		    skip_scores(&c);
	if (!fine)
		return error_set(err, STATUS_DATA, "update: cut or damaged at byte %zu of %zu",
				 value.length - avro_cursor_left(&c), value.length);
	if (c.at != c.end)
		return error_set(err, STATUS_DATA, "update: %zu bytes are left over after %zu", avro_cursor_left(&c),
				 value.length - avro_cursor_left(&c));
	if (floats->failed)
		return error_set_memory(err);
	u.partition = (int32_t)partition;
	u.dim = (uint32_t)((floats->length - start) / sizeof(float));
	u.embedding = u.dim > 0 ? (const float *)(const void *)(floats->data + start) : NULL;
	*ret = u;
	return STATUS_OK;
}
