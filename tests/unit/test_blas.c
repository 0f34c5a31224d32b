#include "model/blas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

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

int main(int argc, char **argv)
{
	blas_choose_core(argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_better_core),
		cmocka_unit_test(test_chosen),
		cmocka_unit_test(test_never_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
