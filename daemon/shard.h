/* A shard: one partition of interactions, its users, and the position that they reflect.
 *
 * Belongs to one lane, and to that lane's thread: no locks. Applying a record changes users in the cache and notes them
 * in the open batch; nothing else happens until the batch is cut. */
#ifndef DAEMON_SHARD_H
#define DAEMON_SHARD_H

#include "base/error.h"
#include "config/config.h"
#include "daemon/batch.h"
#include "daemon/inbox.h"
#include "daemon/lane_status.h"
#include "daemon/metrics.h"
#include "daemon/thinning.h"
#include "daemon/user_cache.h"
#include "daemon/waiting.h"
#include "io/interaction.h"
#include "io/restore.h"
#include "io/store.h"
#include "model/backbone.h"

#include <librdkafka/rdkafka.h>

struct shard {
	int32_t partition;
	enum shard_phase phase;
	char reason[160];           /* why it is not live, "" none */
	struct position position;   /* next offsets to read, with the open batch's records */
	struct position committed;  /* as of the last committed transaction */
	int64_t end_position;       /* the position at which the log was last read to its end, */
	int64_t end_offset;         /* and that end: between the two are transactions' marks only */
	uint64_t batch;             /* number of the newest batch that it is in */
	size_t batch_index;         /* its place there */
	bool reading;               /* its inputs are assigned to librdkafka, perhaps paused */
	bool labels;                /* it has a partition of labels */
	bool labels_assigned;       /* which is among the inputs */
	struct inbox inbox;         /* read, and waiting for the other input */
	int64_t read[INBOX_INPUTS]; /* the next offset to come out of librdkafka, which may bring older ones again */
	bool paused[INBOX_INPUTS];  /* its inbox is full */
	bool broken;                /* the store could not be read: to be restored after the rewind */
	bool damaged;               /* and its copy is not to be believed */
	struct waiting waiting;     /* labels that wait for their users, as of the open batch */
	struct user *users;         /* cached, by id (uthash) */
	struct store_shard *store;  /* NULL until restored */
	struct thinning *thinning;  /* the lane's */
	struct restore_progress progress;
	struct restore_job *restoring; /* under way on the restorer's thread; NULL: none */
	struct buffer expiry_cursor;   /* user id where the sweep for sequences.ttl_days goes on */
	struct shard *next;
};

struct shard_context { /* what applying needs of the lane */
	const struct config *config;
	const struct backbone *backbone;
	const struct interaction_decoder *decoder;
	struct user_cache *cache;
	struct metrics *metrics;
	struct task_set *tasks; /* in force for the open batch */
	struct buffer scratch;
};

/* NULL: out of memory. */
struct shard *shard_new(int32_t partition, struct thinning *thinning);

/* Drops its cached users, from the cache and the thinning queue; no batch may name them any more. */
void shard_drop_users(struct shard *shard, struct user_cache *cache);

/* Drops its users, closes its part of the store, frees it. NULL is fine. */
void shard_free(struct shard *shard, struct user_cache *cache);

/* The user, from the cache or the store, empty where it is new. Errors: STATUS_DATA, STATUS_IO (the store could not be read:
 * restore the shard), STATUS_MEMORY; the open batch is then to be dropped. */
enum status shard_user(struct shard *shard, struct shard_context *ctx, struct slice id, struct user **ret,
		       struct error *err) MUST_CHECK;

/* Whether sequences.ttl_days has outlived the user. */
bool shard_outlived(const struct shard *shard, const struct shard_context *ctx, const struct user *u);

/* Reading goes on at `position`: what was read and not applied is forgotten. labels_ended: no label lies behind it, as far
 * as is known. */
void shard_rewind(struct shard *shard, const struct position *position, bool labels_ended);

/* Whether no label that the shard knows of lies behind its committed position. */
bool shard_labels_ended(const struct shard *shard);

/* Fills a husk (daemon/user_cache.h) of a live shard. Errors as above; the shard's users are then to be dropped. */
enum status shard_read_back(struct shard_context *ctx, struct user *u, struct error *err) MUST_CHECK;

#endif
