/* The start of OpenBLAS: which kernels it takes, and how many threads.
 *
 * OpenBLAS chooses its kernels when the library loads. Debian's 0.3.21 does not know processors newer than itself and
 * falls back to AVX2 kernels there, at half the speed of its AVX-512 ones. OPENBLAS_CORETYPE overrides the choice, but
 * is read at load time too: hence a new start of the program. */
#ifndef MODEL_BLAS_H
#define MODEL_BLAS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* First thing in main(), before any thread, file or socket: where OpenBLAS chose AVX2 kernels on a processor with
 * AVX-512, or started threads of its own, which may hang where memory is short, sets OPENBLAS_CORETYPE and
 * OPENBLAS_NUM_THREADS=1 and executes this program anew with `argv`; what is set already stays (hence never twice), and
 * nothing changes where execution fails. Either way one thread per caller from here on. */
void blas_choose_core(char *const argv[]);

/* Makes OpenBLAS map the buffers that so many threads need at one time, which stay its own: where it finds no room for one
 * later it tries again for ever. Before the threads; once more is no harm. Errors: STATUS_MEMORY. */
enum status blas_reserve(uint32_t threads, struct error *err) MUST_CHECK;

/* The core type to ask OpenBLAS for, or NULL to leave it as it is. core: what it chose; avx512: the processor has all
 * that OpenBLAS's AVX-512 kernels use. */
const char *blas_better_core(const char *core, bool avx512);

#endif
