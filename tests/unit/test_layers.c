/* The layers of training: every instruction set against formulas in double, each way back against differences. */
#include "network_fixture.h"
#include "model/layers.h"

#define BOUND 1e-5
#define STEP 1e-5
#define ROWS 7

static size_t sets(const struct layer_kernels *list[3])
{
	size_t count = 0;
	list[count++] = &portable_layers;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		list[count++] = &kernels_avx2_layers;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		list[count++] = &kernels_avx512_layers;
#endif
	return count;
}

static void check(const char *what, const char *set, const float *values, const double *expected, size_t count)
{
	double largest = 1;
	for (size_t i = 0; i < count; i++)
		largest = fmax(largest, fabs(expected[i]));
	for (size_t i = 0; i < count; i++) {
		if (!(fabs((double)values[i] - expected[i]) <= BOUND * largest))
			fail_msg("%s, %s, value %zu of %zu: %g, expected %g", what, set, i, count, (double)values[i],
				 expected[i]);
	}
}

/* A norm of `channels` padded to `width`, and rows for it. */
struct norm_problem {
	uint32_t channels, width;
	struct kernels_norm norm;
	float *vectors; /* bias, gamma, beta, mask */
	float *sum, *residual, *weights;
	double *in;   /* sum, then bias, gamma, beta: what the loss is a function of */
	double *d_in; /* differences */
};

static double norm_loss(const struct norm_problem *p, const double *in, double *normal, double *inverse, double *out)
{
	const uint32_t d = p->channels;
	const double *bias = in + ROWS * d;
	const double *gamma = bias + d;
	const double *beta = gamma + d;
	double loss = 0;
	for (size_t r = 0; r < ROWS; r++) {
		double mean = 0;
		double variance = 0;
		for (uint32_t i = 0; i < d; i++)
			mean += (in[r * d + i] + bias[i]) / d;
		for (uint32_t i = 0; i < d; i++)
			variance += pow(in[r * d + i] + bias[i] - mean, 2) / d;
		inverse[r] = 1 / sqrt(variance + (double)p->norm.eps);
		for (uint32_t i = 0; i < d; i++) {
			const size_t at = r * p->width + i;
			normal[at] = (in[r * d + i] + bias[i] - mean) * inverse[r];
			out[at] = (double)p->residual[at] + fmax(0, normal[at] * gamma[i] + beta[i]);
			loss += out[at] * (double)p->weights[at];
		}
	}
	return loss;
}

static void open_norm(struct norm_problem *p, uint32_t channels)
{
	const uint32_t width = (channels + 15) / 16 * 16;
	const size_t inputs = (size_t)(ROWS + 3) * channels;
	*p = (struct norm_problem){ .channels = channels, .width = width };
	p->vectors = fixture_floats(4 * (size_t)width, channels);
	p->sum = fixture_floats(ROWS * width, 2);
	p->residual = fixture_floats(ROWS * width, 3);
	p->weights = fixture_floats(ROWS * width, 4);
	p->in = calloc(inputs, sizeof *p->in);
	p->d_in = calloc(inputs, sizeof *p->d_in);
	for (uint32_t i = 0; i < width; i++)
		p->vectors[3 * width + i] = i < channels ? 1 : 0;
	for (uint32_t i = channels; i < width; i++) { /* padding is zero everywhere */
		for (size_t k = 0; k < 3; k++)
			p->vectors[k * width + i] = 0;
		for (size_t r = 0; r < ROWS; r++)
			p->sum[r * width + i] = p->residual[r * width + i] = p->weights[r * width + i] = 0;
	}
	for (size_t i = 0; i < inputs; i++)
		p->in[i] = (double)(i / channels < ROWS ? p->sum[i / channels * width + i % channels]
							: p->vectors[(i / channels - ROWS) * width + i % channels]);
	p->norm = (struct kernels_norm){
		p->vectors, p->vectors + width, p->vectors + 2 * width, p->vectors + 3 * width, channels, 1e-3F
	};
}

