#include "io/patch_key.h"

#include <stdio.h>
#include <string.h>

static const char manifest[] = "manifest";
static const char decision[] = "decision";

bool patch_key_is_task(struct slice name)
{
	if (!name.data || name.length < 1 || name.length > PATCH_NAME_AT_MOST)
		return false;
	for (size_t i = 0; i < name.length; i++) {
		const uint8_t c = name.data[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '.' &&
		    c != '_' && c != '-')
			return false;
	}
	return true;
}

/* What stands before the next slash, or the end; the rest behind it. */
static struct slice take_part(struct slice *rest)
{
	const uint8_t *slash = rest->length ? memchr(rest->data, '/', rest->length) : NULL;
	struct slice part = { rest->data, slash ? (size_t)(slash - rest->data) : rest->length };
	const size_t taken = part.length + (slash != NULL);
	*rest = (struct slice){ rest->data + taken, rest->length - taken };
	return part;
}

static bool is_word(struct slice part, const char *word)
{
	return part.length == strlen(word) && memcmp(part.data, word, part.length) == 0;
}

static bool take_number(struct slice part, uint32_t below, uint32_t *ret)
{
	uint32_t number = 0;
	if (part.length < 1 || part.length > 4 || (part.length > 1 && part.data[0] == '0'))
		return false;
	for (size_t i = 0; i < part.length; i++) {
		if (part.data[i] < '0' || part.data[i] > '9')
			return false;
		number = number * 10 + (uint32_t)(part.data[i] - '0');
	}
	*ret = number;
	return number < below;
}

bool patch_key_parse(struct slice key, struct patch_key *ret)
{
	struct patch_key k = { 0 };
	if (!key.data || key.length >= PATCH_KEY_SIZE || key.data[key.length ? key.length - 1 : 0] == '/')
		return false;
	struct slice rest = key;
	k.task = take_part(&rest);
	const struct slice middle = take_part(&rest);
	const struct slice last = take_part(&rest);
	if (!patch_key_is_task(k.task) || rest.length)
		return false;
	if (is_word(middle, decision)) {
		k.kind = PATCH_KEY_DECISION;
		if (!take_number(last, PATCH_DECISIONS, &k.number))
			return false;
	} else if (!take_number(middle, PATCH_SLOTS, &k.slot)) {
		return false;
	} else if (is_word(last, manifest)) {
		k.kind = PATCH_KEY_MANIFEST;
	} else if (!take_number(last, PATCH_CHUNKS_AT_MOST, &k.number)) {
		return false;
	}
	*ret = k;
	return true;
}

size_t patch_key_format(const struct patch_key *key, char ret[PATCH_KEY_SIZE])
{
	int length = 0;
	const int task = (int)key->task.length;
	const char *name = (const char *)key->task.data;
	switch (key->kind) {
	case PATCH_KEY_CHUNK:
		length = snprintf(ret, PATCH_KEY_SIZE, "%.*s/%u/%u", task, name, key->slot, key->number);
		break;
	case PATCH_KEY_MANIFEST:
		length = snprintf(ret, PATCH_KEY_SIZE, "%.*s/%u/%s", task, name, key->slot, manifest);
		break;
	case PATCH_KEY_DECISION:
		length = snprintf(ret, PATCH_KEY_SIZE, "%.*s/%s/%u", task, name, decision, key->number);
		break;
	}
	return (size_t)length;
}
