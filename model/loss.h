/* The losses: pure functions of states, a linear head and targets.
 *
 * h: states [n, d]; head: weight [C, d] and bias [C] (NULL: none). Each returns the SUM over its rows of weight x loss
 * in double; where `gradient` is not NULL, derivatives of that sum times `scale` are written to its states [n, d] and
 * ADDED to its weight [C, d] and bias [C] (each may be NULL). `row_weights` NULL: all 1. Targets are below C. Scratch is
 * the caller's, of so many floats as a function below says, aligned as malloc does. Nothing here allocates; any thread.
 * A state or weight that is not finite makes a sum that is not finite. */
#ifndef MODEL_LOSS_H
#define MODEL_LOSS_H

#include "base/random.h"

#include <stddef.h>
#include <stdint.h>

struct loss_head {
	uint32_t dim;     /* d */
	uint32_t classes; /* C */
	const float *weight;
	const float *bias;
};

struct loss_gradient {
	float scale;
	float *states; /* dh [n, d], written */
	float *weight; /* [C, d], added to */
	float *bias;   /* [C], added to */
};

/* Softmax cross-entropy over all classes. Rows with target UINT32_MAX count nothing, and get a derivative of 0. Scratch:
 * LOSS_SOFTMAX_ROWS x C floats. */
enum { LOSS_SOFTMAX_ROWS = 256 };
double loss_softmax(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		    const float *row_weights, float *scratch, const struct loss_gradient *gradient);

/* Sampled softmax (Bengio and Senecal 2008; Jean et al. 2015): the target against `count` classes drawn for the whole call
 * with replacement. From the score of a drawn class the log of its expected number of draws is taken off, the target's
 * own score stays, and draws of a row's own target are left out of that row, so that with T the target and D the draws
 *
 *     loss = log(e^s_T + sum over i in D, i != T of e^s_i / (count x P(i))) - s_T
 *
 * and the expectation of what the logarithm is taken of is that of the full softmax. `first`: classes below are never
 * drawn (special tokens). C > first; count > 0. Scratch: loss_sampled_floats(). */
enum loss_sampler {
	LOSS_UNIFORM,
	LOSS_LOG_UNIFORM, /* P(first + i) ~ log((i + 2) / (i + 1)), as TensorFlow's: for classes in falling frequency */
};
size_t loss_sampled_floats(uint32_t dim, uint32_t count);
double loss_sampled_softmax(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
			    const float *row_weights, enum loss_sampler sampler, uint32_t first, uint32_t count,
			    struct random_stream *random, float *scratch, const struct loss_gradient *gradient);

/* The classes that loss_sampled_softmax draws from a stream in this state, and their probabilities (NULL: not wanted). */
void loss_draw_classes(enum loss_sampler sampler, uint32_t first, uint32_t classes, uint32_t count,
		       struct random_stream *random, uint32_t *ret_drawn, double *ret_probabilities);

/* Ranking by one negative a row: `negatives` [n]. BPR (Rendle et al. 2009): -log sigmoid(s_target - s_negative). BCE:
 * -log sigmoid(s_target) - log(1 - sigmoid(s_negative)). */
double loss_bpr(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		const uint32_t *negatives, const float *row_weights, const struct loss_gradient *gradient);
double loss_bce(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		const uint32_t *negatives, const float *row_weights, const struct loss_gradient *gradient);

/* Negatives for the two: the highest-scored of `candidates` uniform draws from the classes but the row's target (1:
 * uniform; more: LambdaFM's dynamic sampling, Yuan et al. 2016). C > 1. */
void loss_draw_negatives(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
			 uint32_t candidates, struct random_stream *random, uint32_t *ret_negatives);

/* Half the squared error of the one output. targets: [n]. C = 1. */
double loss_squared(const struct loss_head *head, size_t n, const float *h, const float *targets,
		    const float *row_weights, const struct loss_gradient *gradient);

/* Scores: out [n, C] = h weight' + bias; loss_probabilities turns rows into softmax in place. */
void loss_scores(const struct loss_head *head, size_t n, const float *h, float *out);
void loss_probabilities(size_t n, uint32_t classes, float *scores);

#endif
