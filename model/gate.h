/* Which of two models is better, asked after every label and answered with a stated confidence: a sequential test on paired
 * differences, loss of the one minus loss of the other on the same label that neither has seen.
 *
 * A fixed-sample test that is repeated until it says yes says yes to anything. This one may be looked at after every label,
 * for ever: under the hypothesis that the differences' conditional means are not above 0 on average, the chance that the
 * evidence EVER reaches 1 / alpha is at most alpha. It holds although the models change from label to label and the labels
 * are neither independent nor alike: the e-process of Choe and Ramdas ("Comparing sequential forecasters", Operations
 * Research 2024, theorem 2; after Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
 * sequences", Annals of Statistics 2021, and Fan, Grama and Liu 2015). With x the difference, clipped to +-scale and divided by
 * 8/7 scale, and g the mean of the x before it, clipped to +-1/8 (so that |x - g| <= 1),
 *
 *     S = sum of x    V = sum of (x - g)^2    psi(l) = -log(1 - l) - l
 *     E = mean over the l of a grid in (0, 1) of exp(l S - psi(l) V)
 *
 * and E is at least 1 / alpha where S >= u(V), which gives the mean's confidence sequence (S +- u(V)) / n. The scale is chosen
 * before the first label (predictable): a difference beyond it, a single wild label, counts as much as one at it, so that what is tested is the mean
 * of the clipped differences.
 *
 * Pure arithmetic on the struct, whose bytes are all there is to keep; one thread. A difference that is not finite counts
 * as one at the scale, against the first model. */
#ifndef MODEL_GATE_H
#define MODEL_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct gate {
	double scale;     /* above 0, in the losses' unit */
	double sum;       /* S */
	double variation; /* V */
	uint64_t count;   /* n */
};

void gate_start(struct gate *g, double scale);
void gate_add(struct gate *g, double difference);

double gate_mean(const struct gate *g); /* of the clipped differences, in the losses' unit; 0 without any */

/* log E that the mean is above 0, and that it is below. */
double gate_above(const struct gate *g);
double gate_below(const struct gate *g);

/* Half the width of the confidence sequence around gate_mean; infinite without any label. At level 1 - alpha on each side. */
double gate_width(const struct gate *g, double alpha);

/* Whether the evidence of the one side reaches 1 / alpha. */
bool gate_is_above(const struct gate *g, double alpha);
bool gate_is_below(const struct gate *g, double alpha);

/* A scale for the next gate: so many root mean squares of recent differences. */
struct gate_scale {
	double square; /* fading mean of squares */
	uint64_t count;
};
void gate_scale_add(struct gate_scale *s, double difference);
double gate_scale_of(const struct gate_scale *s, double otherwise); /* where there are too few yet */

/* The same test where the mean may rise above 0 at a time that nobody knows: what went before must not have to be made up
 * for. Gates start after 0, 32, 64, 128, ... labels; before its start each is worth 1; the mean of e-processes is one. */
enum { GATE_STARTS = 12, GATE_FIRST_START = 32 };
struct gate_late {
	struct gate gates[GATE_STARTS];
	uint64_t count;
};
void gate_late_start(struct gate_late *g, double scale);
void gate_late_add(struct gate_late *g, double difference);
double gate_late_above(const struct gate_late *g); /* log E */
bool gate_late_is_above(const struct gate_late *g, double alpha);
double gate_late_mean(const struct gate_late *g); /* of the gate with the most evidence */

#endif
