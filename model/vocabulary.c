#include "model/vocabulary.h"

#include "base/buffer.h"
#include "base/hash.h"
#include "model/backbone.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX ((uint64_t)UINT32_MAX / 2) /* indices, and twice as many slots, in 32 bits */

struct slot {
	uint64_t hash;
	uint32_t index; /* 0 (padding, no item's index): empty */
};

struct vocabulary {
	struct slot *slots;
	uint64_t mask; /* slots - 1, slots a power of two */
	uint32_t size;
};

/* Item ids as the file holds them, while the table is built. */
struct ids {
	uint32_t count;
	json_t *array;          /* from the metadata, or NULL: */
	const uint8_t *bytes;   /* from the tensors */
	const uint8_t *offsets; /* I64, unaligned */
};

static int64_t offset_at(const struct ids *ids, uint64_t at)
{
	int64_t value;
	memcpy(&value, ids->offsets + at * sizeof value, sizeof value);
	return value;
}

/* The id's bytes; `number` is where a whole number becomes text. */
static struct slice id_at(const struct ids *ids, uint32_t at, char number[24])
{
	if (ids->array == NULL) {
		int64_t begin = offset_at(ids, at);
		return (struct slice){ ids->bytes + begin, (size_t)(offset_at(ids, (uint64_t)at + 1) - begin) };
	}
	const json_t *value = json_array_get(ids->array, at);
	if (json_is_string(value))
		return (struct slice){ (const uint8_t *)json_string_value(value), json_string_length(value) };
	int n = snprintf(number, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	return (struct slice){ (const uint8_t *)number, (size_t)n };
}

static enum status load_array(const char *text, struct ids *ids, struct error *err)
{
	json_error_t why;
	ids->array = json_loads(text, 0, &why);
	if (ids->array == NULL && json_error_code(&why) == json_error_out_of_memory)
		return error_set_memory(err);
	if (!json_is_array(ids->array))
		return error_set(err, STATUS_DATA, "vocabulary: no JSON array%s%s", ids->array == NULL ? ": " : "",
				 ids->array == NULL ? why.text : "");
	if (json_array_size(ids->array) > ITEMS_MAX)
		return error_set(err, STATUS_DATA, "vocabulary: more than %" PRIu64 " items", ITEMS_MAX);
	ids->count = (uint32_t)json_array_size(ids->array);
	for (uint32_t i = 0; i < ids->count; i++) {
		const json_t *value = json_array_get(ids->array, i);
		if (!json_is_string(value) && !json_is_integer(value))
			return error_set(err, STATUS_DATA, "vocabulary: entry %" PRIu32 " is no string", i);
	}
	return STATUS_OK;
}

static enum status check_offsets(const struct ids *ids, uint64_t bytes, struct error *err)
{
	int64_t last = 0;
	if (offset_at(ids, 0) != 0)
		return error_set(err, STATUS_DATA, "vocabulary.offsets: the first is not 0");
	for (uint64_t i = 1; i <= ids->count; i++) {
		int64_t next = offset_at(ids, i);
		if (next < last || (uint64_t)next > bytes)
			return error_set(err, STATUS_DATA, "vocabulary.offsets: value %" PRIu64 " is out of order", i);
		last = next;
	}
	if ((uint64_t)last != bytes)
		return error_set(err, STATUS_DATA,
				 "vocabulary.offsets: the last is not the length of vocabulary.bytes");
	return STATUS_OK;
}

static enum status load_tensors(const struct safetensors_tensor *bytes, const struct safetensors_tensor *offsets,
				struct ids *ids, struct error *err)
{
	if (bytes == NULL || offsets == NULL)
		return error_set(err, STATUS_DATA, "vocabulary: neither the metadata key nor both tensors are there");
	if (bytes->type != SAFETENSORS_U8 || bytes->rank != 1)
		return error_set(err, STATUS_DATA, "vocabulary.bytes: not U8 with one dimension");
	if (offsets->type != SAFETENSORS_I64 || offsets->rank != 1 || offsets->shape[0] == 0)
		return error_set(err, STATUS_DATA, "vocabulary.offsets: not I64 with one dimension of at least 1");
	if (offsets->shape[0] - 1 > ITEMS_MAX)
		return error_set(err, STATUS_DATA, "vocabulary: more than %" PRIu64 " items", ITEMS_MAX);
	ids->count = (uint32_t)(offsets->shape[0] - 1);
	ids->bytes = bytes->data;
	ids->offsets = offsets->data;
	return check_offsets(ids, bytes->shape[0], err);
}

static enum status load_ids(const struct safetensors *st, struct ids *ids, struct error *err)
{
	const char *text = safetensors_metadata(st, "vocabulary");
	const struct safetensors_tensor *bytes = safetensors_find(st, "vocabulary.bytes");
	const struct safetensors_tensor *offsets = safetensors_find(st, "vocabulary.offsets");
	if (text == NULL)
		return load_tensors(bytes, offsets, ids, err);
	if (bytes != NULL || offsets != NULL)
		return error_set(err, STATUS_DATA, "vocabulary: both as metadata and as a tensor");
	return load_array(text, ids, err);
}

static struct slot *find_slot(const struct vocabulary *v, uint64_t hash)
{
	uint64_t at = hash & v->mask;
	while (v->slots[at].index != BACKBONE_PAD && v->slots[at].hash != hash)
		at = (at + 1) & v->mask;
	return &v->slots[at];
}

static enum status insert_all(struct vocabulary *v, const struct ids *ids, struct error *err)
{
	char number[24];
	char other_number[24];
	for (uint32_t i = 0; i < ids->count; i++) {
		struct slice id = id_at(ids, i, number);
		if (id.length == 0)
			return error_set(err, STATUS_DATA, "vocabulary: entry %" PRIu32 " is empty", i);
		uint64_t hash = hash_item(id.data, id.length);
		struct slot *slot = find_slot(v, hash);
		if (slot->index == BACKBONE_PAD) {
			*slot = (struct slot){ hash, i + BACKBONE_FIRST_ITEM };
			continue;
		}
		uint32_t first = slot->index - BACKBONE_FIRST_ITEM;
		struct slice other = id_at(ids, first, other_number);
		bool equal = id.length == other.length && memcmp(id.data, other.data, id.length) == 0;
		return error_set(err, STATUS_DATA, "vocabulary: entries %" PRIu32 " and %" PRIu32 " %s ('%.*s')", first,
				 i, equal ? "are equal" : "have one 64-bit hash",
				 (int)(id.length < 64 ? id.length : 64), (const char *)id.data);
	}
	return STATUS_OK;
}

static enum status build(const struct ids *ids, struct vocabulary **ret, struct error *err)
{
	uint64_t slots = 16;
	while (slots < 2 * (uint64_t)ids->count)
		slots *= 2;
	struct vocabulary *v = calloc(1, sizeof *v);
	if (v == NULL)
		return error_set_memory(err);
	v->slots = calloc(slots, sizeof v->slots[0]);
	v->mask = slots - 1;
	v->size = ids->count;
	enum status status = v->slots == NULL ? error_set_memory(err) : insert_all(v, ids, err);
	if (status != STATUS_OK) {
		vocabulary_free(v);
		return status;
	}
	*ret = v;
	return STATUS_OK;
}

enum status vocabulary_load(const struct safetensors *st, struct vocabulary **ret, struct error *err)
{
	struct ids ids = { 0 };
	enum status status = load_ids(st, &ids, err);
	if (status == STATUS_OK)
		status = build(&ids, ret, err);
	json_decref(ids.array);
	return status;
}

void vocabulary_free(struct vocabulary *v)
{
	if (v == NULL)
		return;
	free(v->slots);
	free(v);
}

uint32_t vocabulary_size(const struct vocabulary *v)
{
	return v->size;
}

uint32_t vocabulary_index(const struct vocabulary *v, uint64_t item_hash)
{
	const struct slot *slot = find_slot(v, item_hash);
	return slot->index == BACKBONE_PAD ? BACKBONE_OOV : slot->index;
}
