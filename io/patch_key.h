/* Keys of the patches topic:
 *
 *     TASK/SLOT/CHUNK       a chunk of the bytes in a slot, as they are
 *     TASK/SLOT/manifest    what the bytes are: a PatchRecord, written after the chunks
 *     TASK/decision/PLACE   a PatchRecord; PLACE is its number modulo PATCH_DECISIONS
 *
 * Numbers are decimal without leading zeros. The first PATCH_VERSION_SLOTS slots are for weights that serve, the others for
 * checkpoints of learners. Pure; any thread. */
#ifndef IO_PATCH_KEY_H
#define IO_PATCH_KEY_H

#include "base/buffer.h"

enum {
	PATCH_NAME_AT_MOST = 100, /* bytes of a task's name: of a-z A-Z 0-9 . _ - , so no slash */
	PATCH_VERSION_SLOTS = 4,
	PATCH_CHECKPOINT_SLOTS = 2,
	PATCH_SLOTS = PATCH_VERSION_SLOTS + PATCH_CHECKPOINT_SLOTS,
	PATCH_CHUNKS_AT_MOST = 4096, /* of a slot */
	PATCH_DECISIONS = 1000,
	PATCH_KEY_SIZE = PATCH_NAME_AT_MOST + 24, /* bytes of any key, with a NUL */
};

enum patch_key_kind { PATCH_KEY_CHUNK, PATCH_KEY_MANIFEST, PATCH_KEY_DECISION };

struct patch_key {
	enum patch_key_kind kind;
	struct slice task; /* of the key's bytes */
	uint32_t slot;     /* PATCH_KEY_CHUNK, PATCH_KEY_MANIFEST */
	uint32_t number;   /* PATCH_KEY_CHUNK: from 0; PATCH_KEY_DECISION: the place */
};

bool patch_key_parse(struct slice key, struct patch_key *ret); /* false: none of ours */

/* The key's length; `ret` has a NUL behind it. */
size_t patch_key_format(const struct patch_key *key, char ret[PATCH_KEY_SIZE]);

bool patch_key_is_task(struct slice name);

static inline bool patch_slot_is_checkpoint(uint32_t slot)
{
	return slot >= PATCH_VERSION_SLOTS;
}

#endif
