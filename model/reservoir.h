/* A bounded sample of a task's past examples, to train on again: once it is full, every example enters in the place of a
 * random one (after Aggarwal, "On biased reservoir sampling in the presence of stream evolution", VLDB 2006). An example of
 * age t is then still there with a chance that falls as exp(-t / capacity): newest ones mostly, without an edge.
 *
 * An example is `bytes` of the caller's and what is known of it here. Memory grows with what is in it, up to the capacity.
 * One thread. */
#ifndef MODEL_RESERVOIR_H
#define MODEL_RESERVOIR_H

#include "base/error.h"
#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reservoir_entry {
	uint64_t number; /* of the label: rises from example to example */
	uint64_t offset; /* where it can be read again */
	uint64_t user;   /* hash of the id */
	double value;    /* regression */
	float weight;
	uint32_t target; /* row of the head */
	uint32_t length; /* bytes used */
	bool present;    /* the bytes are here; false after a restore without them */
};

struct reservoir {
	size_t capacity; /* entries at most */
	size_t bytes;    /* of an entry at most */
	size_t count;
	size_t allocated;
	struct reservoir_entry *entries;
	uint8_t *data; /* [allocated, bytes] */
	struct random_stream random;
};

void reservoir_init(struct reservoir *r, size_t capacity, size_t bytes, struct random_stream random);
void reservoir_close(struct reservoir *r);

/* Room for so many more, so that the next reservoir_add calls cannot fail. Errors: STATUS_MEMORY. */
enum status reservoir_reserve(struct reservoir *r, size_t more, struct error *err) MUST_CHECK;

/* Copies `entry` and entry->length bytes in (NULL: they come later). After reservoir_reserve. A capacity of 0 keeps nothing. */
void reservoir_add(struct reservoir *r, const struct reservoir_entry *entry, const void *bytes);

const void *reservoir_bytes(const struct reservoir *r,
			    size_t at);                /* of entry `at`, until the next call that changes it */
void *reservoir_place(struct reservoir *r, size_t at); /* the same, to be filled */

/* Takes out every entry that `leaves` says so of; returns their number. */
size_t reservoir_remove(struct reservoir *r, bool (*leaves)(void *arg, const struct reservoir_entry *entry), void *arg);

#endif
