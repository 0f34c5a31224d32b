/* A learner's promises on made-up tasks: it learns, sees before it learns, and what goes live is what should. */
#include "learner_fixture.h"
#include "network_fixture.h"

static double recent_accuracy(const struct stream *s)
{
	const struct learner_sums *live = &learner_metrics(s->learner)->recent[LEARNER_LIVE];
	return live->right / live->count;
}

static size_t count_verdicts(const struct stream *s, size_t from, enum learner_verdict verdict,
			     enum learner_reason reason)
{
	size_t n = 0;
	for (size_t i = from; i < s->decision_count; i++)
		n += s->decisions[i].verdict == verdict && s->decisions[i].reason == reason;
	return n;
}

static void learns_from_chance(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	fixture_run(s, 64);
	const double first = recent_accuracy(s);
	assert_true(first < 0.5);
	fixture_run(s, 3000);
	const double live = fixture_accuracy(s, FIRST);
	if (!(live > 0.8) || !(recent_accuracy(s) > 0.75))
		fail_msg("accuracy %g of new ones, %g before training", live, recent_accuracy(s));
	assert_int_equal(learner_live(s->learner)->classes, 4);
	assert_int_equal(learner_counts(s->learner)->labels, 3072);
	assert_int_equal(learner_counts(s->learner)->dropped, 0);
	assert_int_equal(learner_counts(s->learner)->alarms, 0);
	assert_true(count_verdicts(s, 0, LEARNER_PROMOTED, LEARNER_BETTER) > 0);
	assert_true(count_verdicts(s, 0, LEARNER_PROMOTED, LEARNER_NOT_WORSE) > 20);
	const struct learner_metrics *m = learner_metrics(s->learner);
	assert_true(m->recent[LEARNER_LIVE].loss < 0.8 * m->recent[LEARNER_PRIOR].loss);
	assert_true(m->whole[LEARNER_LIVE].count == 3072);
	fixture_free(s);
}

/* Labels that follow nothing, and large steps: only who trained first could be right more often than a coin. */
static void scores_before_it_learns(void **state)
{
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	o.rate = 0.05F;
	o.average = 0;
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	struct error err;
	s->concept = NOISE;
	for (int i = 0; i < 60; i++) {
		for (size_t k = 0; k < CUT; k++)
			fixture_example(s, k);
		fixture_consume(s, 60);
		const struct learner_decision go = { .verdict = LEARNER_PROMOTED, .reason = LEARNER_ASKED };
		assert_int_equal(learner_apply(s->learner, &go, &err), STATUS_OK);
	}
	for (int model = LEARNER_LIVE; model <= LEARNER_PREDECESSOR; model++) {
		const struct learner_sums *sums = &learner_metrics(s->learner)->whole[model];
		if (!(sums->right / sums->count < 0.56))
			fail_msg("accuracy %g of coin throws", sums->right / sums->count);
	}
	fixture_free(s);
}

/* After how many labels the first decision of the kind came, from a label on; 0: none. */
static uint64_t labels_until(const struct stream *s, uint64_t from, enum learner_verdict verdict,
			     enum learner_reason reason)
{
	for (size_t i = 0; i < s->decision_count; i++) {
		const struct learner_decision *d = &s->decisions[i];
		if (d->labels > from && d->verdict == verdict && d->reason == reason)
			return d->labels - from;
	}
	return 0;
}

static void a_drift_is_recovered_from(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	fixture_run(s, 3200);
	const uint64_t then = s->next;
	s->concept = OPPOSITE;
	fixture_run(s, 160);
	assert_true(learner_drifting(s->learner));
	fixture_run(s, 1600);
	assert_false(learner_drifting(s->learner));
	const uint64_t until = labels_until(s, then, LEARNER_PROMOTED, LEARNER_BETTER);
	print_message("drift: a new concept is live after %lu labels\n", until);
	assert_in_range(until, 50, 1300);
	assert_int_equal(learner_counts(s->learner)->alarms, 1);
	if (!(fixture_accuracy(s, OPPOSITE) > 0.75))
		fail_msg("accuracy %g", fixture_accuracy(s, OPPOSITE));
	fixture_free(s);
}

