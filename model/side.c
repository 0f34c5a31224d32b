#include "model/side.h"

#include "model/layers.h"

#include <assert.h>
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

struct side_pass {
	const struct layer_kernels *kernels;
	size_t rows;
	size_t count;  /* of the levels that the patch reads */
	size_t stride; /* floats of a user's states */
	uint32_t levels[NETWORK_BLOCKS_AT_MOST + 1];
	float *floats;   /* everything below */
	float *inputs;   /* [count][rows, d]: h_l + z */
	float *narrow;   /* [count][rows, b]: before the activation */
	float *active;   /* [count][rows, b]: after it */
	float *sum;      /* [rows, d]: z, and h_N + z at the end; backward: the derivative of z */
	float *d_narrow; /* [rows, b] */
};

size_t side_state_floats(const struct patch *patch)
{
	return side_levels(&patch->spec, patch->trunk_blocks, NULL) * 2 * patch->channels;
}

size_t side_events(const struct network_shape *shape, uint32_t mean_window)
{
	return shape->causal ? (size_t)network_field(shape) - 1 + mean_window : shape->window;
}

/* Mean of the rows [begin, end) of [., d], 0 of none. */
static void mean_rows(const float *rows, size_t begin, size_t end, uint32_t dim, float *out)
{
	memset(out, 0, dim * sizeof *out);
	if (begin == end)
		return;
	for (size_t row = begin; row < end; row++) {
		for (uint32_t i = 0; i < dim; i++)
			out[i] += rows[row * dim + i];
	}
	const float share = 1.0F / (float)(end - begin);
	for (uint32_t i = 0; i < dim; i++)
		out[i] *= share;
}

void side_states(const struct network *net, struct network_pass *pass, const struct network_batch *batch,
		 const struct patch *patch, float *out)
{
	struct network_batch with_events = *batch;
	const uint32_t dim = net->shape.channels;
	const uint32_t mean_window = patch->spec.mean_window;
	uint32_t levels[NETWORK_BLOCKS_AT_MOST + 1];
	const size_t count = side_levels(&patch->spec, patch->trunk_blocks, levels);
	const size_t width = 2 * (size_t)dim;
	assert(batch->cuts == NULL && patch->trunk_blocks == net->shape.blocks && patch->channels == dim);
	with_events.newest = mean_window;
	network_forward(net, NULL, pass, &with_events);
	for (size_t i = 0; i < count; i++) {
		const float *task = network_pass_task_level(pass, levels[i]);
		const float *events = network_pass_every_level(pass, levels[i]);
		for (size_t s = 0; s < batch->sequences; s++) {
			float *row = out + (s * count + i) * width;
			const size_t end = batch->offsets[s + 1];
			const size_t length = end - batch->offsets[s];
			memcpy(row, task + s * dim, dim * sizeof *row);
			mean_rows(events, end - (length < mean_window ? length : mean_window), end, dim, row + dim);
		}
	}
}

enum status side_pass_new(const struct patch *patch, size_t rows, struct side_pass **ret, struct error *err)
{
	const size_t dim = patch->channels;
	const size_t b = patch->spec.bottleneck;
	const size_t count = side_levels(&patch->spec, patch->trunk_blocks, NULL);
	struct side_pass *pass = calloc(1, sizeof *pass);
	if (pass == NULL)
		return error_set_memory(err);
	pass->floats = malloc((rows * (count * (dim + 2 * b) + dim + b) + 1) * sizeof *pass->floats);
	if (pass->floats == NULL) {
		free(pass);
		return error_set_memory(err);
	}
	pass->kernels = layer_kernels_choose();
	pass->rows = rows;
	pass->count = side_levels(&patch->spec, patch->trunk_blocks, pass->levels);
	pass->stride = side_state_floats(patch);
	pass->inputs = pass->floats;
	pass->narrow = pass->inputs + count * rows * dim;
	pass->active = pass->narrow + count * rows * b;
	pass->sum = pass->active + count * rows * b;
	pass->d_narrow = pass->sum + rows * dim;
	*ret = pass;
	return STATUS_OK;
}

void side_pass_free(struct side_pass *pass)
{
	if (pass == NULL)
		return;
	free(pass->floats);
	free(pass);
}

/* c [m, n] = beta c + a [m, k] b', with b [n, k]; leading dimensions as given. */
static void product(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta,
		    float *c, size_t ldc)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1.0F, a, (int)lda, b, (int)ldb,
		    beta, c, (int)ldc);
}

/* c [m, n] += a' b, with a [k, m] and b [k, n]. */
static void outer(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c,
		  size_t ldc)
{
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1.0F, a, (int)lda, b, (int)ldb,
		    1.0F, c, (int)ldc);
}

