#include "io/patch_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct chunk {
	bool present;
	uint8_t *data; /* [length]; NULL where bytes are not kept */
	size_t length;
};

struct chunks {
	struct chunk *items; /* [room]; slot's `chunks` says how many matter */
	uint32_t room;
};

struct task {
	struct patch_entry entry; /* first: an entry is its task */
	struct chunks chunks[PATCH_SLOTS];
	struct task *other; /* its records in another partition, NULL: there are no more */
	UT_hash_handle hh;  /* of the first one only */
	char name[];
};

struct patch_table {
	struct task *tasks;
	bool checkpoints;
	char refusal[320];
};

enum status patch_table_new(bool checkpoints, struct patch_table **ret, struct error *err)
{
	struct patch_table *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	t->checkpoints = checkpoints;
	*ret = t;
	return STATUS_OK;
}

static void decision_free(struct patch_record *record)
{
	patch_record_clear(record);
	free(record);
}

static void task_free(struct task *task)
{
	struct patch_entry *e = &task->entry;
	for (size_t i = 0; i < e->decision_count; i++)
		decision_free(e->decisions[i]);
	free(e->decisions);
	for (size_t s = 0; s < PATCH_SLOTS; s++) {
		for (uint32_t i = 0; i < e->slots[s].chunks; i++)
			free(task->chunks[s].items[i].data);
		free(task->chunks[s].items);
		patch_record_clear(&e->slots[s].record);
	}
	free(task);
}

void patch_table_free(struct patch_table *t)
{
	struct task *task, *next;
	if (!t)
		return;
	HASH_ITER(hh, t->tasks, task, next)
	{
		HASH_DEL(t->tasks, task);
		while (task) {
			struct task *other = task->other;
			task_free(task);
			task = other;
		}
	}
	free(t);
}

/* ---- tasks ---- */

static struct task *find(const struct patch_table *t, struct slice name)
{
	struct task *task = NULL;
	HASH_FIND(hh, t->tasks, name.data, name.length, task);
	return task;
}

static int by_name(const struct task *a, const struct task *b)
{
	return strcmp(a->name, b->name);
}

/* `first`: the task's records in another partition, NULL: there are none yet. */
static struct task *add(struct patch_table *t, struct task *first, struct slice name, int32_t partition)
{
	struct task *task = calloc(1, sizeof *task + name.length + 1);
	if (!task)
		return NULL;
	memcpy(task->name, name.data, name.length);
	task->entry.task = task->name;
	task->entry.partition = partition;
	for (size_t s = 0; s < PATCH_SLOTS; s++)
		task->entry.slots[s].offset = -1;
	if (first) {
		task->other = first->other;
		first->other = task;
		return task;
	}
	HASH_ADD_KEYPTR_INORDER(hh, t->tasks, task->name, name.length, task, by_name);
	if (!task->hh.tbl) { /* uthash found no memory */
		free(task);
		return NULL;
	}
	return task;
}

/* Where the task is: in the lowest partition with a decision. A chunk or a tombstone that strayed elsewhere, by somebody's other
 * partitioner, moves nothing. */
static const struct patch_entry *chosen(const struct task *first)
{
	const struct patch_entry *best = &first->entry;
	for (const struct task *task = first->other; task; task = task->other) {
		const struct patch_entry *e = &task->entry;
		const bool decided = e->decision_count > 0;
		if (decided != (best->decision_count > 0) ? decided : e->partition < best->partition)
			best = e;
	}
	return best;
}

const struct patch_entry *patch_table_find(const struct patch_table *t, const char *task)
{
	const struct task *found = find(t, (struct slice){ (const uint8_t *)task, strlen(task) });
	return found ? chosen(found) : NULL;
}

const struct patch_entry *patch_table_next(const struct patch_table *t, const struct patch_entry *entry)
{
	const struct task *next = t->tasks;
	if (entry)
		next = find(t, (struct slice){ (const uint8_t *)entry->task, strlen(entry->task) })->hh.next;
	return next ? chosen(next) : NULL;
}

