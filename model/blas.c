#include "model/blas.h"

#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CORE_VARIABLE "OPENBLAS_CORETYPE"
#define THREADS_VARIABLE "OPENBLAS_NUM_THREADS"

#define BUFFER_BYTES ((size_t)128 << 20) /* 0.3.21 on 64-bit processors: 32 << 22 */

/* In every build of OpenBLAS and in no header of it; others may have none. */
extern void *blas_memory_alloc(int position) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));

static bool has_avx512(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
#else
	return false;
#endif
}

const char *blas_better_core(const char *core, bool avx512)
{
	/* what 0.3.21 falls back to on x86-64 processors that it does not know */
	static const char *const fallbacks[] = { "Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott" };
	for (size_t i = 0; avx512 && i < sizeof fallbacks / sizeof fallbacks[0]; i++) {
		if (strcmp(core, fallbacks[i]) == 0)
			return "SkylakeX";
	}
	return NULL;
}

/* By its own path where it still has one, so that the process keeps its name in ps(1). */
static void execute_self(char *const argv[])
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	if (length > 0) {
		path[length] = '\0';
		(void)execv(path, argv);
	}
	(void)execv("/proc/self/exe", argv);
}

void blas_choose_core(char *const argv[])
{
	const char *core =
		getenv(CORE_VARIABLE) == NULL ? blas_better_core(openblas_get_corename(), has_avx512()) : NULL;
	const bool threads = getenv(THREADS_VARIABLE) == NULL && openblas_get_num_threads() > 1;
	if (core != NULL || threads) {
		bool kept = getenv(THREADS_VARIABLE) != NULL;
		if (core == NULL || setenv(CORE_VARIABLE, core, 1) == 0) {
			(void)setenv(THREADS_VARIABLE, "1", 1);
			execute_self(argv);
		}
		if (core != NULL) /* still here: go on with what there is */
			(void)unsetenv(CORE_VARIABLE);
		if (!kept)
			(void)unsetenv(THREADS_VARIABLE);
	}
	openblas_set_num_threads(1);
}

static bool has_room(void)
{
	void *room = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return room != MAP_FAILED && munmap(room, BUFFER_BYTES) == 0;
}

static _Atomic uint32_t mapped; /* buffers that the library has */

/* All are held before one is given back: the library takes the first that is free, and maps one where none is. */
enum status blas_reserve(uint32_t threads, struct error *err)
{
	uint32_t count = 0;
	bool good = true;
	if (blas_memory_alloc == NULL || blas_memory_free == NULL)
		return STATUS_OK;
	void **held = calloc((size_t)threads + 1, sizeof *held);
	if (held == NULL)
		return error_set_memory(err);
	while (count < threads && good) {
		good = count < mapped || has_room();
		if (good)
			held[count++] = blas_memory_alloc(0);
	}
	for (uint32_t i = 0; i < count; i++)
		blas_memory_free(held[i]);
	if (count > mapped)
		mapped = count;
	free(held);
	return good ? STATUS_OK
		    : error_set(err, STATUS_MEMORY,
				"out of memory: OpenBLAS needs %zu MiB of address space for each of %u threads",
				BUFFER_BYTES >> 20, threads);
}
