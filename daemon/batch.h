/* A batch: the overlay of one transaction. What its records changed since the last one, until it is committed and in the
 * local store, or dropped.
 *
 * While batch N commits, N + 1 collects; a user may be in both. The bytes that go to the store are taken when the batch
 * is cut, so later changes do not leak into it. One thread, but for the store batches, which the worker writes. */
#ifndef DAEMON_BATCH_H
#define DAEMON_BATCH_H

#include "base/error.h"
#include "daemon/task_set.h"
#include "daemon/user_cache.h"
#include "daemon/waiting.h"
#include "io/example.h"
#include "io/reason.h"
#include "io/store.h"

#include <librdkafka/rdkafka.h>
#include <stddef.h>
#include <stdint.h>

struct batch_rejected {          /* a dead letter to be */
	rd_kafka_event_t *event; /* holds the message; NULL: `kept` */
	const rd_kafka_message_t *message;
	struct waiting_label *kept; /* a label that has waited, of that partition */
	int32_t partition;
	enum reason reason;
	char detail[160];
};

struct batch_example { /* of the learner's topic */
	const struct served_task *task;
	size_t begin, end;               /* its record without the states, in `example_bytes` */
	size_t events_begin, events_end; /* the user's events in it, of no length where the user is forgotten */
};

struct batch_wait { /* a label begins to wait, or waits no more */
	struct shard *shard;
	int64_t offset;
	size_t begin, end; /* its record in `wait_bytes`; empty: it waits no more */
};

struct batch_shard { /* a shard's part of the batch */
	struct shard *shard;
	struct position position;  /* after the batch */
	struct store_batch *store; /* made at the cut */
};

struct batch {
	uint64_t number;
	struct user **users; /* changed, or due for an update: each once */
	size_t users_count, users_capacity;
	size_t users_advanced; /* of them, the first so many went through the trunk once */
	struct batch_rejected *rejected;
	size_t rejected_count, rejected_capacity;
	size_t rejected_bytes;  /* of the messages held */
	struct task_set *tasks; /* which the examples name, held; NULL: none was needed */
	struct batch_example *examples;
	size_t examples_count, examples_capacity;
	struct buffer example_bytes;
	size_t states_work;       /* d x d for every example whose states are to be computed: a measure of that work */
	struct batch_wait *waits; /* in the order in which they happened */
	size_t waits_count, waits_capacity;
	struct buffer wait_bytes;
	struct batch_shard *shards;
	size_t shards_count, shards_capacity;
	int64_t *appended_ms; /* Kafka timestamps of its interactions, for the latency histogram */
	size_t appended_count, appended_capacity;
	size_t records; /* consumed */
	uint64_t interactions, late, filtered, forgotten, unknown_items, updates, refreshed,
		labels; /* counted as metrics when it is committed */
};

void batch_clear(struct batch *b); /* frees what it holds, keeps the arrays, number 0 */
void batch_free(struct batch *b);

bool batch_empty(const struct batch *b);

/* Each false: out of memory, nothing changed. A user or shard already there is fine. */
bool batch_touch_user(struct batch *b, struct user *u);
bool batch_touch_shard(struct batch *b, struct shard *shard);
bool batch_reject(struct batch *b, rd_kafka_event_t *event, const rd_kafka_message_t *message, enum reason reason,
		  const char *detail); /* takes the event */
/* The same of a label that has waited, which it takes. */
bool batch_reject_kept(struct batch *b, struct waiting_label *label, int32_t partition, enum reason reason,
		       const char *detail);
/* Notes that the label of the shard's labels waits from now on, with its record, or, `record` empty, no more. */
bool batch_note_wait(struct batch *b, struct shard *shard, int64_t offset, struct slice record);
/* Notes an example of a task of `tasks`, whose states follow at the cut. Every example of a batch is of one set. */
bool batch_add_example(struct batch *b, struct task_set *tasks, const struct served_task *task,
		       const struct example *example);
/* A record has been applied, or refused for a reason (REASON_NONE: not): counts it, and takes the event, with which the
 * message goes. False: out of memory, nothing taken. */
bool batch_take(struct batch *b, rd_kafka_event_t *event, const rd_kafka_message_t *message, enum reason reason,
		const char *detail);
void batch_note_append(struct batch *b, int64_t kafka_timestamp_ms);

#endif
