/* The kernels for AVX-512: 32 registers of 16 floats. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma")
#endif

#include <immintrin.h>

#define NAME(x) kernels_avx512##x
#define NAME_TEXT "avx512"
#define VECTOR __m512
#define LANES 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define SPLAT(s) _mm512_set1_ps(s)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define GATE(y, v) _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ), v)
#define SUM(v) _mm512_reduce_add_ps(v)

#define TILE_ROWS 6
#define FOR_EACH_TILE(T) T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4)

#include "model/kernels_vector.h"
#define OUTER_ROWS 8
#define OUTER_PANELS 2
#include "model/layers_vector.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_kernels_here; /* a source file holds at least one declaration */
#endif