static void poison_does_not_stay(void **state)
{
	enum { FEW = 5 };
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	fixture_run(s, 3200);
	const double before = fixture_accuracy(s, FIRST);
	const size_t decided = s->decision_count;
	const uint64_t then = s->next;
	const uint64_t clean = learner_live(s->learner)->version;
	s->concept = NOISE;
	for (size_t k = 0; k < FEW; k++)
		fixture_example(s, k);
	struct error err;
	struct learner_report report;
	const struct learner_cut few = { s->examples, FEW, LEARNER_STEPS };
	assert_int_equal(learner_consume(s->learner, &few, &report, &err), STATUS_OK);
	const struct learner_decision go = { .verdict = LEARNER_PROMOTED, .reason = LEARNER_ASKED };
	assert_false(learner_drifting(s->learner));
	assert_int_equal(learner_apply(s->learner, &go, &err), STATUS_OK); /* too early to be seen */
	uint64_t window = 0; /* labels from the poison's begin until drift is flagged */
	while (!learner_drifting(s->learner) && window < 1000) {
		fixture_cut(s);
		window = s->next - then;
	}
	print_message("poison: flagged after %lu labels\n", window);
	assert_in_range(window, 1, 200);
	const size_t flagged = s->decision_count;
	assert_int_equal(count_verdicts(s, decided, LEARNER_ROLLED_BACK, LEARNER_DRIFT), 1);
	assert_true(learner_live(s->learner)->version <= clean);
	fixture_run(s, 6000);
	assert_int_equal(count_verdicts(s, flagged, LEARNER_PROMOTED, LEARNER_BETTER), 0);
	assert_int_equal(count_verdicts(s, flagged, LEARNER_PROMOTED, LEARNER_NOT_WORSE), 0);
	assert_true(count_verdicts(s, decided, LEARNER_PROMOTED, LEARNER_NOT_WORSE) < 10);
	const double during = fixture_accuracy(s, FIRST);
	if (!(during > before - 0.03))
		fail_msg("accuracy %g before, %g during", before, during);
	const uint64_t over = s->next;
	s->concept = FIRST;
	fixture_run(s, 1600);
	assert_false(learner_drifting(s->learner));
	assert_in_range(labels_until(s, over, LEARNER_REJECTED, LEARNER_POISON), 1, 400);
	assert_true(fixture_accuracy(s, FIRST) > before - 0.03);
	fixture_free(s);
}

/* A person lets a challenger go live that learnt the opposite. */
static void a_worse_patch_is_rolled_back(void **state)
{
	struct error err;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	fixture_run(s, 1600);
	s->concept = OPPOSITE;
	for (int i = 0; i < 20; i++) {
		for (size_t k = 0; k < CUT; k++)
			fixture_example(s, k);
		fixture_consume(s, 20);
	}
	const uint64_t good = learner_live(s->learner)->version;
	const struct learner_decision go = { .verdict = LEARNER_PROMOTED, .reason = LEARNER_ASKED };
	assert_int_equal(learner_apply(s->learner, &go, &err), STATUS_OK);
	assert_true(learner_live(s->learner)->version > good);
	assert_true(fixture_accuracy(s, FIRST) < 0.6);
	const size_t decided = s->decision_count;
	const uint64_t then = s->next;
	s->concept = FIRST;
	fixture_run(s, 400);
	size_t back = decided;
	while (back < s->decision_count && s->decisions[back].verdict != LEARNER_ROLLED_BACK)
		back++;
	assert_true(back < s->decision_count);
	const struct learner_decision *d = &s->decisions[back];
	print_message("a worse patch: rolled back after %lu labels, gain %g +- %g\n", d->labels - then, d->gain,
		      d->width);
	assert_true(d->version <= good && d->labels - then < 100);
	assert_true(d->reason == LEARNER_DRIFT || d->gain + d->width < 0);
	assert_true(fixture_accuracy(s, FIRST) > 0.8);
	fixture_free(s);
}

static void what_is_not_finite_is_dropped(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	for (int i = 0; i < 60; i++) {
		for (size_t k = 0; k < CUT; k++)
			fixture_example(s, k);
		s->states[1][STATE - 1] = NAN;
		s->states[2][0] = INFINITY;
		s->states[3][1] = 1e30F;
		s->examples[4].weight = NAN;
		s->examples[5].weight = -1;
		s->examples[6].weight = 0;
		fixture_consume(s, LEARNER_STEPS);
	}
	const struct learner_counts *c = learner_counts(s->learner);
	assert_int_equal(c->labels, 60 * CUT);
	assert_int_equal(c->dropped, 60 * 5);
	assert_int_equal(c->skipped, 0);
	assert_int_equal(learner_replay(s->learner), 512 < 60 * (CUT - 6) ? learner_replay(s->learner) : 0);
	fixture_run(s, 400);
	assert_true(fixture_accuracy(s, FIRST) > 0.8);
	fixture_free(s);
}

