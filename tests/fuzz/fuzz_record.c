/* Records of the changelog and the store from any bytes: nothing but a status comes of damage, and what is accepted
 * encodes to something that decodes to the same. The first byte chooses whether the checksum is made right, so that the
 * fuzzer gets past it. */
#include "base/hash.h"
#include "io/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

static void try_user(struct slice value)
{
	struct sequence s = { 0 };
	struct sequence back = { 0 };
	struct buffer out = { 0 };
	struct error err;
	int64_t offset;
	int64_t offset_back;
	if (record_user_decode(value, &s, &offset, &err) == STATUS_OK) {
		record_user_encode(&s, offset, &out);
		check(!out.failed);
		check(record_user_decode((struct slice){ out.data, out.length }, &back, &offset_back, &err) ==
		      STATUS_OK);
		check(offset_back == offset && back.length == s.length);
		check(s.length == 0 || memcmp(back.events, s.events, s.length * sizeof *s.events) == 0);
	}
	buffer_free(&out);
	sequence_free(&s);
	sequence_free(&back);
}

static void try_position(struct slice value)
{
	struct position p;
	struct position back;
	struct buffer out = { 0 };
	struct error err;
	if (record_position_decode(value, &p, &err) == STATUS_OK) {
		record_position_encode(&p, &out);
		check(record_position_decode((struct slice){ out.data, out.length }, &back, &err) == STATUS_OK);
		check(memcmp(&p, &back, sizeof p) == 0);
	}
	buffer_free(&out);
}

static int same(struct slice a, struct slice b)
{
	return a.length == b.length && !a.data == !b.data && (a.length == 0 || !memcmp(a.data, b.data, a.length));
}

static void try_label(struct slice value)
{
	struct record_label label;
	struct record_label back;
	struct buffer out = { 0 };
	struct error err;
	if (record_label_decode(value, &label, &err) == STATUS_OK) {
		record_label_encode(&label, &out);
		check(!out.failed);
		check(record_label_decode((struct slice){ out.data, out.length }, &back, &err) == STATUS_OK);
		check(back.offset == label.offset && back.until_ms == label.until_ms &&
		      back.deadline_ms == label.deadline_ms && back.appended_ms == label.appended_ms);
		check(same(back.key, label.key) && same(back.value, label.value) && same(back.headers, label.headers));
	}
	buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice id = { NULL, 0 };
	if (size < 1)
		return 0;
	uint8_t *copy = malloc(size - 1 + 4); /* exactly as long as it is: the sanitizer sees the first byte beyond */
	if (!copy)
		return 0;
	size_t length = size - 1;
	if (length > 0)
		memcpy(copy, data + 1, length);
	if (data[0] & 1) {
		uint32_t sum = hash_checksum(copy, length);
		for (int i = 0; i < 4; i++)
			copy[length++] = (uint8_t)(sum >> 8 * i);
	}
	uint8_t *exact = realloc(copy, length ? length : 1);
	copy = exact ? exact : copy;
	struct slice value = { copy, length };
	try_user(value);
	try_position(value);
	try_label(value);
	enum record_kind kind = record_key_parse(value, &id);
	if (kind == RECORD_USER || kind == RECORD_OWED)
		check(id.length >= 1 && id.length <= USER_ID_MAX_BYTES && id.data >= copy &&
		      id.data + id.length <= copy + length);
	free(copy);
	return 0;
}