/* ---- decisions ---- */

/* Takes the record at that place out, if there is one. */
static void remove_place(struct patch_entry *e, uint32_t place)
{
	for (size_t i = 0; i < e->decision_count; i++) {
		if (e->decisions[i]->number % PATCH_DECISIONS != place)
			continue;
		decision_free(e->decisions[i]);
		e->decision_count--;
		memmove(e->decisions + i, e->decisions + i + 1, (e->decision_count - i) * sizeof *e->decisions);
		return;
	}
}

static bool is_task(const struct patch_record *record, struct slice name)
{
	return strlen(record->task) == name.length && memcmp(record->task, name.data, name.length) == 0;
}

/* A record that stands under a key: *ret_reason says what is wrong with it. Errors: STATUS_MEMORY. */
static enum status judge(const struct patch_key *key, struct slice value, struct patch_record *ret,
			 struct error *ret_reason, bool *ret_fine, struct error *err)
{
	*ret_fine = false;
	switch (patch_record_decode(value, ret, ret_reason)) {
	case STATUS_OK:
		break;
	case STATUS_DATA:
		return STATUS_OK;
	default:
		*err = *ret_reason;
		return err->status;
	}
	if (!is_task(ret, key->task))
		(void)error_set(ret_reason, STATUS_DATA, "task: %s is not the key's", ret->task);
	else if (key->kind == PATCH_KEY_DECISION && ret->number % PATCH_DECISIONS != key->number)
		(void)error_set(ret_reason, STATUS_DATA, "number: %llu is not at its place",
				(unsigned long long)ret->number);
	else if (key->kind == PATCH_KEY_MANIFEST && (!ret->has_weights || ret->weights.slot != key->slot))
		(void)error_set(ret_reason, STATUS_DATA, "weights: of another slot, or none");
	else
		*ret_fine = true;
	if (!*ret_fine)
		patch_record_clear(ret);
	return STATUS_OK;
}

static enum status take_decision(struct patch_table *t, struct task *task, const struct patch_key *key,
				 struct slice value, struct patch_change *change, struct error *err)
{
	struct patch_entry *e = &task->entry;
	struct patch_record *record = NULL;
	struct error reason;
	bool fine = false;
	if (value.data) {
		record = calloc(1, sizeof *record);
		struct patch_record **more = reallocarray(e->decisions, e->decision_count + 1, sizeof *e->decisions);
		if (more)
			e->decisions = more;
		enum status status =
			record && more ? judge(key, value, record, &reason, &fine, err) : error_set_memory(err);
		if (status) {
			free(record);
			return status;
		}
	}
	remove_place(e, key->number);
	if (!fine) {
		free(record);
		if (value.data) {
			(void)snprintf(t->refusal, sizeof t->refusal, "%s", reason.text);
			change->refusal = t->refusal;
		}
		return STATUS_OK;
	}
	size_t at = e->decision_count;
	while (at > 0 && e->decisions[at - 1]->number > record->number)
		at--;
	memmove(e->decisions + at + 1, e->decisions + at, (e->decision_count - at) * sizeof *e->decisions);
	e->decisions[at] = record;
	e->decision_count++;
	return STATUS_OK;
}

/* ---- slots ---- */

static bool keeps(const struct patch_table *t, uint32_t slot)
{
	return t->checkpoints || !patch_slot_is_checkpoint(slot);
}

static enum status make_room(struct chunks *chunks, uint32_t count, struct error *err)
{
	if (count <= chunks->room)
		return STATUS_OK;
	struct chunk *items = reallocarray(chunks->items, count, sizeof *items);
	if (!items)
		return error_set_memory(err);
	memset(items + chunks->room, 0, (count - chunks->room) * sizeof *items);
	chunks->items = items;
	chunks->room = count;
	return STATUS_OK;
}

static void vacate(struct patch_slot *slot, enum patch_slot_state state)
{
	patch_record_clear(&slot->record);
	slot->state = state;
	slot->reason[0] = '\0';
}

