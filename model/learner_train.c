/* The student's steps on fresh and old examples, and the challenger that follows it. */
#include "model/learner_private.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEWEST_OF = 2, FEW_EXAMPLES = 65536 }; /* of which each is trained on `passes` times; falls as there are more */

#define STREAM_DRAWS 0x647261777300
#define VALUE_AT_MOST 10.0 /* a regression's label, in deviations */
#define RISING_FROM 10.0   /* the average's memory rises to what is asked for, or the start would stay in it for long */

/* Examples that the student may learn from: all, or while drift is flagged those since its onset. */
static uint64_t available(const struct learner *l)
{
	return l->counts.labels - (l->drift.flagged ? l->drift.onset : 0);
}

/* Times that an example is trained on, now: while there are few of them, a patch inside the trunk would learn them by heart and
 * not recover; later they are what it is worth, until there are so many that each is needed less. */
static uint64_t passes_now(const struct learner *l)
{
	const uint64_t have = available(l) > 0 ? available(l) : 1;
	const double rise = (double)l->options.passes_rise * sqrt((double)have);
	uint64_t passes = FEW_EXAMPLES / have;
	passes = passes < l->options.passes_at_least ? l->options.passes_at_least : passes;
	passes = passes < l->options.passes ? passes : l->options.passes;
	passes = rise > 0 && rise < (double)passes ? (uint64_t)rise : passes;
	return passes > 0 ? passes : 1;
}

uint64_t learner_steps_wanted(const struct learner *l, size_t usable)
{
	return (usable * passes_now(l) + l->options.batch - 1) / l->options.batch;
}

static float student_value(const struct learner *l, double value)
{
	const double x = (value - l->units.offset) / l->units.scale;
	return (float)(x > VALUE_AT_MOST ? VALUE_AT_MOST : x < -VALUE_AT_MOST ? -VALUE_AT_MOST : x);
}

static void take_fresh(struct learner *l, size_t place, const struct learner_fresh *f)
{
	l->examples[place] = (struct tuner_example){ .state = f->example->state,
						     .items = f->example->items,
						     .length = f->example->length,
						     .target = f->target,
						     .value = student_value(l, f->example->value),
						     .weight = f->weight };
}

static void take_old(struct learner *l, size_t place, size_t at)
{
	const struct reservoir_entry *e = &l->reservoir.entries[at];
	const void *bytes = reservoir_bytes(&l->reservoir, at);
	struct tuner_example *out = &l->examples[place];
	*out = (struct tuner_example){ .target = e->target, .value = student_value(l, e->value), .weight = e->weight };
	if (l->net) {
		out->items = bytes;
		out->length = e->length / sizeof *out->items;
	} else {
		out->state = bytes;
	}
}

static void move_average(struct learner *l)
{
	const float rising = (float)((1.0 + (double)l->averaged) / (RISING_FROM + (double)l->averaged));
	const float kept = rising < l->options.average ? rising : l->options.average;
	const float way = 1 - kept;
	const size_t floats = l->student.patch->table.floats;
	const float *restrict from = l->student.patch->weights;
	float *restrict to = l->challenger.patch->weights;
	for (size_t i = 0; i < floats; i++)
		to[i] += way * (from[i] - to[i]);
	l->averaged++;
}

/* Where the entries are that may be drawn; NULL and *ret_count: all of them. */
static enum status list_eligible(struct learner *l, const uint32_t **ret, size_t *ret_count, struct error *err)
{
	const struct reservoir *r = &l->reservoir;
	*ret = NULL;
	*ret_count = r->count;
	if (!l->drift.flagged)
		return STATUS_OK;
	if (r->count > l->eligible_room) {
		uint32_t *list = reallocarray(l->eligible, r->allocated, sizeof *list);
		if (!list)
			return error_set_memory(err);
		l->eligible = list;
		l->eligible_room = r->allocated;
	}
	size_t n = 0;
	for (size_t i = 0; i < r->count; i++) {
		if (r->entries[i].number >= l->drift.onset)
			l->eligible[n++] = (uint32_t)i;
	}
	*ret = l->eligible;
	*ret_count = n;
	return STATUS_OK;
}

struct draws {
	const uint32_t *eligible;
	size_t eligible_count;
	uint32_t *fresh; /* usable ones of the cut */
	size_t fresh_count;
	uint64_t passes;
};

