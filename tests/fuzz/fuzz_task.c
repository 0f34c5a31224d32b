/* Task records on any bytes: what decodes is a checked definition, which is written again and then stays as it is. */
#include "io/task_record.h"

#include "io/avro_cursor.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool fine)
{
	if (!fine)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct avro_cursor name = { data, data + size };
	struct slice key;
	struct config_task task, again;
	struct buffer first = { 0 }, second = { 0 };
	struct error err = { 0 };
	char before[HASH_HEX_LENGTH + 1], after[HASH_HEX_LENGTH + 1];
	if (!avro_cursor_text(&name, &key))
		return 0;
	if (task_record_decode(key, (struct slice){ data, size }, &task, &err)) {
		expect(*err.text && !strchr(err.text, '\n'));
		return 0;
	}
	task_record_encode(&task, &first);
	expect(!task_record_decode(key, (struct slice){ first.data, first.length }, &again, &err));
	task_record_encode(&again, &second);
	expect(first.length == second.length && !memcmp(first.data, second.data, first.length));
	expect(!config_task_hash(&task, before, &err) && !config_task_hash(&again, after, &err));
	expect(!strcmp(before, after));
	config_task_clear(&task);
	config_task_clear(&again);
	buffer_free(&first);
	buffer_free(&second);
	return 0;
}
