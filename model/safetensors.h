/* safetensors files: the container of backbones and patches.
 *
 *     u64 LE   n, the length of the header, at most 100,000,000
 *     n bytes  JSON object, padded with spaces: tensor name -> {dtype, shape, data_offsets: [begin, end]},
 *              and "__metadata__": string -> string
 *     the rest the tensors' bytes, little-endian and row-major; offsets count from here, without holes or overlaps
 *
 * safetensors_open reads the whole file into private memory, so that the hash, the checks and whatever is copied out
 * see the same bytes: writing over the file afterwards changes nothing, and a file that changes while it is read is
 * refused. An open file never changes and may be shared by threads. */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_MAX_RANK 8

enum safetensors_type {
	SAFETENSORS_BOOL,
	SAFETENSORS_U8,
	SAFETENSORS_I8,
	SAFETENSORS_U16,
	SAFETENSORS_I16,
	SAFETENSORS_F16,
	SAFETENSORS_BF16,
	SAFETENSORS_U32,
	SAFETENSORS_I32,
	SAFETENSORS_F32,
	SAFETENSORS_U64,
	SAFETENSORS_I64,
	SAFETENSORS_F64,
};

struct safetensors_tensor {
	const char *name; /* borrowed from the file's header */
	enum safetensors_type type;
	unsigned rank;
	uint64_t shape[SAFETENSORS_MAX_RANK]; /* `rank` of them count; the others are 0 */
	const void *data;                     /* little-endian, not necessarily aligned */
	size_t bytes;
};

struct safetensors_string { /* one entry of the metadata */
	const char *key;
	const char *value;
};

struct safetensors;

/* Reads and checks a file. Errors, the file and where possible the tensor or key named: STATUS_NO_INPUT, STATUS_IO
 * (also: changed while being read), STATUS_DATA (malformed), STATUS_MEMORY. */
enum status safetensors_open(const char *path, struct safetensors **ret, struct error *err) MUST_CHECK;

/* The same for bytes in memory, which are copied; `name` stands for the path in errors. */
enum status safetensors_open_memory(const char *name, const void *bytes, size_t length, struct safetensors **ret,
				    struct error *err) MUST_CHECK;
void safetensors_close(struct safetensors *st); /* NULL is fine */

/* Everything borrowed below is valid until safetensors_close. */
const char *safetensors_path(const struct safetensors *st);
const char *safetensors_hash(const struct safetensors *st);                      /* SHA-256 of the file, hex */
size_t safetensors_bytes(const struct safetensors *st);                          /* the file's length */
const char *safetensors_metadata(const struct safetensors *st, const char *key); /* NULL: no such key */
size_t safetensors_metadata_count(const struct safetensors *st);                 /* entries */
struct safetensors_string safetensors_metadata_at(const struct safetensors *st, size_t at); /* in the file's order */
size_t safetensors_count(const struct safetensors *st);                                     /* tensors */
const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t at);   /* by offset */
const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name); /* NULL: absent */

const char *safetensors_type_name(enum safetensors_type type); /* "F32" */
size_t safetensors_type_bytes(enum safetensors_type type);

/* STATUS_DATA unless the tensor is there with exactly this shape. Errors start with the tensor's name. */
enum status safetensors_expect(const struct safetensors *st, const char *name, unsigned rank, const uint64_t shape[],
			       const struct safetensors_tensor **ret, struct error *err) MUST_CHECK;

/* STATUS_DATA unless it has a floating type that we read (F32, F16, BF16) and only finite values. */
enum status safetensors_check_floats(const struct safetensors_tensor *t, struct error *err) MUST_CHECK;

/* Converts `count` values from `first` on to float32. The tensor has passed safetensors_check_floats. */
void safetensors_copy_floats(const struct safetensors_tensor *t, size_t first, size_t count, float *out);

/* expect, check_floats and copy of the whole tensor in one. out: the product of the shape floats. */
enum status safetensors_read_floats(const struct safetensors *st, const char *name, unsigned rank,
				    const uint64_t shape[], float *out, struct error *err) MUST_CHECK;

/* Puts the path in front of an error's text, which quotes what the file says of itself: control characters in it become
 * question marks, so that it stays one line. Returns the error's status. */
enum status safetensors_blame(const char *path, struct error *err);

/* Writes a file atomically (temporary file, fsync, rename, fsync of the directory). The bytes depend on the arguments
 * only: metadata in the given order, tensors by falling width of their type, then by name. `data` points to
 * little-endian values, `bytes` is checked. Errors: STATUS_IO (also: no such directory), STATUS_MEMORY (also: a string
 * is not UTF-8), STATUS_BUG (a tensor's bytes do not fit its shape). */
enum status safetensors_write(const char *path, const struct safetensors_tensor tensors[], size_t tensor_count,
			      const struct safetensors_string metadata[], size_t metadata_count,
			      struct error *err) MUST_CHECK;

/* The same bytes, appended to `out`. Errors: STATUS_MEMORY, STATUS_BUG. */
enum status safetensors_encode(const struct safetensors_tensor tensors[], size_t tensor_count,
			       const struct safetensors_string metadata[], size_t metadata_count, struct buffer *out,
			       struct error *err) MUST_CHECK;

#endif
