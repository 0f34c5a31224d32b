/* The kernels of kernels.h for one vector type; included once per instruction set, after these macros:
 *
 *     NAME(x)           the name of a function or table of this set; NAME() is that of the set itself
 *     NAME_TEXT         the name for people
 *     VECTOR, LANES     the type, and its floats (LANES divides KERNELS_PANEL)
 *     LOAD(p) STORE(p, v) SPLAT(s) ADD SUB MUL MAX FMA(a, b, c) = a * b + c, SUM(v) = the sum of its lanes
 *     FOR_EACH_TILE(T)  T(rows, panels) for rows 1 to TILE_ROWS: how many panels a tile of so many rows takes,
 *                       such that its sums fit the registers
 *
 * A tile keeps rows x panels sums in registers while it walks down the input channels: each step loads the panels'
 * next 16 weights and multiplies them by one value of each row. */
#include "model/kernels.h"

#include <math.h>
#include <stdbool.h>

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

#define PARTS (KERNELS_PANEL / LANES) /* vectors of a panel */

struct tile {
	const float *x; /* first row */
	uint32_t taps;
	ptrdiff_t tap_step;
	const float *w; /* first panel of the first tap */
	ptrdiff_t w_step;
	uint32_t width;
	float *y; /* first row's first column */
	bool add;
};