static void close_norm(struct norm_problem *p)
{
	free(p->vectors);
	free(p->sum);
	free(p->residual);
	free(p->weights);
	free(p->in);
	free(p->d_in);
}

static void norm_differences(struct norm_problem *p, double *normal, double *inverse, double *out)
{
	for (size_t i = 0; i < (size_t)(ROWS + 3) * p->channels; i++) {
		const double before = p->in[i];
		p->in[i] = before + STEP;
		const double above = norm_loss(p, p->in, normal, inverse, out);
		p->in[i] = before - STEP;
		const double below = norm_loss(p, p->in, normal, inverse, out);
		p->in[i] = before;
		p->d_in[i] = (above - below) / (2 * STEP);
	}
}

static void check_norm_back(const struct layer_kernels *k, struct norm_problem *p, const float *normal,
			    const float *inverse)
{
	const uint32_t d = p->channels;
	const uint32_t width = p->width;
	float *d_sum = fixture_floats(ROWS * width, 5);
	float *vectors = calloc(3 * (size_t)width, sizeof *vectors);
	k->norm_back(&p->norm, ROWS, width, normal, inverse, p->weights, d_sum, vectors + width, vectors + 2 * width,
		     vectors);
	for (size_t r = 0; r < ROWS; r++)
		check("norm_back", k->name, d_sum + r * width, p->d_in + r * d, d);
	for (size_t v = 0; v < 3; v++)
		check("norm_back's vectors", k->name, vectors + v * width, p->d_in + (ROWS + v) * d, d);
	for (uint32_t i = d; i < width; i++)
		assert_true(d_sum[i] == 0 && vectors[i] == 0 && vectors[width + i] == 0 && vectors[2 * width + i] == 0);
	memcpy(d_sum, p->weights, ROWS * width * sizeof *d_sum); /* in place, and no vectors */
	k->norm_back(&p->norm, ROWS, width, normal, inverse, d_sum, d_sum, NULL, NULL, NULL);
	for (size_t r = 0; r < ROWS; r++)
		check("norm_back in place", k->name, d_sum + r * width, p->d_in + r * d, d);
	free(d_sum);
	free(vectors);
}

static void check_norm(const struct layer_kernels *k, uint32_t channels)
{
	struct norm_problem p;
	open_norm(&p, channels);
	const size_t count = (size_t)ROWS * p.width;
	double *normal = calloc(count, sizeof *normal);
	double *inverse = calloc(ROWS, sizeof *inverse);
	double *expected = calloc(count, sizeof *expected);
	float *out = fixture_floats(count, 6);
	float inverses[ROWS];
	norm_differences(&p, normal, inverse, expected);
	(void)norm_loss(&p, p.in, normal, inverse, expected);
	k->norm(&p.norm, ROWS, p.width, p.sum, p.residual, inverses, out);
	check("norm", k->name, out, expected, count);
	check("norm's normal", k->name, p.sum, normal, count);
	check("norm's inverse", k->name, inverses, inverse, ROWS);
	check_norm_back(k, &p, p.sum, inverses);
	free(normal);
	free(inverse);
	free(expected);
	free(out);
	close_norm(&p);
}

static void test_norm(void **unused)
{
	const struct layer_kernels *list[3];
	for (size_t i = sets(list); i-- > 0;) {
		check_norm(list[i], 64);
		check_norm(list[i], 5);
		check_norm(list[i], 16);
		check_norm(list[i], 40);
	}
}

