/* What is in a local store, for people (peterctl inspect): read only, also while a daemon writes it. One thread. */
#ifndef IO_STORE_SUMMARY_H
#define IO_STORE_SUMMARY_H

#include "base/error.h"
#include "io/record.h"

#include <stdbool.h>

struct store_summary_shard {
	int32_t partition;
	int64_t users;
	int64_t events;  /* of all their sequences */
	int64_t owed;    /* updates that are held back */
	int64_t labels;  /* that wait for their users */
	int64_t damaged; /* records whose checksum or form is wrong */
	int64_t bytes;   /* of keys and values */
	bool has_position;
	struct position position;
};

struct store_summary {
	char *identity; /* whose state it is; NULL: none written */
	struct store_summary_shard *shards;
	size_t count;
};

/* Reads `directory`/store, or `directory` where that is the store itself. Errors: STATUS_NO_INPUT, STATUS_DATA (no store,
 * damaged), STATUS_IO, STATUS_MEMORY. */
enum status store_summary_read(const char *directory, struct store_summary *ret, struct error *err) MUST_CHECK;
void store_summary_free(struct store_summary *s); /* frees and zeroes */

#endif