static enum status take_chunk(struct patch_table *t, struct task *task, const struct patch_key *key, struct slice value,
			      struct error *err)
{
	struct patch_slot *slot = &task->entry.slots[key->slot];
	struct chunks *chunks = &task->chunks[key->slot];
	struct chunk news = { value.data != NULL, NULL, value.length };
	if (!news.present && key->number >= slot->chunks)
		return STATUS_OK;
	if (make_room(chunks, key->number + 1, err) != STATUS_OK)
		return err->status;
	if (news.present && keeps(t, key->slot)) {
		news.data = malloc(value.length ? value.length : 1);
		if (!news.data)
			return error_set_memory(err);
		memcpy(news.data, value.data, value.length);
	}
	free(chunks->items[key->number].data);
	chunks->items[key->number] = news;
	if (slot->chunks < key->number + 1)
		slot->chunks = key->number + 1;
	while (slot->chunks > 0 && !chunks->items[slot->chunks - 1].present)
		slot->chunks--;
	const bool stood = slot->state == PATCH_SLOT_WHOLE || slot->state == PATCH_SLOT_UNREAD;
	if (stood && key->number < slot->record.weights.chunks) {
		vacate(slot, PATCH_SLOT_BROKEN);
		(void)snprintf(slot->reason, sizeof slot->reason, "chunk %u is newer than the manifest", key->number);
	}
	return STATUS_OK;
}

/* Appends the chunks of a slot, which are all there. */
static enum status assemble(const struct chunks *chunks, uint32_t count, struct buffer *out, struct error *err)
{
	for (uint32_t i = 0; i < count; i++)
		buffer_append(out, chunks->items[i].data, chunks->items[i].length);
	return out->failed ? error_set_memory(err) : STATUS_OK;
}

/* Whether the chunks are those of the manifest: *ret_reason is empty then. */
static enum status inspect(const struct patch_slot *slot, const struct chunks *chunks, const struct patch_weights *w,
			   bool kept, char *ret_reason, size_t size, struct error *err)
{
	char sum[HASH_HEX_LENGTH + 1];
	uint64_t bytes = 0;
	ret_reason[0] = '\0';
	for (uint32_t i = 0; i < w->chunks; i++) {
		if (i >= slot->chunks || !chunks->items[i].present) {
			(void)snprintf(ret_reason, size, "chunk %u of %u is not there", i, w->chunks);
			return STATUS_OK;
		}
		bytes += chunks->items[i].length;
	}
	if (bytes != w->bytes) {
		(void)snprintf(ret_reason, size, "%llu bytes, the manifest says %llu", (unsigned long long)bytes,
			       (unsigned long long)w->bytes);
		return STATUS_OK;
	}
	if (!kept)
		return STATUS_OK;
	struct buffer all = { 0 };
	enum status status = assemble(chunks, w->chunks, &all, err);
	if (status == STATUS_OK) {
		hash_sha256_hex(all.data, all.length, sum);
		if (strcmp(sum, w->sha256) != 0)
			(void)snprintf(ret_reason, size, "the bytes' SHA-256 is not the manifest's");
	}
	buffer_free(&all);
	return status;
}

static enum status take_manifest(struct patch_table *t, struct task *task, const struct patch_key *key,
				 struct slice value, int64_t offset, struct patch_change *change, struct error *err)
{
	struct patch_slot *slot = &task->entry.slots[key->slot];
	struct patch_record record = { 0 };
	struct error why = { 0 };
	char reason[sizeof slot->reason] = "";
	const bool kept = keeps(t, key->slot);
	bool fine = false;
	enum status status = value.data ? judge(key, value, &record, &why, &fine, err) : STATUS_OK;
	if (status == STATUS_OK && fine)
		status = inspect(slot, &task->chunks[key->slot], &record.weights, kept, reason, sizeof reason, err);
	if (status != STATUS_OK) {
		patch_record_clear(&record);
		return status;
	}
	slot->offset = offset;
	if (fine && !*reason) {
		vacate(slot, kept ? PATCH_SLOT_WHOLE : PATCH_SLOT_UNREAD);
		slot->record = record;
		return STATUS_OK;
	}
	patch_record_clear(&record);
	vacate(slot, value.data ? PATCH_SLOT_BROKEN : PATCH_SLOT_EMPTY);
	if (!value.data)
		return STATUS_OK;
	(void)snprintf(slot->reason, sizeof slot->reason, "%s", fine ? reason : why.text);
	change->refusal = slot->reason;
	return STATUS_OK;
}

