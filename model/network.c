#include "model/network.h"

#include "model/backbone_private.h"
#include "model/network_private.h"
#include "model/nextitnet_settings.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHANNELS 65536

static uint64_t field(const struct network_shape *shape)
{
	uint64_t positions = 1;
	for (uint32_t i = 0; i < shape->blocks; i++)
		positions += (uint64_t)(shape->kernel_size - 1) * 3 * shape->dilations[i];
	return positions;
}

uint32_t network_field(const struct network_shape *shape)
{
	return (uint32_t)field(shape);
}

static enum status check_shape(const struct network_shape *shape, struct error *err)
{
	if (shape->channels < 1 || shape->channels > MAX_CHANNELS)
		return error_set(err, STATUS_DATA, "channels is %" PRIu32 ", expected 1 to %d", shape->channels,
				 MAX_CHANNELS);
	if (shape->kernel_size < 1 || shape->kernel_size > NEXTITNET_MAX_FIELD)
		return error_set(err, STATUS_DATA, "kernel_size is %" PRIu32 ", expected 1 to %d", shape->kernel_size,
				 NEXTITNET_MAX_FIELD);
	if (shape->blocks < 1 || shape->blocks > NETWORK_BLOCKS_AT_MOST)
		return error_set(err, STATUS_DATA, "dilations has %" PRIu32 " entries, expected 1 to %d", shape->blocks,
				 NETWORK_BLOCKS_AT_MOST);
	for (uint32_t i = 0; i < shape->blocks; i++) {
		if (shape->dilations[i] < 1 || shape->dilations[i] >= NEXTITNET_MAX_FIELD)
			return error_set(err, STATUS_DATA, "a dilation is %" PRIu32 ", expected 1 to %d",
					 shape->dilations[i], NEXTITNET_MAX_FIELD - 1);
	}
	if (field(shape) > NEXTITNET_MAX_FIELD)
		return error_set(err, STATUS_DATA, "the receptive field is %" PRIu64 ", at most %d is possible",
				 field(shape), NEXTITNET_MAX_FIELD);
	if (shape->items < BACKBONE_FIRST_ITEM)
		return error_set(err, STATUS_DATA, "there are %" PRIu32 " items, expected %d and more", shape->items,
				 BACKBONE_FIRST_ITEM);
	if (!shape->causal && (shape->window < 1 || shape->window > NEXTITNET_MAX_FIELD))
		return error_set(err, STATUS_DATA, "window is %" PRIu32 ", expected 1 to %d", shape->window,
				 NEXTITNET_MAX_FIELD);
	if (!(shape->eps > 0) || !isfinite(shape->eps))
		return error_set(err, STATUS_DATA, "layer_norm_eps is %g, expected a number above 0",
				 (double)shape->eps);
	return STATUS_OK;
}

/* In the order of enum network_tensor. */
static enum status add_convolution(struct network *net, uint32_t c, struct error *err)
{
	const uint64_t d = net->shape.channels;
	const uint64_t shape[] = { d, d, net->shape.kernel_size };
	char name[64];
	size_t offset = 0;
	enum status status =
		parameters_add(&net->table, nextitnet_tensor(name, c, "conv", "weight"), 3, shape, true, &offset, err);
	if (status == STATUS_OK)
		status = parameters_add(&net->table, nextitnet_tensor(name, c, "conv", "bias"), 1, shape, false,
					&offset, err);
	if (status == STATUS_OK)
		status = parameters_add(&net->table, nextitnet_tensor(name, c, "norm", "weight"), 1, shape, false,
					&offset, err);
	if (status == STATUS_OK)
		status = parameters_add(&net->table, nextitnet_tensor(name, c, "norm", "bias"), 1, shape, false,
					&offset, err);
	return status;
}

static enum status add_tensors(struct network *net, struct error *err)
{
	const uint64_t matrix[] = { net->shape.items, net->shape.channels };
	size_t offset = 0;
	enum status status = parameters_add(&net->table, "item_embedding.weight", 2, matrix, false, &offset, err);
	for (uint32_t c = 0; status == STATUS_OK && c < 2 * net->shape.blocks; c++)
		status = add_convolution(net, c, err);
	if (status == STATUS_OK && net->shape.output)
		status = parameters_add(&net->table, "output.weight", 2, matrix, false, &offset, err);
	if (status == STATUS_OK && net->shape.output)
		status = parameters_add(&net->table, "output.bias", 1, matrix, false, &offset, err);
	if (status != STATUS_OK)
		return status;
	net->weights = parameters_block_new(&net->table);
	return net->weights == NULL ? error_set_memory(err) : STATUS_OK;
}

