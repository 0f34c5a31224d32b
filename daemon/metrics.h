/* Counters, gauges and histograms: a block per lane that only its lane writes and anyone may read, summed at scrape.
 *
 * Every metric is declared once, in metrics.def. Writes are relaxed atomics without a locked instruction, so a metric
 * costs its lane a load, an addition and a store; a scrape sees each value whole, and values of one lane perhaps a few
 * records apart. */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/reason.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Upper bounds of a histogram's buckets, in seconds; one more, +Inf, follows. */
#define METRICS_BOUNDS                                                                                                 \
	0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800
enum { METRICS_BOUNDS_COUNT = sizeof((const double[]){ METRICS_BOUNDS }) / sizeof(double) };

/* Slots that a metric takes in a block. */
enum {
	METRICS_SLOTS_COUNTER_NONE = 1,
	METRICS_SLOTS_COUNTER_REASON = REASON_COUNT,
	METRICS_SLOTS_GAUGE_NONE = 1,
	METRICS_SLOTS_HISTOGRAM_NONE = METRICS_BOUNDS_COUNT + 2, /* a count for each bucket, +Inf, and the sum's bits */
};

/* METRIC_<identifier> is the metric's first slot: what the calls below take. */
enum metric {
#define METRIC(id, name, kind, label, help)                                                                            \
	METRIC_##id, METRIC_LAST_##id = METRIC_##id + METRICS_SLOTS_##kind##_##label - 1,
#define DERIVED(...)
#include "daemon/metrics.def"
#undef METRIC
#undef DERIVED
	METRICS_SLOTS
};

struct metrics { /* one lane's block */
	alignas(64) _Atomic uint64_t slots[METRICS_SLOTS];
};

/* `lanes` zeroed blocks; metrics[i] is lane i's. NULL: out of memory. */
struct metrics *metrics_new(size_t lanes);
void metrics_free(struct metrics *metrics); /* NULL is fine */

/* Lane's own thread only. */
void metrics_add(struct metrics *m, enum metric counter_or_gauge, uint64_t n);
void metrics_sub(struct metrics *m, enum metric gauge, uint64_t n);
void metrics_set(struct metrics *m, enum metric gauge, uint64_t value);
void metrics_add_reason(struct metrics *m, enum metric counter, enum reason reason, uint64_t n);
void metrics_observe(struct metrics *m, enum metric histogram, double seconds); /* NaN is ignored */

/* The sum over lanes of a counter or a gauge. Any thread. */
uint64_t metrics_sum(const struct metrics *metrics, size_t lanes, enum metric metric);

/* Appends every metric of metrics.def in Prometheus' text format 0.0.4. Any thread. */
void metrics_print(const struct metrics *metrics, size_t lanes, struct buffer *out);

/* printf onto a buffer; out->failed where memory ran out. */
void metrics_printf(struct buffer *out, const char *format, ...) PRINTF_LIKE(2, 3);

/* Appends a label's value with Prometheus' escapes (backslash, quote, newline). */
void metrics_print_escaped(struct buffer *out, const char *text);

#endif
