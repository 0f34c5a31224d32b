/* Records of the patches topic for tests. */
#ifndef TESTS_UNIT_PATCH_RECORD_FIXTURE_H
#define TESTS_UNIT_PATCH_RECORD_FIXTURE_H

#include "io/patch_record.h"

#include <stdio.h>
#include <string.h>

static inline struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static inline struct slice slice_of_buffer(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

/* Of a task, with the hashes that every record has; `patch` is a text whose hash it is, NULL: "live". */
static inline struct patch_record record_of(const char *task, uint64_t number, enum patch_decision decision,
					    const char *patch)
{
	struct patch_record r = { .number = number, .version = number, .decision = decision };
	(void)snprintf(r.task, sizeof r.task, "%s", task);
	patch = patch ? patch : "live";
	hash_sha256_hex(patch, strlen(patch), r.patch);
	hash_sha256_hex("backbone", 8, r.backbone);
	hash_sha256_hex("definition", 10, r.definition);
	return r;
}

/* Everything that a record may hold. The arrays are static: not to be cleared. */
static inline struct patch_record record_full(void)
{
	static char loss[] = "live.loss", accuracy[] = "caf\xc3\xa9";
	static struct patch_metric metrics[] = { { loss, 0.25 }, { accuracy, -1e300 } };
	static struct patch_cut cuts[] = { { 70, 64, 12 }, { 9000000000, 1, 0 } };
	struct patch_record r = record_of("films", 1234, PATCH_PROMOTED, NULL);
	hash_sha256_hex("parent", 6, r.parent);
	hash_sha256_hex("predecessor", 11, r.predecessor);
	r.version = 17;
	r.labels_trained = 5000;
	r.labels_dropped = 3;
	r.metrics = metrics;
	r.metric_count = 2;
	r.timestamp_ms = 1700000000123;
	r.examples.partition = 5;
	r.examples.first = 70;
	r.examples.next = 9000000001;
	r.cuts = cuts;
	r.cut_count = 2;
	r.has_gate = true;
	r.gate = (struct patch_gate){ PATCH_NOT_WORSE, 16, true, 41, 99, 640, 0.5, 0.125, 2.0, -3.0, 7.5 };
	r.has_weights = true;
	r.weights = (struct patch_weights){ .slot = 2, .chunks = 3, .bytes = 1200000 };
	memcpy(r.weights.sha256, r.patch, sizeof r.patch);
	return r;
}

#endif
