#include "model/nextitnet.h"
#include "model/nextitnet_settings.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT_BYTES 64
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* One block of weights, handed out front to back. */
struct arena {
	float *at;
};

static float *take(struct arena *arena, size_t floats)
{
	float *taken = arena->at;
	arena->at += floats;
	return taken;
}

static enum status load_vector(const struct safetensors *st, const char *name, uint32_t channels, float *out,
			       struct error *err)
{
	const uint64_t shape[] = { channels };
	return safetensors_read_floats(st, name, 1, shape, out, err);
}

/* [out, in, taps] of the file -> packed [lag][in, out]; the file's last tap is the newest, lag 0. */
static void pack(const float *in, uint32_t channels, uint32_t taps, uint32_t width, float *out)
{
	const size_t matrix = (size_t)width * width;
	for (uint32_t o = 0; o < channels; o++) {
		for (uint32_t i = 0; i < channels; i++) {
			const float *from = in + ((size_t)o * channels + i) * taps;
			size_t at = ((size_t)(o / KERNELS_PANEL) * width + i) * KERNELS_PANEL + o % KERNELS_PANEL;
			for (uint32_t lag = 0; lag < taps; lag++)
				out[lag * matrix + at] = from[taps - 1 - lag];
		}
	}
}

static enum status load_convolution(const struct safetensors *st, const struct nextitnet_settings *s, uint32_t index,
				    struct nextitnet *net, struct arena *arena, float *scratch, struct error *err)
{
	struct nextitnet_convolution *c = &net->convolutions[index];
	const uint64_t shape[] = { s->channels, s->channels, s->taps };
	char name[64];
	float *weight = take(arena, (size_t)s->taps * net->width * net->width);
	float *bias = take(arena, net->width);
	float *gamma = take(arena, net->width);
	float *beta = take(arena, net->width);
	enum status status =
		safetensors_read_floats(st, nextitnet_tensor(name, index, "conv", "weight"), 3, shape, scratch, err);
	if (status == STATUS_OK)
		status = load_vector(st, nextitnet_tensor(name, index, "conv", "bias"), s->channels, bias, err);
	if (status == STATUS_OK)
		status = load_vector(st, nextitnet_tensor(name, index, "norm", "weight"), s->channels, gamma, err);
	if (status == STATUS_OK)
		status = load_vector(st, nextitnet_tensor(name, index, "norm", "bias"), s->channels, beta, err);
	if (status != STATUS_OK)
		return status;
	pack(scratch, s->channels, s->taps, net->width, weight);
	c->weight = weight;
	c->norm.bias = bias;
	c->norm.gamma = gamma;
	c->norm.beta = beta;
	return STATUS_OK;
}

static enum status load_embedding(const struct safetensors *st, uint32_t items, uint32_t channels, uint32_t width,
				  float *out, struct error *err)
{
	const uint64_t shape[] = { items, channels };
	const struct safetensors_tensor *t = NULL;
	enum status status = safetensors_expect(st, "item_embedding.weight", 2, shape, &t, err);
	if (status == STATUS_OK)
		status = safetensors_check_floats(t, err);
	for (size_t i = 0; status == STATUS_OK && i < items; i++)
		safetensors_copy_floats(t, i * channels, channels, out + i * width);
	return status;
}

/* Weights that exceed the caches' reach are walked through from end to end for every event: on huge pages a sixth faster
 * (d = 256). */
static void *allocate_weights(size_t bytes)
{
	if (bytes < HUGE_PAGE_BYTES)
		return aligned_alloc(ALIGNMENT_BYTES, bytes);
	size_t whole = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
	void *memory = aligned_alloc(HUGE_PAGE_BYTES, whole);
	if (memory != NULL)
		(void)madvise(memory, whole, MADV_HUGEPAGE); /* a wish */
	return memory;
}

static enum status load_weights(const struct safetensors *st, const struct nextitnet_settings *s, uint32_t items,
				struct nextitnet *net, struct error *err)
{
	const size_t width = net->width;
	const size_t floats = items * width + width + net->count * (s->taps * width * width + 3 * width);
	float *scratch = malloc((size_t)s->channels * s->channels * s->taps * sizeof *scratch);
	net->floats = allocate_weights(floats * sizeof *net->floats);
	if (net->floats == NULL || scratch == NULL) {
		free(scratch);
		return error_set_memory(err);
	}
	memset(net->floats, 0, floats * sizeof *net->floats);
	struct arena arena = { net->floats };
	float *mask = take(&arena, width);
	for (uint32_t i = 0; i < s->channels; i++)
		mask[i] = 1.0F;
	enum status status = STATUS_OK;
	for (uint32_t i = 0; status == STATUS_OK && i < net->count; i++) {
		net->convolutions[i].norm.mask = mask;
		status = load_convolution(st, s, i, net, &arena, scratch, err);
	}
	float *embedding = take(&arena, items * width);
	if (status == STATUS_OK)
		status = load_embedding(st, items, s->channels, net->width, embedding, err);
	net->embedding = embedding;
	free(scratch);
	return status;
}

