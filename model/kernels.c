#include "model/kernels.h"

#include <math.h>

static size_t packed(uint32_t width, uint32_t in, uint32_t out)
{
	return ((size_t)(out / KERNELS_PANEL) * width + in) * KERNELS_PANEL + out % KERNELS_PANEL;
}

static void scalar_product(size_t rows, const float *x, uint32_t taps, ptrdiff_t tap_step, const float *w,
			   ptrdiff_t w_step, uint32_t width, float *y, int add)
{
	for (size_t r = 0; r < rows; r++) {
		for (uint32_t out = 0; out < width; out++) {
			float sum = 0.0F;
			for (uint32_t tap = 0; tap < taps; tap++) {
				const float *row = x + (ptrdiff_t)(r * width) + (ptrdiff_t)tap * tap_step;
				const float *matrix = w + (ptrdiff_t)tap * w_step;
				for (uint32_t in = 0; in < width; in++)
					sum += row[in] * matrix[packed(width, in, out)];
			}
			y[r * width + out] = add ? y[r * width + out] + sum : sum;
		}
	}
}

static void scalar_column(const struct kernels_norm *norm, uint32_t width, float *sum, const float *carried,
			  const float *residual, float *out)
{
	float mean = 0;
	float variance = 0;
	for (uint32_t i = 0; i < width; i++) {
		sum[i] += norm->bias[i] + (carried == NULL ? 0.0F : carried[i]);
		mean += sum[i];
	}
	mean /= (float)norm->channels;
	for (uint32_t i = 0; i < width; i++) {
		sum[i] = (sum[i] - mean) * norm->mask[i];
		variance += sum[i] * sum[i];
	}
	float scale = 1.0F / sqrtf(variance / (float)norm->channels + norm->eps);
	for (uint32_t i = 0; i < width; i++) {
		float y = sum[i] * scale * norm->gamma[i] + norm->beta[i];
		out[i] = (residual == NULL ? 0.0F : residual[i]) + (y > 0 ? y : 0.0F);
	}
}

static void scalar_advance(const struct kernels_norm *norm, uint32_t width, const struct kernels_ring *ring,
			   float *products, size_t stride, const float *residual, float *out)
{
	const float *carried = ring->row_count == 0 ? NULL : ring->rows + (size_t)ring->now * width;
	scalar_column(norm, width, products, carried, residual, out);
	for (uint32_t lag = 1; lag < ring->taps; lag++) {
		float *row = ring->rows + (size_t)((ring->now + lag * ring->dilation) % ring->row_count) * width;
		for (uint32_t i = 0; i < width; i++) /* the last lag's row is a new position's: it starts there */
			row[i] = products[lag * stride + i] + (lag + 1 < ring->taps ? row[i] : 0.0F);
	}
}

const struct kernels kernels_scalar = { "scalar", scalar_product, scalar_column, scalar_advance };

const struct kernels *kernels_choose(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &kernels_avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &kernels_avx2;
#endif
	return &kernels_scalar;
}
