#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX_BYTES 100000000u
#define METADATA "__metadata__"

struct safetensors {
	char *path;
	uint8_t *bytes; /* the whole file */
	size_t length;
	char hash[HASH_HEX_LENGTH + 1];
	json_t *header;
	json_t *metadata;                   /* borrowed from header; NULL where there is none */
	struct safetensors_tensor *tensors; /* by offset */
	size_t count;
};

static const struct {
	const char *name;
	size_t bytes;
} types[] = {
	[SAFETENSORS_BOOL] = { "BOOL", 1 }, [SAFETENSORS_U8] = { "U8", 1 },   [SAFETENSORS_I8] = { "I8", 1 },
	[SAFETENSORS_U16] = { "U16", 2 },   [SAFETENSORS_I16] = { "I16", 2 }, [SAFETENSORS_F16] = { "F16", 2 },
	[SAFETENSORS_BF16] = { "BF16", 2 }, [SAFETENSORS_U32] = { "U32", 4 }, [SAFETENSORS_I32] = { "I32", 4 },
	[SAFETENSORS_F32] = { "F32", 4 },   [SAFETENSORS_U64] = { "U64", 8 }, [SAFETENSORS_I64] = { "I64", 8 },
	[SAFETENSORS_F64] = { "F64", 8 },
};

const char *safetensors_type_name(enum safetensors_type type)
{
	return types[type].name;
}

size_t safetensors_type_bytes(enum safetensors_type type)
{
	return types[type].bytes;
}

static enum status parse_type(const json_t *value, enum safetensors_type *ret, struct error *err)
{
	const char *name = json_string_value(value);
	if (name == NULL)
		return error_set(err, STATUS_DATA, "dtype is missing or no string");
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (strcmp(types[i].name, name) == 0) {
			*ret = (enum safetensors_type)i;
			return STATUS_OK;
		}
	}
	return error_set(err, STATUS_DATA, "dtype '%.32s' is not known", name);
}

/* Shape and the bytes that it asks for. */
static enum status parse_shape(const json_t *shape, struct safetensors_tensor *t, struct error *err)
{
	if (!json_is_array(shape))
		return error_set(err, STATUS_DATA, "shape is missing or no array");
	if (json_array_size(shape) > SAFETENSORS_MAX_RANK)
		return error_set(err, STATUS_DATA, "shape has more than %d dimensions", SAFETENSORS_MAX_RANK);
	t->rank = (unsigned)json_array_size(shape);
	uint64_t bytes = types[t->type].bytes;
	bool overflow = false;
	bool empty = false;
	for (unsigned i = 0; i < t->rank; i++) {
		const json_t *value = json_array_get(shape, i);
		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return error_set(err, STATUS_DATA, "shape: dimension %u is no whole number from 0 up", i);
		t->shape[i] = (uint64_t)json_integer_value(value);
		empty = empty || t->shape[i] == 0;
		overflow = __builtin_mul_overflow(bytes, t->shape[i], &bytes) || overflow;
	}
	if (overflow && !empty)
		return error_set(err, STATUS_DATA, "shape overflows 64 bits");
	t->bytes = empty ? 0 : (size_t)bytes;
	return STATUS_OK;
}

static enum status parse_offsets(const json_t *offsets, const uint8_t *data, size_t length,
				 struct safetensors_tensor *t, struct error *err)
{
	const json_t *first = json_array_get(offsets, 0);
	const json_t *last = json_array_get(offsets, 1);
	if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
		return error_set(err, STATUS_DATA, "data_offsets is missing or no pair of whole numbers");
	json_int_t begin = json_integer_value(first);
	json_int_t end = json_integer_value(last);
	if (begin < 0 || end < begin || (uint64_t)end > length)
		return error_set(err, STATUS_DATA,
				 "data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
				 "] is outside the %zu bytes of data",
				 begin, end, length);
	if ((uint64_t)(end - begin) != t->bytes)
		return error_set(err, STATUS_DATA,
				 "data_offsets span %" JSON_INTEGER_FORMAT " bytes, the shape asks for %zu",
				 end - begin, t->bytes);
	t->data = data + begin;
	return STATUS_OK;
}

static enum status parse_tensor(const char *name, const json_t *entry, const uint8_t *data, size_t length,
				struct safetensors_tensor *t, struct error *err)
{
	t->name = name;
	if (!json_is_object(entry))
		return error_set(err, STATUS_DATA, "no object");
	enum status status = parse_type(json_object_get(entry, "dtype"), &t->type, err);
	if (status == STATUS_OK)
		status = parse_shape(json_object_get(entry, "shape"), t, err);
	if (status == STATUS_OK)
		status = parse_offsets(json_object_get(entry, "data_offsets"), data, length, t, err);
	return status;
}

