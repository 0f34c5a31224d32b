/* What the two halves of `peterctl evaluate` share: next items of a backbone, tasks of a patch. One thread, which lends
 * others through `parallel`. */
#ifndef TOOLS_EVALUATE_H
#define TOOLS_EVALUATE_H

#include "base/error.h"
#include "model/metrics.h"
#include "model/parallel.h"
#include "tools/report.h"
#include "tools/trunk_file.h"

#include <stdbool.h>
#include <stdint.h>

enum { EVALUATE_LISTS = 8 };

struct evaluate {
	/* the command line */
	const char *backbone, *patch, *events, *labels, *task, *sequences, *targets;
	const char *k, *seen, *from;
	int64_t users; /* 0: all */
	int64_t negatives;
	int64_t threads_count; /* 0: cores */
	int64_t seed;
	bool json;

	uint32_t ks[EVALUATE_LISTS]; /* lengths of lists */
	size_t k_count;
	bool include_seen;
	struct parallel parallel;
	struct trunk_file trunk;
	struct report report;
};

enum status evaluate_next_items(struct evaluate *e, struct error *err) MUST_CHECK;
enum status evaluate_task(struct evaluate *e, struct error *err) MUST_CHECK;

/* What ranks are worth, for every k. */
struct evaluate_ranks {
	struct metrics_ranking lists[EVALUATE_LISTS];
};
void evaluate_ranks_start(const struct evaluate *e, struct evaluate_ranks *r);
void evaluate_ranks_add(const struct evaluate *e, struct evaluate_ranks *r, uint32_t rank);
void evaluate_ranks_report(struct evaluate *e, const struct evaluate_ranks *r); /* with how they were ranked */

/* A mean with its error. NaNs are not added. */
struct evaluate_mean {
	uint64_t count;
	double sum;
	double squares;
};
void evaluate_mean_add(struct evaluate_mean *m, double value);
void evaluate_mean_report(struct evaluate *e, const char *key, const char *name, const struct evaluate_mean *m);

#endif
