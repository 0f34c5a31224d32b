#include "io/patch_plan.h"

#include <string.h>

static void copy_hash(char to[HASH_HEX_LENGTH + 1], const char from[HASH_HEX_LENGTH + 1])
{
	memcpy(to, from, HASH_HEX_LENGTH + 1);
}

void patch_plan_begin(const struct patch_entry *entry, struct patch_plan *ret)
{
	*ret = (struct patch_plan){ .partition = -1, .number = 1 };
	if (!entry)
		return;
	const struct patch_record *newest = patch_entry_newest(entry);
	ret->partition = entry->partition;
	if (newest) {
		ret->number = newest->number + 1;
		copy_hash(ret->live, newest->patch);
		copy_hash(ret->predecessor, newest->predecessor);
	}
	for (uint32_t s = 0; s < PATCH_SLOTS; s++) {
		const struct patch_slot *slot = &entry->slots[s];
		ret->slots[s].chunks = slot->chunks;
		if (slot->state != PATCH_SLOT_WHOLE && slot->state != PATCH_SLOT_UNREAD)
			continue;
		copy_hash(ret->slots[s].sha256, slot->record.weights.sha256);
		ret->slots[s].written = (uint64_t)slot->offset + 1;
		if (ret->writes < ret->slots[s].written)
			ret->writes = ret->slots[s].written;
	}
}

/* The version's slot, PATCH_SLOTS: none. Readers take the newest where there are two, and so does this. */
static uint32_t find_version(const struct patch_plan *p, const char *patch)
{
	uint32_t found = PATCH_SLOTS;
	for (uint32_t s = 0; s < PATCH_VERSION_SLOTS && *patch; s++)
		if (!strcmp(p->slots[s].sha256, patch) &&
		    (found == PATCH_SLOTS || p->slots[s].written > p->slots[found].written))
			found = s;
	return found;
}

/* At most three of four versions' slots are taken; of two checkpoints' the newest is not the oldest. */
uint32_t patch_plan_slot(const struct patch_plan *p, const struct patch_record *record)
{
	const bool checkpoint = record->decision == PATCH_CHECKPOINT;
	const uint32_t first = checkpoint ? PATCH_VERSION_SLOTS : 0;
	const uint32_t end = checkpoint ? PATCH_SLOTS : PATCH_VERSION_SLOTS;
	const uint32_t taken[] = { find_version(p, p->live), find_version(p, p->predecessor),
				   find_version(p, record->predecessor) };
	uint32_t best = PATCH_SLOTS;
	for (uint32_t s = first; s < end; s++) {
		if (s == taken[0] || s == taken[1] || s == taken[2])
			continue;
		/* what is not whole has never been written */
		const uint64_t written = *p->slots[s].sha256 ? p->slots[s].written : 0;
		if (best == PATCH_SLOTS || written < (*p->slots[best].sha256 ? p->slots[best].written : 0))
			best = s;
	}
	return best;
}

void patch_plan_note(struct patch_plan *p, const struct patch_record *record)
{
	const struct patch_weights *w = &record->weights;
	if (p->number <= record->number)
		p->number = record->number + 1;
	copy_hash(p->live, record->patch);
	copy_hash(p->predecessor, record->predecessor);
	if (!record->has_weights)
		return;
	copy_hash(p->slots[w->slot].sha256, w->sha256);
	p->slots[w->slot].written = ++p->writes;
	p->slots[w->slot].chunks = w->chunks;
}