static void lay_out(const struct nextitnet_settings *s, struct nextitnet *net, struct backbone *b)
{
	size_t ring = 0;
	uint32_t field = 0;
	for (uint32_t i = 0; i < net->count; i++) {
		struct nextitnet_convolution *c = &net->convolutions[i];
		c->norm.channels = s->channels;
		c->norm.eps = s->eps;
		c->dilation = s->dilations[i / 2] * (i % 2 + 1);
		c->span = (s->taps - 1) * c->dilation;
		c->right = s->causal ? 0 : c->span - c->span / 2;
		c->ring_offset = ring;
		ring += (size_t)c->span * net->width;
	}
	for (uint32_t i = net->count; i-- > 0;) {
		net->convolutions[i].after = field;
		field += net->convolutions[i].span;
	}
	b->dim = s->channels;
	b->blocks = s->blocks;
	b->causal = s->causal;
	b->window = s->causal ? field : s->window;
	b->state_bytes = s->causal ? NEXTITNET_STATE_HEAD_BYTES + ring * sizeof(float) : 0;
}

static enum status load_net(const struct safetensors *st, const struct nextitnet_settings *s, struct backbone *b,
			    struct error *err)
{
	if (nextitnet_settings_check(st, s, b->items, err) != STATUS_OK)
		return err->status;
	struct nextitnet *net = calloc(1, sizeof *net);
	if (net == NULL)
		return error_set_memory(err);
	b->impl = net;
	net->kernels = kernels_choose();
	net->width = (s->channels + KERNELS_PANEL - 1) / KERNELS_PANEL * KERNELS_PANEL;
	net->taps = s->taps;
	net->count = 2 * s->blocks;
	net->convolutions = calloc(net->count, sizeof net->convolutions[0]);
	if (net->convolutions == NULL)
		return error_set_memory(err);
	lay_out(s, net, b);
	return load_weights(st, s, b->items, net, err);
}

static enum status load(const struct safetensors *st, struct backbone *b, struct error *err)
{
	struct nextitnet_settings *s = calloc(1, sizeof *s);
	if (s == NULL)
		return error_set_memory(err);
	enum status status = nextitnet_settings_read(st, s, err);
	if (status == STATUS_OK)
		status = load_net(st, s, b, err);
	free(s);
	return status;
}

static void close_net(struct backbone *b)
{
	struct nextitnet *net = b->impl;
	free(net->floats);
	free(net->convolutions);
	free(net);
}

/* The batched pass's memory, anew. */
static enum status workspace_reserve(const struct backbone *b, struct backbone_workspace *base, uint32_t newest,
				     struct error *err)
{
	struct nextitnet_workspace *ws = (struct nextitnet_workspace *)base;
	const struct nextitnet *net = b->impl;
	const size_t width = net->width;
	const size_t positions = (size_t)b->window + 2 + (b->causal ? newest : 0);
	size_t before = 0;
	size_t behind = 0;
	if (ws->batch != NULL && ws->newest == newest)
		return STATUS_OK;
	for (uint32_t i = 0; i < net->count; i++) {
		const struct nextitnet_convolution *c = &net->convolutions[i];
		before = before > c->span - c->right ? before : c->span - c->right;
		behind = behind > c->right ? behind : c->right;
	}
	const size_t rows = before + positions + behind;
	float *batch = aligned_alloc(ALIGNMENT_BYTES, 2 * (rows + positions) * width * sizeof *batch);
	if (batch == NULL)
		return error_set_memory(err);
	free(ws->batch);
	struct arena arena = { batch };
	ws->batch = batch;
	ws->newest = newest;
	ws->batch_x = take(&arena, rows * width) + before * width;
	ws->batch_y = take(&arena, rows * width) + before * width;
	ws->batch_sum = take(&arena, positions * width);
	ws->batch_carry = take(&arena, positions * width);
	memset(ws->batch_x - before * width, 0, before * width * sizeof(float));
	memset(ws->batch_y - before * width, 0, before * width * sizeof(float));
	return STATUS_OK;
}

static void workspace_free(struct backbone_workspace *base)
{
	struct nextitnet_workspace *ws = (struct nextitnet_workspace *)base;
	free(ws->batch);
	free(ws->floats);
	free(ws);
}

static enum status workspace_new(const struct backbone *b, struct backbone_workspace **ret, struct error *err)
{
	const struct nextitnet *net = b->impl;
	const size_t width = net->width;
	const size_t stream = b->causal ? 2 * NEXTITNET_CHUNK * width : 0;
	const size_t products = b->causal ? (net->taps + (size_t)1) * NEXTITNET_CHUNK * width : 0;
	struct nextitnet_workspace *ws = calloc(1, sizeof *ws);
	if (ws == NULL)
		return error_set_memory(err);
	ws->base.ops = b->ops;
	ws->floats = aligned_alloc(ALIGNMENT_BYTES, (2 * stream + products) * sizeof *ws->floats);
	struct arena arena = { ws->floats };
	enum status status =
		ws->floats == NULL && b->causal ? error_set_memory(err) : workspace_reserve(b, &ws->base, 0, err);
	if (ws->floats != NULL) {
		ws->stream_x = take(&arena, stream);
		ws->stream_y = take(&arena, stream);
		ws->products = take(&arena, products);
	}
	if (status == STATUS_OK)
		*ret = &ws->base;
	else
		workspace_free(&ws->base);
	return status;
}

static const float *vector(const struct backbone *b, uint32_t item)
{
	const struct nextitnet *net = b->impl;
	return net->embedding + (size_t)item * net->width;
}

static void state_reset(const struct backbone *b, void *state)
{
	memset(state, 0, b->state_bytes);
}

const struct backbone_ops nextitnet_ops = {
	.arch = "nextitnet",
	.load = load,
	.close = close_net,
	.workspace_new = workspace_new,
	.workspace_free = workspace_free,
	.workspace_reserve = workspace_reserve,
	.vector = vector,
	.state_reset = state_reset,
	.step = nextitnet_step,
	.embed = nextitnet_embed,
	.side_states = nextitnet_side_states,
};
