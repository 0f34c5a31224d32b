/* Publishing a batch: its updates, changelog records, dead letters and positions, produced into the open transaction.
 * The lane's thread. */
#ifndef DAEMON_PUBLISH_H
#define DAEMON_PUBLISH_H

#include "base/error.h"
#include "config/config.h"
#include "daemon/batch.h"
#include "daemon/metrics.h"
#include "daemon/scorer.h"
#include "daemon/thinning.h"
#include "daemon/trunk.h"

#include <librdkafka/rdkafka.h>

struct publisher {
	const struct config *config;
	const struct backbone *backbone;
	struct trunk *trunk;
	struct thinning *thinning;
	struct user_cache *cache;
	struct task_board *tasks; /* what updates are scored by; NULL: nothing ever */
	struct scorer *scorer;    /* likewise */
	struct metrics *metrics;  /* the lane's; NULL: nothing is counted */
	uint64_t tasks_version;   /* of the scorer's set */
	double user_us;           /* what one user's scores took lately */
	rd_kafka_t *producer;
	size_t message_bytes; /* the largest dead letter that it sends */
	size_t batch_bytes;   /* the largest batch that the producer sends; 0: no producer yet */
	size_t update_bytes;  /* the largest update with scores that it sends */
	bool refused;         /* a topic takes less than the producer sends */
	size_t letter_bytes;  /* what the topic of dead letters takes, as far as learnt; 0: all */
	void (*drain_reports)(void *arg, int wait_ms); /* serves delivery reports: makes room in the producer's queue */
	void *drain_arg;
	rd_kafka_topic_t *updates, *changelog, *deadletters, *examples; /* the producer's */
	struct buffer record, key;                                      /* scratch */
	float *embeddings;                                              /* scratch, [PUBLISH_ROWS, d] */
	struct buffer states;                                           /* scratch: of one example */
	struct sequence past;                                           /* likewise */
	struct user **chosen;                                           /* scratch, users of one pass */
	bool scores_outgrown; /* what a message may hold, which has been said */
};

enum { PUBLISH_ROWS = SCORER_ROWS };

/* Scratch memory. Errors: STATUS_MEMORY. publisher_free closes the topics, not the producer. */
enum status publisher_init(struct publisher *p, struct error *err) MUST_CHECK;
void publisher_free(struct publisher *p);

/* Opens the topics on a new producer. Errors: STATUS_UNAVAILABLE. */
enum status publisher_use(struct publisher *p, rd_kafka_t *producer, struct error *err) MUST_CHECK;
void publisher_release(struct publisher *p); /* before the producer is destroyed */

/* Produces the batch, and fills its store batches. The opaque of a shard's position record is
 * publish_opaque(batch, index). Errors: STATUS_UNAVAILABLE (abort the transaction), STATUS_MEMORY. */
enum status publish_batch(struct publisher *p, struct batch *batch, int64_t now_us, struct error *err) MUST_CHECK;

/* A topic refused a batch for its size: the next producer is to send batches of half of what they were, batch_bytes, and
 * where it was the topic of dead letters these are cut to half too. False: they are as small as can be already. */
bool publisher_cut_more(struct publisher *p, bool letters);

/* The shard of the batch that this delivery report's opaque names; NULL where it is another batch's or none. */
struct batch_shard *publish_opaque_shard(struct batch *batch, const void *opaque);

#endif
