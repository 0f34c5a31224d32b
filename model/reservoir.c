#include "model/reservoir.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ENTRIES = 64 };

void reservoir_init(struct reservoir *r, size_t capacity, size_t bytes, struct random_stream random)
{
	assert(capacity < UINT32_MAX);
	*r = (struct reservoir){ .capacity = capacity, .bytes = bytes, .random = random };
}

void reservoir_close(struct reservoir *r)
{
	free(r->entries);
	free(r->data);
	*r = (struct reservoir){ 0 };
}

enum status reservoir_reserve(struct reservoir *r, size_t more, struct error *err)
{
	const size_t need = more < r->capacity - r->count ? r->count + more : r->capacity;
	size_t wanted = r->allocated > FIRST_ENTRIES ? r->allocated : FIRST_ENTRIES;
	if (need <= r->allocated)
		return STATUS_OK;
	while (wanted < need)
		wanted *= 2;
	wanted = wanted < r->capacity ? wanted : r->capacity;
	struct reservoir_entry *entries = reallocarray(r->entries, wanted, sizeof *entries);
	if (!entries)
		return error_set_memory(err);
	r->entries = entries;
	uint8_t *data = reallocarray(r->data, wanted, r->bytes > 0 ? r->bytes : 1);
	if (!data)
		return error_set_memory(err);
	r->data = data;
	r->allocated = wanted;
	return STATUS_OK;
}

void reservoir_add(struct reservoir *r, const struct reservoir_entry *entry, const void *bytes)
{
	assert(entry->length <= r->bytes);
	if (r->capacity == 0)
		return;
	const size_t at = r->count < r->capacity ? r->count++ : random_below(&r->random, (uint32_t)r->capacity);
	assert(at < r->allocated);
	r->entries[at] = *entry;
	r->entries[at].present = bytes != NULL || entry->length == 0;
	if (bytes)
		memcpy(r->data + at * r->bytes, bytes, entry->length);
}

const void *reservoir_bytes(const struct reservoir *r, size_t at)
{
	return r->data + at * r->bytes;
}

void *reservoir_place(struct reservoir *r, size_t at)
{
	return r->data + at * r->bytes;
}

size_t reservoir_remove(struct reservoir *r, bool (*leaves)(void *arg, const struct reservoir_entry *entry), void *arg)
{
	size_t kept = 0;
	for (size_t at = 0; at < r->count; at++) {
		if (leaves(arg, &r->entries[at]))
			continue;
		if (kept < at) {
			r->entries[kept] = r->entries[at];
			memcpy(r->data + kept * r->bytes, r->data + at * r->bytes, r->bytes);
		}
		kept++;
	}
	const size_t removed = r->count - kept;
	r->count = kept;
	return removed;
}