/* c [m, n] = beta c + a [m, k] b, with b [k, n]. */
static void chain(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta,
		  float *c, size_t ldc)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1.0F, a, (int)lda, b, (int)ldb,
		    beta, c, (int)ldc);
}

static void repeat(const float *row, size_t width, size_t rows, float *out)
{
	for (size_t r = 0; r < rows; r++)
		memcpy(out + r * width, row, width * sizeof *out);
}

/* out = the states' columns from `at` on + sum, all [n, d]. */
static void add_state(const float *states, size_t stride, size_t at, size_t n, size_t dim, const float *sum, float *out)
{
	for (size_t r = 0; r < n; r++) {
		for (size_t i = 0; i < dim; i++)
			out[r * dim + i] = states[r * stride + at + i] + sum[r * dim + i];
	}
}

/* `number`: the level's among those that are read. */
static void forward_level(const struct patch *patch, struct side_pass *pass, size_t number, size_t n,
			  const float *states)
{
	const size_t dim = patch->channels;
	const size_t b = patch->spec.bottleneck;
	const size_t stride = pass->stride;
	const struct patch_side *at = &patch->side[pass->levels[number]];
	const float *down = patch->weights + at->down_weight;
	float *input = pass->inputs + number * pass->rows * dim;
	float *narrow = pass->narrow + number * pass->rows * b;
	float *active = pass->active + number * pass->rows * b;
	add_state(states, stride, number * 2 * dim, n, dim, pass->sum, input);
	repeat(patch->weights + at->down_bias, b, n, narrow);
	product(n, b, dim, input, dim, down, 2 * dim, 1.0F, narrow, b);
	product(n, b, dim, states + (number * 2 + 1) * dim, stride, down + dim, 2 * dim, 1.0F, narrow, b);
	pass->kernels->gelu(n * b, narrow, active);
	product(n, dim, b, active, b, patch->weights + at->up_weight, b, 1.0F, pass->sum, dim);
	const float *bias = patch->weights + at->up_bias;
	for (size_t r = 0; r < n; r++)
		pass->kernels->add(dim, bias, pass->sum + r * dim);
}

const float *side_forward(const struct patch *patch, struct side_pass *pass, size_t n, const float *states)
{
	const size_t dim = patch->channels;
	assert(n <= pass->rows);
	memset(pass->sum, 0, n * dim * sizeof *pass->sum);
	for (size_t number = 0; n > 0 && number < pass->count; number++) {
		if (patch->spec.blocks[pass->levels[number]])
			forward_level(patch, pass, number, n, states);
	}
	add_state(states, pass->stride, (pass->count - 1) * 2 * dim, n, dim, pass->sum, pass->sum);
	return pass->sum;
}

/* Reads the derivative of this level's z in pass->sum and leaves the previous level's there. */
static void backward_level(const struct patch *patch, struct side_pass *pass, size_t number, size_t n,
			   const float *states, float *gradients)
{
	const size_t dim = patch->channels;
	const size_t b = patch->spec.bottleneck;
	const size_t stride = pass->stride;
	const struct patch_side *at = &patch->side[pass->levels[number]];
	const float *input = pass->inputs + number * pass->rows * dim;
	const float *narrow = pass->narrow + number * pass->rows * b;
	const float *active = pass->active + number * pass->rows * b;
	float *d_down = gradients + at->down_weight;
	outer(dim, b, n, pass->sum, dim, active, b, gradients + at->up_weight, b);
	pass->kernels->column_sums(n, dim, dim, pass->sum, gradients + at->up_bias);
	chain(n, b, dim, pass->sum, dim, patch->weights + at->up_weight, b, 0.0F, pass->d_narrow, b);
	pass->kernels->gelu_back(n * b, narrow, pass->d_narrow);
	outer(b, dim, n, pass->d_narrow, b, input, dim, d_down, 2 * dim);
	outer(b, dim, n, pass->d_narrow, b, states + (number * 2 + 1) * dim, stride, d_down + dim, 2 * dim);
	pass->kernels->column_sums(n, b, b, pass->d_narrow, gradients + at->down_bias);
	chain(n, dim, b, pass->d_narrow, b, patch->weights + at->down_weight, 2 * dim, 1.0F, pass->sum, dim);
}

void side_backward(const struct patch *patch, struct side_pass *pass, size_t n, const float *states, const float *d_out,
		   float *gradients)
{
	assert(n <= pass->rows);
	memcpy(pass->sum, d_out, n * patch->channels * sizeof *pass->sum);
	for (size_t number = pass->count; n > 0 && number-- > 0;) {
		if (patch->spec.blocks[pass->levels[number]])
			backward_level(patch, pass, number, n, states, gradients);
	}
}