/* With a rate that no patch survives, live patches stay what they were. */
static void a_broken_challenger_starts_again(void **state)
{
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	o.rate = 1e30F;
	o.clip = 0;
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	fixture_run(s, 1600);
	const struct learner_counts *c = learner_counts(s->learner);
	assert_true(c->rejected > 0);
	assert_int_equal(c->labels, 1600);
	const struct patch *live = learner_live(s->learner);
	for (size_t i = 0; i < live->table.floats; i++)
		assert_true(isfinite(live->weights[i]));
	fixture_free(s);
}

static void labels_grow_within_bounds(void **state)
{
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	o.classes_at_most = 4;
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 3);
	fixture_run(s, 1600);
	assert_int_equal(learner_live(s->learner)->classes, 3);
	s->classes = 6;
	fixture_run(s, 3200);
	assert_int_equal(learner_live(s->learner)->classes, 4);
	const struct learner_counts *c = learner_counts(s->learner);
	assert_int_equal(c->labels, 4800);
	assert_true(c->unknown > 100 && c->unknown == c->dropped);
	fixture_free(s);
}

/* What the challenger loses more than the live patch on an example of the next cut. */
static double loss_of_a_challenge(struct stream *s)
{
	const struct learner_sums *sums = learner_metrics(s->learner)->whole;
	const double before = sums[LEARNER_CHALLENGER].loss - sums[LEARNER_LIVE].loss;
	for (size_t k = 0; k < CUT; k++)
		fixture_example(s, k);
	fixture_consume(s, LEARNER_STEPS);
	return (sums[LEARNER_CHALLENGER].loss - sums[LEARNER_LIVE].loss - before) / CUT;
}

/* One label in thousands that nobody ever gives again, a slip of the pen. */
static void a_stray_label_does_not_stop_learning(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct learner_decision back = { .verdict = LEARNER_REJECTED, .reason = LEARNER_WORSE };
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	struct error err;
	fixture_run(s, 3200);
	const uint64_t version = learner_live(s->learner)->version;
	const size_t from = s->decision_count;
	for (size_t k = 0; k < CUT; k++)
		fixture_example(s, k);
	s->examples[0].label = "slip";
	fixture_consume(s, LEARNER_STEPS);
	assert_int_equal(learner_apply(s->learner, &back, &err), STATUS_OK);
	const double worse = loss_of_a_challenge(s);
	if (!(worse < 0.001))
		fail_msg("a challenger that begins as the live patch is worse by %g", worse);
	fixture_run(s, 3200);
	assert_int_equal(learner_live(s->learner)->classes, 5);
	assert_true(learner_live(s->learner)->version > version + 10);
	assert_int_equal(count_verdicts(s, from, LEARNER_REJECTED, LEARNER_WORSE), 0);
	fixture_free(s);
}

static void a_class_that_comes_late_is_learnt(void **state)
{
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 3);
	fixture_run(s, 3200);
	s->classes = 4;
	fixture_run(s, 3200);
	const double live = fixture_accuracy(s, FIRST);
	if (!(live > 0.8))
		fail_msg("accuracy %g of new ones", live);
	fixture_free(s);
}

static void given_labels_do_not_grow(void **state)
{
	struct error err;
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct network_shape shape = fixture_shape();
	struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	lineage.labels = fixture_names;
	lineage.classes = 2;
	o.grows = false;
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 4);
	learner_free(s->learner);
	assert_int_equal(learner_new(&o, &lineage, 0, &s->learner, &err), STATUS_OK);
	assert_int_equal(learner_live(s->learner)->version, 1);
	fixture_run(s, 800);
	assert_int_equal(learner_live(s->learner)->classes, 2);
	assert_true(learner_counts(s->learner)->unknown > 300);
	fixture_free(s);
}

