/* Which version of each task serves, by what the patches topic says. */
#include "daemon/learner_setup.h"
#include "daemon/live_patches.h"
#include "log_fixture.h"
#include "serving_fixture.h"

static const char three[] = "  - {name: age, type: classification, labels: [a, b, c]}\n"
			    "  - {name: next, type: ranking, insertion: serial}\n"
			    "  - {name: spend, type: regression, insertion: parallel, adapters: 1}\n";

static struct serving s;
static struct live_patches *live;
static struct task_set *set; /* of the last choice that made one */

static int begin(void **state)
{
	struct error err;
	serving_open(&s, true, three);
	set = NULL;
	return live_patches_new(s.config, s.backbone, s.net, &live, &err) == STATUS_OK ? 0 : -1;
}

static int finish(void **state)
{
	live_patches_free(live);
	task_set_release(set);
	serving_close(&s);
	return 0;
}

static bool choose(void)
{
	struct task_set *news = NULL;
	struct error err;
	if (live_patches_choose(live, s.tasks, s.table, &news, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	if (!news)
		return false;
	task_set_release(set);
	set = news;
	return true;
}

static const struct served_patch *serves(const char *name)
{
	const struct served *entry = task_set_entry(set, slice_of(name));
	assert_non_null(entry);
	assert_non_null(entry->patch);
	return entry->patch;
}

static void expect_identity(const char *name)
{
	struct patch *identity = NULL;
	struct error err;
	const struct served_task *task = task_set_find(set, slice_of(name));
	const struct learner_setup setup = learner_setup(task, s.config, s.backbone, s.net);
	assert_int_equal(learner_setup_identity(&setup, &identity, &err), STATUS_OK);
	assert_int_equal(serves(name)->version, 1);
	assert_string_equal(serves(name)->hash, identity->hash);
	patch_free(identity);
}

static void promote(const char *name, size_t plan, uint64_t version)
{
	static const char *const films[] = { "f1", "f2", "f3", "f4" };
	const struct served_task *task = serving_task(&s, name);
	bool grows = task->definition.labels.count == 0;
	serving_promote(&s, &s.plans[plan], task, serving_patch(&s, task, version, grows ? films : NULL, grows ? 4 : 0),
			version);
}

static void what_nothing_was_decided_of_serves_its_identity(void **state)
{
	assert_true(choose());
	assert_int_equal(set->count, 3);
	expect_identity("age");
	expect_identity("next");
	expect_identity("spend");
	assert_int_equal(serves("age")->patch->classes, 3);
	assert_int_equal(serves("next")->patch->classes, 0);
	assert_int_equal(serves("spend")->patch->classes, 1);
	assert_false(choose()); /* the same again */
	assert_int_equal(live_patches_swaps(live), 0);
}

static void promotions_take_their_places(void **state)
{
	assert_true(choose());
	promote("age", 0, 2);
	promote("next", 1, 2);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 2);
	assert_string_equal(serves("age")->hash, patch_entry_newest(patch_table_find(s.table, "age"))->patch);
	assert_int_equal(serves("next")->patch->classes, 4);
	expect_identity("spend");
	assert_false(choose());
	promote("age", 0, 3);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 3);
	assert_int_equal(live_patches_swaps(live), 3);
}

/* Records that keep the live version: nothing is loaded again. A rollback brings the older one back. */
static void decisions_are_followed(void **state)
{
	char first[HASH_HEX_LENGTH + 1];
	const struct served_task *age = serving_task(&s, "age");
	promote("age", 0, 2);
	assert_true(choose());
	memcpy(first, serves("age")->hash, sizeof first);
	struct patch_record r = serving_record(&s, &s.plans[0], age, PATCH_CHECKPOINT, 2, NULL);
	serving_decide(&s, &s.plans[0], &r, NULL);
	assert_false(choose());
	promote("age", 0, 3);
	assert_true(choose());
	assert_string_not_equal(serves("age")->hash, first);
	r = serving_record(&s, &s.plans[0], age, PATCH_ROLLED_BACK, 2, NULL);
	memcpy(r.patch, first, sizeof r.patch);
	serving_decide(&s, &s.plans[0], &r, NULL);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 2);
	assert_string_equal(serves("age")->hash, first);
}

/* Another definition, or another backbone, is another lineage. */
static void other_lineages_do_not_serve(void **state)
{
	const struct served_task *age = serving_task(&s, "age");
	promote("age", 0, 2);
	assert_true(choose());
	serving_tasks(&s, "  - {name: age, type: classification, labels: [a, b, c], bottleneck: 3}\n");
	assert_true(choose());
	assert_int_equal(set->count, 1);
	expect_identity("age");
	assert_int_equal(serves("age")->patch->spec.bottleneck, 3);
	assert_int_equal(live_patches_swaps(live), 0); /* a new lineage is no swap */
	promote("age", 0, 7);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 7);
	age = serving_task(&s, "age");
	struct patch_record r = serving_record(&s, &s.plans[0], age, PATCH_CHECKPOINT, 9, NULL);
	hash_sha256_hex("another", 7, r.backbone);
	serving_decide(&s, &s.plans[0], &r, NULL);
	assert_true(choose());
	expect_identity("age");
	assert_false(choose());
}