static enum status parse_metadata(struct safetensors *st, struct error *err)
{
	st->metadata = json_object_get(st->header, METADATA);
	if (st->metadata == NULL)
		return STATUS_OK;
	if (!json_is_object(st->metadata))
		return error_set(err, STATUS_DATA, METADATA " is no object");
	const char *key;
	json_t *value;
	json_object_foreach(st->metadata, key, value)
	{
		if (!json_is_string(value))
			return error_set(err, STATUS_DATA, METADATA ": %.128s is no string", key);
	}
	return STATUS_OK;
}

static int by_offset(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a;
	const struct safetensors_tensor *y = b;
	if (x->data != y->data)
		return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
	if (x->bytes != y->bytes) /* empty ones first, or they would look like overlaps */
		return x->bytes < y->bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static enum status check_layout(const struct safetensors *st, const uint8_t *data, size_t length, struct error *err)
{
	const uint8_t *at = data;
	for (size_t i = 0; i < st->count; i++) {
		const struct safetensors_tensor *t = &st->tensors[i];
		if (t->data != at)
			return error_set(err, STATUS_DATA, "%.128s: data_offsets %s", t->name,
					 (const uint8_t *)t->data < at ? "overlap another tensor"
								       : "leave a hole before it");
		at += t->bytes;
	}
	if (at != data + length)
		return error_set(err, STATUS_DATA, "%zu bytes after the last tensor", (size_t)(data + length - at));
	return STATUS_OK;
}

static enum status parse_tensors(struct safetensors *st, const uint8_t *data, size_t length, struct error *err)
{
	st->tensors = calloc(json_object_size(st->header) + 1, sizeof st->tensors[0]);
	if (st->tensors == NULL)
		return error_set_memory(err);
	const char *key;
	json_t *value;
	json_object_foreach(st->header, key, value)
	{
		if (strcmp(key, METADATA) == 0)
			continue;
		if (parse_tensor(key, value, data, length, &st->tensors[st->count], err) != STATUS_OK)
			return error_prefix(err, "%.128s", key);
		st->count++;
	}
	qsort(st->tensors, st->count, sizeof st->tensors[0], by_offset);
	return check_layout(st, data, length, err);
}

static enum status parse_json(struct safetensors *st, const char *text, size_t length, struct error *err)
{
	json_error_t why;
	if (length == 0 || text[0] != '{')
		return error_set(err, STATUS_DATA, "header is no JSON object");
	st->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (st->header != NULL)
		return STATUS_OK;
	if (json_error_code(&why) == json_error_out_of_memory)
		return error_set_memory(err);
	return error_set(err, STATUS_DATA, "header, byte %d: %s", why.position, why.text);
}

static enum status parse(struct safetensors *st, struct error *err)
{
	uint64_t n = 0;
	if (st->length < sizeof n)
		return error_set(err, STATUS_DATA, "%zu bytes are too few for a safetensors file", st->length);
	for (unsigned i = 0; i < sizeof n; i++)
		n |= (uint64_t)st->bytes[i] << (8 * i);
	if (n > HEADER_MAX_BYTES)
		return error_set(err, STATUS_DATA, "header of %" PRIu64 " bytes: no safetensors file", n);
	if (n > st->length - sizeof n)
		return error_set(err, STATUS_DATA, "header of %" PRIu64 " bytes is cut off", n);
	const uint8_t *data = st->bytes + sizeof n + n;
	enum status status = parse_json(st, (const char *)st->bytes + sizeof n, (size_t)n, err);
	if (status == STATUS_OK)
		status = parse_metadata(st, err);
	if (status == STATUS_OK)
		status = parse_tensors(st, data, st->length - sizeof n - (size_t)n, err);
	return status;
}

/* Takes `bytes`, also on failure. */
static enum status open_bytes(const char *path, uint8_t *bytes, size_t length, struct safetensors **ret,
			      struct error *err)
{
	struct safetensors *st = calloc(1, sizeof *st);
	if (st == NULL) {
		free(bytes);
		return error_set_memory(err);
	}
	st->bytes = bytes;
	st->length = length;
	st->path = strdup(path);
	if (st->path == NULL) {
		safetensors_close(st);
		return error_set_memory(err);
	}
	if (parse(st, err) != STATUS_OK) {
		safetensors_close(st);
		return err->status;
	}
	hash_sha256_hex(st->bytes, st->length, st->hash);
	*ret = st;
	return STATUS_OK;
}

static enum status read_at(int fd, uint8_t *out, size_t length, size_t offset, size_t *ret_length, struct error *err)
{
	size_t done = 0;
	while (done < length) {
		ssize_t n = pread(fd, out + done, length - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, "read");
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_length = done;
	return STATUS_OK;
}

static bool same_version(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Reads the file a second time against what was read first: a file's times tick in milliseconds, so that a quick
 * writer in the middle of the first pass could leave them as they were. */
static enum status check_unchanged(int fd, const struct stat *before, const uint8_t *bytes, size_t length,
				   struct error *err)
{
	uint8_t chunk[65536];
	struct stat after;
	for (size_t at = 0; at < length;) {
		size_t want = length - at < sizeof chunk ? length - at : sizeof chunk;
		size_t got = 0;
		if (read_at(fd, chunk, want, at, &got, err) != STATUS_OK)
			return err->status;
		if (got != want || memcmp(chunk, bytes + at, want) != 0)
			return error_set(err, STATUS_IO, "changed while it was read");
		at += want;
	}
	if (fstat(fd, &after) != 0)
		return error_set_errno(err, "stat");
	if (!same_version(before, &after))
		return error_set(err, STATUS_IO, "changed while it was read");
	return STATUS_OK;
}

static enum status read_whole(int fd, uint8_t **ret, size_t *ret_length, struct error *err)
{
	struct stat before;
	if (fstat(fd, &before) != 0)
		return error_set_errno(err, "stat");
	if (!S_ISREG(before.st_mode))
		return error_set(err, STATUS_DATA, "no regular file");
	size_t length = (size_t)before.st_size;
	uint8_t *bytes = malloc(length + 1);
	if (bytes == NULL)
		return error_set_memory(err);
	size_t got = 0;
	enum status status = read_at(fd, bytes, length, 0, &got, err);
	if (status == STATUS_OK && got != length)
		status = error_set(err, STATUS_IO, "changed while it was read");
	if (status == STATUS_OK)
		status = check_unchanged(fd, &before, bytes, length, err);
	if (status != STATUS_OK) {
		free(bytes);
		return status;
	}
	*ret = bytes;
	*ret_length = length;
	return STATUS_OK;
}

enum status safetensors_open(const char *path, struct safetensors **ret, struct error *err)
{
	uint8_t *bytes = NULL;
	size_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return error_set_errno(err, "%s", path);
	enum status status = read_whole(fd, &bytes, &length, err);
	(void)close(fd);
	if (status == STATUS_OK)
		status = open_bytes(path, bytes, length, ret, err);
	return status == STATUS_OK ? STATUS_OK : safetensors_blame(path, err);
}

enum status safetensors_open_memory(const char *name, const void *bytes, size_t length, struct safetensors **ret,
				    struct error *err)
{
	uint8_t *copy = malloc(length + 1);
	if (copy == NULL)
		return error_set_memory(err);
	if (length > 0)
		memcpy(copy, bytes, length);
	enum status status = open_bytes(name, copy, length, ret, err);
	return status == STATUS_OK ? STATUS_OK : safetensors_blame(name, err);
}

enum status safetensors_blame(const char *path, struct error *err)
{
	for (char *at = err->text; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	}
	return error_prefix(err, "%s", path);
}

void safetensors_close(struct safetensors *st)
{
	if (st == NULL)
		return;
	json_decref(st->header);
	free(st->tensors);
	free(st->bytes);
	free(st->path);
	free(st);
}

const char *safetensors_path(const struct safetensors *st)
{
	return st->path;
}

const char *safetensors_hash(const struct safetensors *st)
{
	return st->hash;
}

size_t safetensors_bytes(const struct safetensors *st)
{
	return st->length;
}

const char *safetensors_metadata(const struct safetensors *st, const char *key)
{
	return json_string_value(json_object_get(st->metadata, key));
}

size_t safetensors_metadata_count(const struct safetensors *st)
{
	return json_object_size(st->metadata);
}

struct safetensors_string safetensors_metadata_at(const struct safetensors *st, size_t at)
{
	void *i = json_object_iter(st->metadata);
	for (size_t k = 0; k < at && i != NULL; k++)
		i = json_object_iter_next(st->metadata, i);
	if (i == NULL)
		return (struct safetensors_string){ NULL, NULL };
	return (struct safetensors_string){ json_object_iter_key(i), json_string_value(json_object_iter_value(i)) };
}

size_t safetensors_count(const struct safetensors *st)
{
	return st->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t at)
{
	return &st->tensors[at];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name)
{
	for (size_t i = 0; i < st->count; i++) {
		if (strcmp(st->tensors[i].name, name) == 0)
			return &st->tensors[i];
	}
	return NULL;
}