static void regressions_and_rankings_are_learnt(void **state)
{
	struct learner_options o = fixture_options(PATCH_REGRESSION);
	struct stream *s = fixture_stream(&o, PATCH_REGRESSION, 1);
	fixture_run(s, 3200);
	const struct learner_sums *r = &learner_metrics(s->learner)->recent[LEARNER_LIVE];
	const double error = r->absolute / r->count;
	if (!(error < 16)) /* 8 is noise; 41 is to know nothing */
		fail_msg("mean absolute error %g", error);
	fixture_free(s);
	o = fixture_options(PATCH_RANKING);
	s = fixture_stream(&o, PATCH_RANKING, 6);
	fixture_run(s, 3200);
	r = &learner_metrics(s->learner)->recent[LEARNER_LIVE];
	if (!(r->reciprocal / r->count > 0.75)) /* 0.38 is chance */
		fail_msg("MRR@5 %g", r->reciprocal / r->count);
	fixture_free(s);
}

/* One label of 1e30 among a thousand: the others are still learnt. */
static void a_wild_value_is_no_end(void **state)
{
	struct learner_options o = fixture_options(PATCH_REGRESSION);
	struct stream *s = fixture_stream(&o, PATCH_REGRESSION, 1);
	fixture_run(s, 1024);
	for (size_t k = 0; k < CUT; k++)
		fixture_example(s, k);
	s->examples[3].value = 1e30;
	s->examples[4].value = HUGE_VAL;
	fixture_consume(s, LEARNER_STEPS);
	assert_int_equal(learner_counts(s->learner)->dropped, 1);
	fixture_run(s, 2000);
	const struct learner_sums *r = &learner_metrics(s->learner)->recent[LEARNER_LIVE];
	const double mean = r->loss / r->count; /* in variances: cut, where squares are not */
	if (!(mean < 0.2))
		fail_msg("loss %g", mean);
	fixture_free(s);
}

static void a_user_is_forgotten(void **state)
{
	struct error err;
	struct learner_report report;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	fixture_run(s, 400); /* users 0 .. 49, eight examples each: fewer than the reservoir may hold */
	const size_t before = learner_replay(s->learner);
	struct learner_example cut[3];
	fixture_example(s, 0);
	fixture_example(s, 1);
	cut[0] = s->examples[0];
	cut[0].user = 7;
	cut[1] = (struct learner_example){ .kind = LEARNER_FORGET, .user = 7 };
	cut[2] = s->examples[1];
	cut[2].user = 7;
	const struct learner_cut three = { cut, 3, LEARNER_STEPS };
	assert_int_equal(learner_consume(s->learner, &three, &report, &err), STATUS_OK);
	assert_int_equal(report.labels, 2);
	assert_int_equal(report.dropped, 1); /* the one before; the one behind is another story */
	assert_in_range(report.forgotten, 3, 9);
	assert_true(learner_replay(s->learner) < before);
	const struct learner_cut again = { cut + 1, 1, LEARNER_STEPS };
	assert_int_equal(learner_consume(s->learner, &again, &report, &err), STATUS_OK);
	assert_int_equal(report.forgotten, 1); /* that one */
	assert_int_equal(report.labels, 0);
	fixture_free(s);
}

