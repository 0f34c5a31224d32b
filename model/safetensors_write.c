/* Writing a safetensors file: header as JSON, tensors behind it, all of it durable before the name appears. */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static enum status write_all(int fd, const void *bytes, size_t length, struct error *err)
{
	const uint8_t *at = bytes;
	while (length > 0) {
		ssize_t n = write(fd, at, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, "write");
		at += n;
		length -= (size_t)n;
	}
	return STATUS_OK;
}

static enum status write_file(int fd, const char *header, const struct safetensors_tensor *const sorted[],
			      size_t tensor_count, struct error *err)
{
	static const char spaces[] = "        ";
	size_t text = strlen(header);
	size_t padding = (8 - text % 8) % 8; /* the data starts at a multiple of 8 */
	uint64_t length = text + padding;
	uint8_t prefix[8];
	for (unsigned i = 0; i < sizeof prefix; i++)
		prefix[i] = (uint8_t)(length >> (8 * i));
	enum status status = write_all(fd, prefix, sizeof prefix, err);
	if (status == STATUS_OK)
		status = write_all(fd, header, text, err);
	if (status == STATUS_OK)
		status = write_all(fd, spaces, padding, err);
	for (size_t i = 0; status == STATUS_OK && i < tensor_count; i++)
		status = write_all(fd, sorted[i]->data, sorted[i]->bytes, err);
	if (status == STATUS_OK && fsync(fd) != 0)
		status = error_set_errno(err, "fsync");
	return status;
}

static enum status sync_directory(const char *path, struct error *err)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
	(void)snprintf(directory, sizeof directory, "%.*s", (int)length, path);
	int fd = open(length == 0 ? "." : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, "directory");
	enum status status = fsync(fd) == 0 ? STATUS_OK : error_set_errno(err, "fsync of the directory");
	(void)close(fd);
	return status;
}

/* Creates a file beside `path` whose name nobody else uses. */
static int open_temporary(const char *path, char *temporary, size_t size)
{
	for (unsigned attempt = 0; attempt < 100; attempt++) {
		int n = snprintf(temporary, size, "%s.tmp.%ld.%u", path, (long)getpid(), attempt);
		if (n < 0 || (size_t)n >= size) {
			errno = ENAMETOOLONG;
			return -1;
		}
		int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

static enum status write_atomically(const char *path, const char *header,
				    const struct safetensors_tensor *const sorted[], size_t tensor_count,
				    struct error *err)
{
	char temporary[PATH_MAX];
	int fd = open_temporary(path, temporary, sizeof temporary);
	if (fd < 0)
		return error_set_errno(err, "create");
	enum status status = write_file(fd, header, sorted, tensor_count, err);
	if (close(fd) != 0 && status == STATUS_OK)
		status = error_set_errno(err, "close");
	if (status == STATUS_OK && rename(temporary, path) != 0)
		status = error_set_errno(err, "rename");
	if (status != STATUS_OK) {
		(void)unlink(temporary);
		return status;
	}
	return sync_directory(path, err);
}

enum status safetensors_write(const char *path, const struct safetensors_tensor tensors[], size_t tensor_count,
			      const struct safetensors_string metadata[], size_t metadata_count, struct error *err)
{
	const struct safetensors_tensor **sorted = calloc(tensor_count + 1, sizeof sorted[0]);
	if (sorted == NULL)
		return error_set_memory(err);
	enum status status = STATUS_OK;
	for (size_t i = 0; status == STATUS_OK && i < tensor_count; i++) {
		sorted[i] = &tensors[i];
		status = check_bytes(&tensors[i], err);
	}
	char *header = NULL;
	if (status == STATUS_OK) {
		qsort(sorted, tensor_count, sizeof sorted[0], by_width_and_name);
		header = header_text(sorted, tensor_count, metadata, metadata_count);
		if (header == NULL)
			status = error_set(err, STATUS_MEMORY, "header: out of memory, or a string is not UTF-8");
	}
	if (status == STATUS_OK)
		status = write_atomically(path, header, sorted, tensor_count, err);
	free(header);
	free(sorted);
	return status == STATUS_OK ? STATUS_OK : error_prefix(err, "%s", path);
}
