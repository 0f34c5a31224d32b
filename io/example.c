#include "io/example.h"

#include "io/avro_cursor.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers go in and out as they lie in memory");

enum { REQUEST_ROLLBACK, REQUESTS }; /* symbols of the schema's enum */

/* Branches of the union `label`. */
static const enum example_kind kinds[] = { EXAMPLE_FORGET, EXAMPLE_TEXT, EXAMPLE_NUMBER, EXAMPLE_ROLLBACK };
static const int64_t branches[] = {
	[EXAMPLE_FORGET] = 0, [EXAMPLE_TEXT] = 1, [EXAMPLE_NUMBER] = 2, [EXAMPLE_ROLLBACK] = 3
};

static void append_label(struct buffer *out, const struct example *e)
{
	buffer_append_varint(out, branches[e->kind]);
	if (e->kind == EXAMPLE_TEXT)
		buffer_append_text(out, e->text);
	else if (e->kind == EXAMPLE_NUMBER)
		buffer_append(out, &e->number, sizeof e->number);
	else if (e->kind == EXAMPLE_ROLLBACK)
		buffer_append_varint(out, REQUEST_ROLLBACK);
}

void example_encode_head(const struct example *e, struct buffer *out)
{
	buffer_append_text(out, e->task);
	buffer_append_text(out, e->definition);
	buffer_append_text(out, e->backbone);
	buffer_append_text(out, e->user_id);
	buffer_append_varint(out, e->timestamp_ms);
	append_label(out, e);
	buffer_append(out, &e->weight, sizeof e->weight);
	buffer_append_varint(out, e->partition);
	buffer_append_varint(out, e->offset);
	buffer_append_text(out, e->events);
}

void example_encode_states(struct slice states, struct buffer *out)
{
	buffer_append_text(out, states);
}

void example_encode(const struct example *e, struct buffer *out)
{
	example_encode_head(e, out);
	example_encode_states(e->states, out);
}

static bool walk_label(struct avro_cursor *c, struct example *e)
{
	int64_t branch;
	int64_t request;
	if (!avro_cursor_index(c, EXAMPLE_KINDS, &branch))
		return false;
	e->kind = kinds[branch];
	switch (e->kind) {
	case EXAMPLE_TEXT:
		return avro_cursor_text(c, &e->text);
	case EXAMPLE_NUMBER:
		return avro_cursor_copy(c, &e->number, sizeof e->number);
	case EXAMPLE_ROLLBACK:
		return avro_cursor_index(c, REQUESTS, &request);
	default:
		return true;
	}
}

static bool walk(struct avro_cursor *c, struct example *e)
{
	int64_t partition;
	bool fine = avro_cursor_text(c, &e->task) && avro_cursor_text(c, &e->definition) &&
		    avro_cursor_text(c, &e->backbone) && avro_cursor_text(c, &e->user_id) &&
		    avro_cursor_long(c, &e->timestamp_ms) && walk_label(c, e) &&
		    avro_cursor_copy(c, &e->weight, sizeof e->weight) && avro_cursor_int(c, &partition) &&
		    avro_cursor_long(c, &e->offset) && avro_cursor_text(c, &e->events) &&
		    avro_cursor_text(c, &e->states) && c->at == c->end;
	if (fine)
		e->partition = (int32_t)partition;
	return fine;
}

enum status example_decode(struct slice value, struct example *ret, struct error *err)
{
	static const uint8_t nothing;
	struct avro_cursor c = { .at = value.data ? value.data : &nothing };
	struct example e = { 0 };
	c.end = c.at + value.length;
	if (!walk(&c, &e))
		return error_set(err, STATUS_DATA, "example: cut or damaged at byte %zu of %zu",
				 value.length - avro_cursor_left(&c), value.length);
	if (e.states.length % sizeof(float) != 0)
		return error_set(err, STATUS_DATA, "example: states of %zu bytes are no floats", e.states.length);
	*ret = e;
	return STATUS_OK;
}