/* Patches inside the trunk, from events: a label is the kind of item that stands most often. */
static void serial_patches_learn_from_events(void **state)
{
	enum { LENGTH = 12, CUTS = 100 };
	struct error err;
	struct learner *l = NULL, *again = NULL;
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	struct network_shape shape = fixture_shape();
	shape.channels = 8;
	struct network *net = fixture_network(&shape, 3);
	struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &net->shape);
	lineage.net = net;
	lineage.spec.insertion = PATCH_SERIAL;
	lineage.spec.first = lineage.spec.second = true;
	memset(lineage.spec.blocks, 0, sizeof lineage.spec.blocks);
	lineage.spec.blocks[1] = true;
	assert_int_equal(learner_new(&o, &lineage, 0, &l, &err), STATUS_OK);
	struct random_stream random = random_from(5, 5);
	static uint32_t items[CUT][LENGTH];
	struct learner_example cut[CUT];
	struct learner_report report;
	struct learner_decision d;
	for (int i = 0; i < CUTS; i++) {
		for (size_t k = 0; k < CUT; k++) {
			const uint32_t kind = random_below(&random, 2);
			for (size_t at = 0; at < LENGTH; at++)
				items[k][at] = 3 + random_below(&random, 3) +
					       3 * (random_below(&random, 5) == 0 ? !kind : kind);
			cut[k] = (struct learner_example){ .offset = (uint64_t)i * CUT + k,
							   .label = fixture_names[kind],
							   .weight = 1,
							   .items = items[k],
							   .length = k % 5 == 0 ? 4 : LENGTH };
		}
		const struct learner_cut c = { cut, CUT, LEARNER_STEPS };
		assert_int_equal(learner_consume(l, &c, &report, &err), STATUS_OK);
		assert_int_equal(learner_decide(l, (i + 1) * 500, &d, &err), STATUS_OK);
	}
	const struct learner_sums *live = &learner_metrics(l)->recent[LEARNER_LIVE];
	if (!(live->right / live->count > 0.7))
		fail_msg("accuracy %g", live->right / live->count);
	struct buffer first = { 0 }, second = { 0 };
	assert_int_equal(learner_save(l, true, &first, &err), STATUS_OK);
	assert_int_equal(learner_restore(&o, &lineage, first.data, first.length, &again, &err), STATUS_OK);
	const struct learner_cut c = { cut, CUT, LEARNER_STEPS };
	buffer_clear(&first);
	assert_int_equal(learner_consume(l, &c, &report, &err), STATUS_OK);
	assert_int_equal(learner_consume(again, &c, &report, &err), STATUS_OK);
	assert_int_equal(learner_save(l, true, &first, &err), STATUS_OK);
	assert_int_equal(learner_save(again, true, &second, &err), STATUS_OK);
	assert_int_equal(first.length, second.length);
	assert_memory_equal(first.data, second.data, first.length);
	buffer_free(&first);
	buffer_free(&second);
	learner_free(l);
	learner_free(again);
	network_free(net);
}

static void few_examples_are_trained_on_less(void **state)
{
	struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	o.passes = 6;
	o.passes_rise = 0.25F;
	o.batch = 8;
	struct stream *s = fixture_stream(&o, PATCH_CLASSIFICATION, 2);
	uint64_t most = 0;
	(void)state;
	for (uint64_t labels = CUT; labels <= 1024; labels += CUT) {
		const uint64_t rise = (uint64_t)(0.25 * sqrt((double)labels));
		const uint64_t passes = rise < 1 ? 1 : rise > o.passes ? o.passes : rise;
		fixture_cut(s);
		assert_int_equal(s->steps, (CUT * passes + o.batch - 1) / o.batch);
		most = passes;
	}
	assert_int_equal(most, o.passes);
	fixture_free(s);
}

static void nonsense_is_refused(void **state)
{
	struct error err;
	struct learner *l = NULL;
	const struct learner_options o = fixture_options(PATCH_CLASSIFICATION);
	const struct network_shape shape = fixture_shape();
	struct learner_lineage lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	lineage.spec.insertion = PATCH_SERIAL;
	lineage.spec.first = true;
	assert_int_equal(learner_new(&o, &lineage, 0, &l, &err), STATUS_DATA);
	lineage = fixture_lineage(PATCH_CLASSIFICATION, &shape);
	lineage.spec.blocks[BLOCKS + 1] = true;
	assert_int_equal(learner_new(&o, &lineage, 0, &l, &err), STATUS_DATA);
	assert_null(l);
	l = fixture_learner(&o, PATCH_CLASSIFICATION);
	const struct learner_decision back = { .verdict = LEARNER_ROLLED_BACK, .reason = LEARNER_ASKED };
	assert_int_equal(learner_apply(l, &back, &err), STATUS_DATA);
	assert_null(learner_predecessor(l));
	learner_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns_from_chance),
		cmocka_unit_test(scores_before_it_learns),
		cmocka_unit_test(a_drift_is_recovered_from),
		cmocka_unit_test(poison_does_not_stay),
		cmocka_unit_test(a_worse_patch_is_rolled_back),
		cmocka_unit_test(what_is_not_finite_is_dropped),
		cmocka_unit_test(a_broken_challenger_starts_again),
		cmocka_unit_test(labels_grow_within_bounds),
		cmocka_unit_test(a_stray_label_does_not_stop_learning),
		cmocka_unit_test(a_class_that_comes_late_is_learnt),
		cmocka_unit_test(given_labels_do_not_grow),
		cmocka_unit_test(regressions_and_rankings_are_learnt),
		cmocka_unit_test(a_wild_value_is_no_end),
		cmocka_unit_test(a_user_is_forgotten),
		cmocka_unit_test(serial_patches_learn_from_events),
		cmocka_unit_test(few_examples_are_trained_on_less),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
