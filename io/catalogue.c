#include "io/catalogue.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct item {
	UT_hash_handle hh;
	uint64_t hash;
	uint64_t count; /* occurrences */
	uint32_t number;
	char id[]; /* NUL-terminated */
};

struct catalogue {
	struct item *by_hash;
	const char **ids; /* [size], of the items */
	struct item **items;
	uint32_t size;
	uint32_t capacity;
};

enum status catalogue_new(struct catalogue **ret, struct error *err)
{
	struct catalogue *c = calloc(1, sizeof *c);
	if (!c)
		return error_set_memory(err);
	*ret = c;
	return STATUS_OK;
}

void catalogue_free(struct catalogue *c)
{
	if (!c)
		return;
	HASH_CLEAR(hh, c->by_hash);
	for (uint32_t i = 0; i < c->size; i++)
		free(c->items[i]);
	free(c->items);
	free(c->ids);
	free(c);
}

static bool make_room(struct catalogue *c)
{
	if (c->size < c->capacity)
		return true;
	uint32_t capacity = c->capacity ? c->capacity + c->capacity / 2 : 1024;
	struct item **items = reallocarray(c->items, capacity, sizeof(struct item *));
	if (items)
		c->items = items;
	const char **ids = items ? reallocarray(c->ids, capacity, sizeof(char *)) : NULL;
	if (!ids)
		return false;
	c->ids = ids;
	c->capacity = capacity;
	return true;
}

static enum status add_new(struct catalogue *c, struct slice id, uint64_t hash, struct error *err)
{
	if (c->size >= CATALOGUE_ABSENT / 2)
		return error_set(err, STATUS_DATA, "more than %u items", CATALOGUE_ABSENT / 2);
	struct item *item = make_room(c) ? malloc(sizeof *item + id.length + 1) : NULL;
	if (!item)
		return error_set_memory(err);
	*item = (struct item){ .hash = hash, .count = 1, .number = c->size };
	memcpy(item->id, id.data, id.length);
	item->id[id.length] = '\0';
	HASH_ADD(hh, c->by_hash, hash, sizeof hash, item);
	if (!item->hh.tbl) { /* uthash found no memory */
		free(item);
		return error_set_memory(err);
	}
	c->items[c->size] = item;
	c->ids[c->size++] = item->id;
	return STATUS_OK;
}

enum status catalogue_add(struct catalogue *c, struct slice item_id, struct error *err)
{
	uint64_t hash = hash_item(item_id.data, item_id.length);
	struct item *item = NULL;
	HASH_FIND(hh, c->by_hash, &hash, sizeof hash, item);
	if (!item)
		return add_new(c, item_id, hash, err);
	if (strlen(item->id) != item_id.length || memcmp(item->id, item_id.data, item_id.length) != 0)
		return error_set(err, STATUS_DATA, "items %.100s and %.*s have the same hash", item->id,
				 item_id.length < 100 ? (int)item_id.length : 100, (const char *)item_id.data);
	item->count++;
	return STATUS_OK;
}

static int by_count(const void *a, const void *b)
{
	const struct item *x = *(const struct item *const *)a;
	const struct item *y = *(const struct item *const *)b;
	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return x->number < y->number ? -1 : 1;
}

void catalogue_rank(struct catalogue *c, uint64_t least)
{
	if (c->size == 0)
		return;
	qsort(c->items, c->size, sizeof(struct item *), by_count);
	while (c->size > 0 && c->items[c->size - 1]->count < least) {
		struct item *item = c->items[--c->size];
		HASH_DEL(c->by_hash, item);
		free(item);
	}
	for (uint32_t i = 0; i < c->size; i++) {
		c->items[i]->number = i;
		c->ids[i] = c->items[i]->id;
	}
}

uint32_t catalogue_size(const struct catalogue *c)
{
	return c->size;
}

uint32_t catalogue_find(const struct catalogue *c, uint64_t item_hash)
{
	struct item *item = NULL;
	HASH_FIND(hh, c->by_hash, &item_hash, sizeof item_hash, item);
	return item ? item->number : CATALOGUE_ABSENT;
}

uint64_t catalogue_count(const struct catalogue *c, uint32_t number)
{
	return c->items[number]->count;
}

const char *const *catalogue_ids(const struct catalogue *c)
{
	return c->ids;
}
