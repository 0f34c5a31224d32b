/* Test before train: what each model says of the cut's labels, and what follows from it for metrics, gates and drift. */
#include "model/learner_private.h"

#include "model/metrics.h"

#include <math.h>
#include <stdlib.h>

enum { SCORES_AT_ONCE = 1 << 20, RANKED = 5, UNITS_AT_LEAST = 2 };

#define UNIFORM 0.01 /* share of the uniform distribution in a gate's probability */
#define PROBABILITY_FLOOR 1e-6
#define RECENT (1 - 1.0 / 1000)
#define ERROR_AT_MOST 16.0 /* squared, in variances */
#define FIRST_SCALE 1.0    /* of gates that nothing is known of yet */
#define WILD 10.0          /* deviations, beyond which a label says no more about mean and deviation */
#define FEW 16

/* What a model says of one example's label. */
struct prediction {
	double probability;
	uint32_t rank; /* UINT32_MAX: no row */
	double value;
	bool right;
	bool finite;
};

static double deviation(const struct learner *l)
{
	return l->units.square > 0 ? sqrt(l->units.square) : 1.0;
}

static double loss_of(const struct learner *l, const struct prediction *p, double value)
{
	const double classes = l->student.patch->classes > 2 ? (double)l->student.patch->classes : 2.0;
	switch (l->spec.type) {
	case PATCH_CLASSIFICATION:
		return -log((1 - UNIFORM) * p->probability + UNIFORM / classes);
	case PATCH_RANKING:
		return p->rank == UINT32_MAX ? 1.0 : 1.0 - 1.0 / log2((double)p->rank + 2.0);
	case PATCH_REGRESSION:
		break;
	}
	const double error = (value - p->value) / deviation(l);
	return 0.5 * (error * error < ERROR_AT_MOST ? error * error : ERROR_AT_MOST);
}

static struct prediction read_scores(const struct learner *l, const struct patch *p, const float *scores,
				     uint32_t target)
{
	if (l->spec.type == PATCH_REGRESSION)
		return (struct prediction){ .value = (double)scores[0], .finite = isfinite(scores[0]) };
	if (target >= p->classes)
		return (struct prediction){ .rank = UINT32_MAX, .finite = p->classes == 0 || isfinite(scores[0]) };
	const uint32_t rank = metrics_rank(scores, p->classes, target, NULL);
	return (struct prediction){ .probability = (double)scores[target],
				    .rank = rank,
				    .right = rank == 0,
				    .finite = isfinite(scores[target]) };
}

/* Predictions of one model for n of the cut's examples, which stand in l->examples. */
static void predict(struct learner *l, enum learner_model model, const struct learner_fresh *const *which, size_t n,
		    struct prediction *out)
{
	const struct learner_patch *from = model == LEARNER_LIVE         ? &l->live
					   : model == LEARNER_CHALLENGER ? &l->challenger
									 : &l->predecessor;
	const struct tuner_batch batch = { l->examples, NULL, n };
	if (!from->patch)
		return;
	const size_t classes = from->patch->classes;
	tuner_scores(from->tuner, &batch, l->scores);
	for (size_t i = 0; i < n; i++) {
		out[i] = read_scores(l, from->patch, l->scores + i * classes, which[i]->target);
		if (model == LEARNER_CHALLENGER)
			out[i].value = l->units.offset + l->units.scale * out[i].value;
	}
}

static void add_sums(struct learner_sums *s, enum patch_type type, const struct prediction *p, double loss,
		     double value)
{
	s->count += 1;
	s->loss += loss;
	if (type == PATCH_CLASSIFICATION) {
		s->log_loss -= log(p->probability > PROBABILITY_FLOOR ? p->probability : PROBABILITY_FLOOR);
		s->right += p->right;
	} else if (type == PATCH_RANKING) {
		struct metrics_ranking one = { .k = RANKED };
		metrics_ranking_add(&one, p->rank);
		s->reciprocal += one.reciprocal;
		s->hits += one.hits;
		s->gain += one.gain;
	} else {
		s->square += (value - p->value) * (value - p->value);
		s->absolute += fabs(value - p->value);
	}
}

