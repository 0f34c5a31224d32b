/* How long things took, by the millisecond. Zeroed: empty. One thread. */
#ifndef TOOLS_BENCH_WAITS_H
#define TOOLS_BENCH_WAITS_H

#include <stdint.h>

enum { BENCH_WAITS_MS = 180000 }; /* longer ones count as this long */

struct bench_waits {
	int64_t count;
	int64_t by_ms[BENCH_WAITS_MS + 1];
};

void bench_waits_add(struct bench_waits *w, int64_t ms);

/* The shortest wait that this share did not exceed, -1 without any. */
int64_t bench_waits_percentile(const struct bench_waits *w, double share);

#endif