/* ---- records ---- */

enum status patch_table_apply(struct patch_table *t, struct slice key, struct slice value, int32_t partition,
			      int64_t offset, struct patch_change *ret, struct error *err)
{
	struct patch_change change = { 0 };
	struct patch_key k;
	if (!patch_key_parse(key, &k)) {
		ret->entry = NULL;
		ret->refusal = "the key is not a patch's";
		return STATUS_OK;
	}
	struct task *first = find(t, k.task);
	struct task *task = first;
	while (task && task->entry.partition != partition)
		task = task->other;
	if (!task && !(task = add(t, first, k.task, partition)))
		return error_set_memory(err);
	enum status status = STATUS_OK;
	change.entry = &task->entry;
	change.kind = k.kind;
	change.slot = k.slot;
	switch (k.kind) {
	case PATCH_KEY_CHUNK:
		status = take_chunk(t, task, &k, value, err);
		break;
	case PATCH_KEY_MANIFEST:
		status = take_manifest(t, task, &k, value, offset, &change, err);
		break;
	case PATCH_KEY_DECISION:
		status = take_decision(t, task, &k, value, &change, err);
		break;
	}
	if (first && chosen(first) != &task->entry) {
		change.entry = NULL;
		change.refusal = "the task's records stand in another partition";
	}
	if (status == STATUS_OK)
		*ret = change;
	return status;
}

/* ---- questions ---- */

const struct patch_record *patch_entry_newest(const struct patch_entry *e)
{
	return e->decision_count ? e->decisions[e->decision_count - 1] : NULL;
}

const struct patch_slot *patch_entry_version(const struct patch_entry *e, const char *patch)
{
	const struct patch_slot *found = NULL;
	for (uint32_t s = 0; s < PATCH_VERSION_SLOTS; s++) {
		const struct patch_slot *slot = &e->slots[s];
		if (slot->state == PATCH_SLOT_WHOLE && !strcmp(slot->record.patch, patch) &&
		    (!found || slot->offset > found->offset))
			found = slot;
	}
	return found;
}

const struct patch_slot *patch_entry_live(const struct patch_entry *e)
{
	const struct patch_record *newest = patch_entry_newest(e);
	return newest ? patch_entry_version(e, newest->patch) : NULL;
}

const struct patch_slot *patch_entry_predecessor(const struct patch_entry *e)
{
	const struct patch_record *newest = patch_entry_newest(e);
	return newest ? patch_entry_version(e, newest->predecessor) : NULL;
}

const struct patch_slot *patch_entry_checkpoint(const struct patch_entry *e)
{
	const struct patch_slot *found = NULL;
	for (uint32_t s = PATCH_VERSION_SLOTS; s < PATCH_SLOTS; s++)
		if (e->slots[s].state == PATCH_SLOT_WHOLE && (!found || e->slots[s].offset > found->offset))
			found = &e->slots[s];
	return found;
}

enum status patch_entry_bytes(const struct patch_entry *e, const struct patch_slot *slot, struct buffer *out,
			      struct error *err)
{
	const struct task *task = (const struct task *)(const void *)e;
	const size_t number = (size_t)(slot - e->slots);
	if (slot->state != PATCH_SLOT_WHOLE)
		return error_set(err, STATUS_DATA, "task %s: slot %zu: %s", e->task, number,
				 *slot->reason ? slot->reason : "holds no bytes");
	return assemble(&task->chunks[number], slot->record.weights.chunks, out, err);
}
