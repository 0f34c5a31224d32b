/* Lines on stderr. */
#include "base/log.h"

#include "log_fixture.h"

#include <string.h>

static void a_line_stays_one(void **state)
{
	char text[256];
	log_begin();
	log_warning("task %s: removed, %s", "a\nerror: forged\x1b[31m", "ü");
	assert_string_equal(strstr(log_end(text, sizeof text), "task"), "task a.error: forged.[31m: removed, ü\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_stays_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