static void test_gelu(void **unused)
{
	const struct layer_kernels *list[3];
	enum { COUNT = 4001 };
	static float a[COUNT], out[COUNT], d[COUNT];
	static double expected[COUNT], slope[COUNT];
	for (int i = 0; i < COUNT; i++) {
		a[i] = (float)(i - COUNT / 2) * 0.01F; /* -20 to 20 */
		const double x = (double)a[i];
		const double t = sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);
		expected[i] = reference_gelu(x);
		slope[i] = 0.5 * (1 + tanh(t)) +
			   0.5 * x / pow(cosh(t), 2) * sqrt(2 / acos(-1.0)) * (1 + 3 * 0.044715 * x * x);
	}
	for (size_t s = sets(list); s-- > 0;) {
		for (int i = 0; i < COUNT; i++)
			d[i] = 1;
		list[s]->gelu(COUNT, a, out);
		list[s]->gelu_back(COUNT, a, d);
		for (int i = 0; i < COUNT; i++) {
			if (!(fabs((double)out[i] - expected[i]) <= 4e-7 * fmax(1e-3, fabs((double)a[i]))) ||
			    !(fabs((double)d[i] - slope[i]) <= 2e-6))
				fail_msg("%s: gelu of %g: %.9g, expected %.9g; slope %.9g, expected %.9g",
					 list[s]->name, (double)a[i], (double)out[i], expected[i], (double)d[i],
					 slope[i]);
		}
		const float far[] = { -1e30F, 1e30F, 0, NAN };
		list[s]->gelu(4, far, out);
		assert_true(out[0] <= 0 && out[0] >= -1e-6F * 1e30F && out[1] == 1e30F && out[2] == 0 && isnan(out[3]));
	}
}

