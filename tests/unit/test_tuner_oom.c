/* Every allocation of a tuner may fail: each failure says so, and nothing leaks (the sanitizers watch). Steps allocate
 * nothing. */
#include "model/tuner.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct network *net;
static const char *const labels[] = { "a", "b", "c" };

static struct patch *make_patch(enum patch_insertion insertion, bool head_only)
{
	struct error err;
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 2);
	struct patch_spec spec = { .insertion = insertion, .bottleneck = 2, .mean_window = 3 };
	spec.blocks[0] = !head_only;
	spec.first = !head_only && insertion != PATCH_SIDE;
	assert_int_equal(patch_new(&spec, net, "t", labels, 2, &random, &p, &err), STATUS_OK);
	return p;
}

static void check(enum patch_insertion insertion, bool trunk)
{
	struct patch *p = make_patch(insertion, trunk);
	const struct tuner_options options = { .loss = TUNER_SOFTMAX,
					       .negatives = 1,
					       .dropout = 0.1F,
					       .trunk = trunk,
					       .optimizer = { .rate = 0.01F, .epsilon = 1e-8F } };
	const uint32_t items[] = { 3, 4 };
	const struct tuner_example example = { .items = items, .length = 2, .weight = 1 };
	const struct tuner_batch batch = { &example, NULL, 1 };
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct tuner *t = NULL;
		struct tuner_sums sums;
		float scores[2];
		oom_fail_at(n);
		enum status status = tuner_new(p, net, &options, &parallel_none, 4, &t, &err);
		bool failed = oom_failed();
		oom_reset();
		if (failed) {
			assert_int_equal(status, STATUS_MEMORY);
			assert_null(t);
			continue;
		}
		assert_int_equal(status, STATUS_OK);
		assert_true(n > 10);
		assert_true(tuner_step(t, &batch, &sums));
		tuner_loss(t, &batch, &sums);
		tuner_scores(t, &batch, scores);
		assert_int_equal(oom_count(), 0);
		tuner_free(t);
		break;
	}
	patch_free(p);
}

static void test_new(void **state)
{
	check(PATCH_SERIAL, false);
	check(PATCH_SIDE, false);
	check(PATCH_SIDE, true);
}

static void test_grow(void **state)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct tuner *t = NULL;
		struct patch *p = make_patch(PATCH_SERIAL, false);
		struct random_stream random = random_from(1, 2);
		const struct tuner_options options = { .optimizer = { .rate = 0.01F, .epsilon = 1e-8F } };
		assert_int_equal(tuner_new(p, net, &options, &parallel_none, 4, &t, &err), STATUS_OK);
		oom_fail_at(n);
		enum status status = tuner_grow(t, labels + 2, 1, &random, &err);
		bool failed = oom_failed();
		oom_reset();
		tuner_free(t);
		patch_free(p);
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (!failed)
			return;
	}
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
	struct random_stream random = random_from(7, 7);
	if (network_new(&shape, &net, &err) != STATUS_OK)
		return -1;
	network_randomise(net, &random);
	return 0;
}

static int tear_down(void **state)
{
	network_free(net);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_grow),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