static void fade(struct learner_sums *s)
{
	double *const sums[] = { &s->count, &s->loss, &s->log_loss, &s->right,   &s->reciprocal,
				 &s->hits,  &s->gain, &s->square,   &s->absolute };
	for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
		*sums[i] *= RECENT;
}

static void measure(struct learner *l, const struct learner_fresh *f, const struct prediction *p)
{
	for (int m = 0; m < LEARNER_MODELS; m++) {
		if (m == LEARNER_PREDECESSOR && !l->predecessor.patch)
			continue;
		fade(&l->metrics.recent[m]);
		add_sums(&l->metrics.whole[m], l->spec.type, &p[m], f->losses[m], f->example->value);
		add_sums(&l->metrics.recent[m], l->spec.type, &p[m], f->losses[m], f->example->value);
	}
}

/* The prior's loss, and then it learns the label. */
static double ask_prior(struct learner *l, const struct learner_fresh *f, struct prediction *ret)
{
	struct learner_prior *prior = &l->prior;
	struct prediction of[PRIOR_MEMORIES] = { 0 };
	double losses[PRIOR_MEMORIES];
	const double value = f->example->value;
	for (int m = 0; m < PRIOR_MEMORIES; m++) {
		of[m].probability = prior_probability(prior, m, f->target);
		of[m].rank = l->spec.type == PATCH_RANKING ? prior_rank(prior, m, f->target) : UINT32_MAX;
		of[m].value = prior_mean(prior, m);
		losses[m] = loss_of(l, &of[m], value);
	}
	const int spoke = prior_better(prior);
	*ret = of[spoke];
	const double off = deviation(l) * WILD;
	const double cut = l->units.count < FEW || fabs(value - l->units.mean) <= off ? value
			   : value > l->units.mean                                    ? l->units.mean + off
										      : l->units.mean - off;
	prior_add(prior, f->target, cut, losses);
	return losses[spoke];
}

/* Welford's; a wild label, once there is something to call it wild by, counts as one that is just not. */
static void learn_units(struct learner *l, double value)
{
	struct learner_units *u = &l->units;
	const double off = deviation(l) * WILD;
	double x = value;
	if (u->count >= FEW)
		x = x > u->mean + off ? u->mean + off : x < u->mean - off ? u->mean - off : x;
	const double share = 1.0 / (double)++u->count;
	const double delta = x - u->mean;
	u->mean += share * delta;
	u->square += share * (delta * (x - u->mean) - u->square);
}

/* From the flag on, the live patch against the prior. */
static void watch_recovery(struct learner *l, double over, uint64_t number)
{
	if (!(l->recovery.sum > 0)) {
		gate_start(&l->recovery, gate_scale_of(&l->worth_scale, FIRST_SCALE));
		l->recovery_since = number;
	}
	gate_add(&l->recovery, over);
	gate_add(&l->doubt, over);
	l->refuted = l->refuted || gate_is_below(&l->doubt, l->options.alpha);
}

void learner_flagged(struct learner *l)
{
	const double scale = gate_scale_of(&l->worth_scale, FIRST_SCALE);
	l->counts.alarms++;
	gate_late_start(&l->trust, scale);
	gate_start(&l->doubt, scale);
	gate_start(&l->recovery, scale);
	gate_start(&l->challenge, gate_scale_of(&l->challenge_scale, FIRST_SCALE));
	l->refuted = false;
}

