#include "io/npy.h"

#include "base/atomic_file.h"

#include <stdio.h>
#include <string.h>

enum { NPY_ALIGNMENT = 64, NPY_PREAMBLE = 10 };

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the float32 values are written as they stand in memory, and the header calls them little-endian"
#endif

enum status npy_write(const char *path, const float *values, size_t rows, size_t columns, struct error *err)
{
	/* magic, version, the length of the header (u16), the header: a Python literal, padded, ending in a newline */
	char header[NPY_ALIGNMENT * 3];
	memcpy(header, "\x93NUMPY\x01\x00", 8);
	int text = snprintf(header + NPY_PREAMBLE, sizeof header - NPY_PREAMBLE,
			    "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
	size_t used = NPY_PREAMBLE + (size_t)text;
	size_t length = (used + 1 + NPY_ALIGNMENT - 1) / NPY_ALIGNMENT * NPY_ALIGNMENT;
	memset(header + used, ' ', length - used);
	header[length - 1] = '\n';
	header[8] = (char)((length - NPY_PREAMBLE) & 255);
	header[9] = (char)((length - NPY_PREAMBLE) >> 8);
	const struct atomic_file_part parts[] = { { header, length }, { values, rows * columns * sizeof *values } };
	return atomic_file_write(path, parts, 2, err);
}
