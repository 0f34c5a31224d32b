/* The inside of a lane, shared by its files: lane.c (thread, loop, order), lane_reading.c (the consumer's events),
 * lane_transaction.c (cut, commit, abort), lane_store.c (committed batches into the store), lane_partitions.c (assignment,
 * restore, rewind), lane_owed.c (what a restored shard owes) and lane_health.c (probes, status). Everything is the lane's thread's
 * unless said otherwise.
 *
 *     STARTING ──▶ RUNNING ◀──▶ COMMITTING          records are read and applied in RUNNING and COMMITTING; a batch is
 *        ▲            │             │ failed        produced at a cut, in RUNNING only
 *        │            │         ABORTING ──▶ RUNNING (rewound)
 *        └────────────┴─────────────┘ fatal: producer anew, every shard restored
 */
#ifndef DAEMON_LANE_PRIVATE_H
#define DAEMON_LANE_PRIVATE_H

#include "daemon/lane.h"
#include "daemon/publish.h"
#include "daemon/refresh.h"
#include "daemon/shard.h"
#include "daemon/thinning.h"
#include "daemon/trunk.h"
#include "daemon/user_cache.h"
#include "daemon/worker.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>

enum lane_phase {
	LANE_STARTING,   /* the producer is being made: nothing is read */
	LANE_RUNNING,    /* no transaction is open */
	LANE_COMMITTING, /* the worker commits `committing` */
	LANE_ABORTING,   /* the worker aborts and rewinds; nothing is read */
	LANE_CLOSING,    /* the worker closes the consumer */
};

enum commit_result { COMMIT_DONE, COMMIT_ABORT, COMMIT_FATAL };

struct open_job { /* makes a producer and waits for its init_transactions; before that, destroys `old` */
	struct worker_job job;
	struct lane *lane;
	rd_kafka_t *old;
	rd_kafka_t *producer;
	size_t batch_bytes; /* that it may send; 0: as configured */
	enum status status;
	struct error err;
};

struct commit_job {
	struct worker_job job;
	struct lane *lane;
	rd_kafka_t *producer;
	rd_kafka_topic_partition_list_t *offsets;
	rd_kafka_consumer_group_metadata_t *group;
	bool abort_instead; /* fault injection of the tests */
	enum commit_result result;
	int64_t took_us;
	char reason[256];
};

struct abort_job { /* aborts, then seeks every live shard's input back to its committed position */
	struct worker_job job;
	struct lane *lane;
	rd_kafka_t *producer, *consumer;
	rd_kafka_topic_partition_list_t *seeks;
	rd_kafka_topic_t *topics[4]; /* whose metadata is asked for anew; NULL: not this time */
	int64_t pause_us;            /* before the next try */
	bool fatal;
	char reason[256];
};

struct store_job { /* writes one committed batch's shards to the store; tried again until the disk takes it */
	struct worker_job job;
	struct lane *lane;
	struct store_job *next;
	uint64_t number; /* of the batch */
	struct {
		struct shard *shard;
		struct store_batch *batch;
		struct position position;
	} * parts;
	size_t count, written;
	enum status status;
	struct error err;
	int64_t took_us;
};

struct lane_owed {            /* of one shard, as its store has it: lengths as varints, bytes */
	struct buffer users;  /* ids of those whose update is held back */
	struct buffer labels; /* records of those that wait */
};

struct restore_job {
	struct worker_job job;
	struct lane *lane;
	struct shard *shard;
	_Atomic bool cancel;
	struct store_shard *store; /* in: the shard's, NULL to open; out: open */
	bool move;                 /* the input is assigned already: seek it to the position */
	bool reset;                /* the store's copy is damaged: begin it anew */
	bool labels;               /* out: the shard has a partition of labels, */
	bool labels_ended;         /* and no label lies behind `position` */
	bool fresh;                /* out: nothing is known of the partition: `position` is its start */
	enum status status;
	struct error err;
	struct position position;
	struct lane_owed owed;
	int64_t took_us;
};

struct close_job {
	struct worker_job job;
	struct lane *lane;
	rd_kafka_t *consumer, *producer;
};

struct probe_job { /* asks the brokers for metadata: do they answer? */
	struct worker_job job;
	struct lane *lane;
	rd_kafka_t *consumer;
	bool uncovered; /* out: a stable group leaves partitions to nobody */
};

struct lane {
	struct lane_context ctx;
	int index;
	pthread_t thread;
	_Atomic bool stop_wanted; /* any thread sets it */
	_Atomic bool finished;    /* set last by the thread; then result and err are final */
	enum status result;
	struct error err;

	uv_loop_t loop;
	bool loop_open;
	uv_async_t wake; /* any thread: look at stop_wanted; own: go on draining */
	uv_timer_t cut_timer, tick_timer;
	uv_poll_t consumer_poll, producer_poll;
	int consumer_fd, producer_fd; /* eventfds that librdkafka writes; -1 none */
	bool fenced;                  /* that is why it failed */
	_Atomic bool failed;          /* `result` and `err` are set: leave without writing */

	enum lane_phase phase;
	rd_kafka_t *consumer, *producer;
	rd_kafka_queue_t *consumer_queue, *producer_queue;
	rd_kafka_queue_t *idle_queue; /* polled to show life while the consumer's queue must wait */
	struct worker *transactions;  /* open, commit, abort, store, close */
	struct worker *restorer;      /* restore, probe */
	bool restorer_probing;
	int64_t probed_us;
	unsigned uncovered;    /* probes in a row that found partitions without an owner */
	bool subscribed_other; /* for the rebalance that gives them one */
	bool store_writing;
	struct store_job *store_first, **store_last; /* committed, not in the store yet, in order */
	int64_t store_retry_us;                      /* monotonic; 0: no trouble */
	char store_reason[160];                      /* why the store fails, "" none */

