#include "model/loss.h"

#include "model/softmax.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* The scratch of one call. A row of scores has the drawn classes and then the row's own target. */
struct sampled {
	uint32_t count;
	uint32_t *drawn;   /* [count] */
	float *weight;     /* [count, d], of the drawn */
	float *correction; /* [count]: bias - log(count x P) */
	float *d_weight;   /* [count, d] */
	float *d_bias;     /* [count + 1] */
	float *scores;     /* [rows, count + 1] */
};

size_t loss_sampled_floats(uint32_t dim, uint32_t count)
{
	return 2 * (size_t)count * (dim + 1) + ((size_t)LOSS_SOFTMAX_ROWS + 1) * ((size_t)count + 1);
}

static struct sampled lay_out(uint32_t dim, uint32_t count, float *scratch)
{
	struct sampled s = { .count = count, .drawn = (uint32_t *)(void *)scratch };
	s.weight = scratch + count;
	s.d_weight = s.weight + (size_t)count * dim;
	s.correction = s.d_weight + (size_t)count * dim;
	s.d_bias = s.correction + count;
	s.scores = s.d_bias + count + 1;
	return s;
}

static double probability(enum loss_sampler sampler, uint32_t range, uint32_t class)
{
	return sampler == LOSS_UNIFORM ? 1.0 / range : log1p(1.0 / (class + 1.0)) / log1p((double)range);
}

static uint32_t draw(enum loss_sampler sampler, uint32_t range, struct random_stream *random)
{
	if (sampler == LOSS_UNIFORM)
		return random_below(random, range);
	const double u = (double)(random_next(random) >> 11) * 0x1p-53;
	const double class = exp(u * log1p((double)range)) - 1.0;
	return class < range ? (uint32_t) class : range - 1;
}

void loss_draw_classes(enum loss_sampler sampler, uint32_t first, uint32_t classes, uint32_t count,
		       struct random_stream *random, uint32_t *ret_drawn, double *ret_probabilities)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t class = draw(sampler, classes - first, random);
		ret_drawn[i] = first + class;
		if (ret_probabilities != NULL)
			ret_probabilities[i] = probability(sampler, classes - first, class);
	}
}

static void gather(struct sampled *s, const struct loss_head *head, enum loss_sampler sampler, uint32_t first)
{
	for (uint32_t i = 0; i < s->count; i++) {
		const uint32_t class = s->drawn[i];
		const double expected = s->count * probability(sampler, head->classes - first, class - first);
		memcpy(s->weight + (size_t)i * head->dim, head->weight + (size_t) class * head->dim,
		       head->dim * sizeof(float));
		s->correction[i] = (head->bias == NULL ? 0.0F : head->bias[class]) - (float)log(expected);
	}
}

/* Scores of one row to their derivatives. Returns the loss. */
static double loss_of_row(struct sampled *s, const struct loss_head *head, float *row, const float *state,
			  uint32_t target, float weight, const struct loss_gradient *gradient)
{
	for (uint32_t i = 0; i < s->count; i++)
		row[i] = s->drawn[i] == target ? -INFINITY : row[i];
	const float score = cblas_sdot((int)head->dim, state, 1, head->weight + (size_t)target * head->dim, 1) +
			    (head->bias == NULL ? 0.0F : head->bias[target]);
	float max = 0;
	row[s->count] = score;
	const float sum = softmax_row(row, (size_t)s->count + 1, &max);
	if (gradient != NULL) {
		row[s->count] -= sum;
		softmax_scale(row, (size_t)s->count + 1, gradient->scale * weight / sum, s->d_bias);
	}
	return (double)weight * (log((double)sum) - ((double)score - (double)max));
}

/* What the derivatives of a chunk's scores make of its states, and of the targets' rows of the head. */
static void spread(struct sampled *s, const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
		   float *d_states, const struct loss_gradient *gradient)
{
	const int d = (int)head->dim;
	const int count = (int)s->count;
	if (d_states != NULL)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, d, count, 1.0F, s->scores, count + 1,
			    s->weight, d, 0.0F, d_states, d);
	if (gradient->weight != NULL)
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, count, d, (int)n, 1.0F, s->scores, count + 1, h, d,
			    1.0F, s->d_weight, d);
	for (size_t r = 0; r < n; r++) {
		const float slope = s->scores[r * ((size_t)count + 1) + (size_t)count];
		const size_t at = (size_t)targets[r] * head->dim;
		if (d_states != NULL)
			cblas_saxpy(d, slope, head->weight + at, 1, d_states + r * head->dim, 1);
		if (gradient->weight != NULL)
			cblas_saxpy(d, slope, h + r * head->dim, 1, gradient->weight + at, 1);
		if (gradient->bias != NULL)
			gradient->bias[targets[r]] += slope;
	}
}

static void scatter(const struct sampled *s, const struct loss_head *head, const struct loss_gradient *gradient)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (gradient->weight != NULL)
			cblas_saxpy((int)head->dim, 1.0F, s->d_weight + (size_t)i * head->dim, 1,
				    gradient->weight + (size_t)s->drawn[i] * head->dim, 1);
		if (gradient->bias != NULL)
			gradient->bias[s->drawn[i]] += s->d_bias[i];
	}
}

double loss_sampled_softmax(const struct loss_head *head, size_t n, const float *h, const uint32_t *targets,
			    const float *row_weights, enum loss_sampler sampler, uint32_t first, uint32_t count,
			    struct random_stream *random, float *scratch, const struct loss_gradient *gradient)
{
	const int d = (int)head->dim;
	struct sampled s = lay_out(head->dim, count, scratch);
	double loss = 0;
	loss_draw_classes(sampler, first, head->classes, count, random, s.drawn, NULL);
	gather(&s, head, sampler, first);
	memset(s.d_weight, 0, (size_t)count * head->dim * sizeof(float));
	memset(s.d_bias, 0, ((size_t)count + 1) * sizeof(float));
	for (size_t from = 0; from < n; from += LOSS_SOFTMAX_ROWS) {
		const size_t rows = n - from < LOSS_SOFTMAX_ROWS ? n - from : LOSS_SOFTMAX_ROWS;
		const float *states = h + from * head->dim;
		for (size_t r = 0; r < rows; r++)
			memcpy(s.scores + r * ((size_t)count + 1), s.correction, count * sizeof(float));
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)count, d, 1.0F, states, d,
			    s.weight, d, 1.0F, s.scores, (int)count + 1);
		for (size_t r = 0; r < rows; r++)
			loss += loss_of_row(&s, head, s.scores + r * ((size_t)count + 1), states + r * head->dim,
					    targets[from + r], row_weights == NULL ? 1.0F : row_weights[from + r],
					    gradient);
		if (gradient != NULL)
			spread(&s, head, rows, states, targets + from,
			       gradient->states == NULL ? NULL : gradient->states + from * head->dim, gradient);
	}
	if (gradient != NULL)
		scatter(&s, head, gradient);
	return loss;
}
