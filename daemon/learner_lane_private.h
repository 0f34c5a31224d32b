/* The inside of the learner lane, shared by its files: learner_lane.c (thread, rounds), learner_reading.c (partitions and
 * examples), learner_lineages.c (which lineages there are), learner_transaction.c. Everything is its thread's but for the
 * atomics. */
#ifndef DAEMON_LEARNER_LANE_PRIVATE_H
#define DAEMON_LEARNER_LANE_PRIVATE_H

#include "daemon/learner_lane.h"
#include "daemon/lineage.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

/* A partition of examples that it owns. */
struct learner_part {
	struct learner_part *next;
	int32_t partition;
	int64_t low, high; /* where examples begin and end, when it was assigned */
	int64_t position;  /* of the next example to be read */
	char *resting; /* records that the committed offset rests on: "task:number ...", until they were seen; or NULL */
	rd_kafka_t *history; /* reads it for lineages that lag behind; NULL: none does */
	int64_t history_position;
};

struct learner_lane {
	struct learner_lane_context ctx;
	pthread_t thread;
	_Atomic bool stop_wanted;   /* any thread sets it */
	_Atomic bool reopen_wanted; /* likewise */
	_Atomic bool finished;      /* set last by the thread */

	struct lineage_context lineage_ctx;
	struct example_input *input;
	struct task_set *tasks; /* held; NULL before the first */
	uint64_t tasks_version;
	unsigned misses;      /* whole reads of the patches topic in a row that lacked records */
	size_t message_bytes; /* the largest message, and batch of them, that the next producer sends; 0: as configured */
	uint64_t passed_over; /* examples, since the last line about them */
	int64_t passed_us;    /* monotonic: when that was; 0: never */
	unsigned failures;    /* sessions in a row that ended with an error before anything was committed */

	pthread_mutex_t lock;
	char trouble[256]; /* under lock: why nothing is learnt; "" all is well */

	/* Of one session: from joining the group to leaving it. */
	rd_kafka_t *consumer, *producer;
	rd_kafka_queue_t *consumer_queue, *producer_queue;
	struct patch_writer *writer;
	int32_t partitions; /* of examples */
	struct learner_part *parts;
	struct lineage *lineages;
	bool assigned;         /* partitions have come: look at the lineages */
	char member[256];      /* id at the last rebalance; "" before the first */
	int64_t probed_us;     /* monotonic: when the group was looked at */
	unsigned uncovered;    /* looks in a row that found partitions without an owner */
	bool subscribed_other; /* for the rebalance that gives them one */
	bool renew;            /* the session is to end: partitions were lost, or the consumer has failed */
	char undelivered[160]; /* why a message was not taken, "" none */
	size_t refused_bytes;  /* of messages that were refused for the size of their batch */
	bool in_transaction;   /* one was begun, and has not ended */
	uint64_t commits;      /* for fault injection */
	unsigned abort_every;  /* fault injection: every so many transactions fail; 0: none */
};

bool learner_stopping(const struct learner_lane *lane);

/* learner_reading.c */
struct learner_part *learner_part_find(const struct learner_lane *lane, int32_t partition);
void learner_parts_free(struct learner_lane *lane);
bool learner_is_member(const struct learner_lane *lane); /* asked after the membership for a commit was taken */
enum status learner_subscribe(struct learner_lane *lane, bool with_other, struct error *err) MUST_CHECK;

/* Takes what comes for at most wait_ms, less where a lineage is full or lags. Errors: STATUS_MEMORY, STATUS_UNAVAILABLE. */
enum status learner_collect(struct learner_lane *lane, int wait_ms, struct error *err) MUST_CHECK;

/* learner_lineages.c: opens lineages for the tasks in force whose partitions are owned, and closes those of others. Errors:
 * those of patch_topic_open; STATUS_MEMORY. */
void learner_reopen_lineages(struct learner_lane *lane); /* the next match opens all of them again */
enum status learner_match_lineages(struct learner_lane *lane, struct error *err) MUST_CHECK;
int32_t learner_partition_of(const struct learner_lane *lane, struct slice task); /* where its examples come */
void learner_close_lineages(struct learner_lane *lane);
void learner_close_lineages_of(struct learner_lane *lane, int32_t partition);

/* learner_transaction.c: what the lineages have to write, with the offsets. Errors: whatever failed: nothing of it counts, and
 * the session is to end. */
enum status learner_commit(struct learner_lane *lane, struct error *err) MUST_CHECK;
void learner_drain_reports(void *lane, int wait_ms);

void learner_well(struct learner_lane *lane); /* learner_lane.c: its failures are over */

#endif
