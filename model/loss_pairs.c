#include "model/loss.h"

#include <cblas.h>
#include <math.h>

static float score_of(const struct loss_head *head, const float *state, uint32_t class)
{
	const float *weight = head->weight + (size_t) class * head->dim;
	return cblas_sdot((int)head->dim, state, 1, weight, 1) + (head->bias == NULL ? 0.0F : head->bias[class]);
}

static double sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

/* log(1 + e^x) without overflow: -log sigmoid(-x). */
static double softplus(double x)
{
	return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Adds what a score's derivative makes of its state and of its row of the head. */
static void spread(const struct loss_head *head, const float *state, uint32_t class, float slope, float *d_state,
		   const struct loss_gradient *gradient)
{
	const int d = (int)head->dim;
	const size_t at = (size_t) class * head->dim;
	if (d_state != NULL)
		cblas_saxpy(d, slope, head->weight + at, 1, d_state, 1);
	if (gradient->weight != NULL)
		cblas_saxpy(d, slope, state, 1, gradient->weight + at, 1);
	if (gradient->bias != NULL)
		gradient->bias[class] += slope;
}

/* Loss of a pair of scores and its derivatives. */
typedef double pair_loss(double target, double negative, double *ret_d_target, double *ret_d_negative);

static double bpr_of_pair(double target, double negative, double *ret_d_target, double *ret_d_negative)
{
	*ret_d_negative = sigmoid(negative - target);
	*ret_d_target = -*ret_d_negative;
	return softplus(negative - target);
}

static double bce_of_pair(double target, double negative, double *ret_d_target, double *ret_d_negative)
{
	*ret_d_target = -sigmoid(-target);
	*ret_d_negative = sigmoid(negative);
	return softplus(-target) + softplus(negative);
}

static double sum_of_pairs(pair_loss *of_pair, const struct loss_head *head, size_t n, const float *h,
			   const uint32_t *targets, const uint32_t *negatives, const float *row_weights,
			   const struct loss_gradient *gradient)
{
	double loss = 0;
	for (size_t r = 0; r < n; r++) {
		const float *state = h + r * head->dim;
		const double weight = row_weights == NULL ? 1.0 : (double)row_weights[r];
		double d_target = 0, d_negative = 0;
		loss += weight * of_pair((double)score_of(head, state, targets[r]),
					 (double)score_of(head, state, negatives[r]), &d_target, &d_negative);
		if (gradient == NULL)
			continue;
		const double scale = weight * (double)gradient->scale;
		float *d_state = gradient->states == NULL ? NULL : gradient->states + r * head->dim;
		for (uint32_t i = 0; d_state != NULL && i < head->dim; i++)
			d_state[i] = 0;
		spread(head, state, targets[r], (float)(scale * d_target), d_state, gradient);
		spread(head, state, negatives[r], (float)(scale * d_negative), d_state, gradient);
	}
	return loss;
}

double loss_bpr(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		const uint32_t *negatives, const float *row_weights, const struct loss_gradient *gradient)
{
	return sum_of_pairs(bpr_of_pair, head, n, h, targets, negatives, row_weights, gradient);
}

double loss_bce(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		const uint32_t *negatives, const float *row_weights, const struct loss_gradient *gradient)
{
	return sum_of_pairs(bce_of_pair, head, n, h, targets, negatives, row_weights, gradient);
}

void loss_draw_negatives(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
			 uint32_t candidates, struct random_stream *random, uint32_t *ret_negatives)
{
	for (size_t r = 0; r < n; r++) {
		float best = -INFINITY;
		for (uint32_t i = 0; i < candidates; i++) {
			uint32_t class = random_below(random, head->classes - 1);
			class += class >= targets[r];
			const float score = candidates > 1 ? score_of(head, h + r * head->dim, class) : 0.0F;
			if (i == 0 || score > best) {
				best = score;
				ret_negatives[r] = class;
			}
		}
	}
}
