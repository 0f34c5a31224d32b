#include "io/sequence.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 4, ITEM_BYTES = 8 };

/* Room beyond `keep`: a full sequence slides through it and is moved back once per that many appends. */
static size_t capacity_limit(uint32_t keep)
{
	return (size_t)keep + keep / 4 + 1;
}

static struct event *allocation(const struct sequence *s)
{
	return s->events ? s->events - s->start : NULL;
}

/* The index after the last event that is not newer than time_ms. */
static uint32_t place(const struct sequence *s, int64_t time_ms)
{
	uint32_t low = 0;
	uint32_t high = s->length;
	if (high == 0 || s->events[high - 1].time_ms <= time_ms)
		return high;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (s->events[middle].time_ms <= time_ms)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static enum status resize(struct sequence *s, size_t capacity, struct error *err)
{
	if (capacity > UINT32_MAX)
		return error_set_memory(err);
	struct event *events = realloc(allocation(s), capacity * sizeof *events);
	if (!events)
		return error_set_memory(err);
	s->events = events + s->start;
	s->capacity = (uint32_t)capacity;
	return STATUS_OK;
}

/* Drops the `drop` oldest and makes room for one event after the newest. */
static enum status make_room(struct sequence *s, uint32_t keep, uint32_t drop, struct error *err)
{
	size_t limit = capacity_limit(keep);
	if (s->start + s->length == s->capacity && s->capacity < limit) {
		size_t capacity = s->capacity ? 2 * (size_t)s->capacity : FIRST_CAPACITY;
		enum status status = resize(s, capacity < limit ? capacity : limit, err);
		if (status != STATUS_OK)
			return status;
	}
	s->events += drop;
	s->start += drop;
	s->length -= drop;
	if (s->start + s->length == s->capacity) {
		struct event *base = allocation(s);
		memmove(base, s->events, s->length * sizeof *base);
		s->events = base;
		s->start = 0;
	}
	return STATUS_OK;
}

enum status sequence_insert(struct sequence *s, uint32_t keep, struct event event, enum sequence_place *ret,
			    struct error *err)
{
	uint32_t drop = s->length >= keep ? s->length - keep + 1 : 0;
	uint32_t at = place(s, event.time_ms);
	if (at < drop) {
		*ret = SEQUENCE_LATE;
		return STATUS_OK;
	}
	enum sequence_place placed = at == s->length ? SEQUENCE_APPENDED : SEQUENCE_INSERTED;
	enum status status = make_room(s, keep, drop, err);
	if (status != STATUS_OK)
		return status;
	at -= drop;
	memmove(s->events + at + 1, s->events + at, (s->length - at) * sizeof *s->events);
	s->events[at] = event;
	s->length++;
	*ret = placed;
	return STATUS_OK;
}

void sequence_free(struct sequence *s)
{
	free(allocation(s));
	memset(s, 0, sizeof *s);
}

void sequence_encode(const struct sequence *s, struct buffer *out)
{
	buffer_append_varint(out, s->length);
	for (uint32_t i = 0; i < s->length; i++)
		buffer_append_varint(out, s->events[i].time_ms - (i ? s->events[i - 1].time_ms : 0));
	uint8_t *at = buffer_extend(out, (size_t)s->length * ITEM_BYTES);
	for (uint32_t i = 0; at && i < s->length; i++) {
		uint64_t item = htole64(s->events[i].item);
		memcpy(at + (size_t)i * ITEM_BYTES, &item, sizeof item);
	}
}

/* Empties `s` with room for n events. */
static enum status empty(struct sequence *s, uint32_t n, struct error *err)
{
	if (s->events)
		s->events = allocation(s);
	s->start = 0;
	s->length = 0;
	return n > s->capacity ? resize(s, n, err) : STATUS_OK;
}

enum status sequence_decode(struct sequence *s, const uint8_t **at, const uint8_t *end, struct error *err)
{
	const uint8_t *p = *at;
	int64_t n;
	if (!varint_read(&p, end, &n))
		return error_set(err, STATUS_DATA, "sequence is cut");
	/* an event is at least one byte of time and its item: no allocation that the bytes do not vouch for */
	if (n < 0 || n > (end - p) / (1 + ITEM_BYTES) || n > UINT32_MAX)
		return error_set(err, STATUS_DATA, "sequence of %lld events in %zu bytes", (long long)n,
				 (size_t)(end - p));
	enum status status = empty(s, (uint32_t)n, err);
	if (status != STATUS_OK)
		return status;
	int64_t time_ms = 0;
	for (uint32_t i = 0; i < (uint32_t)n; i++) {
		int64_t delta_ms;
		if (!varint_read(&p, end, &delta_ms) || delta_ms < 0 || time_ms > INT64_MAX - delta_ms)
			return error_set(err, STATUS_DATA, "sequence has a bad time at event %u", i);
		time_ms += delta_ms;
		s->events[i].time_ms = time_ms;
	}
	if ((end - p) / ITEM_BYTES < n)
		return error_set(err, STATUS_DATA, "sequence is cut");
	for (uint32_t i = 0; i < (uint32_t)n; i++, p += ITEM_BYTES) {
		uint64_t item;
		memcpy(&item, p, sizeof item);
		s->events[i].item = le64toh(item);
	}
	s->length = (uint32_t)n;
	*at = p;
	return STATUS_OK;
}
