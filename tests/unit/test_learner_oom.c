/* Every allocation of a learner may fail: each failure says so, and nothing leaks (the sanitizers watch). */
#include "learner_fixture.h"
#include "oom.h"

/* A life: labels that grow, a promotion, a rollback, a checkpoint and back. */
static enum status live(struct error *err)
{
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct network_shape shape = fixture_shape();
	const struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	struct stream s = { .random = random_from(7, 7), .classes = 3 };
	struct learner_report report;
	struct learner *restored = NULL;
	struct buffer saved = { 0 };
	const struct learner_cut cut = { s.examples, CUT, LEARNER_STEPS };
	const struct learner_decision go = { .verdict = LEARNER_PROMOTED, .reason = LEARNER_ASKED };
	const struct learner_decision back = { .verdict = LEARNER_ROLLED_BACK, .reason = LEARNER_ASKED };
	enum status status = learner_new(&o, &lineage, 0, &s.learner, err);
	for (int i = 0; status == STATUS_OK && i < 2; i++) {
		for (size_t k = 0; k < CUT; k++)
			fixture_example(&s, k);
		status = learner_consume(s.learner, &cut, &report, err);
		if (status == STATUS_OK)
			status = learner_apply(s.learner, &go, err);
	}
	if (status == STATUS_OK)
		status = learner_apply(s.learner, &back, err);
	if (status == STATUS_OK)
		status = learner_save(s.learner, true, &saved, err);
	if (status == STATUS_OK)
		status = learner_restore(&o, &lineage, saved.data, saved.length, &restored, err);
	buffer_free(&saved);
	learner_free(restored);
	learner_free(s.learner);
	return status;
}

static void every_failure_is_said(void **state)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		oom_fail_at(n);
		const enum status status = live(&err);
		const bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 100);
			break;
		}
		if (status != STATUS_MEMORY)
			fail_msg("allocation %zu: %d %s", n, status, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_failure_is_said) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
