#include "model/softmax.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Partial results side by side: an order of additions that vectors keep. (With 16 and less, gcc unrolls the loops
 * before it looks for vectors, and finds none.) */
enum { LANES = 32 };

/* e^x for x <= 0: 2^k e^r with k the whole number nearest to x / ln 2, ln 2 in two parts, and the polynomial of Cephes'
 * expf (Moshier 1987). Adding 1.5 x 2^23 rounds to a whole number and leaves it in the last bits. */
INLINE float exponential(float x)
{
	const float lowest = -87.33654F, rounder = 12582912.0F;
	float y = lowest > x ? lowest : x; /* in this order NaN stays NaN */
	float shifted = y * 1.44269504F + rounder;
	float k = shifted - rounder;
	float r = y - k * 0.693359375F;
	r = r + k * 2.12194440e-4F;
	float p = 1.9875691500e-4F;
	p = p * r + 1.3981999507e-3F;
	p = p * r + 8.3334519073e-3F;
	p = p * r + 4.1665795894e-2F;
	p = p * r + 1.6666665459e-1F;
	p = p * r + 5.0000001201e-1F;
	p = p * (r * r) + r + 1.0F;
	uint32_t bits;
	memcpy(&bits, &shifted, sizeof bits);
	bits = (bits - 0x4B400000U + 127U) << 23;
	float power;
	memcpy(&power, &bits, sizeof power);
	return x < lowest ? 0.0F : p * power;
}

INLINE float largest(const float *row, size_t n)
{
	float best[LANES];
	for (size_t lane = 0; lane < LANES; lane++)
		best[lane] = -INFINITY;
	size_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		for (size_t lane = 0; lane < LANES; lane++)
			best[lane] = row[i + lane] > best[lane] ? row[i + lane] : best[lane];
	}
	for (; i < n; i++)
		best[0] = row[i] > best[0] ? row[i] : best[0];
	float max = best[0];
	for (size_t lane = 1; lane < LANES; lane++)
		max = best[lane] > max ? best[lane] : max;
	return max;
}

INLINE float row_body(float *row, size_t n, float *ret_max)
{
	const float max = largest(row, n);
	float sums[LANES] = { 0 };
	size_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		for (size_t lane = 0; lane < LANES; lane++) {
			row[i + lane] = exponential(row[i + lane] - max);
			sums[lane] += row[i + lane];
		}
	}
	for (; i < n; i++) {
		row[i] = exponential(row[i] - max);
		sums[0] += row[i];
	}
	float sum = 0;
	for (size_t lane = 0; lane < LANES; lane++)
		sum += sums[lane];
	*ret_max = max;
	return sum;
}

INLINE void scale_body(float *restrict row, size_t n, float factor, float *restrict sums)
{
	if (sums == NULL) {
		for (size_t i = 0; i < n; i++)
			row[i] *= factor;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		row[i] *= factor;
		sums[i] += row[i];
	}
}

#define DEFINE(name, attributes)                                                                                       \
	attributes static float row_##name(float *row, size_t n, float *ret_max)                                       \
	{                                                                                                              \
		return row_body(row, n, ret_max);                                                                      \
	}                                                                                                              \
	attributes static void scale_##name(float *row, size_t n, float factor, float *sums)                           \
	{                                                                                                              \
		scale_body(row, n, factor, sums);                                                                      \
	}

DEFINE(plain, )
#if defined(__x86_64__)
DEFINE(avx2, __attribute__((target("avx2,fma"))))
DEFINE(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))))
#endif

float softmax_row(float *row, size_t n, float *ret_max)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return row_avx512(row, n, ret_max);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return row_avx2(row, n, ret_max);
#endif
	return row_plain(row, n, ret_max);
}

void softmax_scale(float *row, size_t n, float factor, float *sums)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
		scale_avx512(row, n, factor, sums);
		return;
	}
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		scale_avx2(row, n, factor, sums);
		return;
	}
#endif
	scale_plain(row, n, factor, sums);
}