static void test_sums(void **unused)
{
	const struct layer_kernels *list[3];
	for (size_t s = sets(list); s-- > 0;) {
		float x[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
		float y[11] = { 0.5F };
		float sums[3] = { 100, 0, 0 };
		list[s]->add(11, x, y);
		list[s]->column_sums(2, 3, 5, x, sums);
		for (int i = 0; i < 11; i++)
			assert_true(y[i] == x[i] + (i == 0 ? 0.5F : 0.0F));
		assert_true(sums[0] == 107 && sums[1] == 9 && sums[2] == 11);
	}
}

struct convolution_case {
	uint32_t channels, taps, dilation;
	ptrdiff_t shift;
	struct layers_span from, to;
};

static const struct convolution_case convolutions[] = {
	{ 16, 3, 2, -4, { 0, 9 }, { 0, 9 } },     /* causal */
	{ 64, 3, 1, -2, { 0, 150 }, { 0, 150 } }, /* many rows */
	{ 150, 2, 1, -1, { 0, 40 }, { 0, 40 } },  /* more than the tiles take */
	{ 7, 3, 2, -4, { 3, 20 }, { 9, 20 } },    /* trimmed */
	{ 7, 3, 1, -1, { 0, 6 }, { 0, 6 } },      /* not causal */
	{ 20, 4, 5, -7, { 0, 11 }, { 0, 11 } },   /* wider than the sequence */
	{ 5, 2, 30, -30, { 0, 4 }, { 0, 4 } },    /* the oldest tap reads nothing */
	{ 5, 2, 8, -4, { 0, 2 }, { 0, 2 } },      /* no tap reads anything */
	{ 33, 1, 1, 0, { 5, 8 }, { 5, 8 } },      /* one tap */
	{ 6, 3, 2, 0, { 4, 9 }, { 0, 9 } },       /* the way back of the trimmed one */
	{ 6, 3, 2, -4, { 2, 5 }, { 5, 5 } },      /* nothing wanted */
};

/* y and, the other way round, x by the formula; weight [out, tap, in]. */
static void convolve_naively(const struct convolution_case *c, const float *weight, uint32_t width, const float *x,
			     double *y, const float *d_y, double *d_x, double *d_weight)
{
	const uint32_t d = c->channels;
	for (size_t p = c->to.first; p < c->to.end; p++) {
		for (uint32_t tap = 0; tap < c->taps; tap++) {
			const ptrdiff_t q = (ptrdiff_t)p + c->shift + (ptrdiff_t)(tap * c->dilation);
			if (q < (ptrdiff_t)c->from.first || q >= (ptrdiff_t)c->from.end)
				continue;
			const size_t in = ((size_t)q - c->from.first) * width;
			const size_t out = (p - c->to.first) * width;
			for (size_t o = 0; o < d; o++) {
				for (size_t i = 0; i < d; i++) {
					const size_t at = (o * c->taps + tap) * d + i;
					y[out + o] += (double)weight[at] * (double)x[in + i];
					d_x[in + i] += (double)weight[at] * (double)d_y[out + o];
					d_weight[at] += (double)d_y[out + o] * (double)x[in + i];
				}
			}
		}
	}
}

/* Random rows with zero padding. */
static float *random_rows(size_t rows, uint32_t channels, uint32_t width, uint64_t seed)
{
	float *floats = fixture_floats(rows * width, seed);
	for (size_t i = 0; i < rows * width; i++)
		floats[i] = i % width < channels ? floats[i] : 0;
	return floats;
}

/* Twice, for it adds. */
static void check_weights(const struct layers_convolution *convolution, const struct convolution_case *c,
			  const float *x, const float *d_y, double *expected)
{
	const struct layer_kernels *list[3];
	const size_t count = (size_t)c->channels * c->taps * c->channels;
	for (size_t s = sets(list); s-- > 0;) {
		float *gradient = calloc(count, sizeof *gradient);
		for (int i = 0; i < 2; i++)
			layers_convolve_weights(list[s], convolution, c->channels, c->from, x, c->to, d_y, gradient);
		for (size_t i = 0; i < count; i++)
			gradient[i] *= 0.5F;
		check("the weights' gradient", list[s]->name, gradient, expected, count);
		free(gradient);
	}
}

static void check_convolution(const struct kernels *kernels, const struct convolution_case *c)
{
	const uint32_t width = (c->channels + 15) / 16 * 16;
	const size_t ins = c->from.end - c->from.first;
	const size_t outs = c->to.end - c->to.first;
	float *weight = fixture_floats((size_t)c->channels * c->taps * c->channels, 1);
	float *packed = aligned_alloc(64, (size_t)c->taps * width * width * sizeof *packed);
	float *x = random_rows(ins, c->channels, width, 2);
	float *d_y = random_rows(outs, c->channels, width, 3);
	float *y = fixture_floats(outs * width, 4);
	float *d_x = fixture_floats(ins * width, 5);
	double *expected = calloc((outs + 1) * width, sizeof *expected);
	double *d_expected = calloc((ins + 1) * width, sizeof *d_expected);
	struct layers_convolution convolution = { kernels, packed, width, c->taps, c->dilation, c->shift };
	double *d_weight = calloc((size_t)c->channels * c->taps * c->channels, sizeof *d_weight);
	convolve_naively(c, weight, width, x, expected, d_y, d_expected, d_weight);
	check_weights(&convolution, c, x, d_y, d_weight);
	layers_pack(weight, c->channels, c->taps, width, packed);
	layers_convolve(&convolution, c->from, x, c->to, y, false);
	check("convolve", kernels->name, y, expected, outs * width);
	for (size_t i = 0; i < outs * width; i++) {
		expected[i] += i % width < c->channels ? 1 : 0;
		y[i] = i % width < c->channels ? 1 : 0;
	}
	layers_convolve(&convolution, c->from, x, c->to, y, true);
	check("convolve, added", kernels->name, y, expected, outs * width);
	layers_pack_back(weight, c->channels, c->taps, width, packed);
	convolution.shift = -c->shift - (ptrdiff_t)((c->taps - 1) * c->dilation);
	layers_convolve(&convolution, c->to, d_y, c->from, d_x, false);
	check("convolve back", kernels->name, d_x, d_expected, ins * width);
	free(weight);
	free(packed);
	free(x);
	free(d_y);
	free(y);
	free(d_x);
	free(expected);
	free(d_expected);
	free(d_weight);
}

static void test_convolution(void **unused)
{
	for (size_t i = 0; i < sizeof convolutions / sizeof convolutions[0]; i++) {
		check_convolution(&kernels_scalar, &convolutions[i]);
		check_convolution(kernels_choose(), &convolutions[i]);
	}
}

enum { D = 9, B = 3, WIDTH = 16 };

/* All an adapter's loss depends on: down weight and bias, up weight and bias, the rows of x. */
enum { DOWN = 0, DOWN_BIAS = B * D, UP = DOWN_BIAS + B, UP_BIAS = UP + D * B, X = UP_BIAS + D, INPUTS = X + ROWS * D };

static double adapter_loss(const double *in, const float *weights, double *z)
{
	double loss = 0;
	for (size_t r = 0; r < ROWS; r++) {
		double g[B];
		for (size_t j = 0; j < B; j++) {
			double a = in[DOWN_BIAS + j];
			for (size_t i = 0; i < D; i++)
				a += in[DOWN + j * D + i] * in[X + r * D + i];
			g[j] = reference_gelu(a);
		}
		for (size_t o = 0; o < D; o++) {
			z[r * D + o] = in[UP_BIAS + o];
			for (size_t j = 0; j < B; j++)
				z[r * D + o] += in[UP + o * B + j] * g[j];
			loss += (double)weights[r * WIDTH + o] * z[r * D + o];
		}
	}
	return loss;
}

static void check_adapter(const struct layer_kernels *k)
{
	float *values = fixture_floats(INPUTS, 1);
	float *weights = random_rows(ROWS, D, WIDTH, 2);
	float x[ROWS * WIDTH] = { 0 }, z[ROWS * WIDTH] = { 0 }, inner[ROWS * B], outer[ROWS * B];
	float gradients[X] = { 0 }, d_x[ROWS * WIDTH] = { 0 };
	double in[INPUTS], d_in[INPUTS], expected[ROWS * D];
	for (size_t i = 0; i < INPUTS; i++)
		in[i] = (double)values[i];
	for (size_t i = 0; i < INPUTS; i++) {
		in[i] = (double)values[i] + STEP;
		d_in[i] = adapter_loss(in, weights, expected);
		in[i] = (double)values[i] - STEP;
		d_in[i] = (d_in[i] - adapter_loss(in, weights, expected)) / (2 * STEP);
		in[i] = (double)values[i];
	}
	(void)adapter_loss(in, weights, expected);
	for (size_t i = 0; i < ROWS * D; i++)
		x[i / D * WIDTH + i % D] = values[X + i];
	const struct layers_adapter a = { D, B, values + DOWN, values + DOWN_BIAS, values + UP, values + UP_BIAS };
	const struct layers_adapter_gradient g = { gradients + DOWN, gradients + DOWN_BIAS, gradients + UP,
						   gradients + UP_BIAS };
	layers_adapter(k, &a, ROWS, WIDTH, x, inner, outer, z);
	for (size_t r = 0; r < ROWS; r++)
		check("adapter", k->name, z + r * WIDTH, expected + r * D, D);
	layers_adapter_back(k, &a, ROWS, WIDTH, x, inner, outer, weights, d_x, &g);
	check("adapter's gradients", k->name, gradients, d_in, X);
	for (size_t r = 0; r < ROWS; r++)
		check("adapter back", k->name, d_x + r * WIDTH, d_in + X + r * D, D);
	free(values);
	free(weights);
}

static void test_adapter(void **unused)
{
	const struct layer_kernels *list[3];
	for (size_t i = sets(list); i-- > 0;)
		check_adapter(list[i]);
}

static void test_choice(void **unused)
{
	const struct kernels *products = kernels_choose();
	const char *name = products == &kernels_scalar ? "portable" : products->name;
	assert_string_equal(layer_kernels_choose()->name, name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_norm),        cmocka_unit_test(test_gelu),    cmocka_unit_test(test_sums),
		cmocka_unit_test(test_convolution), cmocka_unit_test(test_adapter), cmocka_unit_test(test_choice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
