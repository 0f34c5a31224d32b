/* A user's rolling sequence: the last `keep` interactions, oldest first, each the hash of its item id and its time.
 *
 * Order is by timestamp; equal timestamps keep their order of arrival. Pure data: no clock, no files, no threads; a
 * sequence belongs to one thread at a time. A zeroed struct is an empty sequence; sequence_free closes it.
 *
 * Encoded (part of the changelog's and the store's format), about 8 + 1 to 5 bytes an event:
 *
 *     varint   number of events n
 *     varint   timestamp of the oldest event, ms since the epoch        (only where n > 0)
 *     n - 1 varints  ms from each event to the next, never negative
 *     n x 8    item hashes, little-endian
 */
#ifndef IO_SEQUENCE_H
#define IO_SEQUENCE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
	uint64_t item;   /* hash_item() of the item id */
	int64_t time_ms; /* since the epoch */
};

struct sequence {
	struct event *events; /* [length], oldest first, contiguous; moves with every insertion */
	uint32_t length;
	uint32_t capacity; /* events allocated, the `start` before `events` included */
	uint32_t start;    /* private: unused events before `events`, so that dropping the oldest moves nothing */
};

enum sequence_place {
	SEQUENCE_APPENDED, /* the newest now: incremental state may go on */
	SEQUENCE_INSERTED, /* somewhere before the newest: incremental state is void */
	SEQUENCE_LATE,     /* the sequence is full and all of it is newer: nothing changed */
};

/* Places `event`, dropping the oldest where the sequence would exceed `keep` (at least 1). Errors: STATUS_MEMORY
 * (nothing changed). */
enum status sequence_insert(struct sequence *s, uint32_t keep, struct event event, enum sequence_place *ret,
			    struct error *err) MUST_CHECK;

void sequence_free(struct sequence *s); /* frees and zeroes */

void sequence_encode(const struct sequence *s, struct buffer *out); /* appends; out->failed when out of memory */

/* Reads one encoded sequence at *at, before `end`; advances *at; replaces *s's events. Errors: STATUS_DATA (damaged:
 * cut, unordered, absurd count), STATUS_MEMORY. *s is empty or as before on failure, and must still be freed. */
enum status sequence_decode(struct sequence *s, const uint8_t **at, const uint8_t *end, struct error *err) MUST_CHECK;

#endif
