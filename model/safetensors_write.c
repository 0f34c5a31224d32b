/* Writing a safetensors file: header as JSON, tensors behind it, all of it durable before the name appears. */
#include "model/safetensors.h"

#include "base/atomic_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Wide types first keep every tensor aligned to its type, as the reference implementation does. */
static int by_width_and_name(const void *a, const void *b)
{
	const struct safetensors_tensor *x = *(const struct safetensors_tensor *const *)a;
	const struct safetensors_tensor *y = *(const struct safetensors_tensor *const *)b;
	size_t x_bytes = safetensors_type_bytes(x->type);
	size_t y_bytes = safetensors_type_bytes(y->type);
	if (x_bytes != y_bytes)
		return x_bytes > y_bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static enum status check_bytes(const struct safetensors_tensor *t, struct error *err)
{
	uint64_t bytes = safetensors_type_bytes(t->type);
	bool overflow = t->rank > SAFETENSORS_MAX_RANK;
	for (unsigned i = 0; !overflow && i < t->rank; i++)
		overflow = __builtin_mul_overflow(bytes, t->shape[i], &bytes);
	if (overflow || bytes != t->bytes)
		return error_set(err, STATUS_BUG, "%s: %zu bytes do not fit its shape", t->name, t->bytes);
	return STATUS_OK;
}

static json_t *tensor_entry(const struct safetensors_tensor *t, size_t begin)
{
	json_t *shape = json_array();
	for (unsigned i = 0; shape != NULL && i < t->rank; i++) {
		if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i])) != 0) {
			json_decref(shape);
			return NULL;
		}
	}
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_type_name(t->type), "shape", shape,
			 "data_offsets", (json_int_t)begin, (json_int_t)(begin + t->bytes));
}

static json_t *metadata_entry(const struct safetensors_string metadata[], size_t count)
{
	json_t *object = json_object();
	for (size_t i = 0; object != NULL && i < count; i++) {
		if (json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) != 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

/* The header's text, malloc'd, or NULL. */
static char *header_text(const struct safetensors_tensor *const sorted[], size_t tensor_count,
			 const struct safetensors_string metadata[], size_t metadata_count)
{
	json_t *header = json_object();
	bool good = header != NULL;
	if (good && metadata_count > 0)
		good = json_object_set_new(header, "__metadata__", metadata_entry(metadata, metadata_count)) == 0;
	size_t at = 0;
	for (size_t i = 0; good && i < tensor_count; i++) {
		good = json_object_set_new(header, sorted[i]->name, tensor_entry(sorted[i], at)) == 0;
		at += sorted[i]->bytes;
	}
	char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	return text;
}

/* A file in parts: length of the header, the header, blanks up to a multiple of 8, and the tensors. */
struct layout {
	const struct safetensors_tensor **sorted;
	char *header;
	uint8_t prefix[8];
	struct atomic_file_part *parts;
	size_t count;
};

static void free_layout(struct layout *l)
{
	free(l->parts);
	free(l->header);
	free(l->sorted);
}

static enum status lay_out_parts(struct layout *l, size_t tensor_count, struct error *err)
{
	static const char blanks[] = "        ";
	const size_t text = strlen(l->header);
	const size_t padding = (8 - text % 8) % 8;
	const uint64_t length = text + padding;
	for (unsigned i = 0; i < sizeof l->prefix; i++)
		l->prefix[i] = (uint8_t)(length >> (8 * i));
	l->parts = calloc(tensor_count + 3, sizeof *l->parts);
	if (!l->parts)
		return error_set_memory(err);
	l->parts[l->count++] = (struct atomic_file_part){ l->prefix, sizeof l->prefix };
	l->parts[l->count++] = (struct atomic_file_part){ l->header, text };
	l->parts[l->count++] = (struct atomic_file_part){ blanks, padding };
	for (size_t i = 0; i < tensor_count; i++)
		l->parts[l->count++] = (struct atomic_file_part){ l->sorted[i]->data, l->sorted[i]->bytes };
	return STATUS_OK;
}

/* *l is zeroed, and to be freed whatever comes of it. */
static enum status lay_out(const struct safetensors_tensor tensors[], size_t tensor_count,
			   const struct safetensors_string metadata[], size_t metadata_count, struct layout *l,
			   struct error *err)
{
	enum status status = STATUS_OK;
	l->sorted = calloc(tensor_count + 1, sizeof l->sorted[0]);
	if (l->sorted == NULL)
		return error_set_memory(err);
	for (size_t i = 0; status == STATUS_OK && i < tensor_count; i++) {
		l->sorted[i] = &tensors[i];
		status = check_bytes(&tensors[i], err);
	}
	if (status != STATUS_OK)
		return status;
	qsort(l->sorted, tensor_count, sizeof l->sorted[0], by_width_and_name);
	l->header = header_text(l->sorted, tensor_count, metadata, metadata_count);
	if (l->header == NULL)
		return error_set(err, STATUS_MEMORY, "header: out of memory, or a string is not UTF-8");
	return lay_out_parts(l, tensor_count, err);
}

enum status safetensors_write(const char *path, const struct safetensors_tensor tensors[], size_t tensor_count,
			      const struct safetensors_string metadata[], size_t metadata_count, struct error *err)
{
	struct layout l = { 0 };
	enum status status = lay_out(tensors, tensor_count, metadata, metadata_count, &l, err);
	if (status != STATUS_OK)
		(void)error_prefix(err, "%s", path);
	else
		status = atomic_file_write(path, l.parts, l.count, err);
	free_layout(&l);
	return status;
}

enum status safetensors_encode(const struct safetensors_tensor tensors[], size_t tensor_count,
			       const struct safetensors_string metadata[], size_t metadata_count, struct buffer *out,
			       struct error *err)
{
	struct layout l = { 0 };
	enum status status = lay_out(tensors, tensor_count, metadata, metadata_count, &l, err);
	for (size_t i = 0; status == STATUS_OK && i < l.count; i++)
		buffer_append(out, l.parts[i].bytes, l.parts[i].length);
	free_layout(&l);
	return status == STATUS_OK && out->failed ? error_set_memory(err) : status;
}