static void compare(struct learner *l, const struct learner_fresh *f)
{
	const double weight = f->weight < 1 ? (double)f->weight : 1.0;
	const double live = weight * f->losses[LEARNER_LIVE];
	const double challenger = weight * f->losses[LEARNER_CHALLENGER];
	const double prior = weight * f->losses[LEARNER_PRIOR];
	gate_add(&l->challenge, live - challenger);
	gate_scale_add(&l->challenge_scale, live - challenger);
	if (l->predecessor.patch && !l->drift.flagged) { /* labels that may be noise say nothing of two patches */
		const double predecessor = weight * f->losses[LEARNER_PREDECESSOR];
		gate_add(&l->defence, live - predecessor);
		gate_scale_add(&l->defence_scale, live - predecessor);
	}
	if (l->drift.flagged) {
		gate_late_add(&l->trust, prior - challenger);
		watch_recovery(l, prior - live, f->number);
	} else {
		gate_late_add(&l->worth, prior - live);
		gate_scale_add(&l->worth_scale, prior - live);
	}
	if (l->proven && drift_add(&l->drift, f->losses[LEARNER_LIVE], f->number))
		learner_flagged(l);
}

static void judge(struct learner *l, struct learner_fresh *f, struct prediction p[LEARNER_MODELS])
{
	const bool number = l->spec.type == PATCH_REGRESSION;
	if (!p[LEARNER_LIVE].finite) { /* what no model can read is no example */
		f->usable = false;
		return;
	}
	l->broken = l->broken || !p[LEARNER_CHALLENGER].finite;
	for (int m = 0; m < LEARNER_PRIOR; m++)
		f->losses[m] = loss_of(l, &p[m], f->example->value);
	f->losses[LEARNER_PRIOR] = ask_prior(l, f, &p[LEARNER_PRIOR]);
	measure(l, f, p);
	const bool known = number ? l->units.count >= UNITS_AT_LEAST : f->target != UINT32_MAX;
	if (number)
		learn_units(l, f->example->value);
	if (known && f->weight > 0)
		compare(l, f);
}

static size_t rows_at_once(const struct learner *l)
{
	const size_t classes = l->student.patch->classes > 0 ? l->student.patch->classes : 1;
	const size_t fit = SCORES_AT_ONCE / classes;
	return fit < 1 ? 1 : fit < LEARNER_SCORED_AT_ONCE ? fit : LEARNER_SCORED_AT_ONCE;
}

static enum status make_room(struct learner *l, size_t floats, struct error *err)
{
	if (floats <= l->score_room)
		return STATUS_OK;
	float *scores = reallocarray(l->scores, floats, sizeof *scores);
	if (!scores)
		return error_set_memory(err);
	l->scores = scores;
	l->score_room = floats;
	return STATUS_OK;
}

enum status learner_score(struct learner *l, size_t count, struct error *err)
{
	struct learner_fresh *which[LEARNER_SCORED_AT_ONCE];
	struct prediction of[LEARNER_MODELS][LEARNER_SCORED_AT_ONCE] = { 0 };
	const size_t rows = rows_at_once(l);
	if (make_room(l, rows * ((size_t)l->student.patch->classes + 1), err) != STATUS_OK)
		return err->status;
	for (size_t at = 0; at < count;) {
		size_t n = 0;
		for (; at < count && n < rows; at++) {
			const struct learner_example *e = l->fresh[at].example;
			if (!l->fresh[at].sound)
				continue;
			which[n] = &l->fresh[at];
			l->examples[n++] =
				(struct tuner_example){ .state = e->state, .items = e->items, .length = e->length };
		}
		for (int m = 0; m < LEARNER_PRIOR; m++)
			predict(l, (enum learner_model)m, (const struct learner_fresh *const *)which, n, of[m]);
		for (size_t i = 0; i < n; i++) {
			struct prediction p[LEARNER_MODELS];
			for (int m = 0; m < LEARNER_MODELS; m++)
				p[m] = of[m][i];
			judge(l, which[i], p);
		}
	}
	if (!l->proven && gate_late_is_above(&l->worth, l->options.alpha))
		l->proven = true;
	if (l->drift.flagged && !l->refuted && gate_is_above(&l->recovery, l->options.alpha))
		drift_restart(&l->drift); /* losses have risen, but never to the prior's: the gates do without it */
	return STATUS_OK;
}
