/* Patch records, keys and a table of them on any bytes. What decodes is written again and then stays as it is; a key that parses
 * is formatted to its bytes; what a table calls whole has the bytes of its manifest. */
#include "io/avro_cursor.h"
#include "io/patch_plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool fine)
{
	if (!fine)
		abort();
}

static void try_record(struct slice value)
{
	struct patch_record record, again;
	struct buffer first = { 0 }, second = { 0 };
	struct error err = { 0 };
	if (patch_record_decode(value, &record, &err)) {
		expect(*err.text && !strchr(err.text, '\n'));
		return;
	}
	patch_record_encode(&record, &first);
	expect(!patch_record_decode((struct slice){ first.data, first.length }, &again, &err));
	patch_record_encode(&again, &second);
	expect(first.length == second.length && !memcmp(first.data, second.data, first.length));
	patch_record_clear(&record);
	patch_record_clear(&again);
	buffer_free(&first);
	buffer_free(&second);
}

static void try_key(struct slice key)
{
	struct patch_key k;
	char text[PATCH_KEY_SIZE];
	if (patch_key_parse(key, &k))
		expect(patch_key_format(&k, text) == key.length && !memcmp(text, key.data, key.length));
}

static void check_entry(const struct patch_entry *e)
{
	struct patch_plan plan;
	struct patch_record record = { .decision = PATCH_PROMOTED };
	patch_plan_begin(e, &plan);
	expect(patch_plan_slot(&plan, &record) < PATCH_VERSION_SLOTS);
	expect(&e->slots[patch_plan_slot(&plan, &record)] != patch_entry_live(e));
	for (size_t s = 0; s < PATCH_SLOTS; s++) {
		struct buffer out = { 0 };
		struct error err;
		char sum[HASH_HEX_LENGTH + 1];
		if (!patch_entry_bytes(e, &e->slots[s], &out, &err)) {
			hash_sha256_hex(out.data, out.length, sum);
			expect(!strcmp(sum, e->slots[s].record.weights.sha256));
		}
		buffer_free(&out);
	}
}

/* A log of key and value, each with its length before it. */
static void try_log(const uint8_t *data, size_t size)
{
	struct avro_cursor c = { data, data + size };
	struct patch_table *t;
	struct error err;
	struct slice key, value;
	if (patch_table_new(true, &t, &err))
		return;
	for (int64_t offset = 0; avro_cursor_text(&c, &key) && avro_cursor_text(&c, &value); offset++) {
		struct patch_change change = { 0 };
		if (value.length == 0)
			value.data = NULL;
		try_key(key);
		try_record(value);
		if (!patch_table_apply(t, key, value, 0, offset, &change, &err) && change.entry)
			check_entry(change.entry);
	}
	patch_table_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_record((struct slice){ data, size });
	try_log(data, size);
	return 0;
}
