/* Records of the patches topic: decisions and manifests, as plain datums of the shipped schema PatchRecord (contract, "Topics").
 * The bytes of weights are no part of them. Pure; any thread. */
#ifndef IO_PATCH_RECORD_H
#define IO_PATCH_RECORD_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "io/patch_key.h"

enum patch_decision {
	PATCH_CREATED, /* a lineage: version 1, the identity patch */
	PATCH_PROMOTED,
	PATCH_REJECTED,
	PATCH_ROLLED_BACK,
	PATCH_CHECKPOINT, /* nothing was decided: what was consumed, with or without the learner's state */
	PATCH_DECISION_KINDS
};

enum patch_reason { /* in the order of the learner's reasons */
		    PATCH_BETTER,
		    PATCH_NOT_WORSE,
		    PATCH_WORSE,
		    PATCH_BROKEN,
		    PATCH_DRIFT,
		    PATCH_POISON,
		    PATCH_ASKED,
		    PATCH_REASONS
};

struct patch_metric {
	char *name; /* UTF-8 */
	double value;
};

struct patch_cut { /* one mini-batch of fresh examples */
	uint64_t offset;
	uint64_t count;
	uint64_t steps;
};

struct patch_gate { /* what carries a decision out again, and its evidence: the learner's decision says more */
	enum patch_reason reason;
	uint64_t parent; /* version */
	bool anew;
	uint64_t onset;
	uint64_t until;
	uint64_t count;
	double gain, width, over, over_log, level;
};

struct patch_weights {
	uint32_t slot;
	uint32_t chunks; /* at least 1 */
	uint64_t bytes;
	char sha256[HASH_HEX_LENGTH + 1]; /* of the bytes; but for a checkpoint's it is the patch's own */
};

struct patch_record {
	char task[PATCH_NAME_AT_MOST + 1];
	uint64_t number;  /* of the task's records; one of the same number replaces it */
	uint64_t version; /* live after this record */
	char patch[HASH_HEX_LENGTH + 1];
	char parent[HASH_HEX_LENGTH + 1];      /* "" none */
	char predecessor[HASH_HEX_LENGTH + 1]; /* what a rollback brings back; "" none */
	char backbone[HASH_HEX_LENGTH + 1];
	char definition[HASH_HEX_LENGTH + 1];
	enum patch_decision decision;
	uint64_t labels_trained;
	uint64_t labels_dropped;
	struct patch_metric *metrics;
	size_t metric_count;
	int64_t timestamp_ms;
	struct {
		int32_t partition;
		int64_t first;
		int64_t next;
	} examples;
	struct patch_cut *cuts;
	size_t cut_count;
	bool has_gate;
	struct patch_gate gate;
	bool has_weights;
	struct patch_weights weights;
};

const char *patch_decision_name(enum patch_decision decision);
const char *patch_reason_name(enum patch_reason reason);

/* Appends a record whose texts are those that decoding lets through. */
void patch_record_encode(const struct patch_record *record, struct buffer *out);

/* The same as the manifest of its weights: without the cuts. */
void patch_record_encode_manifest(const struct patch_record *record, struct buffer *out);

/* Errors: STATUS_DATA with field and reason, STATUS_MEMORY. patch_record_clear is the caller's. */
enum status patch_record_decode(struct slice value, struct patch_record *ret, struct error *err) MUST_CHECK;

void patch_record_clear(struct patch_record *record); /* frees and zeroes; a zeroed one is fine */

#endif
