/* The same bytes: after a save and a restore, from recorded cuts and decisions, and without the examples' contents. Damaged
 * bytes are refused. */
#include "learner_fixture.h"

static struct buffer save(const struct learner *l, bool contents)
{
	struct error err;
	struct buffer b = { 0 };
	if (learner_save(l, contents, &b, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return b;
}

static struct learner *restore(const struct learner_options *o, enum patch_type type, const struct buffer *b)
{
	struct error err;
	struct learner *l = NULL;
	const struct network_shape shape = fixture_shape();
	const struct learner_lineage lineage = fixture_lineage(type, &shape);
	if (learner_restore(o, &lineage, b->data, b->length, &l, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return l;
}

static void assert_same(const struct learner *a, const struct learner *b)
{
	struct buffer x = save(a, true);
	struct buffer y = save(b, true);
	assert_int_equal(x.length, y.length);
	assert_memory_equal(x.data, y.data, x.length);
	buffer_free(&x);
	buffer_free(&y);
}

/* Through growth, drift and poison; the learner is swapped for a restored one every so often. */
static void check_restored(enum patch_type type, uint32_t classes)
{
	const struct learner_options o = fixture_options(type);
	struct stream *plain = fixture_stream(&o, type, classes);
	struct stream *swapped = fixture_stream(&o, type, classes);
	char name[HASH_HEX_LENGTH + 1];
	memset(name, 'a', sizeof name);
	name[HASH_HEX_LENGTH] = '\0';
	for (int i = 0; i < 200; i++) {
		const enum concept concept = i > 150 ? NOISE : i > 120 ? OPPOSITE : FIRST;
		plain->concept = swapped->concept = concept;
		fixture_cut(plain);
		fixture_cut(swapped);
		learner_name_live(plain->learner, name);
		learner_name_live(swapped->learner, name);
		if (i % 7 != 0)
			continue;
		struct buffer b = save(swapped->learner, true);
		learner_free(swapped->learner);
		swapped->learner = restore(&o, type, &b);
		buffer_free(&b);
		assert_same(plain->learner, swapped->learner);
	}
	assert_int_equal(plain->decision_count, swapped->decision_count);
	assert_true(plain->decision_count > 20);
	assert_same(plain->learner, swapped->learner);
	const struct patch *live = learner_live(swapped->learner);
	assert_string_equal(live->parent, name);
	assert_int_equal(live->version, learner_live(plain->learner)->version);
	fixture_free(plain);
	fixture_free(swapped);
}

static void restored_goes_on_bit_by_bit(void **state)
{
	check_restored(PATCH_CLASSIFICATION, 5);
	check_restored(PATCH_RANKING, 6);
	check_restored(PATCH_REGRESSION, 1);
}

/* Contents read again by their offsets. */
static void examples_may_be_read_again(void **state)
{
	enum { CUTS = 40 };
	struct error err;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 3);
	static float kept[CUTS * CUT][STATE];
	for (int i = 0; i < CUTS; i++) {
		fixture_cut(s);
		for (size_t k = 0; k < CUT; k++)
			memcpy(kept[s->examples[k].offset], s->states[k], sizeof kept[0]);
	}
	struct buffer b = save(s->learner, false);
	struct buffer whole = save(s->learner, true);
	assert_true(b.length + learner_replay(s->learner) * STATE * sizeof(float) <= whole.length);
	struct learner *l = restore(&o, PATCH_CLASSIFICATION, &b);
	uint64_t offset = 0;
	size_t read = 0;
	while (learner_wants(l, &offset)) {
		const struct learner_example e = { .offset = offset, .state = kept[offset] };
		learner_refill(l, &e);
		read++;
	}
	assert_int_equal(read, learner_replay(l));
	assert_same(s->learner, l);
	learner_free(l);
	l = restore(&o, PATCH_CLASSIFICATION, &b);
	assert_true(learner_wants(l, &offset));
	learner_give_up(l);
	assert_int_equal(learner_replay(l), 0);
	struct learner_report report;
	const struct learner_cut cut = { s->examples, CUT, LEARNER_STEPS };
	assert_int_equal(learner_consume(l, &cut, &report, &err), STATUS_OK);
	learner_free(l);
	buffer_free(&b);
	buffer_free(&whole);
	fixture_free(s);
}

static void recorded_cuts_and_decisions_give_the_same(void **state)
{
	struct error err;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	struct stream *again = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	size_t applied = 0;
	for (int i = 0; i < 320; i++) {
		s->concept = again->concept = i > 240 ? NOISE : i > 160 ? OPPOSITE : FIRST;
		fixture_cut(s);
		for (size_t k = 0; k < CUT; k++)
			fixture_example(again, k);
		fixture_consume(again, s->steps);
		for (; applied < s->decision_count; applied++) {
			const struct learner_decision *d = &s->decisions[applied];
			const struct learner_decision recorded = { .verdict = d->verdict,
								   .reason = d->reason,
								   .time_ms = d->time_ms,
								   .anew = d->anew,
								   .onset = d->onset,
								   .until = d->until };
			assert_int_equal(learner_apply(again->learner, &recorded, &err), STATUS_OK);
		}
	}
	assert_true(learner_counts(s->learner)->alarms > 0);
	assert_same(s->learner, again->learner);
	fixture_free(s);
	fixture_free(again);
}

static void assert_refused(const struct learner_options *o, const struct learner_lineage *lineage, const uint8_t *bytes,
			   size_t length)
{
	struct error err;
	struct learner *l = NULL;
	assert_int_equal(learner_restore(o, lineage, bytes, length, &l, &err), STATUS_DATA);
	assert_null(l);
	assert_non_null(strstr(err.text, "checkpoint of task t"));
}

static void damage_is_refused(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct network_shape shape = fixture_shape();
	const struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 3);
	fixture_run(s, 160);
	struct buffer b = save(s->learner, true);
	for (size_t at = 0; at < b.length; at += 1 + at / 16) {
		b.data[at] ^= 4;
		assert_refused(&o, &lineage, b.data, b.length);
		b.data[at] ^= 4;
		assert_refused(&o, &lineage, b.data, at);
	}
	struct learner_options others = o;
	others.rate *= 2;
	assert_refused(&others, &lineage, b.data, b.length);
	struct learner_lineage other = lineage;
	other.spec.bottleneck++;
	assert_refused(&o, &other, b.data, b.length);
	other = lineage; /* as many levels, but others */
	other.spec.blocks[0] = false;
	other.spec.blocks[1] = true;
	assert_refused(&o, &other, b.data, b.length);
	other = lineage;
	other.labels = fixture_names;
	other.classes = 1;
	assert_refused(&o, &other, b.data, b.length);
	other = lineage;
	other.backbone = "ab";
	assert_refused(&o, &other, b.data, b.length);
	struct learner *l = restore(&o, PATCH_CLASSIFICATION, &b);
	assert_same(l, s->learner);
	learner_free(l);
	buffer_free(&b);
	fixture_free(s);
}

/* Any bytes with a right checksum: no crash, whatever they say. */
static void lies_are_refused(void **state)
{
	struct error err;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct network_shape shape = fixture_shape();
	const struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 3);
	fixture_run(s, 160);
	struct buffer b = save(s->learner, true);
	struct random_stream random = random_from(1, 1);
	for (int i = 0; i < 300; i++) {
		const size_t at = random_below(&random, (uint32_t)b.length - 4);
		const uint8_t before = b.data[at];
		b.data[at] = (uint8_t)random_next(&random);
		const uint32_t checksum = hash_checksum(b.data, b.length - 4);
		memcpy(b.data + b.length - 4, &checksum, 4);
		struct learner *l = NULL;
		const enum status status = learner_restore(&o, &lineage, b.data, b.length, &l, &err);
		assert_true(status == STATUS_OK || status == STATUS_DATA);
		learner_free(l);
		b.data[at] = before;
	}
	buffer_free(&b);
	fixture_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restored_goes_on_bit_by_bit),
		cmocka_unit_test(examples_may_be_read_again),
		cmocka_unit_test(recorded_cuts_and_decisions_give_the_same),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(lies_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
