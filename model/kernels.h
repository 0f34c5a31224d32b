/* The loops that take the time: packed matrix products and the column of a convolution (bias, layer norm, ReLU).
 *
 * Pure functions of their arguments: no allocation, no state, any thread. One set of them per instruction set, chosen
 * once by kernels_choose(); kernels_scalar is the naive twin that the others are tested against and that runs where
 * there is no AVX2. A result depends on its own row only, never on the other rows of a call, so that the composition
 * of a batch changes nothing, not even the last bit.
 *
 * `width` is the number of channels padded to a multiple of KERNELS_PANEL; padded channels are zero everywhere. A
 * weight matrix [in, out] is packed in panels of KERNELS_PANEL output channels: [width / PANEL][width][PANEL], so that
 * a product reads it from the first float to the last. */
#ifndef MODEL_KERNELS_H
#define MODEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define KERNELS_PANEL 16 /* floats; one cache line */

/* What follows a convolution's product; all arrays [width], zero where padded. */
struct kernels_norm {
	const float *bias;
	const float *gamma;
	const float *beta;
	const float *mask; /* 1 for a channel, 0 for padding */
	uint32_t channels; /* d: the norm is over these */
	float eps;
};

/* A user's ring of one convolution and where this step touches it: rows of partial sums, [rows][width]. The
 * convolution's output at position p is the bias plus row p % rows plus the newest tap's product; the products of the
 * older taps have been added to the rows of the later positions that they belong to. */
struct kernels_ring {
	float *rows;
	uint32_t row_count; /* (taps - 1) * dilation, 0 for a convolution of one tap */
	uint32_t now;       /* row of the position that the item takes */
	uint32_t dilation;
	uint32_t taps;
};

struct kernels {
	const char *name; /* "scalar", "avx2", "avx512" */

	/* y[r] = sum over taps of x[r * width + tap * tap_step ...] W_tap, for `rows` rows; where `add` is not 0 the
	 * whole sum is added to y, in one addition. x: rows of `width` floats; tap_step in floats; w: `taps` packed matrices, `w_step` floats
	 * apart (may be negative); y: [rows, width]. */
	void (*product)(size_t rows, const float *x, uint32_t taps, ptrdiff_t tap_step, const float *w,
			ptrdiff_t w_step, uint32_t width, float *y, int add);

	/* out = residual + relu(layer_norm(bias + carried + sum)), each [width]; `carried` and `residual` may be NULL,
	 * `residual` may be `out`. `sum` is overwritten. Biased variance, eps under the root. */
	void (*column)(const struct kernels_norm *norm, uint32_t width, float *sum, const float *carried,
		       const float *residual, float *out);

	/* One item's step through one convolution: the column at position `now`, and the older taps' products,
	 * products[m] for lag m * dilation (stride floats apart; m = 0 is the newest tap, overwritten), into the
	 * ring. */
	void (*advance)(const struct kernels_norm *norm, uint32_t width, const struct kernels_ring *ring,
			float *products, size_t stride, const float *residual, float *out);
};

extern const struct kernels kernels_scalar;
extern const struct kernels kernels_avx2;   /* call only where the processor has AVX2 and FMA */
extern const struct kernels kernels_avx512; /* ... AVX-512 F, and what AVX2 asks for */

/* The fastest set for this processor. */
const struct kernels *kernels_choose(void);

#endif
