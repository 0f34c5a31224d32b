/* Batches and patches for the tests of the trainable network. */
#ifndef TESTS_NETWORK_FIXTURE_H
#define TESTS_NETWORK_FIXTURE_H

#include "model_fixture.h"
#include "network_reference.h"
#include "base/random.h"
#include "model/network.h"

struct network_fixture {
	struct network_pass *pass;
	struct network_batch batch;
	size_t *offsets;
	uint32_t *items;
	uint32_t *cuts;
	size_t events;
};

/* A batch of random items with sequences of these lengths, and a pass for it. */
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