enum status network_new(const struct network_shape *shape, struct network **ret, struct error *err)
{
	if (check_shape(shape, err) != STATUS_OK)
		return err->status;
	struct network *net = calloc(1, sizeof *net);
	if (net == NULL)
		return error_set_memory(err);
	net->shape = *shape;
	if (add_tensors(net, err) != STATUS_OK) {
		network_free(net);
		return err->status;
	}
	*ret = net;
	return STATUS_OK;
}

void network_free(struct network *net)
{
	if (net == NULL)
		return;
	free(net->weights);
	parameters_free(&net->table);
	free(net);
}

static enum status shape_of(const struct safetensors *st, const struct nextitnet_settings *s, uint32_t items,
			    struct network_shape *shape, struct error *err)
{
	if (s->blocks > NETWORK_BLOCKS_AT_MOST)
		return error_set(err, STATUS_DATA,
				 "metadata: dilations has %" PRIu32 " entries, at most %d can be trained", s->blocks,
				 NETWORK_BLOCKS_AT_MOST);
	*shape = (struct network_shape){
		.channels = s->channels,
		.kernel_size = s->taps,
		.blocks = s->blocks,
		.items = items,
		.window = s->causal ? 0 : s->window,
		.eps = s->eps,
		.causal = s->causal,
		.output = safetensors_find(st, "output.weight") != NULL,
	};
	memcpy(shape->dilations, s->dilations, s->blocks * sizeof shape->dilations[0]);
	return STATUS_OK;
}

static enum status read_network(const struct safetensors *st, uint32_t items, bool output, struct network **ret,
				struct error *err)
{
	struct network_shape shape;
	struct network *net = NULL;
	struct nextitnet_settings *s = calloc(1, sizeof *s);
	if (s == NULL)
		return error_set_memory(err);
	enum status status = nextitnet_settings_read(st, s, err);
	if (status == STATUS_OK)
		status = shape_of(st, s, items, &shape, err);
	if (status == STATUS_OK)
		shape.output = shape.output && output;
	if (status == STATUS_OK)
		status = network_new(&shape, &net, err);
	if (status == STATUS_OK)
		status = parameters_load(&net->table, st, net->weights, err);
	free(s);
	if (status == STATUS_OK)
		*ret = net;
	else
		network_free(net);
	return status;
}

static enum status load_both(const char *path, bool output, struct backbone **ret_backbone, struct network **ret_net,
			     struct error *err)
{
	struct safetensors *st = NULL;
	struct backbone *b = NULL;
	if (safetensors_open(path, &st, err) != STATUS_OK)
		return err->status;
	enum status status = backbone_read_file(st, &b, err); /* all of its checks */
	if (status == STATUS_OK && read_network(st, backbone_items(b), output, ret_net, err) != STATUS_OK)
		status = safetensors_blame(path, err);
	safetensors_close(st);
	if (status == STATUS_OK)
		*ret_backbone = b;
	else
		backbone_free(b);
	return status;
}

enum status network_load(const char *path, struct network **ret, struct error *err)
{
	struct backbone *b = NULL;
	enum status status = load_both(path, true, &b, ret, err);
	backbone_free(b);
	return status;
}

enum status network_load_beside(const char *path, struct backbone **ret_backbone, struct network **ret_net,
				struct error *err)
{
	return load_both(path, false, ret_backbone, ret_net, err);
}

static void fill_normal(struct random_stream *random, float deviation, const struct parameter *t, float *weights)
{
	for (size_t i = 0; t != NULL && i < t->count; i++)
		weights[t->offset + i] = deviation * random_normal(random);
}

static void fill_constant(float value, const struct parameter *t, float *weights)
{
	for (size_t i = 0; t != NULL && i < t->count; i++)
		weights[t->offset + i] = value;
}

void network_randomise(struct network *net, struct random_stream *random)
{
	const float inputs = (float)net->shape.channels * (float)net->shape.kernel_size;
	const float deviation = 1.0F / sqrtf(3.0F * inputs); /* that of uniform weights within 1 / sqrt(inputs) */
	fill_normal(random, 0.02F, network_embedding(net), net->weights);
	for (uint32_t c = 0; c < 2 * net->shape.blocks; c++) {
		fill_normal(random, deviation, network_tensor(net, c, NETWORK_CONV_WEIGHT), net->weights);
		fill_constant(0.0F, network_tensor(net, c, NETWORK_CONV_BIAS), net->weights);
		fill_constant(1.0F, network_tensor(net, c, NETWORK_NORM_WEIGHT), net->weights);
		fill_constant(0.0F, network_tensor(net, c, NETWORK_NORM_BIAS), net->weights);
	}
	fill_normal(random, 0.02F, parameters_find(&net->table, "output.weight"), net->weights);
	fill_constant(0.0F, parameters_find(&net->table, "output.bias"), net->weights);
}
