/* Learners of made-up tasks: side states are random, a label follows a direction in them. */
#ifndef TESTS_LEARNER_FIXTURE_H
#define TESTS_LEARNER_FIXTURE_H

#include "model/learner.h"
#include "base/hash.h"
#include "model/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 4, BLOCKS = 2, READ = 2, STATE = READ * 2 * DIM, CUT = 16, LABEL_MS = 30 };

static const char *const fixture_names[] = { "a", "b", "c", "d", "e", "f" };

/* What labels follow. */
enum concept { FIRST, OPPOSITE, NOISE };

struct stream {
	struct learner *learner;
	struct random_stream random;
	enum patch_type type;
	enum concept concept;
	uint32_t classes;
	uint64_t next; /* offset */
	struct learner_example examples[CUT];
	float states[CUT][STATE];
	struct learner_decision decisions[4096];
	size_t decision_count;
	uint64_t steps; /* of the last cut */
};

static inline struct network_shape fixture_shape(void)
{
	return (struct network_shape){ .channels = DIM,
				       .kernel_size = 3,
				       .blocks = BLOCKS,
				       .dilations = { 1, 1 },
				       .items = 10,
				       .eps = 1e-8F,
				       .causal = true };
}

static inline struct learner_options fixture_options(enum patch_type type)
{
	struct learner_options o = learner_defaults(type, PATCH_SIDE, 1000);
	o.rate = 0.01F;
	o.dropout = 0;
	o.average = 0.9F;
	o.passes = 4;
	o.replay = 512;
	o.negatives = 3;
	return o;
}

static inline struct learner_lineage fixture_lineage(enum patch_type type, const struct network_shape *shape)
{
	struct learner_lineage l = { .task = "t", .backbone = "", .shape = shape };
	l.spec = (struct patch_spec){ .type = type, .insertion = PATCH_SIDE, .bottleneck = 4, .mean_window = 4 };
	patch_default_blocks(PATCH_SIDE, BLOCKS, l.spec.blocks);
	l.classes = type == PATCH_REGRESSION ? 1 : 0;
	return l;
}

static inline struct learner *fixture_learner(const struct learner_options *o, enum patch_type type)
{
	struct error err;
	struct learner *l = NULL;
	const struct network_shape shape = fixture_shape();
	const struct learner_lineage lineage = fixture_lineage(type, &shape);
	if (learner_new(o, &lineage, 0, &l, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return l;
}

static inline struct stream *fixture_stream(const struct learner_options *o, enum patch_type type, uint32_t classes)
{
	struct stream *s = calloc(1, sizeof *s);
	assert_non_null(s);
	s->learner = fixture_learner(o, type);
	s->random = random_from(7, 7);
	s->type = type;
	s->classes = classes;
	return s;
}

static inline void fixture_free(struct stream *s)
{
	learner_free(s->learner);
	free(s);
}

/* The class is where the last level's first two values point to; one label in sixteen is anything. */
static inline uint32_t fixture_class(struct stream *s, const float *state)
{
	const float *h = state + (size_t)(READ - 1) * 2 * DIM;
	const double angle = atan2((double)h[0], (double)h[1]) / 6.283185307179586 + 0.5;
	const uint32_t own = (uint32_t)(angle * s->classes) % s->classes;
	const uint32_t any = random_below(&s->random, s->classes);
	const bool stray = random_below(&s->random, 16) == 0;
	if (s->concept == NOISE || stray)
		return any;
	return s->concept == OPPOSITE ? (own + s->classes / 2) % s->classes : own;
}

static inline void fixture_example(struct stream *s, size_t at)
{
	float *state = s->states[at];
	for (size_t i = 0; i < STATE; i++)
		state[i] = random_normal(&s->random);
	struct learner_example e = { .offset = s->next, .user = s->next % 50, .weight = 1, .state = state };
	if (s->type == PATCH_REGRESSION)
		e.value = 1000 + 50 * (double)state[STATE - DIM] + 10 * (double)random_normal(&s->random);
	else
		e.label = fixture_names[fixture_class(s, state)];
	s->examples[at] = e;
	s->next++;
}

static inline void fixture_consume(struct stream *s, uint64_t steps)
{
	struct error err;
	struct learner_report report;
	const struct learner_cut cut = { s->examples, CUT, steps };
	if (learner_consume(s->learner, &cut, &report, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	s->steps = report.steps;
}

/* A cut, and the decisions after it. */
static inline void fixture_cut(struct stream *s)
{
	struct error err;
	for (size_t i = 0; i < CUT; i++)
		fixture_example(s, i);
	fixture_consume(s, LEARNER_STEPS);
	for (;;) {
		struct learner_decision *d = &s->decisions[s->decision_count];
		if (learner_decide(s->learner, (int64_t)s->next * LABEL_MS, d, &err) != STATUS_OK)
			fail_msg("%s", err.text);
		if (d->verdict == LEARNER_NOTHING)
			break;
		s->decision_count++;
		assert_true(s->decision_count < 4000);
	}
}

static inline void fixture_run(struct stream *s, size_t labels)
{
	for (size_t i = 0; i < labels; i += CUT)
		fixture_cut(s);
}

/* Share of new examples that the live patch is right about; they are not learnt from. */
static inline double fixture_accuracy(const struct stream *s, enum concept concept)
{
	enum { ASKED = 500 };
	struct error err;
	struct tuner *t = NULL;
	struct stream probe = {
		.random = random_from(3, 3), .type = s->type, .concept = concept, .classes = s->classes
	};
	const struct patch *live = learner_live(s->learner);
	double right = 0;
	struct patch *mutable = (struct patch *)(uintptr_t)live; /* scoring changes nothing */
	assert_int_equal(tuner_new(mutable, NULL, NULL, &parallel_none, 1, &t, &err), STATUS_OK);
	for (int i = 0; i < ASKED; i++) {
		float scores[8];
		uint32_t best = 0;
		fixture_example(&probe, 0);
		const struct tuner_example one = { .state = probe.states[0] };
		tuner_scores(t, &(struct tuner_batch){ &one, NULL, 1 }, scores);
		for (uint32_t k = 1; k < live->classes; k++)
			best = scores[k] > scores[best] ? k : best;
		right += live->classes > 0 && strcmp(live->labels[best], probe.examples[0].label) == 0;
	}
	tuner_free(t);
	return right / ASKED;
}

#endif
