#include "model/layers.h"

#include <cblas.h>
#include <string.h>

const struct layer_kernels *layer_kernels_choose(void)
{
#if defined(__x86_64__)
	const struct kernels *chosen = kernels_choose();
	if (chosen == &kernels_avx512)
		return &kernels_avx512_layers;
	if (chosen == &kernels_avx2)
		return &kernels_avx2_layers;
#endif
	return &portable_layers;
}

static size_t packed_at(uint32_t width, uint32_t in, uint32_t out)
{
	return ((size_t)(out / KERNELS_PANEL) * width + in) * KERNELS_PANEL + out % KERNELS_PANEL;
}

void layers_pack(const float *weight, uint32_t channels, uint32_t taps, uint32_t width, float *packed)
{
	const size_t matrix = (size_t)width * width;
	memset(packed, 0, taps * matrix * sizeof *packed);
	for (uint32_t out = 0; out < channels; out++) {
		for (uint32_t tap = 0; tap < taps; tap++) {
			for (uint32_t in = 0; in < channels; in++)
				packed[tap * matrix + packed_at(width, in, out)] = *weight++;
		}
	}
}

void layers_pack_back(const float *weight, uint32_t channels, uint32_t taps, uint32_t width, float *packed)
{
	const size_t matrix = (size_t)width * width;
	memset(packed, 0, taps * matrix * sizeof *packed);
	for (uint32_t out = 0; out < channels; out++) {
		for (uint32_t tap = taps; tap-- > 0;) {
			for (uint32_t in = 0; in < channels; in++)
				packed[tap * matrix + packed_at(width, out, in)] = *weight++;
		}
	}
}

void layers_convolve(const struct layers_convolution *c, struct layers_span from, const float *x, struct layers_span to,
		     float *y, bool add)
{
	const ptrdiff_t step = c->dilation;
	const ptrdiff_t width = c->width;
	const ptrdiff_t begin = (ptrdiff_t)from.first - c->shift; /* tap 0 of this position reads from.first */
	const ptrdiff_t end = (ptrdiff_t)from.end - c->shift;
	const ptrdiff_t taps = c->taps;
	for (ptrdiff_t p = (ptrdiff_t)to.first; p < (ptrdiff_t)to.end;) {
		/* the taps low .. high - 1 of p and of the positions up to `next` read inputs that are there */
		ptrdiff_t low = p >= begin ? 0 : (begin - p + step - 1) / step;
		ptrdiff_t high = p >= end ? 0 : (end - p + step - 1) / step;
		ptrdiff_t next = (ptrdiff_t)to.end;
		low = low < taps ? low : taps;
		high = high < taps ? high : taps;
		if (low > 0 && begin - (low - 1) * step < next)
			next = begin - (low - 1) * step;
		if (high > 0 && end - (high - 1) * step < next)
			next = end - (high - 1) * step;
		const ptrdiff_t count = high > low ? high - low : 0;
		const ptrdiff_t row = count > 0 ? p + c->shift + (high - 1) * step - (ptrdiff_t)from.first : 0;
		const ptrdiff_t matrix = count > 0 ? (high - 1) * width * width : 0;
		if (count > 0 || !add)
			c->kernels->product((size_t)(next - p), x + row * width, (uint32_t)count, -step * width,
					    c->packed + matrix, -width * width, c->width, y, add);
		y += (next - p) * width;
		p = next;
	}
}

/* C [m, n] += A [m, k] B [k, n]; a matrix that is turned lies transposed in memory. */
static void product(bool turn_a, bool turn_b, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
		    size_t ldb, float *c, size_t ldc)
{
	cblas_sgemm(CblasRowMajor, turn_a ? CblasTrans : CblasNoTrans, turn_b ? CblasTrans : CblasNoTrans, (int)m,
		    (int)n, (int)k, 1.0F, a, (int)lda, b, (int)ldb, 1.0F, c, (int)ldc);
}

#define OWN_WIDTH 128 /* up to here the tiles of add_outer are faster than the library, by a fifth at 64 */

void layers_add_outer(const struct layer_kernels *k, size_t rows, uint32_t channels, uint32_t width, const float *a,
		      const float *x, float *g, size_t g_step)
{
	if (width <= OWN_WIDTH)
		k->add_outer(rows, channels, width, a, x, g, g_step);
	else
		product(true, false, channels, channels, rows, a, width, x, width, g, g_step);
}

void layers_convolve_weights(const struct layer_kernels *k, const struct layers_convolution *c, uint32_t channels,
			     struct layers_span from, const float *x, struct layers_span to, const float *d_y,
			     float *gradient)
{
	const size_t width = c->width;
	for (uint32_t tap = 0; tap < c->taps; tap++) {
		/* the positions whose input is there */
		const ptrdiff_t shift = c->shift + (ptrdiff_t)tap * c->dilation;
		ptrdiff_t first = (ptrdiff_t)from.first - shift;
		ptrdiff_t end = (ptrdiff_t)from.end - shift;
		first = first > (ptrdiff_t)to.first ? first : (ptrdiff_t)to.first;
		end = end < (ptrdiff_t)to.end ? end : (ptrdiff_t)to.end;
		if (first >= end)
			continue;
		layers_add_outer(k, (size_t)(end - first), channels, c->width, d_y + ((size_t)first - to.first) * width,
				 x + ((size_t)(first + shift) - from.first) * width, gradient + (size_t)tap * channels,
				 (size_t)c->taps * channels);
	}
}

void layers_adapter(const struct layer_kernels *k, const struct layers_adapter *a, size_t rows, uint32_t width,
		    const float *x, float *inner, float *outer, float *z)
{
	const size_t b = a->bottleneck;
	const size_t d = a->channels;
	for (size_t r = 0; r < rows; r++) {
		memcpy(inner + r * b, a->down_bias, b * sizeof *inner);
		k->add(d, a->up_bias, z + r * width);
	}
	product(false, true, rows, b, d, x, width, a->down_weight, d, inner, b);
	k->gelu(rows * b, inner, outer);
	product(false, true, rows, d, b, outer, b, a->up_weight, b, z, width);
}

void layers_adapter_back(const struct layer_kernels *k, const struct layers_adapter *a, size_t rows, uint32_t width,
			 const float *x, const float *inner, float *outer, const float *d_z, float *d_x,
			 const struct layers_adapter_gradient *gradient)
{
	const size_t b = a->bottleneck;
	const size_t d = a->channels;
	if (gradient != NULL) {
		product(true, false, d, b, rows, d_z, width, outer, b, gradient->up_weight, b);
		k->column_sums(rows, d, width, d_z, gradient->up_bias);
	}
	memset(outer, 0, rows * b * sizeof *outer);
	product(false, false, rows, b, d, d_z, width, a->up_weight, b, outer, b);
	k->gelu_back(rows * b, inner, outer);
	if (gradient != NULL) {
		product(true, false, b, d, rows, outer, b, x, width, gradient->down_weight, d);
		k->column_sums(rows, b, b, outer, gradient->down_bias);
	}
	product(false, false, rows, d, b, outer, b, a->down_weight, d, d_x, width);
}
