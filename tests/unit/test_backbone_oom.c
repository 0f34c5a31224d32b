/* Every allocation of loading, of a workspace and of writing may fail: each failure says so, and nothing leaks (the
 * sanitizers watch). */
#include "model/backbone.h"
#include "model/random_backbone.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/peterd-test-XXXXXX";
static const struct random_backbone shape = { 8, 3, "1,4", true, 0, 1 };
static const char *const items[] = { "a", "b" };

static void test_write(void **unused)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = random_backbone_write(path, &shape, items, 2, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 10);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
	}
}

static void test_load(void **unused)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct backbone *b = NULL;
		oom_fail_at(n);
		enum status status = backbone_load(path, &b, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 8);
			backbone_free(b);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_non_null(strstr(err.text, "out of memory"));
		assert_null(b);
	}
}

static void test_workspace(void **unused)
{
	struct error err = { 0 };
	struct backbone *b = NULL;
	assert_int_equal(backbone_load(path, &b, &err), STATUS_OK);
	for (size_t n = 1;; n++) {
		struct backbone_workspace *ws = NULL;
		oom_fail_at(n);
		enum status status = backbone_workspace_new(b, &ws, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 2);
			backbone_workspace_free(ws);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_null(ws);
	}
	backbone_free(b);
}

static int make_file(void **unused)
{
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **unused)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_workspace),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
