#include "model/gate.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { GRID = 8, SCALE_LABELS = 128, SCALE_LABELS_AT_LEAST = 16, HALVINGS = 60 };

#define MOST_X 0.875     /* of x; the rest is room for what is predicted */
#define ROOTS 3.0        /* a scale in root mean squares: clips next to nothing of what is like before */
#define SCALE_FLOOR 1e-6 /* models that are the same */

/* Large l for few labels and large effects, small ones for the opposite; half of the one before. */
static const double grid[GRID] = { 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125, 0.00625 };

void gate_start(struct gate *g, double scale)
{
	assert(scale > 0);
	*g = (struct gate){ .scale = scale };
}

static double clip(double x, double most)
{
	return x >= most ? most : x > -most ? x : -most; /* -most: what is not a number, too */
}

void gate_add(struct gate *g, double difference)
{
	const double x = clip(difference / g->scale, 1) * MOST_X;
	const double predicted = clip(g->sum / ((double)g->count + 1), 1 - MOST_X);
	g->sum += x;
	g->variation += (x - predicted) * (x - predicted);
	g->count++;
}

double gate_mean(const struct gate *g)
{
	return g->count == 0 ? 0.0 : g->scale / MOST_X * g->sum / (double)g->count;
}

/* log of the mean of exp(terms). */
static double log_mean(const double *terms, int count)
{
	double most = terms[0], sum = 0;
	for (int i = 1; i < count; i++)
		most = terms[i] > most ? terms[i] : most;
	for (int i = 0; i < count; i++)
		sum += exp(terms[i] - most);
	return most + log(sum / count);
}

static double evidence(double sum, double variation)
{
	double terms[GRID];
	for (int i = 0; i < GRID; i++)
		terms[i] = grid[i] * sum + (log1p(-grid[i]) + grid[i]) * variation;
	return log_mean(terms, GRID);
}

double gate_above(const struct gate *g)
{
	return evidence(g->sum, g->variation);
}

double gate_below(const struct gate *g)
{
	return evidence(-g->sum, g->variation);
}

bool gate_is_above(const struct gate *g, double alpha)
{
	return gate_above(g) >= -log(alpha);
}

bool gate_is_below(const struct gate *g, double alpha)
{
	return gate_below(g) >= -log(alpha);
}

/* u(V) by bisection: evidence rises with the sum. Any single l of the grid reaches the level by itself at `high`. */
static double boundary(double variation, double alpha)
{
	const double level = -log(alpha);
	const double l = grid[1];
	double low = 0, high = (level + log(GRID) - (log1p(-l) + l) * variation) / l;
	for (int i = 0; i < HALVINGS; i++) {
		const double middle = 0.5 * (low + high);
		if (evidence(middle, variation) < level)
			low = middle;
		else
			high = middle;
	}
	return high;
}

double gate_width(const struct gate *g, double alpha)
{
	return g->count == 0 ? HUGE_VAL : g->scale / MOST_X * boundary(g->variation, alpha) / (double)g->count;
}

void gate_scale_add(struct gate_scale *s, double difference)
{
	const double square = difference * difference;
	const double share = 1.0 / (double)(s->count < SCALE_LABELS ? s->count + 1 : SCALE_LABELS);
	s->count++;
	if (isfinite(square))
		s->square += share * (square - s->square);
}

double gate_scale_of(const struct gate_scale *s, double otherwise)
{
	const double scale = ROOTS * sqrt(s->square);
	return s->count < SCALE_LABELS_AT_LEAST ? otherwise : scale > SCALE_FLOOR ? scale : SCALE_FLOOR;
}

/* Labels before the gate with this number starts. */
static uint64_t start_of(int number)
{
	return number == 0 ? 0 : (uint64_t)GATE_FIRST_START << (number - 1);
}

void gate_late_start(struct gate_late *g, double scale)
{
	memset(g, 0, sizeof *g);
	gate_start(&g->gates[0], scale);
}

void gate_late_add(struct gate_late *g, double difference)
{
	for (int i = 0; i < GATE_STARTS && start_of(i) <= g->count; i++) {
		if (i > 0 && start_of(i) == g->count)
			gate_start(&g->gates[i], g->gates[0].scale);
		gate_add(&g->gates[i], difference);
	}
	g->count++;
}

double gate_late_above(const struct gate_late *g)
{
	double terms[GATE_STARTS];
	for (int i = 0; i < GATE_STARTS; i++) /* a gate that has not started has sum and variation 0: worth 1 */
		terms[i] = gate_above(&g->gates[i]);
	return log_mean(terms, GATE_STARTS);
}

bool gate_late_is_above(const struct gate_late *g, double alpha)
{
	return gate_late_above(g) >= -log(alpha);
}

double gate_late_mean(const struct gate_late *g)
{
	int best = 0;
	for (int i = 1; i < GATE_STARTS; i++)
		best = gate_above(&g->gates[i]) > gate_above(&g->gates[best]) ? i : best;
	return gate_mean(&g->gates[best]);
}
