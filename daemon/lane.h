/* A lane: one thread with one libuv loop, one consumer, one transactional producer, and the shards of the partitions
 * assigned to it. Lanes share nothing that changes; more processes in the group are more lanes.
 *
 * What a lane promises: offsets, updates, changelog, examples and dead letters of a batch commit in one Kafka transaction; the
 * local store follows the commits; on any failure it goes back to the last commit and does the work again. Outages of
 * brokers and disks are waited out, not ready, alive. It ends by itself only when another process has taken its
 * identity, or when memory runs out. */
#ifndef DAEMON_LANE_H
#define DAEMON_LANE_H

#include "base/error.h"
#include "config/config.h"
#include "daemon/metrics.h"
#include "daemon/status_board.h"
#include "daemon/store_gate.h"
#include "daemon/task_set.h"
#include "io/interaction.h"
#include "model/backbone.h"
#include "model/network.h"

#include <stdbool.h>
#include <uv.h>

struct lane;

struct lane_context { /* all of it outlives the lanes */
	const struct config *config;
	const struct backbone *backbone;
	const struct network *net; /* the same backbone's, for patches inside the trunk */
	const struct interaction_decoder *decoder;
	struct store_gate *gate;
	struct status_board *board;
	struct metrics *metrics;  /* [workers] */
	uv_async_t *exited;       /* sent when a lane's thread has ended */
	struct task_board *tasks; /* in force */
	bool labels;              /* the labels topic exists: its partitions follow */
};

/* Starts lane `index`. Errors: STATUS_MEMORY, STATUS_IO, STATUS_CONFIG (librdkafka refused a property). */
enum status lane_start(const struct lane_context *ctx, int index, struct lane **ret, struct error *err) MUST_CHECK;

/* Asks the lane to drain, commit and leave. Any thread; returns at once. */
void lane_stop(struct lane *lane);

/* Whether the thread has ended, and how: STATUS_OK after lane_stop. Any thread. */
bool lane_finished(struct lane *lane, enum status *ret_status, struct error *ret_err);

/* Whether it ended because the brokers fenced its name: another process has taken it, or, after an outage that outlived
 * the session, a late request of its own did. Any thread, once lane_finished. */
bool lane_was_fenced(const struct lane *lane);

/* Waits for the thread's end and frees the lane. NULL is fine. */
void lane_join_free(struct lane *lane);

#endif
