/* NumPy's .npy, version 1.0: a float32 matrix in C order. */
#ifndef IO_NPY_H
#define IO_NPY_H

#include "base/error.h"

#include <stddef.h>

/* Writes values [rows, columns] to `path`, whole or not at all (base/atomic_file.h). Errors: STATUS_IO. */
enum status npy_write(const char *path, const float *values, size_t rows, size_t columns, struct error *err) MUST_CHECK;

#endif
