/* Every allocation of the plan compiler fails once: ours through the linker, jansson's through its hooks. */
#include "io/interaction.h"
#include "io/update.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static const char schema[] =
	"{\"type\":\"record\",\"name\":\"Click\",\"namespace\":\"com.acme\",\"fields\":["
	"{\"name\":\"tags\",\"type\":{\"type\":\"map\",\"values\":[\"null\",\"double\",{\"type\":\"array\",\"items\":"
	"\"string\"}]}},"
	"{\"name\":\"actor\",\"type\":[\"null\",{\"type\":\"record\",\"name\":\"Actor\",\"fields\":["
	"{\"name\":\"uid\",\"type\":[\"null\",\"long\",\"string\"]},{\"name\":\"boss\",\"type\":[\"null\",\"Actor\"]}]}"
	"]},"
	"{\"name\":\"kind\",\"type\":{\"type\":\"enum\",\"name\":\"Kind\",\"symbols\":[\"VIEW\",\"BUY\"]}},"
	"{\"name\":\"at\",\"type\":\"long\"},{\"name\":\"film\",\"type\":\"int\"}]}";

/* `json_too`: jansson and Avro C, which call some failed allocations a syntax error. */
static void sweep(bool json_too)
{
	const struct interaction_fields fields = { "actor.uid", "film", "at", "kind" };
	for (size_t n = 1;; n++) {
		struct interaction_decoder *d = NULL;
		struct error err;
		oom_fail_at(n);
		enum status status = interaction_decoder_new(schema, &fields, &d, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 5);
			interaction_decoder_free(d);
			return;
		}
		if (!json_too || status != STATUS_CONFIG)
			assert_int_equal(status, STATUS_MEMORY);
		assert_null(d);
	}
}

static void test_compiler(void **state)
{
	(void)state;
	sweep(false);
}

static void *hooked_malloc(size_t n)
{
	return malloc(n);
}

static void hooked_free(void *p)
{
	free(p);
}

static void test_compiler_with_json(void **state)
{
	(void)state;
	json_set_alloc_funcs(hooked_malloc, hooked_free);
	sweep(true);
}

static void test_update(void **state)
{
	static const float floats[] = { 1.0f, 2.0f };
	const struct slice label = { (const uint8_t *)"F", 1 };
	const struct update_score score = { .task = label, .labels = &label, .values = floats, .count = 1 };
	const struct update in = { .embedding = floats, .dim = 2, .scores = &score, .scores_count = 1 };
	struct update_scores scores = { 0 };
	struct update out;
	struct error err;
	(void)state;
	struct buffer b = { 0 };
	struct buffer kept = { 0 };
	oom_fail_from(1);
	update_encode(&in, &b);
	oom_reset();
	assert_true(b.failed);
	buffer_clear(&b);
	update_encode(&in, &b);
	oom_fail_from(1);
	assert_int_equal(update_decode((struct slice){ b.data, b.length }, &kept, &out, &err), STATUS_MEMORY);
	oom_reset();
	buffer_clear(&kept);
	assert_int_equal(update_decode((struct slice){ b.data, b.length }, &kept, &out, &err), STATUS_OK);
	for (size_t n = 1; n <= 3; n++) { /* its three buffers */
		oom_fail_from(n);
		assert_int_equal(update_decode_scores(&out, &scores, &err), STATUS_MEMORY);
		oom_reset();
		assert_int_equal(scores.count, 0);
		update_scores_free(&scores);
	}
	assert_int_equal(update_decode_scores(&out, &scores, &err), STATUS_OK);
	update_scores_free(&scores);
	buffer_free(&b);
	buffer_free(&kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compiler),
		cmocka_unit_test(test_compiler_with_json),
		cmocka_unit_test(test_update),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
