#include "model/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* NaN as what it ranks like. */
static float order(float score)
{
	return isnan(score) ? -INFINITY : score;
}

/* Whether a at index i stands before b at index j. A score of -infinity stands before one that is not a number. */
static bool stands_before(float a, uint32_t i, float b, uint32_t j)
{
	if (isnan(a) || isnan(b))
		return isnan(a) == isnan(b) ? i < j : isnan(b);
	return a > b || (a == b && i < j);
}

uint32_t metrics_rank(const float *scores, uint32_t n, uint32_t target, const bool *excluded)
{
	const float own = scores[target];
	uint32_t rank = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (i != target && !(excluded != NULL && excluded[i]))
			rank += stands_before(scores[i], i, own, target);
	}
	return rank;
}

uint32_t metrics_sampled_rank(const float *scores, uint32_t n, uint32_t target, const bool *excluded,
			      uint32_t negatives, struct random_stream *random, bool *marks)
{
	uint32_t left = 0, rank = 0;
	for (uint32_t i = 0; i < n; i++)
		left += i != target && !(excluded != NULL && excluded[i]);
	if (left <= negatives)
		return metrics_rank(scores, n, target, excluded);
	for (uint32_t drawn = 0; drawn < negatives;) {
		const uint32_t i = random_below(random, n);
		if (i == target || marks[i] || (excluded != NULL && excluded[i]))
			continue;
		marks[i] = true;
		drawn++;
		rank += stands_before(scores[i], i, scores[target], target);
	}
	memset(marks, false, n * sizeof *marks);
	return rank;
}

void metrics_ranking_add(struct metrics_ranking *m, uint32_t rank)
{
	m->count++;
	if (rank >= m->k)
		return;
	const double reciprocal = 1.0 / ((double)rank + 1.0);
	const double gain = 1.0 / log2((double)rank + 2.0);
	m->hits += 1.0;
	m->reciprocal += reciprocal;
	m->reciprocal_square += reciprocal * reciprocal;
	m->gain += gain;
	m->gain_square += gain * gain;
}

double metrics_error(uint64_t count, double sum, double squares)
{
	if (count < 2)
		return (double)NAN;
	const double n = (double)count;
	const double variance = (squares - sum * sum / n) / (n - 1.0);
	return variance < 0 ? 0.0 : sqrt(variance / n); /* NaN stays, rounding does not */
}

static int by_score(const void *a, const void *b)
{
	const float x = order(((const struct metrics_scored *)a)->score);
	const float y = order(((const struct metrics_scored *)b)->score);
	return (x > y) - (x < y);
}

/* Mann and Whitney's U: for every positive, the negatives below it and half of those beside it. */
double metrics_auc(struct metrics_scored *rows, size_t n)
{
	uint64_t below = 0, positives = 0;
	double sum = 0;
	qsort(rows, n, sizeof *rows, by_score);
	for (size_t from = 0, end = 0; from < n; from = end) {
		uint64_t beside = 0, here = 0;
		for (end = from; end < n && by_score(&rows[end], &rows[from]) == 0; end++) {
			here += rows[end].positive;
			beside += !rows[end].positive;
		}
		sum += (double)here * ((double)below + 0.5 * (double)beside);
		below += beside;
		positives += here;
	}
	return sum / ((double)positives * (double)below);
}
