/* What the gates' evidence makes of challenger, live patch and predecessor. */
#include "model/learner_private.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SETTLED_LABELS = 512 }; /* that a predecessor stays at least: patches a second apart cannot be told apart */

#define FIRST_SCALE 1.0
#define CALM 0.25 /* drift_level below which a live patch may become a predecessor */

/* Rows that nothing is known of yet. A class says what the mean of the known ones says, and the less, the more labels went
 * without it: a bias alone would not make it unlikely where weights tell the others apart. An item says as little as the least
 * likely one. */
void learner_start_rows(const struct learner *l, const struct patch *p, uint32_t known, uint32_t end, float *weights)
{
	const size_t d = p->channels;
	float *rows = weights + p->head_weight;
	float *bias = weights + p->head_bias;
	float start = known > 0 ? bias[0] : 0;
	if (known == 0 || known >= end)
		return;
	for (uint32_t k = 1; k < known; k++)
		start = bias[k] < start ? bias[k] : start;
	if (l->spec.type == PATCH_CLASSIFICATION) {
		double sum = 0;
		for (uint32_t k = 0; k < known; k++)
			sum += (double)bias[k];
		start = (float)(sum / known - log1p((double)l->counts.labels));
		for (size_t i = 0; i < d; i++) {
			sum = 0;
			for (uint32_t k = 0; k < known; k++)
				sum += (double)rows[k * d + i];
			for (uint32_t k = known; k < end; k++)
				rows[k * d + i] = (float)(sum / known);
		}
	}
	for (uint32_t k = known; k < end; k++)
		bias[k] = start;
}

/* The live patch as a block of the student's table, in its units. */
void learner_live_weights(const struct learner *l, float *out)
{
	const struct patch *live = l->live.patch;
	const struct patch *student = l->student.patch;
	float *bias = out + student->head_bias;
	memset(out, 0, student->table.floats * sizeof *out);
	patch_move_block(&live->table, &student->table, live->weights, out);
	learner_start_rows(l, student, live->classes, student->classes, out);
	if (l->spec.type != PATCH_REGRESSION)
		return;
	float *weight = out + student->head_weight;
	for (uint32_t i = 0; i < student->channels; i++)
		weight[i] = (float)((double)weight[i] / l->units.scale);
	*bias = (float)(((double)*bias - l->units.offset) / l->units.scale);
}

enum status learner_anchor(struct learner *l, struct error *err)
{
	float *anchor = parameters_block_new(&l->student.patch->table);
	if (!anchor)
		return error_set_memory(err);
	free(l->anchor);
	l->anchor = anchor;
	learner_live_weights(l, anchor);
	tuner_optimizer(l->student.tuner)->anchor = anchor;
	return STATUS_OK;
}

enum status learner_restart(struct learner *l, struct error *err)
{
	struct optimizer *o = tuner_optimizer(l->student.tuner);
	const size_t bytes = l->student.patch->table.floats * sizeof(float);
	if (learner_anchor(l, err) != STATUS_OK)
		return err->status;
	memcpy(l->student.patch->weights, l->anchor, bytes);
	memcpy(l->challenger.patch->weights, l->anchor, bytes);
	memset(o->mean, 0, bytes);
	memset(o->square, 0, bytes);
	o->step = 0;
	l->averaged = 0;
	l->strikes = 0;
	l->broken = false;
	return STATUS_OK;
}

static void start_challenge(struct learner *l)
{
	gate_start(&l->challenge, gate_scale_of(&l->challenge_scale, FIRST_SCALE));
}

static void start_defence(struct learner *l)
{
	gate_start(&l->defence, gate_scale_of(&l->defence_scale, FIRST_SCALE));
	l->settled_at = l->counts.labels;
}

/* The old live patch becomes the predecessor, unless that one is young yet or losses are rising. */
static void retire_live(struct learner *l)
{
	const bool settled = l->counts.labels - l->settled_at >= SETTLED_LABELS;
	if (l->predecessor.patch && (!settled || drift_level(&l->drift) >= CALM)) {
		learner_patch_close(&l->live);
		return;
	}
	learner_patch_close(&l->predecessor);
	l->predecessor = l->live;
	l->live = (struct learner_patch){ 0 };
	start_defence(l);
}

static enum status promote(struct learner *l, int64_t time_ms, struct error *err)
{
	const struct patch *challenger = l->challenger.patch;
	struct learner_patch next = { 0 };
	enum status status =
		learner_patch_make(l, (const char *const *)challenger->labels, challenger->classes, false, &next, err);
	if (status != STATUS_OK)
		return status;
	memcpy(next.patch->weights, challenger->weights, challenger->table.floats * sizeof(float));
	if (l->spec.type == PATCH_REGRESSION)
		patch_rescale(next.patch, (float)l->units.scale, (float)l->units.offset);
	next.patch->version = ++l->versions;
	memcpy(next.patch->parent, l->live.patch->hash, sizeof next.patch->parent);
	next.born = l->counts.labels;
	retire_live(l);
	l->live = next;
	l->promoted_ms = time_ms;
	l->promoted_at = l->counts.labels;
	l->counts.promoted++;
	start_challenge(l);
	return learner_anchor(l, err);
}

struct range {
	uint64_t first, end;
};

static bool is_within(void *arg, const struct reservoir_entry *entry)
{
	const struct range *r = arg;
	return entry->number >= r->first && entry->number < r->end;
}

static void purge(struct learner *l, uint64_t first, uint64_t end)
{
	struct range range = { first, end };
	(void)reservoir_remove(&l->reservoir, is_within, &range);
}

