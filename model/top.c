#include "model/top.h"

#include <math.h>
#include <stdbool.h>

static bool better(const float *scores, uint32_t a, uint32_t b)
{
	if (scores[a] > scores[b])
		return true;
	if (scores[a] < scores[b])
		return false;
	const bool none = isnan(scores[a]) != 0, other = isnan(scores[b]) != 0;
	return none == other ? a < b : other;
}

/* Lets the one at `at` sink in a heap whose worst is on top. */
static void sink(const float *scores, uint32_t *heap, size_t count, size_t at)
{
	for (size_t child; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && better(scores, heap[child], heap[child + 1]))
			child++;
		if (!better(scores, heap[at], heap[child]))
			return;
		const uint32_t other = heap[at];
		heap[at] = heap[child];
		heap[child] = other;
	}
}

size_t top_scores(const float *scores, uint32_t n, size_t k, uint32_t *out)
{
	const size_t count = k < n ? k : n;
	for (uint32_t i = 0; i < count; i++)
		out[i] = i;
	for (size_t at = count / 2; at-- > 0;)
		sink(scores, out, count, at);
	for (uint32_t i = (uint32_t)count; count > 0 && i < n; i++) {
		/* most are not: one comparison, unless the worst is no number */
		if (scores[i] <= scores[out[0]] || !better(scores, i, out[0]))
			continue;
		out[0] = i;
		sink(scores, out, count, 0);
	}
	for (size_t left = count; left > 1; left--) { /* the worst to the end */
		const uint32_t worst = out[0];
		out[0] = out[left - 1];
		out[left - 1] = worst;
		sink(scores, out, left - 1, 0);
	}
	return count;
}
