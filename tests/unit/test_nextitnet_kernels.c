/* Every instruction set that this processor has against the naive twin, odd shapes and not-a-number included. */
#include "model/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* AVX-512's tiles, run on pairs of AVX registers, so that their shapes are tested on processors without it. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
typedef float pair __attribute__((vector_size(64)));
typedef int32_t pair_mask __attribute__((vector_size(64)));
typedef float pair_memory __attribute__((vector_size(64), aligned(4), may_alias));
static float pair_sum(const float lane[16])
{
	float sum = 0;
	for (int i = 0; i < 16; i++)
		sum += lane[i];
	return sum;
}
#define NAME(x) kernels_pairs##x
#define NAME_TEXT "pairs"
#define VECTOR pair
#define LANES 16
#define LOAD(p) ((pair)(*(const pair_memory *)(p)))
#define STORE(p, v) (*(pair_memory *)(p) = (v))
#define SPLAT(s) ((pair)((pair){ 0 } + (s)))
#define ADD(a, b) ((pair)((a) + (b)))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define MAX(a, b) ((pair)(((pair_mask)(a) & ((a) > (b))) | ((pair_mask)(b) & ~((a) > (b)))))
#define FMA(a, b, c) ((a) * (b) + (c))
#define SUM(v) pair_sum((const float *)(const pair[]){ v })
#define TILE_ROWS 6
#define FOR_EACH_TILE(T) T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4)
#include "model/kernels_vector.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

static const struct kernels *sets[4];
static size_t set_count;

static void find_sets(void)
{
	sets[set_count++] = &kernels_scalar;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		sets[set_count++] = &kernels_avx2;
		sets[set_count++] = &kernels_pairs;
	}
	if (__builtin_cpu_supports("avx512f"))
		sets[set_count++] = &kernels_avx512;
#endif
}

static void fill(float *out, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		out[i] = (float)(seed >> 8) * 0x1p-23F - 1;
	}
}

static void expect_near(const char *what, const char *set, const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!(fabsf(a[i] - b[i]) <= 2e-5F * (1 + fabsf(b[i]))))
			fail_msg("%s, %s: value %zu is %g, expected %g", what, set, i, (double)a[i], (double)b[i]);
	}
}

#define MAX_ROWS 70
#define MAX_WIDTH 112
#define MAX_TAPS 3

static void check_product(size_t rows, uint32_t taps, ptrdiff_t step_rows, uint32_t width, int add)
{
	static float x[(MAX_ROWS + 40) * MAX_WIDTH];
	static float w[MAX_TAPS * MAX_WIDTH * MAX_WIDTH];
	static float start[MAX_ROWS * MAX_WIDTH];
	static float y[4][MAX_ROWS * MAX_WIDTH];
	const ptrdiff_t matrix = (ptrdiff_t)width * width;
	const float *first = x + 20 * width;
	fill(x, sizeof x / sizeof x[0], 1);
	fill(w, sizeof w / sizeof w[0], 2);
	fill(start, sizeof start / sizeof start[0], 3);
	for (size_t s = 0; s < set_count; s++) {
		memcpy(y[s], start, sizeof start);
		sets[s]->product(rows, first, taps, step_rows * (ptrdiff_t)width, w, matrix, width, y[s], add);
		expect_near("product", sets[s]->name, y[s], y[0], rows * width);
		assert_memory_equal(y[s] + rows * width, start + rows * width,
				    (MAX_ROWS - rows) * width * sizeof(float));
	}
}

static void test_product(void **unused)
{
	static const size_t rows[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 32, 64, 70 };
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		for (uint32_t width = 16; width <= MAX_WIDTH; width += 16)
			check_product(rows[i], 1, 0, width, i % 2);
		check_product(rows[i], 3, -7, 64, 0);
		check_product(rows[i], 2, 20, 48, 1);
	}
}

