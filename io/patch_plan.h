/* Where a writer's next record of a task goes: its number, slot and partition.
 *
 * The plan of whoever is a task's only writer knows what it has written before the topic shows it. A plain value: copy it before
 * a transaction, and go back to the copy where that is aborted. Pure. */
#ifndef IO_PATCH_PLAN_H
#define IO_PATCH_PLAN_H

#include "io/patch_table.h"

struct patch_plan {
	int32_t partition; /* where the task's records stand, -1: there are none yet */
	uint64_t number;   /* of the next record, from 1 */
	uint64_t writes;   /* order of what is in the slots */
	char live[HASH_HEX_LENGTH + 1];
	char predecessor[HASH_HEX_LENGTH + 1];
	struct {
		char sha256[HASH_HEX_LENGTH + 1]; /* "" nothing whole */
		uint64_t written;                 /* the higher the later */
		uint32_t chunks;                  /* that are there, whole or not */
	} slots[PATCH_SLOTS];
};

/* From a topic that was read to its end. `entry` NULL: a task that is new. */
void patch_plan_begin(const struct patch_entry *entry, struct patch_plan *ret);

/* The slot for a record's bytes: never that of the live version, of its predecessor (the record's is one too) or of the newest
 * checkpoint; of the others a broken one or else the oldest. */
uint32_t patch_plan_slot(const struct patch_plan *p, const struct patch_record *record);

/* The record was written, its bytes in record->weights.slot where it has any. */
void patch_plan_note(struct patch_plan *p, const struct patch_record *record);

#endif
