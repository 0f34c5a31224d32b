/* The body of /metrics: the lanes' counters and what is worked out at the moment of asking. Control loop. */
#ifndef DAEMON_SCRAPE_H
#define DAEMON_SCRAPE_H

#include "base/buffer.h"
#include "daemon/lane_status.h"
#include "daemon/metrics.h"
#include "daemon/task_set.h"

struct scrape {
	const struct metrics *metrics;    /* [lanes + 1]: the learner's is the last */
	const struct lane_status *status; /* [lanes] */
	size_t lanes;
	bool ready;
	const struct task_set *tasks; /* that are served; NULL: none */
	uint64_t swaps;
	const char *interactions_topic;
	const char *labels_topic;
	const char *backbone; /* hash */
	const char *arch;
};

void scrape_print(const struct scrape *s, struct buffer *out); /* out->failed where memory ran out */

#endif