/* The same row gives the same bits in every company. */
static void test_rows_do_not_mix(void **unused)
{
	static float x[MAX_ROWS * 64];
	static float w[64 * 64];
	static float alone[64];
	static float y[MAX_ROWS * 64];
	fill(x, sizeof x / sizeof x[0], 1);
	fill(w, sizeof w / sizeof w[0], 2);
	for (size_t s = 0; s < set_count; s++) {
		for (size_t rows = 1; rows <= MAX_ROWS; rows++) {
			sets[s]->product(rows, x, 1, 0, w, 0, 64, y, 0);
			sets[s]->product(1, x + (rows - 1) * 64, 1, 0, w, 0, 64, alone, 0);
			assert_memory_equal(alone, y + (rows - 1) * 64, sizeof alone);
		}
	}
}

struct layer {
	float bias[MAX_WIDTH], gamma[MAX_WIDTH], beta[MAX_WIDTH], mask[MAX_WIDTH];
	struct kernels_norm norm;
};

static void make_layer(struct layer *l, uint32_t channels)
{
	float *const vectors[] = { l->bias, l->gamma, l->beta };
	memset(l, 0, sizeof *l);
	for (unsigned i = 0; i < 3; i++)
		fill(vectors[i], channels, 10 + i);
	for (uint32_t i = 0; i < channels; i++)
		l->mask[i] = 1;
	l->norm = (struct kernels_norm){ l->bias, l->gamma, l->beta, l->mask, channels, 1e-8F };
}

static void check_column(uint32_t channels, bool carried, bool residual)
{
	const uint32_t width = (channels + 15) / 16 * 16;
	struct layer l;
	float sum[MAX_WIDTH] = { 0 };
	float more[MAX_WIDTH] = { 0 };
	float out[4][MAX_WIDTH];
	make_layer(&l, channels);
	for (size_t s = 0; s < set_count; s++) {
		fill(sum, channels, 4);
		fill(more, channels, 5);
		memset(out[s], 0, sizeof out[s]);
		fill(out[s], channels, 6);
		sets[s]->column(&l.norm, width, sum, carried ? more : NULL, residual ? out[s] : NULL, out[s]);
		expect_near("column", sets[s]->name, out[s], out[0], width);
		for (uint32_t i = channels; i < width; i++)
			assert_true(out[s][i] == 0);
	}
}

static void test_column(void **unused)
{
	for (uint32_t channels = 1; channels <= MAX_WIDTH; channels++) {
		for (int i = 0; i < 4; i++)
			check_column(channels, i & 1, i & 2);
	}
}

static void check_advance(uint32_t channels, uint32_t taps, uint32_t dilation, uint32_t now)
{
	enum { RING = 12 };
	const uint32_t width = (channels + 15) / 16 * 16;
	struct layer l;
	float products[4 * MAX_WIDTH];
	float rows[4][RING * MAX_WIDTH];
	float out[4][MAX_WIDTH];
	make_layer(&l, channels);
	for (size_t s = 0; s < set_count; s++) {
		struct kernels_ring ring = { rows[s], (taps - 1) * dilation, now, dilation, taps };
		fill(rows[s], RING * MAX_WIDTH, 7);
		fill(products, 4 * MAX_WIDTH, 8);
		for (uint32_t i = 0; i < RING * width; i++)
			rows[s][i] *= l.mask[i % width];
		for (uint32_t i = 0; i < 4 * width; i++)
			products[i] *= l.mask[i % width];
		sets[s]->advance(&l.norm, width, &ring, products, width, NULL, out[s]);
		expect_near("advance", sets[s]->name, out[s], out[0], width);
		expect_near("ring", sets[s]->name, rows[s], rows[0], RING * width);
	}
}

static void test_advance(void **unused)
{
	static const uint32_t channels[] = { 8, 20, 64, 100 };
	for (size_t i = 0; i < 4; i++) {
		for (uint32_t taps = 1; taps <= 4; taps++) {
			for (uint32_t dilation = 1; dilation <= 4; dilation++) {
				for (uint32_t now = 0; now == 0 || now < (taps - 1) * dilation; now++)
					check_advance(channels[i], taps, dilation, now);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_product),
		cmocka_unit_test(test_rows_do_not_mix),
		cmocka_unit_test(test_column),
		cmocka_unit_test(test_advance),
	};
	find_sets();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
