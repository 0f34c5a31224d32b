#include "model/blas.h"

#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CORE_VARIABLE "OPENBLAS_CORETYPE"
#define THREADS_VARIABLE "OPENBLAS_NUM_THREADS"

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
	const char *core = blas_better_core(openblas_get_corename(), has_avx512());
	if (core != NULL && getenv(CORE_VARIABLE) == NULL && setenv(CORE_VARIABLE, core, 1) == 0) {
		bool threads = getenv(THREADS_VARIABLE) != NULL;
		(void)setenv(THREADS_VARIABLE, "1", 1);
		execute_self(argv);
		(void)unsetenv(CORE_VARIABLE); /* still here: go on with what there is */
		if (!threads)
			(void)unsetenv(THREADS_VARIABLE);
	}
	openblas_set_num_threads(1);
}
