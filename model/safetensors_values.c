/* Values of a tensor: shape and type checks, and the conversion of the small floating types. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_shape(char *out, size_t size, unsigned rank, const uint64_t shape[])
{
	size_t at = (size_t)snprintf(out, size, "[");
	for (unsigned i = 0; i < rank && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%" PRIu64, i == 0 ? "" : ", ", shape[i]);
	if (at < size)
		(void)snprintf(out + at, size - at, "]");
}

enum status safetensors_expect(const struct safetensors *st, const char *name, unsigned rank, const uint64_t shape[],
			       const struct safetensors_tensor **ret, struct error *err)
{
	const struct safetensors_tensor *t = safetensors_find(st, name);
	if (t == NULL)
		return error_set(err, STATUS_DATA, "%s: no such tensor", name);
	if (t->rank != rank || (rank > 0 && memcmp(t->shape, shape, rank * sizeof shape[0]) != 0)) {
		char is[128];
		char should[128];
		print_shape(is, sizeof is, t->rank, t->shape);
		print_shape(should, sizeof should, rank, shape);
		return error_set(err, STATUS_DATA, "%s: shape %s, expected %s", name, is, should);
	}
	*ret = t;
	return STATUS_OK;
}

static float from_bits(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* IEEE 754 binary16 to binary32, exactly. */
static float from_half(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16;
	uint32_t exponent = (half >> 10) & 0x1f;
	uint32_t fraction = half & 0x3ff;
	if (exponent == 0x1f)
		return from_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent != 0)
		return from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
	float magnitude = (float)fraction * 0x1p-24f; /* zero or subnormal */
	return sign != 0 ? -magnitude : magnitude;
}

static bool is_float(enum safetensors_type type)
{
	return type == SAFETENSORS_F32 || type == SAFETENSORS_F16 || type == SAFETENSORS_BF16;
}

void safetensors_copy_floats(const struct safetensors_tensor *t, size_t first, size_t count, float *out)
{
	if (count == 0)
		return;
	const uint8_t *data = (const uint8_t *)t->data + first * safetensors_type_bytes(t->type);
	if (t->type == SAFETENSORS_F32) {
		memcpy(out, data, count * sizeof out[0]);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		uint16_t half;
		memcpy(&half, data + i * sizeof half, sizeof half);
		out[i] = t->type == SAFETENSORS_BF16 ? from_bits((uint32_t)half << 16) : from_half(half);
	}
}

enum status safetensors_check_floats(const struct safetensors_tensor *t, struct error *err)
{
	if (!is_float(t->type))
		return error_set(err, STATUS_DATA, "%s: dtype %s, expected F32, F16 or BF16", t->name,
				 safetensors_type_name(t->type));
	size_t count = t->bytes / safetensors_type_bytes(t->type);
	float chunk[1024];
	for (size_t at = 0; at < count;) {
		size_t n = count - at < 1024 ? count - at : 1024;
		safetensors_copy_floats(t, at, n, chunk);
		for (size_t i = 0; i < n; i++) {
			uint32_t bits;
			memcpy(&bits, &chunk[i], sizeof bits);
			if ((bits & 0x7f800000) == 0x7f800000)
				return error_set(err, STATUS_DATA, "%s: value %zu is not finite", t->name, at + i);
		}
		at += n;
	}
	return STATUS_OK;
}

enum status safetensors_read_floats(const struct safetensors *st, const char *name, unsigned rank,
				    const uint64_t shape[], float *out, struct error *err)
{
	const struct safetensors_tensor *t = NULL;
	if (safetensors_expect(st, name, rank, shape, &t, err) != STATUS_OK ||
	    safetensors_check_floats(t, err) != STATUS_OK)
		return err->status;
	safetensors_copy_floats(t, 0, t->bytes / safetensors_type_bytes(t->type), out);
	return STATUS_OK;
}
