#include "model/vocabulary_write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static enum status make_text(const char *const ids[], size_t count, struct vocabulary_form *form, struct error *err)
{
	json_t *array = json_array();
	bool good = array != NULL;
	for (size_t i = 0; good && i < count; i++)
		good = json_array_append_new(array, json_string(ids[i])) == 0;
	form->text = good ? json_dumps(array, JSON_COMPACT) : NULL;
	json_decref(array);
	return form->text ? STATUS_OK : error_set(err, STATUS_MEMORY, "vocabulary: out of memory, or not UTF-8");
}

static enum status make_tensors(const char *const ids[], size_t count, struct vocabulary_form *form, struct error *err)
{
	size_t length = 0;
	for (size_t i = 0; i < count; i++)
		length += strlen(ids[i]);
	form->bytes = malloc(length + 1);
	form->offsets = calloc(count + 1, sizeof *form->offsets);
	if (!form->bytes || !form->offsets)
		return error_set_memory(err);
	for (size_t i = 0; i < count; i++) {
		size_t bytes = strlen(ids[i]);
		memcpy(form->bytes + form->offsets[i], ids[i], bytes);
		form->offsets[i + 1] = form->offsets[i] + (int64_t)bytes;
	}
	form->tensors[0] = (struct safetensors_tensor){ .name = "vocabulary.bytes",
							.type = SAFETENSORS_U8,
							.rank = 1,
							.shape = { length },
							.data = form->bytes,
							.bytes = length };
	form->tensors[1] = (struct safetensors_tensor){ .name = "vocabulary.offsets",
							.type = SAFETENSORS_I64,
							.rank = 1,
							.shape = { count + 1 },
							.data = form->offsets,
							.bytes = (count + 1) * sizeof *form->offsets };
	form->tensor_count = VOCABULARY_TENSORS;
	return STATUS_OK;
}

enum status vocabulary_form_make(const char *const ids[], size_t count, struct vocabulary_form *ret, struct error *err)
{
	struct vocabulary_form form = { 0 };
	enum status status = count <= VOCABULARY_TEXT_ITEMS ? make_text(ids, count, &form, err)
							    : make_tensors(ids, count, &form, err);
	if (status)
		vocabulary_form_free(&form);
	else
		*ret = form;
	return status;
}

void vocabulary_form_free(struct vocabulary_form *form)
{
	free(form->text);
	free(form->bytes);
	free(form->offsets);
	*form = (struct vocabulary_form){ 0 };
}
