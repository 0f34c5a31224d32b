#include "model/drift.h"

#include <math.h>

enum { FADING = 2048, LABELS_AT_LEAST = 128 };

#define CUT 4.0
#define DEVIATION_FLOOR 1e-9

static const struct {
	double tolerance; /* k */
	double limit;     /* h */
} tests[DRIFT_TOLERANCES] = { { 0.5, 16.5 }, { 0.2, 27.0 }, { 0.05, 66.0 } };

static void learn(struct drift *d, double loss)
{
	const double share = 1.0 / (double)(d->count < FADING ? d->count + 1 : FADING);
	const double off = loss - d->mean;
	d->count++;
	d->mean += share * off;
	d->square += share * (off * (loss - d->mean) - d->square);
}

/* How far the loss is from what it used to be, in deviations. */
static double standardise(const struct drift *d, double loss)
{
	const double deviation = sqrt(d->square);
	const double z = (loss - d->mean) / (deviation > DEVIATION_FLOOR ? deviation : DEVIATION_FLOOR);
	return z > CUT ? CUT : z < -CUT ? -CUT : z;
}

bool drift_add(struct drift *d, double loss, uint64_t number)
{
	const bool known = d->count >= LABELS_AT_LEAST;
	const double z = isfinite(loss) ? standardise(d, loss) : CUT;
	if (d->flagged)
		return false;
	for (int i = 0; known && i < DRIFT_TOLERANCES; i++) {
		if (!(d->rise[i] > 0))
			d->since[i] = number;
		d->rise[i] += z - tests[i].tolerance;
		d->rise[i] = d->rise[i] > 0 ? d->rise[i] : 0;
		if (d->rise[i] > tests[i].limit && !d->flagged) {
			d->flagged = true;
			d->onset = d->since[i];
		}
	}
	if (isfinite(loss) && !d->flagged)
		learn(d, loss);
	return d->flagged;
}

void drift_clear(struct drift *d)
{
	for (int i = 0; i < DRIFT_TOLERANCES; i++)
		d->rise[i] = 0;
	d->flagged = false;
}

void drift_restart(struct drift *d)
{
	*d = (struct drift){ 0 };
}

double drift_level(const struct drift *d)
{
	double most = d->flagged ? 1 : 0;
	for (int i = 0; i < DRIFT_TOLERANCES; i++)
		most = d->rise[i] / tests[i].limit > most ? d->rise[i] / tests[i].limit : most;
	return most < 1 ? most : 1;
}
