/* The kernels for AVX2 with FMA: 16 registers of 8 floats. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>

#define NAME(x) kernels_avx2##x
#define NAME_TEXT "avx2"
#define VECTOR __m256
#define LANES 8
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define SPLAT(s) _mm256_set1_ps(s)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define GATE(y, v) _mm256_and_ps(_mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ), v)
#define SUM(v) sum_lanes(v)

static inline float sum_lanes(__m256 v)
{
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#define TILE_ROWS 6
#define FOR_EACH_TILE(T) T(1, 4) T(2, 2) T(3, 2) T(4, 1) T(5, 1) T(6, 1)

#include "model/kernels_vector.h"
#define OUTER_ROWS 4
#define OUTER_PANELS 1
#include "model/layers_vector.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_kernels_here; /* a source file holds at least one declaration */
#endif
