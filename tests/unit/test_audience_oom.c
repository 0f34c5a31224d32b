/* Every allocation of reading a file of events may fail. */
#include "io/audience.h"

#include "oom.h"
#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void every_allocation_may_fail(void **state)
{
	char path[256];
	char text[8192];
	size_t used =
		(size_t)sprintf(text, "user_id,item_id,timestamp,c3,c4,c5,c6,c7,c8,c9,c10,c11,c12,c13,c14,c15,c16\n");
	for (int i = 0; i < 40; i++)
		used += (size_t)sprintf(text + used, "u%d,some-item-%d,%d,,,,,,,,,,,,,,\n", i % 15, i, 100 - i);
	text_file_make(".csv", text, used, path);
	for (size_t n = 1;; n++) {
		struct audience *a = NULL;
		struct error err = { 0 };
		oom_fail_at(n);
		enum status status = audience_load(path, &a, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 20);
			audience_free(a);
			break;
		}
		if (status == STATUS_OK) { /* a hash table that could not grow still works */
			assert_int_equal(audience_users(a), 15);
			audience_free(a);
			continue;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_null(a);
	}
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
