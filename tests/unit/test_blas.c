#include "model/blas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_better_core(void **unused)
{
	assert_string_equal(blas_better_core("Haswell", true), "SkylakeX");
	assert_string_equal(blas_better_core("Zen", true), "SkylakeX");
	assert_null(blas_better_core("Zen", false));
	assert_null(blas_better_core("SkylakeX", true));
	assert_null(blas_better_core("Cooperlake", true));
	assert_null(blas_better_core("neoversen1", false));
}

/* main() has been through blas_choose_core, perhaps by a second start. */
static void test_chosen(void **unused)
{
	assert_int_equal(openblas_get_num_threads(), 1);
	if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
		assert_null(blas_better_core(openblas_get_corename(), true));
}

/* A core type that is set stays, so that no start leads to another. */
static void test_never_twice(void **unused)
{
	assert_int_equal(setenv("OPENBLAS_CORETYPE", "Haswell", 1), 0);
	blas_choose_core((char *const[]){ NULL });
	assert_string_equal(getenv("OPENBLAS_CORETYPE"), "Haswell");
}

/* Exit code of a child with so much address space more than it has: 0 where the buffers were mapped and held. */
static int reserve_within(size_t bytes, uint32_t threads)
{
	int result = -1;
	const pid_t child = fork();
	if (child == 0) {
		size_t pages = 0;
		struct error err;
		FILE *file = fopen("/proc/self/statm", "r");
		if (!file || fscanf(file, "%zu", &pages) != 1)
			_exit(1);
		const rlim_t most = pages * (size_t)sysconf(_SC_PAGESIZE) + bytes;
		const struct rlimit limit = { most, most };
		const struct rlimit seconds = { 10, 10 }; /* should it hang */
		if (setrlimit(RLIMIT_AS, &limit) || setrlimit(RLIMIT_CPU, &seconds))
			_exit(1);
		const enum status status = blas_reserve(threads, &err);
		if (!status && blas_reserve(threads, &err)) /* there is room for no more */
			_exit(1);
		_exit(!status || (strstr(err.text, "OpenBLAS needs 128 MiB") && status == STATUS_MEMORY) ? (int)status
													 : 1);
	}
	assert_true(child > 0 && waitpid(child, &result, 0) == child);
	return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static void test_reserve(void **unused)
{
	const size_t buffer = (size_t)128 << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* their shadow is no address space to be limited */
#endif
	assert_int_equal(reserve_within(buffer / 2, 1), STATUS_MEMORY);
	assert_int_equal(reserve_within(buffer + buffer / 2, 1), STATUS_OK);
	assert_int_equal(reserve_within(buffer + buffer / 2, 2), STATUS_MEMORY);
	assert_int_equal(reserve_within(3 * buffer, 2), STATUS_OK);
}

int main(int argc, char **argv)
{
	blas_choose_core(argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_better_core),
		cmocka_unit_test(test_chosen),
		cmocka_unit_test(test_never_twice),
		cmocka_unit_test(test_reserve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