/* The newest of a few: drawn evenly, the first examples of a lineage would be trained on ten times as often as the median. */
static size_t draw(const struct learner *l, const struct draws *d, struct random_stream *random)
{
	size_t newest = 0;
	for (int i = 0; i < NEWEST_OF; i++) {
		const uint32_t drawn = random_below(random, (uint32_t)d->eligible_count);
		const size_t at = d->eligible ? d->eligible[drawn] : drawn;
		if (i == 0 || l->reservoir.entries[at].number > l->reservoir.entries[newest].number)
			newest = at;
	}
	return newest;
}

/* One step: fresh examples begin .. end - 1, filled up with old ones. */
static bool step(struct learner *l, const struct draws *d, size_t begin, size_t end)
{
	struct random_stream random = random_from(l->options.seed, STREAM_DRAWS + l->counts.steps + l->counts.skipped);
	const size_t wanted = (end - begin) * (size_t)(d->passes - 1); /* fewer than fit, where cuts are small */
	const size_t fit = l->options.batch - (end - begin);
	const size_t room = wanted < fit ? wanted : fit;
	const size_t old = room < d->eligible_count ? room : d->eligible_count;
	size_t n = 0;
	for (size_t i = begin; i < end; i++)
		take_fresh(l, n++, &l->fresh[d->fresh[i]]);
	for (size_t i = 0; i < old; i++) {
		take_old(l, n++, draw(l, d, &random));
	}
	if (n == 0)
		return true;
	const struct tuner_batch batch = { l->examples, NULL, n };
	struct tuner_sums sums;
	if (!tuner_step(l->student.tuner, &batch, &sums))
		return sums.weight <= 0; /* nothing but weights of 0 is no fault */
	move_average(l);
	return true;
}

static void count_skipped(struct learner *l, struct learner_report *report, size_t fresh)
{
	report->skipped++;
	l->counts.skipped++;
	report->dropped += fresh;
	if (++l->strikes >= LEARNER_STRIKES)
		l->broken = true;
}

static void take_steps(struct learner *l, const struct draws *d, uint64_t steps, struct learner_report *report)
{
	size_t begin = 0;
	for (uint64_t i = 0; i < steps && !l->broken; i++) {
		size_t end = (size_t)((i + 1) * d->fresh_count / steps);
		end = end - begin > l->options.batch ? begin + l->options.batch : end;
		if (step(l, d, begin, end)) {
			l->counts.steps++;
			l->strikes = 0;
		} else {
			count_skipped(l, report, end - begin);
			for (size_t k = begin; k < end; k++)
				l->fresh[d->fresh[k]].usable = false;
		}
		begin = end;
		report->steps++;
	}
}

/* The usable ones enter the reservoir. */
static enum status keep(struct learner *l, size_t count, struct error *err)
{
	if (reservoir_reserve(&l->reservoir, count, err) != STATUS_OK)
		return err->status;
	for (size_t i = 0; i < count; i++) {
		const struct learner_fresh *f = &l->fresh[i];
		const struct learner_example *e = f->example;
		struct reservoir_entry entry = { .number = f->number,
						 .offset = e->offset,
						 .user = e->user,
						 .value = e->value,
						 .weight = f->weight,
						 .target = f->target };
		if (!f->usable || !(f->weight > 0))
			continue;
		if (l->net) {
			const size_t length = e->length < l->items_at_most ? e->length : l->items_at_most;
			entry.length = (uint32_t)(length * sizeof *e->items);
			reservoir_add(&l->reservoir, &entry, length > 0 ? e->items + (e->length - length) : NULL);
			continue;
		}
		entry.length = (uint32_t)(l->state_floats * sizeof(float));
		reservoir_add(&l->reservoir, &entry, e->state);
	}
	return STATUS_OK;
}

enum status learner_train(struct learner *l, size_t count, uint64_t steps, struct learner_report *report,
			  struct error *err)
{
	struct draws d = { .fresh = calloc(count + 1, sizeof *d.fresh), .passes = passes_now(l) };
	if (!d.fresh)
		return error_set_memory(err);
	for (size_t i = 0; i < count; i++) {
		if (l->fresh[i].usable && l->fresh[i].weight > 0)
			d.fresh[d.fresh_count++] = (uint32_t)i;
	}
	const uint64_t wanted = l->broken ? 0 : steps == LEARNER_STEPS ? learner_steps_wanted(l, d.fresh_count) : steps;
	enum status status = list_eligible(l, &d.eligible, &d.eligible_count, err);
	if (status == STATUS_OK) {
		take_steps(l, &d, wanted, report);
		status = keep(l, count, err);
	}
	free(d.fresh);
	return status;
}
