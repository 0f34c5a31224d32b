/* The items of an events file: ids and how often each occurs, found by the ids' hash. What a vocabulary is made from.
 *
 * Items are numbered in order of first appearance until catalogue_rank, and by falling count afterwards. One thread. */
#ifndef IO_CATALOGUE_H
#define IO_CATALOGUE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>

struct catalogue;

#define CATALOGUE_ABSENT UINT32_MAX

enum status catalogue_new(struct catalogue **ret, struct error *err) MUST_CHECK;
void catalogue_free(struct catalogue *c); /* NULL is fine */

/* Counts one occurrence. Errors: STATUS_DATA (another item with the same hash; more than 2^31 - 1 items),
 * STATUS_MEMORY. */
enum status catalogue_add(struct catalogue *c, struct slice item_id, struct error *err) MUST_CHECK;

/* Orders the items by falling count, equal ones by first appearance, and forgets those below `least`. */
void catalogue_rank(struct catalogue *c, uint64_t least);

uint32_t catalogue_size(const struct catalogue *c);
uint32_t catalogue_find(const struct catalogue *c, uint64_t item_hash); /* number, or CATALOGUE_ABSENT */
uint64_t catalogue_count(const struct catalogue *c, uint32_t number);   /* occurrences */

/* Ids by number, NUL-terminated; until the next catalogue_add or catalogue_rank. */
const char *const *catalogue_ids(const struct catalogue *c);

#endif
