/* The layers of the trainable network: forward, and backward next to it. Pure functions of their arguments: no allocation,
 * any thread. Activations are rows of `width` floats, channels padded with zeros to a multiple of KERNELS_PANEL; a
 * backward adds to gradients of parameters and writes gradients of activations, unless said otherwise. */
#ifndef MODEL_LAYERS_H
#define MODEL_LAYERS_H

#include "model/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Elementwise loops, one set per instruction set. */
struct layer_kernels {
	const char *name; /* "portable", "avx2", "avx512" */

	/* Layer norm and ReLU: with z = sum + norm->bias,
	 *     normal = (z - mean(z)) inverse,  inverse = 1 / sqrt(var(z) + eps)
	 *     out = residual + relu(normal gamma + beta)
	 * `sum` [rows, width] is overwritten by `normal`; inverse [rows]; residual NULL: 0. */
	void (*norm)(const struct kernels_norm *norm, size_t rows, uint32_t width, float *sum, const float *residual,
		     float *inverse, float *out);

	/* d_sum from d_out (which is the residual's gradient too). d_gamma, d_beta, d_bias [width]: added to; all three or
	 * none (NULL). d_sum may be d_out. */
	void (*norm_back)(const struct kernels_norm *norm, size_t rows, uint32_t width, const float *normal,
			  const float *inverse, const float *d_out, float *d_sum, float *d_gamma, float *d_beta,
			  float *d_bias);

	/* out = a sigmoid(2 sqrt(2 / pi) (a + 0.044715 a^3)), which is GELU with tanh; to 3e-7 of |a|. */
	void (*gelu)(size_t count, const float *a, float *out);
	void (*gelu_back)(size_t count, const float *a, float *d); /* d_out becomes d_a in place */

	/* y += x */
	void (*add)(size_t count, const float *x, float *y);

	/* sums [columns] += the sum of the rows */
	void (*column_sums)(size_t rows, size_t columns, size_t stride, const float *x, float *sums);

	void (*add_outer)(size_t rows, uint32_t channels, uint32_t width, const float *a, const float *x, float *g,
			  size_t g_step); /* as layers_add_outer */
};

extern const struct layer_kernels portable_layers;
extern const struct layer_kernels kernels_avx2_layers;   /* as kernels_avx2 */
extern const struct layer_kernels kernels_avx512_layers; /* as kernels_avx512 */

/* The fastest set for this processor. */
const struct layer_kernels *layer_kernels_choose(void);

/* Weights [out, tap, in] of a convolution, `channels` in and out, for the products: packed [taps] matrices of width x
 * width floats. The second is for the way back: in and out exchanged, taps in reverse. */
void layers_pack(const float *weight, uint32_t channels, uint32_t taps, uint32_t width, float *packed);
void layers_pack_back(const float *weight, uint32_t channels, uint32_t taps, uint32_t width, float *packed);

/* Positions of a sequence: first .. end - 1. */
struct layers_span {
	size_t first;
	size_t end;
};

struct layers_convolution {
	const struct kernels *kernels;
	const float *packed;
	uint32_t width;
	uint32_t taps;
	uint32_t dilation;
	ptrdiff_t shift; /* position p reads p + shift + tap x dilation */
};

/* y[p] = (add: y[p] +) sum over taps of x[p + shift + tap dilation] W_tap for the positions p of `to`; inputs outside of
 * `from` are zero. x is the row of from.first, y that of to.first. The way back is the same function: packed by
 * layers_pack_back, shift' = -shift - (taps - 1) dilation, from and to exchanged. */
void layers_convolve(const struct layers_convolution *c, struct layers_span from, const float *x, struct layers_span to,
		     float *y, bool add);

/* g[out][in] += the sum over rows of a[row][out] x[row][in], for `channels` outs and ins: what one tap adds to the gradient
 * of the weights. a, x: [rows, width]; g: rows g_step floats apart. */
void layers_add_outer(const struct layer_kernels *k, size_t rows, uint32_t channels, uint32_t width, const float *a,
		      const float *x, float *g, size_t g_step);

/* gradient [out, tap, in] of the weights += what the convolution of x makes of d_y; spans as forward. */
void layers_convolve_weights(const struct layer_kernels *k, const struct layers_convolution *c, uint32_t channels,
			     struct layers_span from, const float *x, struct layers_span to, const float *d_y,
			     float *gradient);

struct layers_adapter {
	uint32_t channels;
	uint32_t bottleneck;      /* b */
	const float *down_weight; /* [b, channels] */
	const float *down_bias;
	const float *up_weight; /* [channels, b] */
	const float *up_bias;
};

struct layers_adapter_gradient {
	float *down_weight;
	float *down_bias;
	float *up_weight;
	float *up_bias;
};

/* z [rows, width] += up(gelu(down(x))); inner [rows, b] keeps what comes before the gelu, outer [rows, b] what comes
 * after. x is not z. */
void layers_adapter(const struct layer_kernels *k, const struct layers_adapter *a, size_t rows, uint32_t width,
		    const float *x, float *inner, float *outer, float *z);

/* From d_z: ADDS to d_x [rows, width] (which may be d_z: the serial form) and, where `gradient` is not NULL, to all of its
 * tensors. outer is read and then overwritten. */
void layers_adapter_back(const struct layer_kernels *k, const struct layers_adapter *a, size_t rows, uint32_t width,
			 const float *x, const float *inner, float *outer, const float *d_z, float *d_x,
			 const struct layers_adapter_gradient *gradient);

#endif
