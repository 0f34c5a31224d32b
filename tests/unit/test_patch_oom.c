/* Every allocation of making, saving, loading and growing a patch may fail: each failure says so, and nothing leaks (the
 * sanitizers watch). */
#include "model/patch.h"
#include "model/side.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct network *net;
static char path[] = "/tmp/peterd-test-XXXXXX";
static const char *const labels[] = { "a", "b", "c" };

static enum status make(struct patch **ret, struct error *err)
{
	struct random_stream random = random_from(1, 2);
	struct patch_spec spec = { .insertion = PATCH_SERIAL, .bottleneck = 2, .first = true, .norms = true };
	spec.blocks[0] = true;
	return patch_new(&spec, net, "t", labels, 2, &random, ret, err);
}

static struct patch *made(void)
{
	struct error err;
	struct patch *p = NULL;
	assert_int_equal(make(&p, &err), STATUS_OK);
	return p;
}

static void test_new(void **state)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct patch *p = NULL;
		oom_fail_at(n);
		enum status status = make(&p, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 7);
			patch_free(p);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_null(p);
	}
}

static void test_save(void **state)
{
	struct patch *p = made();
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = patch_save(p, path, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 4);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
	}
	patch_free(p);
}

static void test_load(void **state)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct patch *p = NULL;
		bool unnamed = false;
		oom_fail_at(n);
		enum status status = patch_load(path, net, "", &p, &unnamed, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 12);
			patch_free(p);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_non_null(strstr(err.text, "out of memory"));
		assert_null(p);
	}
}

static void test_grow(void **state)
{
	struct patch *p = made();
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct random_stream random = random_from(1, 2);
		oom_fail_at(n);
		enum status status = patch_grow(p, labels + 2, 1, &random, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 7);
			assert_int_equal(p->classes, 3);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_int_equal(p->classes, 2);
		assert_string_equal(p->labels[1], "b");
		assert_true(p->adapters.weights == p->weights);
	}
	patch_free(p);
}

static void test_pass(void **state)
{
	struct patch *p = made();
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct side_pass *pass = NULL;
		oom_fail_at(n);
		enum status status = side_pass_new(p, 4, &pass, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 2);
			side_pass_free(pass);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_null(pass);
	}
	patch_free(p);
}

static int set_up(void **state)
{
	const struct network_shape shape = { .channels = 4,
					     .kernel_size = 2,
					     .blocks = 1,
					     .dilations = { 1 },
					     .items = 5,
					     .eps = 1e-8F,
					     .causal = true };
	struct error err;
	int fd = mkstemp(path);
	return fd < 0 || close(fd) != 0 || network_new(&shape, &net, &err) != STATUS_OK ? -1 : 0;
}

static int tear_down(void **state)
{
	network_free(net);
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),  cmocka_unit_test(test_save), cmocka_unit_test(test_load),
		cmocka_unit_test(test_grow), cmocka_unit_test(test_pass),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