/* What does not train moves no patch. */
static void a_lineage_outlives_its_definitions_cadence(void **state)
{
	promote("next", 0, 5);
	assert_true(choose());
	const struct served_patch *before = serves("next");
	serving_tasks(&s, "  - {name: next, type: ranking, insertion: serial, scores_k: 3, min_labels: 9}\n");
	assert_true(choose());
	assert_ptr_equal(serves("next"), before);
	assert_int_equal(task_set_find(set, slice_of("next"))->definition.scores_k, 3);
	assert_false(choose());
}

static void tasks_come_and_go(void **state)
{
	promote("age", 0, 2);
	assert_true(choose());
	serving_tasks(&s, "");
	assert_true(choose());
	assert_int_equal(set->count, 0);
	serving_tasks(&s, three);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 2);
	expect_identity("next");
}

/* A decision of `age` on these bytes is refused, once, and what served goes on. */
static void expect_refused(const struct buffer *bytes, uint64_t version)
{
	const struct served_patch *before = serves("age");
	struct patch_record r =
		serving_record(&s, &s.plans[0], serving_task(&s, "age"), PATCH_PROMOTED, version, bytes);
	serving_decide(&s, &s.plans[0], &r, bytes);
	assert_false(choose());
	assert_ptr_equal(serves("age"), before);
}

static void what_cannot_serve_is_refused(void **state)
{
	static const char *const others[] = { "a", "c", "b" };
	const struct served_task *age = serving_task(&s, "age");
	struct served_task other = *age;
	struct buffer bytes = { 0 };
	promote("age", 0, 2);
	assert_true(choose());
	buffer_append(&bytes, "not a patch", 11);
	expect_refused(&bytes, 3);
	other.spec.bottleneck = 5;
	struct patch *p = serving_patch(&s, &other, 4, NULL, 0);
	serving_encode(p, &bytes);
	expect_refused(&bytes, 4);
	patch_free(p);
	p = serving_patch(&s, age, 5, others, 3);
	serving_encode(p, &bytes);
	expect_refused(&bytes, 5);
	patch_free(p);
	p = serving_patch(&s, age, 6, NULL, 0);
	hash_sha256_hex("another", 7, p->backbone);
	serving_encode(p, &bytes);
	expect_refused(&bytes, 6);
	patch_free(p);
	p = serving_patch(&s, serving_task(&s, "next"), 7, others, 3);
	serving_encode(p, &bytes);
	expect_refused(&bytes, 7);
	patch_free(p);
	struct patch_record r =
		serving_record(&s, &s.plans[0], age, PATCH_PROMOTED, 8, &bytes); /* bytes that are not there */
	hash_sha256_hex("nowhere", 7, r.patch);
	const struct served_patch *before = serves("age");
	serving_decide(&s, &s.plans[0], &r, NULL);
	assert_false(choose());
	assert_ptr_equal(serves("age"), before);
	promote("age", 0, 9);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 9);
	buffer_free(&bytes);
}

/* The first version that is seen cannot be served: the identity patch is what there is. */
static void refused_at_first_the_identity_serves(void **state)
{
	struct buffer bytes = { 0 };
	buffer_append(&bytes, "not a patch", 11);
	struct patch_record r = serving_record(&s, &s.plans[0], serving_task(&s, "age"), PATCH_PROMOTED, 3, &bytes);
	serving_decide(&s, &s.plans[0], &r, &bytes);
	assert_true(choose());
	expect_identity("age");
	assert_false(choose());
	buffer_free(&bytes);
}

/* Bytes that the topic does not have are told of, once. */
static void without_its_bytes_the_identity_serves(void **state)
{
	char said[1024];
	struct patch_record r = serving_record(&s, &s.plans[0], serving_task(&s, "age"), PATCH_PROMOTED, 3, NULL);
	hash_sha256_hex("nowhere", 7, r.patch);
	serving_decide(&s, &s.plans[0], &r, NULL);
	log_begin();
	assert_true(choose());
	const char *warning = strstr(log_end(said, sizeof said),
				     "warning: task age: topic peterd.patches does not have the bytes of version 3 (");
	assert_non_null(warning);
	assert_non_null(strstr(warning, "): the identity patch serves\n"));
	expect_identity("age");
	log_begin();
	assert_false(choose());
	assert_string_equal(log_end(said, sizeof said), "");
	promote("age", 0, 4);
	assert_true(choose());
	assert_int_equal(serves("age")->version, 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)
	const struct CMUnitTest tests[] = {
		TEST(what_nothing_was_decided_of_serves_its_identity),
		TEST(promotions_take_their_places),
		TEST(decisions_are_followed),
		TEST(other_lineages_do_not_serve),
		TEST(a_lineage_outlives_its_definitions_cadence),
		TEST(tasks_come_and_go),
		TEST(what_cannot_serve_is_refused),
		TEST(refused_at_first_the_identity_serves),
		TEST(without_its_bytes_the_identity_serves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
