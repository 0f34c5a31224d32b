/* The cases of a next-item evaluation: histories and targets as vocabulary indices. One thread. */
#ifndef TOOLS_NEXT_ITEM_CASES_H
#define TOOLS_NEXT_ITEM_CASES_H

#include "base/error.h"
#include "model/next_item.h"
#include "model/vocabulary.h"

#include <stddef.h>
#include <stdint.h>

struct next_item_cases {
	uint32_t *items; /* of all histories */
	struct next_item_case *list;
	size_t count;
	size_t users;   /* of the files, fit for a case or not */
	size_t unknown; /* cases whose target the vocabulary does not have */
	size_t empty;   /* cases without history */
};

/* Leave-last-out: the target of a user with two events or more is the last one, the history all before. Errors: those of
 * audience_load; STATUS_DATA: no such user. */
enum status next_item_cases_events(const char *path, const struct vocabulary *vocabulary, struct next_item_cases *ret,
				   struct error *err) MUST_CHECK;

/* A split as published: a line of `sequences` is one user's items, oldest first, with spaces, commas or tabs in between; the
 * same line of `targets` is the item that follows. Errors: STATUS_NO_INPUT, STATUS_IO, STATUS_MEMORY; STATUS_DATA naming file
 * and line: one has more lines than the other, a target that is not one item, no lines. */
enum status next_item_cases_lines(const char *sequences, const char *targets, const struct vocabulary *vocabulary,
				  struct next_item_cases *ret, struct error *err) MUST_CHECK;

/* Keeps so many of them at most, drawn by the seed. */
void next_item_cases_thin(struct next_item_cases *cases, size_t most, uint64_t seed);

void next_item_cases_free(struct next_item_cases *cases); /* a zeroed one is fine */

#endif
