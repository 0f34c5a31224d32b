/* What a lane tells the outside about itself: plain data, copied onto the status board (daemon/status_board.h) by the
 * lane and read by the control loop for readiness, the watchdog and the per-partition metrics. */
#ifndef DAEMON_LANE_STATUS_H
#define DAEMON_LANE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shard_phase {
	SHARD_RESTORING, /* catching up from the changelog */
	SHARD_LIVE,      /* reading its inputs */
	SHARD_DRAINING,  /* revoked or stopping: commits what it has, then closes */
	SHARD_FAILED,    /* stopped with a reason; its partition waits for a person */
};

struct shard_status {
	int32_t partition; /* of interactions, and of labels where labels_assigned */
	enum shard_phase phase;
	int64_t position;        /* next interactions offset to read; -1 unknown */
	int64_t end_offset;      /* end of the interactions partition as last seen; -1 unknown */
	int64_t restore_records; /* changelog records read by the restore */
	int64_t restore_lag;     /* changelog records still ahead, an estimate; -1 unknown */
	bool labels_assigned;    /* the labels partition of the same number is assigned too */
	char reason[160];        /* why it is not live beyond what the phase says; "" none */
};

struct lane_status {
	int lane;           /* 0 to workers - 1 */
	bool assigned_once; /* the first assignment, empty perhaps, has come */
	bool ready;         /* assigned, every shard live, brokers answer */
	char reason[160];   /* one line on why it is not ready; "" none */
	uint64_t ticks;     /* grows while the lane's loop makes progress: what feeds the watchdog */
	struct shard_status *shards;
	size_t count; /* of shards */
};

#endif
