/* Networks, patches and batches of random numbers for the tests of the trainable network. */
#ifndef TESTS_NETWORK_FIXTURE_H
#define TESTS_NETWORK_FIXTURE_H

#include "model_fixture.h"
#include "network_reference.h"
#include "base/random.h"
#include "model/network.h"

/* Normal values. */
static inline float *fixture_floats(size_t count, uint64_t seed)
{
	struct random_stream random = random_from(seed, 0);
	float *floats = calloc(count + 1, sizeof *floats);
	assert_non_null(floats);
	for (size_t i = 0; i < count; i++)
		floats[i] = random_normal(&random);
	return floats;
}

/* Every tensor random: convolutions by their fan-in, norms around 1 and 0. */
static inline struct network *fixture_network(const struct network_shape *shape, uint64_t seed)
{
	struct error err;
	struct network *net = NULL;
	struct random_stream random = random_from(seed, 1);
	if (network_new(shape, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < net->table.count; i++) {
		const struct parameter *t = &net->table.list[i];
		const bool gamma = strstr(t->name, "norm") != NULL && strstr(t->name, "weight") != NULL;
		const float range = t->rank == 1   ? 0.2F
				    : t->rank == 2 ? 1.0F
						   : 1.0F / sqrtf((float)(t->shape[1] * t->shape[2]));
		for (size_t k = 0; k < t->count; k++)
			net->weights[t->offset + k] = (gamma ? 1.0F : 0.0F) + range * random_normal(&random);
	}
	return net;
}

struct patch_fixture {
	struct network_patch patch;
	float *weights;
	size_t floats;
};

/* Random adapters of two kinds: on all convolutions but those of block 1, whose second norm it has instead. A network of
 * one block has both there. */
static inline struct patch_fixture *fixture_patch(const struct network *net, bool parallel, uint32_t bottleneck)
{
	const uint32_t blocks = net->shape.blocks;
	const size_t d = net->shape.channels;
	const size_t matrix = d * bottleneck;
	const size_t each = 2 * matrix + d + bottleneck;
	struct patch_fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	const size_t norms = (2 * blocks * each + 15) / 16 * 16;
	const size_t padded = (d + 15) / 16 * 16; /* with zeros, as in a block of parameters */
	f->floats = norms + 2 * padded;
	f->weights = fixture_floats(f->floats, 5);
	memset(f->weights + norms + d, 0, (padded - d) * sizeof(float));
	memset(f->weights + norms + padded + d, 0, (padded - d) * sizeof(float));
	f->patch.parallel = parallel;
	f->patch.bottleneck = bottleneck;
	f->patch.weights = f->weights;
	const float *at = f->weights;
	for (uint32_t c = 0; c < 2 * blocks; c++, at += each) {
		if (c / 2 == 1)
			continue;
		f->patch.down_weight[c] = at;
		f->patch.up_weight[c] = at + matrix;
		f->patch.down_bias[c] = at + 2 * matrix;
		f->patch.up_bias[c] = at + 2 * matrix + bottleneck;
	}
	const uint32_t block = blocks > 1 ? 1 : 0;
	f->patch.norm_weight[block] = f->weights + norms;
	f->patch.norm_bias[block] = f->weights + norms + padded;
	return f;
}

static inline void fixture_patch_free(struct patch_fixture *f)
{
	if (f == NULL)
		return;
	free(f->weights);
	free(f);
}

struct network_fixture {
	struct network_pass *pass;
	struct network_batch batch; /* without cuts */
	size_t *offsets;
	uint32_t *items;
	uint32_t *cuts;
	size_t events;
};

/* A batch of random items with sequences of these lengths, cuts that it may be given, and a pass for it. */
static inline struct network_fixture *fixture_batch(const struct network *net, const uint32_t lengths[], size_t count,
						    bool every, uint32_t newest, enum network_keep keep)
{
	struct error err;
	struct network_fixture *f = calloc(1, sizeof *f);
	struct random_stream random = random_from(count, 7);
	assert_non_null(f);
	f->offsets = calloc(count + 1, sizeof *f->offsets);
	f->cuts = calloc(count + 1, sizeof *f->cuts);
	for (size_t i = 0; i < count; i++) {
		f->offsets[i + 1] = f->offsets[i] + lengths[i];
		f->cuts[i] = random_below(&random, lengths[i] + 1);
	}
	f->events = f->offsets[count];
	f->items = calloc(f->events + 1, sizeof *f->items);
	for (size_t i = 0; i < f->events; i++)
		f->items[i] = BACKBONE_OOV + random_below(&random, net->shape.items - BACKBONE_OOV);
	f->batch = (struct network_batch){ count, f->offsets, f->items, NULL, every, newest };
	if (network_pass_new(net, 8, f->events + 2 * count, count, keep, &f->pass, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return f;
}

static inline void fixture_batch_free(struct network_fixture *f)
{
	network_pass_free(f->pass);
	free(f->offsets);
	free(f->items);
	free(f->cuts);
	free(f);
}

#endif
