#include "io/task_table.h"

#include "io/task_record.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct slot {
	struct task_entry entry; /* first: an entry is its slot */
	UT_hash_handle hh;
	char key[];
};

struct task_table {
	struct task_judge judge; /* without a function: none */
	struct slot *slots;
};

enum status task_table_new(const struct task_judge *judge, struct task_table **ret, struct error *err)
{
	struct task_table *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	if (judge)
		t->judge = *judge;
	*ret = t;
	return STATUS_OK;
}

static void slot_free(struct slot *slot)
{
	config_task_clear(&slot->entry.task);
	free(slot->entry.reason);
	free(slot);
}

void task_table_free(struct task_table *t)
{
	struct slot *slot, *next;
	if (!t)
		return;
	HASH_ITER(hh, t->slots, slot, next)
	{
		HASH_DEL(t->slots, slot);
		slot_free(slot);
	}
	free(t);
}

static struct task_entry *find(const struct task_table *t, struct slice key)
{
	struct slot *slot = NULL;
	HASH_FIND(hh, t->slots, key.data, key.length, slot);
	return slot ? &slot->entry : NULL;
}

const struct task_entry *task_table_find(const struct task_table *t, struct slice key)
{
	return find(t, key);
}

const struct task_entry *task_table_next(const struct task_table *t, const struct task_entry *entry)
{
	const struct slot *next = entry ? ((const struct slot *)(const void *)entry)->hh.next : t->slots;
	return next ? &next->entry : NULL;
}

static int by_key(const struct slot *x, const struct slot *y)
{
	const struct task_entry *a = &x->entry, *b = &y->entry;
	const size_t length = a->key_length < b->key_length ? a->key_length : b->key_length;
	const int order = memcmp(a->key, b->key, length);
	return order ? order : (a->key_length > b->key_length) - (a->key_length < b->key_length);
}

static struct task_entry *add(struct task_table *t, struct slice key)
{
	struct slot *slot = calloc(1, sizeof *slot + key.length + 1);
	if (!slot)
		return NULL;
	memcpy(slot->key, key.data, key.length);
	slot->entry.key = slot->key;
	slot->entry.key_length = key.length;
	HASH_ADD_KEYPTR_INORDER(hh, t->slots, slot->key, key.length, slot, by_key);
	if (!slot->hh.tbl) { /* uthash found no memory */
		free(slot);
		return NULL;
	}
	return &slot->entry;
}

/* A partitioner that changed, or a topic that grew, leaves records of one key in two partitions: times tell then. What is
 * refused hides nothing, whichever partition is read first. */
static bool is_older(const struct task_entry *entry, const struct task_place *place)
{
	if (!entry->sound || entry->place.partition == place->partition)
		return false;
	if (entry->place.timestamp_ms != place->timestamp_ms)
		return place->timestamp_ms < entry->place.timestamp_ms;
	return place->partition < entry->place.partition;
}

/* What a record says: an entry without its key. */
static enum status judge(const struct task_table *t, struct slice key, struct slice value, struct task_entry *ret,
			 struct error *err)
{
	struct error why;
	if (!value.data) {
		ret->state = TASK_REMOVED;
		return STATUS_OK;
	}
	enum status status = task_record_decode(key, value, &ret->task, &why);
	if (!status && t->judge.fits)
		status = t->judge.fits(t->judge.arg, &ret->task, &why);
	if (!status)
		status = config_task_hash(&ret->task, ret->definition, &why);
	if (status == STATUS_DATA) {
		config_task_clear(&ret->task);
		ret->state = TASK_REFUSED;
		ret->reason = strdup(why.text);
		return ret->reason ? STATUS_OK : error_set_memory(err);
	}
	if (status) {
		*err = why;
		return status;
	}
	ret->state = TASK_VALID;
	ret->defined = true;
	return STATUS_OK;
}

static void adopt(struct task_entry *entry, struct task_entry *news, const struct task_place *place)
{
	free(entry->reason);
	entry->reason = news->reason;
	entry->state = news->state;
	if (news->state != TASK_REFUSED || !entry->sound)
		entry->place = *place;
	if (news->state == TASK_REFUSED)
		return;
	entry->sound = true;
	config_task_clear(&entry->task);
	entry->task = news->task;
	entry->defined = news->defined;
	memcpy(entry->definition, news->definition, sizeof entry->definition);
}

enum status task_table_apply(struct task_table *t, struct slice key, struct slice value, const struct task_place *place,
			     const struct task_entry **ret, struct error *err)
{
	struct task_entry news = { 0 };
	struct task_entry *entry = key.data ? find(t, key) : NULL;
	if (!key.data || (entry && is_older(entry, place))) {
		*ret = NULL;
		return STATUS_OK;
	}
	enum status status = judge(t, key, value, &news, err);
	if (!status && !entry && !(entry = add(t, key)))
		status = error_set_memory(err);
	if (status) {
		config_task_clear(&news.task);
		free(news.reason);
		return status;
	}
	adopt(entry, &news, place);
	*ret = entry;
	return STATUS_OK;
}
