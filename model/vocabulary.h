/* The catalogue of a backbone: item id -> index, from BACKBONE_FIRST_ITEM on, by the id's 64-bit hash.
 *
 * Built once, read by any thread. Open addressing with linear probing at a load of at most one half: a look-up, which
 * every event makes, costs about one cache miss. */
#ifndef MODEL_VOCABULARY_H
#define MODEL_VOCABULARY_H

#include "base/error.h"
#include "model/safetensors.h"

#include <stdint.h>

struct vocabulary;

/* Reads the metadata `vocabulary` (a JSON array of strings; whole numbers become decimal strings) or the tensors
 * vocabulary.bytes (U8 [n]) and vocabulary.offsets (I64 [items + 1], from 0 to n). Errors: STATUS_DATA (neither or
 * both, malformed, an empty item, equal items, two items with one hash), STATUS_MEMORY. */
enum status vocabulary_load(const struct safetensors *st, struct vocabulary **ret, struct error *err) MUST_CHECK;
void vocabulary_free(struct vocabulary *v); /* NULL is fine */

uint32_t vocabulary_size(const struct vocabulary *v); /* items, special tokens not included */

/* Index of the item with this hash_item(), BACKBONE_OOV where it has none. */
uint32_t vocabulary_index(const struct vocabulary *v, uint64_t item_hash);

#endif
