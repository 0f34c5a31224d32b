/* The forecaster that a patch must beat to be worth anything: label frequencies (Krichevsky and Trofimov 1981: half a label
 * of each class before any was seen), popularity ranks, or the labels' mean. */
#include "model/learner_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RECENT_LABELS 512.0
#define UNIT_AT_MOST 1e100
#define HALF 0.5

void prior_init(struct learner_prior *p)
{
	*p = (struct learner_prior){ .unit = { 1, 1 } };
}

void prior_close(struct learner_prior *p)
{
	for (int m = 0; m < PRIOR_MEMORIES; m++)
		free(p->counts[m]);
	*p = (struct learner_prior){ 0 };
}

enum status prior_grow(struct learner_prior *p, uint32_t classes, struct error *err)
{
	for (int m = 0; m < PRIOR_MEMORIES; m++) {
		double *counts = reallocarray(p->counts[m], (size_t)classes + 1, sizeof *counts);
		if (!counts)
			return error_set_memory(err);
		p->counts[m] = counts;
		for (uint32_t i = p->classes; i < classes; i++)
			counts[i] = 0;
	}
	p->classes = classes;
	return STATUS_OK;
}

double prior_probability(const struct learner_prior *p, int memory, uint32_t target)
{
	if (target >= p->classes)
		return 0;
	const double half = HALF * p->unit[memory];
	return (p->counts[memory][target] + half) / (p->total[memory] + half * (double)p->classes);
}

uint32_t prior_rank(const struct learner_prior *p, int memory, uint32_t target)
{
	uint32_t rank = 0;
	if (target >= p->classes)
		return UINT32_MAX;
	const double own = p->counts[memory][target];
	for (uint32_t i = 0; i < p->classes; i++)
		rank += p->counts[memory][i] > own || (i < target && !(p->counts[memory][i] < own));
	return rank;
}

double prior_mean(const struct learner_prior *p, int memory)
{
	return p->mean[memory];
}

int prior_better(const struct learner_prior *p)
{
	return p->loss[PRIOR_RECENT] < p->loss[PRIOR_WHOLE] ? PRIOR_RECENT : PRIOR_WHOLE;
}

/* Keeps the counts below overflow. */
static void rescale(struct learner_prior *p)
{
	const double unit = p->unit[PRIOR_RECENT];
	for (uint32_t i = 0; i < p->classes; i++)
		p->counts[PRIOR_RECENT][i] /= unit;
	p->total[PRIOR_RECENT] /= unit;
	p->unit[PRIOR_RECENT] = 1;
}

void prior_add(struct learner_prior *p, uint32_t target, double value, const double losses[PRIOR_MEMORIES])
{
	for (int m = 0; m < PRIOR_MEMORIES; m++) {
		p->labels[m]++;
		const double share = m == PRIOR_RECENT && p->labels[m] > RECENT_LABELS ? RECENT_LABELS : p->labels[m];
		p->mean[m] += (value - p->mean[m]) / share;
		p->loss[m] += (losses[m] - p->loss[m]) / (p->labels[m] < RECENT_LABELS ? p->labels[m] : RECENT_LABELS);
		if (target < p->classes) {
			p->counts[m][target] += p->unit[m];
			p->total[m] += p->unit[m];
		}
	}
	p->unit[PRIOR_RECENT] /= 1 - 1 / RECENT_LABELS; /* all before fade against it */
	if (p->unit[PRIOR_RECENT] > UNIT_AT_MOST)
		rescale(p);
}
