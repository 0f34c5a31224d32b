/* The learner lane: one thread that trains. It is a member of the group "<group>-learner" over the examples topic, and owns
 * the lineages of the tasks whose examples come in its partitions.
 *
 * A round: examples are collected, every lineage works off a cut of its own (daemon/lineage.h), and one transaction holds
 * the records of all of them and the offsets behind them. Whatever fails, a transaction, a broker, the membership: what is
 * not committed is dropped, and everything is opened from the topics again. So the lane waits out outages, and never ends
 * the process; serving goes on without it. It runs at a lower priority than the lanes that serve, and trains less where
 * labels come faster than it can train on them. */
#ifndef DAEMON_LEARNER_LANE_H
#define DAEMON_LEARNER_LANE_H

#include "config/config.h"
#include "daemon/metrics.h"
#include "daemon/task_set.h"
#include "model/backbone.h"
#include "model/network.h"

#include <stdbool.h>
#include <uv.h>

struct learner_lane;

struct learner_lane_context { /* all of it outlives the lane */
	const struct config *config;
	const struct backbone *backbone;
	const struct network *net; /* the frozen trunk */
	struct task_board *tasks;
	struct metrics *metrics; /* the lane's block */
	uv_async_t *exited;      /* sent when the thread has ended */
};

/* Errors: STATUS_MEMORY, STATUS_IO (no more threads). */
enum status learner_lane_start(const struct learner_lane_context *ctx, struct learner_lane **ret,
			       struct error *err) MUST_CHECK;

/* Asks it to leave: what it has not committed is done again by whoever comes next. Any thread; returns at once. */
void learner_lane_stop(struct learner_lane *lane);

/* The patches topic is not what it was: was deleted and made anew, perhaps. The lineages are opened from it again, as another
 * process would open them: one that it does not have begins anew, on the examples that are still there. Any thread; returns at
 * once. */
void learner_lane_reopen(struct learner_lane *lane);

/* Why nothing is learnt, one line: it has failed several times in a row. "": all is well. Any thread; copies at most n bytes with
 * the NUL. */
void learner_lane_trouble(struct learner_lane *lane, char *ret, size_t n);

bool learner_lane_finished(struct learner_lane *lane); /* the thread has ended. Any thread */

/* Waits for the thread's end and frees the lane. NULL is fine. */
void learner_lane_join_free(struct learner_lane *lane);

#endif
