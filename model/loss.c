#include "model/loss.h"

#include "model/softmax.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

static float row_weight(const float *row_weights, size_t row)
{
	return row_weights == NULL ? 1.0F : row_weights[row];
}

/* The bias first and then added to: the product reads what it adds to anyway. */
void loss_scores(const struct loss_head *head, size_t n, const float *h, float *out)
{
	const int d = (int)head->dim;
	for (size_t r = 0; head->bias != NULL && r < n; r++)
		memcpy(out + r * head->classes, head->bias, head->classes * sizeof(float));
	if (n > 0)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)head->classes, d, 1.0F, h, d,
			    head->weight, d, head->bias == NULL ? 0.0F : 1.0F, out, (int)head->classes);
}

/* What d_scores [n, C] makes of states and weights. */
static void spread(const struct loss_head *head, size_t n, const float *h, const float *d_scores, float *d_states,
		   float *d_weight)
{
	const int d = (int)head->dim;
	const int classes = (int)head->classes;
	if (d_states != NULL)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, d, classes, 1.0F, d_scores, classes,
			    head->weight, d, 0.0F, d_states, d);
	if (d_weight != NULL)
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, classes, d, (int)n, 1.0F, d_scores, classes, h, d,
			    1.0F, d_weight, d);
}

/* Scores of one row to their derivatives. Returns the loss. */
static double softmax_of_row(uint32_t classes, float *row, uint32_t target, float weight,
			     const struct loss_gradient *gradient)
{
	if (target == UINT32_MAX) {
		if (gradient != NULL)
			memset(row, 0, classes * sizeof *row);
		return 0;
	}
	float max = 0;
	const float score = row[target];
	const float sum = softmax_row(row, classes, &max);
	if (gradient != NULL) {
		row[target] -= sum;
		softmax_scale(row, classes, gradient->scale * weight / sum, gradient->bias);
	}
	return (double)weight * (log((double)sum) - ((double)score - (double)max));
}

double loss_softmax(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		    const float *row_weights, float *scratch, const struct loss_gradient *gradient)
{
	double loss = 0;
	for (size_t first = 0; first < n; first += LOSS_SOFTMAX_ROWS) {
		const size_t rows = n - first < LOSS_SOFTMAX_ROWS ? n - first : LOSS_SOFTMAX_ROWS;
		const float *states = h + first * head->dim;
		loss_scores(head, rows, states, scratch);
		for (size_t r = 0; r < rows; r++)
			loss += softmax_of_row(head->classes, scratch + r * head->classes, targets[first + r],
					       row_weight(row_weights, first + r), gradient);
		if (gradient != NULL)
			spread(head, rows, states, scratch,
			       gradient->states == NULL ? NULL : gradient->states + first * head->dim,
			       gradient->weight);
	}
	return loss;
}

double loss_squared(const struct loss_head *head, size_t n, const float *h, const float *targets,
		    const float *row_weights, const struct loss_gradient *gradient)
{
	const int d = (int)head->dim;
	double loss = 0;
	for (size_t r = 0; r < n; r++) {
		const float *state = h + r * head->dim;
		const float score =
			cblas_sdot(d, state, 1, head->weight, 1) + (head->bias == NULL ? 0.0F : *head->bias);
		const float error = score - targets[r];
		loss += 0.5 * (double)row_weight(row_weights, r) * (double)error * (double)error;
		if (gradient == NULL)
			continue;
		const float slope = gradient->scale * row_weight(row_weights, r) * error;
		for (int i = 0; gradient->states != NULL && i < d; i++)
			gradient->states[r * head->dim + (size_t)i] = slope * head->weight[i];
		if (gradient->weight != NULL)
			cblas_saxpy(d, slope, state, 1, gradient->weight, 1);
		if (gradient->bias != NULL)
			*gradient->bias += slope;
	}
	return loss;
}

void loss_probabilities(size_t n, uint32_t classes, float *scores)
{
	for (size_t r = 0; r < n; r++) {
		float max = 0;
		float *row = scores + r * classes;
		const float sum = softmax_row(row, classes, &max);
		softmax_scale(row, classes, 1.0F / sum, NULL);
	}
}
