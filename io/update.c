#include "io/update.h"

#include "io/avro_cursor.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats go out as they lie in memory");
_Static_assert(sizeof(float) == 4, "Avro's float");

static void encode_score(const struct update_score *s, struct buffer *out)
{
	buffer_append_text(out, s->task);
	buffer_append_varint(out, s->version);
	buffer_append_text(out, s->patch);
	if (s->count > 0)
		buffer_append_varint(out, (int64_t)s->count);
	for (size_t i = 0; i < s->count; i++) {
		buffer_append_text(out, s->labels[s->rows ? s->rows[i] : i]);
		buffer_append(out, &s->values[i], sizeof s->values[i]);
	}
	buffer_append_byte(out, 0); /* the end of values */
}

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
	if (u->scores_count > 0)
		buffer_append_varint(out, (int64_t)u->scores_count);
	for (size_t i = 0; i < u->scores_count; i++)
		encode_score(&u->scores[i], out);
	buffer_append_byte(out, 0); /* the end of scores */
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
		    avro_cursor_long(&c, &u.offset) && avro_cursor_text(&c, &u.backbone) && read_floats(&c, floats);
	const uint8_t *scores = c.at;
	fine = fine && skip_scores(&c);
	if (!fine)
		return error_set(err, STATUS_DATA, "update: cut or damaged at byte %zu of %zu",
				 value.length - avro_cursor_left(&c), value.length);
	if (c.at != c.end)
		return error_set(err, STATUS_DATA, "update: %zu bytes are left over after %zu", avro_cursor_left(&c),
				 value.length - avro_cursor_left(&c));
	if (floats->failed)
		return error_set_memory(err);
	u.score_bytes = (struct slice){ scores, (size_t)(c.at - scores) };
	u.partition = (int32_t)partition;
	u.dim = (uint32_t)((floats->length - start) / sizeof(float));
	u.embedding = u.dim > 0 ? (const float *)(const void *)(floats->data + start) : NULL;
	*ret = u;
	return STATUS_OK;
}

/* Appends one score's values; false: out of memory, or damaged. */
static bool read_values(struct avro_cursor *c, struct update_scores *s, size_t *ret_count)
{
	int64_t count;
	*ret_count = 0;
	while (avro_cursor_block(c, &count) && count > 0) {
		for (; count > 0; count--) {
			struct slice label;
			float value;
			if (!avro_cursor_text(c, &label) || !avro_cursor_copy(c, &value, sizeof value))
				return false;
			buffer_append(&s->labels, &label, sizeof label);
			buffer_append(&s->values, &value, sizeof value);
			++*ret_count;
		}
	}
	return !s->labels.failed && !s->values.failed;
}

static bool read_scores(struct avro_cursor *c, struct update_scores *s)
{
	int64_t count;
	while (avro_cursor_block(c, &count) && count > 0) {
		for (; count > 0; count--) {
			struct update_score score = { 0 };
			if (!avro_cursor_text(c, &score.task) || !avro_cursor_long(c, &score.version) ||
			    !avro_cursor_text(c, &score.patch) || !read_values(c, s, &score.count))
				return false;
			buffer_append(&s->memory, &score, sizeof score);
			s->count++;
		}
	}
	return !s->memory.failed;
}

enum status update_decode_scores(const struct update *u, struct update_scores *ret, struct error *err)
{
	struct avro_cursor c = { u->score_bytes.data, u->score_bytes.data + u->score_bytes.length };
	buffer_clear(&ret->memory);
	buffer_clear(&ret->labels);
	buffer_clear(&ret->values);
	ret->items = NULL;
	ret->count = 0;
	if (!read_scores(&c, ret)) { /* update_decode has been over these bytes */
		ret->count = 0;
		return error_set_memory(err);
	}
	struct update_score *scores = (struct update_score *)(void *)ret->memory.data;
	const struct slice *labels = (const struct slice *)(const void *)ret->labels.data;
	const float *values = (const float *)(const void *)ret->values.data;
	for (size_t i = 0, at = 0; i < ret->count; at += scores[i++].count) {
		scores[i].labels = scores[i].count > 0 ? labels + at : NULL;
		scores[i].values = scores[i].count > 0 ? values + at : NULL;
	}
	ret->items = scores;
	return STATUS_OK;
}

void update_scores_free(struct update_scores *s)
{
	buffer_free(&s->memory);
	buffer_free(&s->labels);
	buffer_free(&s->values);
	*s = (struct update_scores){ 0 };
}
