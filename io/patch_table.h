/* What the records of the patches topic say, by task: decisions, and the versions in slots. Layout: io/patch_key.h.
 *
 * It depends on the newest record of each key and on their order only, so that a topic reads the same before and after
 * compaction. A version is whole when its manifest is newer than all of its chunks and their bytes are those that it names;
 * whatever else stands in a slot is passed over, with a reason: it is half written, or read half.
 *
 * A task's records stand in one partition. Where there are some in several, those of the lowest with a decision count.
 *
 * Pure; one thread. Everything handed out is the table's and changes with the next record. */
#ifndef IO_PATCH_TABLE_H
#define IO_PATCH_TABLE_H

#include "io/patch_record.h"

enum patch_slot_state {
	PATCH_SLOT_EMPTY,
	PATCH_SLOT_WHOLE,
	PATCH_SLOT_UNREAD, /* a checkpoint's, of a table that does not keep them: all there, bytes unknown */
	PATCH_SLOT_BROKEN,
};

struct patch_slot {
	enum patch_slot_state state;
	struct patch_record record; /* PATCH_SLOT_WHOLE, PATCH_SLOT_UNREAD: the manifest */
	int64_t offset;             /* of the newest manifest that was read, -1: none */
	uint32_t chunks;            /* one more than the highest number of a chunk that is there */
	char reason[160];           /* PATCH_SLOT_BROKEN */
};

struct patch_entry {
	const char *task;
	int32_t partition;
	struct patch_record **decisions; /* [decision_count], by number, newest last; at most PATCH_DECISIONS */
	size_t decision_count;
	struct patch_slot slots[PATCH_SLOTS];
};

struct patch_change {                    /* what a record did */
	const struct patch_entry *entry; /* NULL: it counts for nothing */
	enum patch_key_kind kind;
	uint32_t slot;       /* PATCH_KEY_CHUNK, PATCH_KEY_MANIFEST */
	const char *refusal; /* why it makes no sense, NULL: it does; until the next record */
};

struct patch_table;

/* `checkpoints`: keep their bytes, which may be many times those of a patch; only a learner that takes over needs them. */
enum status patch_table_new(bool checkpoints, struct patch_table **ret, struct error *err) MUST_CHECK;
void patch_table_free(struct patch_table *t); /* NULL is fine */

/* Takes a record; value.data NULL: a tombstone. Errors: STATUS_MEMORY, the record was not taken. */
enum status patch_table_apply(struct patch_table *t, struct slice key, struct slice value, int32_t partition,
			      int64_t offset, struct patch_change *ret, struct error *err) MUST_CHECK;

const struct patch_entry *patch_table_find(const struct patch_table *t, const char *task); /* NULL: never seen */

/* The entries in the order of their names: the first for NULL, NULL at the end. */
const struct patch_entry *patch_table_next(const struct patch_table *t, const struct patch_entry *entry);

const struct patch_record *patch_entry_newest(const struct patch_entry *e); /* NULL: nothing was decided */

/* The slot with the whole version of that hash, NULL: there is none. */
const struct patch_slot *patch_entry_version(const struct patch_entry *e, const char *patch);

/* As the newest decision has it, whatever its kind. NULL: none, or not whole: what serves goes on. */
const struct patch_slot *patch_entry_live(const struct patch_entry *e);
const struct patch_slot *patch_entry_predecessor(const struct patch_entry *e);

const struct patch_slot *patch_entry_checkpoint(const struct patch_entry *e); /* the newest whole one, or NULL */

/* Appends the bytes of one of the entry's slots. Errors: STATUS_DATA (not whole, with the reason), STATUS_MEMORY. */
enum status patch_entry_bytes(const struct patch_entry *e, const struct patch_slot *slot, struct buffer *out,
			      struct error *err) MUST_CHECK;

#endif
