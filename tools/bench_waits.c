#include "tools/bench_waits.h"

#include <math.h>

void bench_waits_add(struct bench_waits *w, int64_t ms)
{
	w->by_ms[ms < 0 ? 0 : ms > BENCH_WAITS_MS ? BENCH_WAITS_MS : ms]++;
	w->count++;
}

int64_t bench_waits_percentile(const struct bench_waits *w, double share)
{
	const int64_t rank = (int64_t)ceil(share * (double)w->count);
	int64_t seen = 0;
	for (int64_t ms = 0; w->count && ms <= BENCH_WAITS_MS; ms++) {
		seen += w->by_ms[ms];
		if (seen >= rank)
			return ms;
	}
	return -1;
}
