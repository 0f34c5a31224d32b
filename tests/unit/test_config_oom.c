#include "config/config.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char text[] =
	"backbone: b\n"
	"state_dir: s\n"
	"kafka: {bootstrap.servers: h, ssl: {ca.location: /ca}}\n"
	"interactions: {event_types: [a, b], topic: other}\n"
	"tasks:\n"
	"- {name: a, type: classification, labels: [x, y, z]}\n"
	"- {name: b, type: ranking, insertion: serial, blocks: [1, 0], norms: true, loss: hard, rate: 0.01}\n";

/* Fails each allocation in turn: every one is an error that says so, and nothing leaks (the sanitizers watch). */
static void every_allocation_may_fail(void **state)
{
	for (size_t n = 1;; n++) {
		struct config *config = NULL;
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = config_parse("f.yaml", text, sizeof text - 1, &config, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_true(n > 40);
			config_free(config);
			return;
		}
		assert_int_equal(s, STATUS_MEMORY);
		assert_string_equal(err.text, "out of memory");
		assert_null(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
