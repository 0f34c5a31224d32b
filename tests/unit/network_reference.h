/* The network as its formulas stand on paper, in double and without a thought for speed: the twin of model/network. */
#ifndef TESTS_NETWORK_REFERENCE_H
#define TESTS_NETWORK_REFERENCE_H

#include "model/backbone.h"
#include "model/network.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct reference {
	const struct network *net;
	const struct network_patch *patch; /* NULL: none */
	double *weights;                   /* of the net's block */
	double *adapters;                  /* of the patch's block */
};

static inline double *reference_copy(const float *block, size_t floats)
{
	double *copy = calloc(floats + 1, sizeof *copy);
	for (size_t i = 0; copy != NULL && i < floats; i++)
		copy[i] = (double)block[i];
	return copy;
}

enum reference_tensors { REFERENCE_CONV_WEIGHT = 1, REFERENCE_CONV_BIAS, REFERENCE_NORM_WEIGHT, REFERENCE_NORM_BIAS };

/* Of convolution c, by the table's order: the embedding, then these four of each. */
static inline const double *reference_tensor(const struct reference *r, uint32_t c, enum reference_tensors which)
{
	return r->weights + r->net->table.list[4 * (size_t)c + which].offset;
}

static inline const double *reference_adapter(const struct reference *r, const float *view)
{
	return r->adapters + (view - r->patch->weights);
}

