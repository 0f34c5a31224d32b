/* The loops of layers.h for one vector type; included once per instruction set, after the macros of kernels_vector.h and
 *
 *     GATE(y, v)    the lanes of v where y is above 0, 0 elsewhere
 *     OUTER_ROWS, OUTER_PANELS  a tile of add_outer: its sums fit the registers; OUTER_ROWS divides KERNELS_PANEL */
#include "model/layers.h"

#include <math.h>
#include <string.h>

static inline float NAME(_normalise_row)(const struct kernels_norm *norm, uint32_t width, float *row)
{
	const float each = 1.0F / (float)norm->channels;
	VECTOR sum = SPLAT(0.0F);
	for (uint32_t i = 0; i < width; i += LANES) {
		const VECTOR v = ADD(LOAD(row + i), LOAD(norm->bias + i));
		STORE(row + i, v);
		sum = ADD(sum, v);
	}
	const VECTOR mean = SPLAT(SUM(sum) * each);
	sum = SPLAT(0.0F);
	for (uint32_t i = 0; i < width; i += LANES) {
		const VECTOR v = MUL(SUB(LOAD(row + i), mean), LOAD(norm->mask + i));
		STORE(row + i, v);
		sum = FMA(v, v, sum);
	}
	return 1.0F / sqrtf(SUM(sum) * each + norm->eps);
}

static void NAME(_norm)(const struct kernels_norm *norm, size_t rows, uint32_t width, float *sum, const float *residual,
			float *inverse, float *out)
{
	for (size_t r = 0; r < rows; r++, sum += width, out += width) {
		inverse[r] = NAME(_normalise_row)(norm, width, sum);
		const VECTOR scale = SPLAT(inverse[r]);
		for (uint32_t i = 0; i < width; i += LANES) {
			const VECTOR normal = MUL(LOAD(sum + i), scale);
			const VECTOR y = FMA(normal, LOAD(norm->gamma + i), LOAD(norm->beta + i));
			STORE(sum + i, normal);
			STORE(out + i, GATE(y, y));
		}
		if (residual == NULL)
			continue;
		for (uint32_t i = 0; i < width; i += LANES)
			STORE(out + i, ADD(LOAD(out + i), LOAD(residual + r * width + i)));
	}
}

/* With g = d_out where the ReLU was open, and h = g gamma: d_sum = inverse (h - mean(h) - normal mean(h normal)). */
static inline void NAME(_norm_back_row)(const struct kernels_norm *norm, uint32_t width, const float *normal,
					float inverse, const float *d_out, float *d_sum, float *d_gamma, float *d_beta,
					float *d_bias)
{
	const float each = 1.0F / (float)norm->channels;
	VECTOR plain = SPLAT(0.0F);
	VECTOR with = SPLAT(0.0F);
	for (uint32_t i = 0; i < width; i += LANES) {
		const VECTOR n = LOAD(normal + i);
		const VECTOR gamma = LOAD(norm->gamma + i);
		const VECTOR g = GATE(FMA(n, gamma, LOAD(norm->beta + i)), LOAD(d_out + i));
		const VECTOR h = MUL(g, gamma);
		plain = ADD(plain, h);
		with = FMA(h, n, with);
		STORE(d_sum + i, h);
		if (d_gamma != NULL) {
			STORE(d_gamma + i, FMA(g, n, LOAD(d_gamma + i)));
			STORE(d_beta + i, ADD(g, LOAD(d_beta + i)));
		}
	}
	const VECTOR mean = SPLAT(SUM(plain) * each);
	const VECTOR slope = SPLAT(SUM(with) * each);
	const VECTOR scale = SPLAT(inverse);
	for (uint32_t i = 0; i < width; i += LANES) {
		const VECTOR v = SUB(SUB(LOAD(d_sum + i), mean), MUL(LOAD(normal + i), slope));
		const VECTOR d = MUL(MUL(v, scale), LOAD(norm->mask + i));
		STORE(d_sum + i, d);
		if (d_bias != NULL)
			STORE(d_bias + i, ADD(d, LOAD(d_bias + i)));
	}
}