static enum status apply_promotion(struct learner *l, const struct learner_decision *d, struct error *err)
{
	if (promote(l, d->time_ms, err) != STATUS_OK)
		return err->status;
	if (d->anew)
		purge(l, 0, d->onset);
	if (l->drift.flagged) {
		drift_restart(&l->drift);
		start_defence(l);
	}
	return STATUS_OK;
}

static enum status apply_rejection(struct learner *l, const struct learner_decision *d, struct error *err)
{
	l->counts.rejected++;
	if (d->reason == LEARNER_POISON) {
		purge(l, d->onset, d->until);
		drift_clear(&l->drift);
		start_defence(l);
	}
	l->restarted_ms = d->time_ms;
	start_challenge(l);
	return learner_restart(l, err);
}

/* With drift the challenger goes on: it is learning what is new. */
static enum status apply_rollback(struct learner *l, const struct learner_decision *d, struct error *err)
{
	if (!l->predecessor.patch)
		return error_set(err, STATUS_DATA, "task %s: there is no predecessor to roll back to", l->task);
	learner_patch_close(&l->live);
	l->live = l->predecessor;
	l->predecessor = (struct learner_patch){ 0 };
	l->counts.rolled_back++;
	l->promoted_ms = d->time_ms;
	l->promoted_at = l->counts.labels;
	start_challenge(l);
	start_defence(l);
	return d->reason == LEARNER_DRIFT ? learner_anchor(l, err) : learner_restart(l, err);
}

enum status learner_apply(struct learner *l, const struct learner_decision *decision, struct error *err)
{
	switch (decision->verdict) {
	case LEARNER_NOTHING:
		break;
	case LEARNER_PROMOTED:
		return apply_promotion(l, decision, err);
	case LEARNER_REJECTED:
		return apply_rejection(l, decision, err);
	case LEARNER_ROLLED_BACK:
		return apply_rollback(l, decision, err);
	}
	return STATUS_OK;
}

/* What the gate of challenger and live patch, and the one against the prior, stand at. */
static void state_evidence(const struct learner *l, struct learner_decision *d)
{
	d->count = l->challenge.count;
	d->gain = gate_mean(&l->challenge);
	d->width = gate_width(&l->challenge, l->options.alpha);
	d->over = l->drift.flagged ? gate_late_mean(&l->trust) : (double)NAN;
	d->over_log = l->drift.flagged ? gate_late_above(&l->trust) : (double)NAN;
	d->level = drift_level(&l->drift);
}

static void state_rollback(const struct learner *l, struct learner_decision *d)
{
	d->verdict = LEARNER_ROLLED_BACK;
	d->version = l->predecessor.patch->version;
	d->parent = l->live.patch->version;
	d->onset = l->drift.flagged ? l->drift.onset : 0;
	d->count = l->defence.count;
	d->gain = -gate_mean(&l->defence);
	d->width = gate_width(&l->defence, l->options.alpha);
}

static void state_rejection(const struct learner *l, enum learner_reason reason, struct learner_decision *d)
{
	d->verdict = LEARNER_REJECTED;
	d->reason = reason;
	d->version = l->live.patch->version;
	if (reason != LEARNER_POISON)
		return;
	d->onset = l->drift.onset;
	d->until = l->recovery_since;
}

static void state_promotion(const struct learner *l, bool better, struct learner_decision *d)
{
	d->verdict = LEARNER_PROMOTED;
	d->reason = better ? LEARNER_BETTER : LEARNER_NOT_WORSE;
	d->version = l->versions + 1;
	d->parent = l->live.patch->version;
	d->anew = l->drift.flagged && (better || l->refuted);
	d->onset = l->drift.flagged ? l->drift.onset : 0;
}

/* Whether the live patch gives way to the predecessor, and why. */
static enum learner_reason rolls_back(const struct learner *l)
{
	if (!l->predecessor.patch)
		return LEARNER_NONE;
	if (l->drift.flagged)
		return l->live.born > l->drift.onset ? LEARNER_DRIFT : LEARNER_NONE;
	return gate_is_above(&l->defence, l->options.alpha) ? LEARNER_WORSE : LEARNER_NONE;
}

static bool may_be_promoted(const struct learner *l)
{
	const uint64_t fresh = l->counts.labels - l->promoted_at;
	const bool trusted = !l->drift.flagged || gate_late_is_above(&l->trust, l->options.alpha);
	return !l->broken && fresh > 0 && fresh >= l->options.min_labels && l->averaged > 0 && trusted;
}

static void choose(const struct learner *l, struct learner_decision *d)
{
	const double alpha = l->options.alpha;
	const int64_t age_ms = d->time_ms - l->promoted_ms;
	const enum learner_reason back = rolls_back(l);
	const bool better = gate_is_above(&l->challenge, alpha);
	if (back != LEARNER_NONE) {
		d->reason = back;
		state_rollback(l, d);
	} else if (l->broken && d->time_ms - l->restarted_ms >= l->options.min_age_ms) {
		state_rejection(l, LEARNER_BROKEN, d);
	} else if (l->drift.flagged && l->refuted && gate_is_above(&l->recovery, alpha)) {
		state_rejection(l, LEARNER_POISON, d);
	} else if (gate_is_below(&l->challenge, alpha)) {
		state_rejection(l, LEARNER_WORSE, d);
	} else if (may_be_promoted(l) && (better ? age_ms >= l->options.min_age_ms : age_ms >= l->options.max_age_ms)) {
		state_promotion(l, better, d);
	}
}

enum status learner_decide(struct learner *l, int64_t time_ms, struct learner_decision *ret, struct error *err)
{
	struct learner_decision d = { .time_ms = time_ms,
				      .labels = l->counts.labels,
				      .version = l->live.patch->version };
	state_evidence(l, &d);
	choose(l, &d);
	const enum status status = learner_apply(l, &d, err);
	if (status == STATUS_OK)
		*ret = d;
	return status;
}