static inline double reference_gelu(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/* z += up(gelu(down(x))) for convolution c. */
static inline void reference_adapt(const struct reference *r, uint32_t c, const double *x, double *z)
{
	const struct network_patch *p = r->patch;
	const uint32_t d = r->net->shape.channels;
	const double *down = reference_adapter(r, p->down_weight[c]);
	const double *up = reference_adapter(r, p->up_weight[c]);
	double *added = calloc(d, sizeof *added);
	for (uint32_t j = 0; j < p->bottleneck; j++) {
		double a = reference_adapter(r, p->down_bias[c])[j];
		for (uint32_t i = 0; i < d; i++)
			a += down[j * d + i] * x[i];
		a = reference_gelu(a);
		for (uint32_t o = 0; o < d; o++)
			added[o] += up[o * p->bottleneck + j] * a;
	}
	for (uint32_t o = 0; o < d; o++)
		z[o] += added[o] + reference_adapter(r, p->up_bias[c])[o];
	free(added);
}

static inline void reference_norm(const struct reference *r, uint32_t c, const double *z, double *out)
{
	const uint32_t d = r->net->shape.channels;
	const double *gamma = reference_tensor(r, c, REFERENCE_NORM_WEIGHT);
	const double *beta = reference_tensor(r, c, REFERENCE_NORM_BIAS);
	if (r->patch != NULL && c % 2 == 1 && r->patch->norm_weight[c / 2] != NULL) {
		gamma = reference_adapter(r, r->patch->norm_weight[c / 2]);
		beta = reference_adapter(r, r->patch->norm_bias[c / 2]);
	}
	double mean = 0;
	double variance = 0;
	for (uint32_t i = 0; i < d; i++)
		mean += z[i] / d;
	for (uint32_t i = 0; i < d; i++)
		variance += (z[i] - mean) * (z[i] - mean) / d;
	for (uint32_t i = 0; i < d; i++)
		out[i] = fmax(0, (z[i] - mean) / sqrt(variance + (double)r->net->shape.eps) * gamma[i] + beta[i]);
}

/* One position of convolution c with adapter, norm and ReLU; inputs[tap]: [d], NULL is zero. newest: the position's own
 * input. */
static inline void reference_column(const struct reference *r, uint32_t c, const double *const inputs[],
				    const double *own, double *out)
{
	const uint32_t d = r->net->shape.channels;
	const uint32_t taps = r->net->shape.kernel_size;
	const double *weight = reference_tensor(r, c, REFERENCE_CONV_WEIGHT);
	const double *bias = reference_tensor(r, c, REFERENCE_CONV_BIAS);
	double *z = calloc(d, sizeof *z);
	double *plain = calloc(d, sizeof *plain);
	for (uint32_t o = 0; o < d; o++) {
		z[o] = bias[o];
		for (uint32_t tap = 0; tap < taps; tap++) {
			for (uint32_t i = 0; inputs[tap] != NULL && i < d; i++)
				z[o] += weight[((size_t)o * taps + tap) * d + i] * inputs[tap][i];
		}
	}
	memcpy(plain, z, d * sizeof *plain);
	if (r->patch != NULL && r->patch->down_weight[c] != NULL)
		reference_adapt(r, c, r->patch->parallel ? own : plain, z);
	reference_norm(r, c, z, out);
	free(plain);
	free(z);
}

/* The inputs of the taps at position p of x [rows, d]. */
static inline void reference_inputs(const struct reference *r, uint32_t c, const double *x, ptrdiff_t rows, ptrdiff_t p,
				    const double **inputs)
{
	const struct network_shape *s = &r->net->shape;
	const ptrdiff_t dilation = (ptrdiff_t)s->dilations[c / 2] * (c % 2 + 1);
	const ptrdiff_t span = (ptrdiff_t)(s->kernel_size - 1) * dilation;
	for (uint32_t tap = 0; tap < s->kernel_size; tap++) {
		const ptrdiff_t from = p - (s->causal ? span : span / 2) + (ptrdiff_t)tap * dilation;
		inputs[tap] = from >= 0 && from < rows ? x + from * s->channels : NULL;
	}
}

/* One sequence: the states after `level` blocks, at the task token [d] and at the events [events, d]. */
static inline void reference_forward(const struct reference *r, const uint32_t *items, uint32_t events, uint32_t cut,
				     uint32_t level, double *task, double *every)
{
	const struct network_shape *s = &r->net->shape;
	const uint32_t d = s->channels;
	const uint32_t lead = s->causal ? 0 : 1;
	const uint32_t rows = events + 2 * lead;
	const double *table = r->weights + r->net->table.list[0].offset;
	const double **inputs = calloc(s->kernel_size, sizeof *inputs);
	double *x = calloc((size_t)(rows + 1) * d, sizeof *x); /* the causal task token is the last row */
	double *h = calloc((size_t)(rows + 1) * d, sizeof *h);
	double *y = calloc((size_t)(rows + 1) * d, sizeof *y);
	for (uint32_t p = 0; p <= rows; p++) {
		const bool event = p >= lead && p < lead + events;
		memcpy(x + (size_t)p * d, table + (size_t)(event ? items[p - lead] : BACKBONE_TCL) * d, d * sizeof *x);
	}
	for (uint32_t c = 0; c < 2 * level; c++) {
		const double *in = c % 2 == 0 ? x : h;
		double *out = c % 2 == 0 ? h : y;
		for (uint32_t p = 0; p < rows; p++) {
			reference_inputs(r, c, in, rows, p, inputs);
			reference_column(r, c, inputs, in + (size_t)p * d, out + (size_t)p * d);
		}
		reference_inputs(r, c, in, rows, cut, inputs);
		inputs[s->kernel_size - 1] = in + (size_t)rows * d;
		reference_column(r, c, inputs, in + (size_t)rows * d, out + (size_t)rows * d);
		for (size_t i = 0; c % 2 == 1 && i < (size_t)(rows + 1) * d; i++)
			x[i] += y[i];
	}
	for (uint32_t i = 0; i < d; i++)
		task[i] = s->causal ? x[(size_t)rows * d + i] : x[i] + x[(size_t)(rows - 1) * d + i];
	memcpy(every, x + (size_t)lead * d, (size_t)events * d * sizeof *every);
	free(inputs);
	free(x);
	free(h);
	free(y);
}

#endif