#define DEFINE_TILE(ROWS, PANELS)                                                                                      \
	static void NAME(_tile_##ROWS##_##PANELS)(const struct tile *t)                                                \
	{                                                                                                              \
		const uint32_t width = t->width;                                                                       \
		const size_t panel = (size_t)width * KERNELS_PANEL;                                                    \
		VECTOR sum[ROWS][PANELS * PARTS];                                                                      \
		UNROLL for (int r = 0; r < ROWS; r++)                                                                  \
		{                                                                                                      \
			UNROLL for (int c = 0; c < PANELS * PARTS; c++) sum[r][c] = SPLAT(0.0F);                       \
		}                                                                                                      \
		for (uint32_t tap = 0; tap < t->taps; tap++) {                                                         \
			const float *x = t->x + (ptrdiff_t)tap * t->tap_step;                                          \
			const float *w = t->w + (ptrdiff_t)tap * t->w_step;                                            \
			for (uint32_t in = 0; in < width; in++, x++, w += KERNELS_PANEL) {                             \
				VECTOR weight[PANELS * PARTS];                                                         \
				UNROLL for (int p = 0; p < PANELS; p++)                                                \
				{                                                                                      \
					UNROLL for (int c = 0; c < PARTS; c++) weight[p * PARTS + c] =                 \
						LOAD(w + (size_t)p * panel + c * LANES);                               \
				}                                                                                      \
				UNROLL for (int r = 0; r < ROWS; r++)                                                  \
				{                                                                                      \
					VECTOR value = SPLAT(x[(size_t)r * width]);                                    \
					UNROLL for (int c = 0; c < PANELS * PARTS; c++) sum[r][c] =                    \
						FMA(value, weight[c], sum[r][c]);                                      \
				}                                                                                      \
			}                                                                                              \
		}                                                                                                      \
		UNROLL for (int r = 0; r < ROWS; r++)                                                                  \
		{                                                                                                      \
			float *y = t->y + (size_t)r * width;                                                           \
			UNROLL for (int c = 0; c < PANELS * PARTS; c++)                                                \
				STORE(y + c * LANES, t->add ? ADD(LOAD(y + c * LANES), sum[r][c]) : sum[r][c]);        \
		}                                                                                                      \
	}

#define DEFINE_TILES(ROWS, PANELS)                                                                                     \
	DEFINE_TILE(ROWS, PANELS)                                                                                      \
	DEFINE_NARROW_TILE_##PANELS(ROWS)
#define DEFINE_NARROW_TILE_1(ROWS)
#define DEFINE_NARROW_TILE_2(ROWS) DEFINE_TILE(ROWS, 1)
#define DEFINE_NARROW_TILE_4(ROWS) DEFINE_TILE(ROWS, 1)

FOR_EACH_TILE(DEFINE_TILES)

static const struct {
	void (*wide)(const struct tile *t);
	void (*narrow)(const struct tile *t); /* one panel, for the last ones */
	uint32_t panels;                      /* of the wide one */
} NAME(_tiles)[TILE_ROWS + 1] = {
#define TILE_ENTRY(ROWS, PANELS) [ROWS] = { NAME(_tile_##ROWS##_##PANELS), NAME(_tile_##ROWS##_1), PANELS },
	FOR_EACH_TILE(TILE_ENTRY)
};

/* Rows are cut into tiles of nearly equal size (7 rows: 4 + 3, not 6 + 1, for a lone row is all loads). Panels are the
 * outer loop: a strip of weights stays in L1 while the rows pass. */
static void NAME(_product)(size_t rows, const float *x, uint32_t taps, ptrdiff_t tap_step, const float *w,
			   ptrdiff_t w_step, uint32_t width, float *y, int add)
{
	const uint32_t panels = width / KERNELS_PANEL;
	const size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
	if (rows == 0)
		return;
	const uint32_t strip = NAME(_tiles)[(rows + tiles - 1) / tiles].panels;
	struct tile t = { x, taps, tap_step, w, w_step, width, y, add != 0 };
	for (uint32_t first = 0; first < panels; first += strip) {
		const uint32_t end = first + strip < panels ? first + strip : panels;
		size_t n = 0;
		for (size_t r = 0, left = tiles; r < rows; r += n, left--) {
			n = (rows - r + left - 1) / left;
			t.x = x + r * width;
			for (uint32_t panel = first, step = 0; panel < end; panel += step) {
				t.w = w + (size_t)panel * width * KERNELS_PANEL;
				t.y = y + r * width + (size_t)panel * KERNELS_PANEL;
				bool fits = end - panel >= NAME(_tiles)[n].panels;
				(fits ? NAME(_tiles)[n].wide : NAME(_tiles)[n].narrow)(&t);
				step = fits ? NAME(_tiles)[n].panels : 1;
			}
		}
	}
}

#define HELD (64 / LANES) /* vectors of a row of 64 channels: few enough for registers */

/* out = residual + relu(scale * v * gamma + beta) for the vector at `at`. */
#define FINISH(v, at)                                                                                                  \
	do {                                                                                                           \
		VECTOR y = MAX(FMA(MUL(v, scale), LOAD(norm->gamma + (at)), LOAD(norm->beta + (at))), SPLAT(0.0F));    \
		STORE(out + (at), residual == NULL ? y : ADD(y, LOAD(residual + (at))));                               \
	} while (0)

/* A row of 64 channels without padding stays in registers from the sum to the result. */
static inline void NAME(_normalise_64)(const struct kernels_norm *norm, const float *sum, const float *carried,
				       const float *residual, float *out)
{
	VECTOR v[HELD];
	VECTOR part[2] = { SPLAT(0.0F), SPLAT(0.0F) }; /* two chains: an addition takes four cycles */
	UNROLL for (int c = 0; c < HELD; c++)
	{
		v[c] = ADD(LOAD(sum + c * LANES), LOAD(norm->bias + c * LANES));
		if (carried != NULL)
			v[c] = ADD(v[c], LOAD(carried + c * LANES));
		part[c & 1] = ADD(part[c & 1], v[c]);
	}
	const VECTOR mean = SPLAT(SUM(ADD(part[0], part[1])) * (1.0F / 64));
	part[0] = part[1] = SPLAT(0.0F);
	UNROLL for (int c = 0; c < HELD; c++)
	{
		v[c] = SUB(v[c], mean);
		part[c & 1] = FMA(v[c], v[c], part[c & 1]);
	}
	const VECTOR scale = SPLAT(1.0F / sqrtf(SUM(ADD(part[0], part[1])) * (1.0F / 64) + norm->eps));
	UNROLL for (int c = 0; c < HELD; c++) FINISH(v[c], c * LANES);
}

static inline void NAME(_normalise)(const struct kernels_norm *norm, uint32_t width, float *sum, const float *carried,
				    const float *residual, float *out)
{
	if (norm->channels == 64) {
		NAME(_normalise_64)(norm, sum, carried, residual, out);
		return;
	}
	const float each = 1.0F / (float)norm->channels;
	VECTOR part = SPLAT(0.0F);
	for (uint32_t i = 0; i < width; i += LANES) {
		VECTOR v = ADD(LOAD(sum + i), LOAD(norm->bias + i));
		if (carried != NULL)
			v = ADD(v, LOAD(carried + i));
		STORE(sum + i, v);
		part = ADD(part, v);
	}
	const VECTOR mean = SPLAT(SUM(part) * each);
	part = SPLAT(0.0F);
	for (uint32_t i = 0; i < width; i += LANES) {
		VECTOR v = MUL(SUB(LOAD(sum + i), mean), LOAD(norm->mask + i));
		STORE(sum + i, v);
		part = FMA(v, v, part);
	}
	const VECTOR scale = SPLAT(1.0F / sqrtf(SUM(part) * each + norm->eps));
	for (uint32_t i = 0; i < width; i += LANES)
		FINISH(LOAD(sum + i), i);
}

static void NAME(_column)(const struct kernels_norm *norm, uint32_t width, float *sum, const float *carried,
			  const float *residual, float *out)
{
	NAME(_normalise)(norm, width, sum, carried, residual, out);
}

static void NAME(_advance)(const struct kernels_norm *norm, uint32_t width, const struct kernels_ring *ring,
			   float *products, size_t stride, const float *residual, float *out)
{
	const float *carried = ring->row_count == 0 ? NULL : ring->rows + (size_t)ring->now * width;
	NAME(_normalise)(norm, width, products, carried, residual, out);
	uint32_t at = ring->now;
	for (uint32_t lag = 1; lag < ring->taps; lag++) {
		const float *product = products + lag * stride;
		at = at + ring->dilation < ring->row_count ? at + ring->dilation
							   : at + ring->dilation - ring->row_count;
		float *row = ring->rows + (size_t)at * width;
		const bool last = lag + 1 == ring->taps; /* a new position's row: it starts there */
		for (uint32_t i = 0; i < width; i += LANES)
			STORE(row + i, last ? LOAD(product + i) : ADD(LOAD(row + i), LOAD(product + i)));
	}
}

const struct kernels NAME() = { NAME_TEXT, NAME(_product), NAME(_column), NAME(_advance) };