	struct shard *shards;
	bool assigned_once;
	char member[256]; /* id at the end of the last rebalance; "" before the first */
	bool outcast; /* the group has thrown that member out: nothing may be committed before the next assignment */
	bool renew;   /* it came, under another id: every shard is to be restored */
	rd_kafka_event_t *revoking; /* a revocation waits for the drain; NULL none */
	bool breakage;              /* a shard could not be read from the store: rewind, restore it */

	struct user_cache cache;
	struct thinning thinning;
	struct refresh refresh;
	struct trunk *trunk;
	struct shard_context apply;
	uint64_t tasks_version; /* of apply.tasks */
	struct publisher publisher;
	struct batch open, committing;
	uint64_t next_number;
	bool read_ahead;          /* embeddings are read before the cut: most users have one event a batch */
	int64_t cut_us;           /* when the last batch was cut */
	int64_t committed_us;     /* since when the current commit or abort runs */
	bool too_large;           /* a topic has refused a batch for its size, */
	bool letters_too_large;   /* and it was that of dead letters */
	uint64_t rejected;        /* dead letters not said yet */
	int64_t rejected_said_us; /* when the last were; starts at 0, so that the first is said at once */
	unsigned aborts;          /* in a row */
	int64_t abort_said_us;    /* when that was logged */
	char abort_reason[160];
	uint64_t commits;     /* for fault injection */
	unsigned abort_every; /* fault injection: every so many commits are aborted; 0 never */
	uint64_t ticks;
	struct shard_status *described; /* scratch of the status, [described_capacity] */
	size_t described_capacity;

	struct open_job open_job;
	struct commit_job commit_job;
	struct abort_job abort_job;
	struct close_job close_job;
	struct probe_job probe_job;
};

/* lane.c */
void lane_fail(struct lane *lane, enum status status, const struct error *err); /* ends the lane, without writing */
bool lane_stopping(const struct lane *lane);
void lane_step(struct lane *lane); /* whatever can be done next: cut, finish a revocation, close */
void lane_wake(struct lane *lane); /* drain and step again, from the loop */

/* lane_reading.c */
void lane_drain(struct lane *lane); /* read and apply while there is work and room, then step */
bool lane_cache_fits(struct lane *lane);
bool lane_has_room(const struct lane *lane); /* the open batch may grow */
void lane_check_fatal(struct lane *lane);    /* whether the consumer has failed for good */
struct shard *lane_shard(struct lane *lane, int32_t partition);

/* lane_health.c */
void lane_probe(struct lane *lane); /* when it is time */
void lane_publish_health(struct lane *lane);

/* lane_transaction.c */
void lane_open_producer(struct lane *lane); /* phase STARTING; the present one is destroyed; shards are suspended */
void lane_cut(struct lane *lane);           /* RUNNING: produces the open batch, if any, and commits it */
void lane_abandon(struct lane *lane, const char *why); /* RUNNING: drops the open batch, rewinds the inputs */
void lane_next_batch(struct lane *lane);
void lane_drop_batches(struct lane *lane);    /* with their users; no commit is under way */
void lane_prepare_reports(struct lane *lane); /* the publisher may drain them too */
void lane_drain_reports(struct lane *lane);
bool lane_seek(rd_kafka_t *consumer, rd_kafka_topic_partition_list_t *seeks); /* blocking; worker's threads */

/* lane_store.c */
bool lane_store_queue(struct lane *lane, struct batch *batch); /* moves its store batches; false: out of memory */
void lane_store_retry(struct lane *lane);                      /* writes waiting batches when it is time */
void lane_store_forget(struct lane *lane); /* what waits comes from the changelog again; no write is under way */
void lane_store_forget_shard(struct lane *lane, const struct shard *shard); /* the same of a shard that leaves */
bool lane_stored(const struct lane *lane);                                  /* every committed batch is in the store */

/* lane_owed.c */
void lane_prepare_thinning(struct lane *lane); /* it may read husks back */
enum status lane_owed_read(struct store_shard *store, struct lane_owed *ret,
			   struct error *err) MUST_CHECK; /* any thread */
enum status lane_owed_load(struct lane *lane, struct shard *shard, const struct lane_owed *owed,
			   struct error *err) MUST_CHECK;
void lane_owed_free(struct lane_owed *owed);

/* lane_partitions.c */
void lane_assigned(struct lane *lane, const rd_kafka_topic_partition_list_t *partitions);
void lane_revoked(struct lane *lane, rd_kafka_event_t *event); /* takes the event */
void lane_finish_revocation(struct lane *lane);                /* when nothing of it is under way */
void lane_suspend_all(struct lane *lane);                      /* pauses and empties every shard, drops the batches */
void lane_restore_all(struct lane *lane);                      /* restores every suspended shard */
void lane_resume_after_abort(struct lane *lane); /* live shards from their commits, broken ones restored */
void lane_shard_broken(struct lane *lane, struct shard *shard, const struct error *err);
void lane_pause_full(struct lane *lane,
		     struct shard *shard); /* inputs whose inbox is full; and reads on when it is not */
rd_kafka_topic_partition_list_t *lane_seeks(const struct lane *lane); /* live shards at their committed positions */
bool lane_cancel_restores(struct lane *lane);                         /* true: none is under way */
void lane_free_shards(struct lane *lane);

#endif