static void NAME(_norm_back)(const struct kernels_norm *norm, size_t rows, uint32_t width, const float *normal,
			     const float *inverse, const float *d_out, float *d_sum, float *d_gamma, float *d_beta,
			     float *d_bias)
{
	for (size_t r = 0; r < rows; r++) {
		const size_t at = r * width;
		NAME(_norm_back_row)
		(norm, width, normal + at, inverse[r], d_out + at, d_sum + at, d_gamma, d_beta, d_bias);
	}
}

static inline float NAME(_from_bits)(int32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static inline int32_t NAME(_to_bits)(float value)
{
	int32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

/* exp of x within +-87 (beyond, that of the bound) by 2^n times a polynomial on [-log(2) / 2, log(2) / 2], that of Cephes'
 * expf; to 2e-7. The bound is taken on the bits because comparisons of floats may trap, which keeps a loop from vectors. */
static inline float NAME(_exp)(float x)
{
	const int32_t bits = NAME(_to_bits)(x);
	const int32_t magnitude = bits & INT32_MAX;
	const int32_t bound = 0x42ae0000; /* 87 */
	const float bounded = NAME(_from_bits)((bits & INT32_MIN) | (magnitude < bound ? magnitude : bound));
	const float shifted = bounded * 1.44269504F + 0x1.8p23F; /* the nearest whole number, in the lowest bits */
	const float n = shifted - 0x1.8p23F;
	const float r = bounded - n * 0.693359375F + n * 2.12194440e-4F;
	float p = 1.9875691500e-4F;
	p = p * r + 1.3981999507e-3F;
	p = p * r + 8.3334519073e-3F;
	p = p * r + 4.1665795894e-2F;
	p = p * r + 1.6666665459e-1F;
	p = p * r + 5.0000001201e-1F;
	p = p * r * r + r + 1.0F;
	return p * NAME(_from_bits)((int32_t)(((uint32_t)NAME(_to_bits)(shifted) << 23) + 0x3f800000U));
}

#define GELU_SLOPE 1.59576912F /* 2 sqrt(2 / pi) */
#define GELU_CUBE 0.044715F

static inline float NAME(_gate)(float a)
{
	return 1.0F / (1.0F + NAME(_exp)(-GELU_SLOPE * (a + GELU_CUBE * a * a * a)));
}

static void NAME(_gelu)(size_t count, const float *restrict a, float *restrict out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = a[i] * NAME(_gate)(a[i]);
}

static void NAME(_gelu_back)(size_t count, const float *a, float *d)
{
	for (size_t i = 0; i < count; i++) {
		const float s = NAME(_gate)(a[i]);
		const float slope = GELU_SLOPE * (1.0F + 3.0F * GELU_CUBE * a[i] * a[i]);
		d[i] *= s + a[i] * s * (1.0F - s) * slope;
	}
}

static void NAME(_add)(size_t count, const float *restrict x, float *restrict y)
{
	for (size_t i = 0; i < count; i++)
		y[i] += x[i];
}

static void NAME(_column_sums)(size_t rows, size_t columns, size_t stride, const float *restrict x,
			       float *restrict sums)
{
	for (size_t r = 0; r < rows; r++) {
		for (size_t i = 0; i < columns; i++)
			sums[i] += x[r * stride + i];
	}
}

/* Rows of a block: wide rows lie a power of two apart, so few of a column stay in L1 at once. */
#define OUTER_BLOCK_FLOATS 4096
#define OUTER_BLOCK_ROWS 16 /* at least */

/* The sums over `rows` rows of outs a[0], a[1], ... times the panels of x are added to g. */
#define DEFINE_OUTER(TILE, PANELS)                                                                                     \
	static void NAME(TILE)(size_t rows, uint32_t width, const float *a, const float *x, float *g, size_t g_step)   \
	{                                                                                                              \
		enum { VECTORS = (PANELS)*KERNELS_PANEL / LANES };                                                     \
		VECTOR sum[OUTER_ROWS][VECTORS];                                                                       \
		UNROLL for (int o = 0; o < OUTER_ROWS; o++)                                                            \
		{                                                                                                      \
			UNROLL for (int c = 0; c < VECTORS; c++) sum[o][c] = SPLAT(0.0F);                              \
		}                                                                                                      \
		for (size_t r = 0; r < rows; r++, a += width, x += width) {                                            \
			VECTOR value[VECTORS];                                                                         \
			UNROLL for (int c = 0; c < VECTORS; c++) value[c] = LOAD(x + c * LANES);                       \
			UNROLL for (int o = 0; o < OUTER_ROWS; o++)                                                    \
			{                                                                                              \
				const VECTOR factor = SPLAT(a[o]);                                                     \
				UNROLL for (int c = 0; c < VECTORS; c++) sum[o][c] = FMA(factor, value[c], sum[o][c]); \
			}                                                                                              \
		}                                                                                                      \
		UNROLL for (int o = 0; o < OUTER_ROWS; o++, g += g_step)                                               \
		{                                                                                                      \
			UNROLL for (int c = 0; c < VECTORS; c++)                                                       \
				STORE(g + c * LANES, ADD(LOAD(g + c * LANES), sum[o][c]));                             \
		}                                                                                                      \
	}

DEFINE_OUTER(_outer_wide, OUTER_PANELS)
DEFINE_OUTER(_outer_narrow, 1)

/* A tile at the table's edge, or whose last panel is padded: by way of a copy that is big enough. */
static void NAME(_outer_edge)(size_t rows, uint32_t width, uint32_t outs, uint32_t ins, const float *a, const float *x,
			      float *g, size_t g_step)
{
	float tile[OUTER_ROWS * KERNELS_PANEL] = { 0 };
	NAME(_outer_narrow)(rows, width, a, x, tile, KERNELS_PANEL);
	for (uint32_t o = 0; o < outs && o < OUTER_ROWS; o++) {
		for (uint32_t i = 0; i < ins && i < KERNELS_PANEL; i++)
			g[o * g_step + i] += tile[o * KERNELS_PANEL + i];
	}
}

static void NAME(_outer_strip)(size_t rows, uint32_t channels, uint32_t width, const float *a, const float *x,
			       uint32_t in, float *g, size_t g_step)
{
	const bool wide = in + OUTER_PANELS * KERNELS_PANEL <= channels;
	const bool whole = in + KERNELS_PANEL <= channels;
	for (uint32_t out = 0; out < channels; out += OUTER_ROWS, a += OUTER_ROWS, g += OUTER_ROWS * g_step) {
		if (!whole || out + OUTER_ROWS > channels)
			NAME(_outer_edge)(rows, width, channels - out, channels - in, a, x, g, g_step);
		else if (wide)
			NAME(_outer_wide)(rows, width, a, x, g, g_step);
		else
			NAME(_outer_narrow)(rows, width, a, x, g, g_step);
	}
}

static void NAME(_add_outer)(size_t rows, uint32_t channels, uint32_t width, const float *a, const float *x, float *g,
			     size_t g_step)
{
	const size_t fit = OUTER_BLOCK_FLOATS / width;
	const size_t block = fit > OUTER_BLOCK_ROWS ? fit : OUTER_BLOCK_ROWS;
	for (size_t first = 0; first < rows; first += block) {
		const size_t n = rows - first < block ? rows - first : block;
		uint32_t panels = 0;
		for (uint32_t in = 0; in < channels; in += panels * KERNELS_PANEL) {
			panels = in + OUTER_PANELS * KERNELS_PANEL <= channels ? OUTER_PANELS : 1;
			NAME(_outer_strip)
			(n, channels, width, a + first * width, x + first * width + in, in, g + in, g_step);
		}
	}
}

const struct layer_kernels NAME(_layers) = {
	.name = NAME_TEXT,
	.norm = NAME(_norm),
	.norm_back = NAME(_norm_back),
	.gelu = NAME(_gelu),
	.gelu_back = NAME(_gelu_back),
	.add = NAME(_add),
	.column_sums = NAME(_column_sums),
	.add_outer = NAME(_add_outer),
};
