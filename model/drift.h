/* Whether a live model's losses have risen: the test of Page (1954) and Hinkley (1971), the detector of streams that Gama et
 * al. ("On evaluating stream learning algorithms", 2013) use on prequential losses. With z = (loss - mean) / deviation,
 *
 *     rise <- max(0, rise + z - k);    drift where rise > h
 *
 * at three tolerances k at once: a large one sees a large rise within twenty labels, a small one a small rise within
 * hundreds. The limits h are such that each raises a false alarm about once in 100,000 labels that are alike, and as skewed
 * as the losses of a good classifier are (one in twenty four deviations above the mean): the run length is about exp(a h), with
 * a > 0 where the mean of exp(a (z - k)) is 1 (Siegmund 1985); were they normal, a = 2 k. Where the rise was last 0 is
 * the estimate of the drift's onset. z is cut at 4, so that a few wild labels are no drift; mean and deviation fade over
 * two thousand labels, and stand still while drift is flagged.
 *
 * Plain numbers, whose bytes are all there is to keep; one thread. */
#ifndef MODEL_DRIFT_H
#define MODEL_DRIFT_H

#include <stdbool.h>
#include <stdint.h>

enum { DRIFT_TOLERANCES = 3 };

struct drift {
	double mean;
	double square; /* of the deviation from the mean */
	uint64_t count;
	double rise[DRIFT_TOLERANCES];
	uint64_t since[DRIFT_TOLERANCES]; /* number of the first label of the rise */
	bool flagged;
	uint64_t onset; /* where flagged */
};

/* `number`s rise from label to label. True: drift is flagged with this one, and stays flagged until one of the next two. A
 * loss that is not finite counts as a high one. */
bool drift_add(struct drift *d, double loss, uint64_t number);

void drift_clear(struct drift *d);   /* nothing is flagged; what losses used to be is kept */
void drift_restart(struct drift *d); /* from nothing: losses are others now */

/* Between 0, no rise at all, and 1, drift. */
double drift_level(const struct drift *d);

#endif
