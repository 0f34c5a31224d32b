/* Backbones with random weights for the model's tests, in a folder that goes away. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include "base/random.h"
#include "model/backbone.h"
#include "model/random_backbone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIXTURE_ITEMS 50

static inline uint64_t fixture_random(uint64_t *state)
{
	struct random_stream random = { *state };
	const uint64_t value = random_next(&random);
	*state = random.state;
	return value;
}

/* Any item, or the out-of-vocabulary token. */
static inline uint32_t fixture_item(uint64_t *state)
{
	return (uint32_t)(fixture_random(state) % (FIXTURE_ITEMS + 1)) + BACKBONE_OOV;
}

static inline void fixture_write(const char *path, const struct random_backbone *r)
{
	struct error err;
	char names[FIXTURE_ITEMS][16];
	const char *items[FIXTURE_ITEMS];
	for (int i = 0; i < FIXTURE_ITEMS; i++) {
		(void)snprintf(names[i], sizeof names[i], "item %d", i);
		items[i] = names[i];
	}
	if (random_backbone_write(path, r, items, FIXTURE_ITEMS, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static inline struct backbone *fixture_backbone(const struct random_backbone *r)
{
	struct error err;
	struct backbone *b = NULL;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, r);
	if (backbone_load(path, &b, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
	return b;
}

static inline struct backbone_workspace *fixture_workspace(const struct backbone *b)
{
	struct error err;
	struct backbone_workspace *ws = NULL;
	if (backbone_workspace_new(b, &ws, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return ws;
}

static inline void *fixture_state(const struct backbone *b)
{
	size_t bytes = (backbone_state_bytes(b) + 63) / 64 * 64;
	void *state = aligned_alloc(64, bytes);
	assert_non_null(state);
	backbone_state_reset(b, state);
	return state;
}

/* Largest absolute difference; infinite where anything is not a number. */
static inline double fixture_difference(const float *a, const float *b, size_t n)
{
	double largest = 0;
	for (size_t i = 0; i < n; i++) {
		double difference = fabs((double)a[i] - (double)b[i]);
		if (!(difference <= largest))
			largest = isnan(difference) ? (double)INFINITY : difference;
	}
	return largest;
}

#endif
