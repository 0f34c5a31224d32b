/* The best of many scores. Pure. */
#ifndef MODEL_TOP_H
#define MODEL_TOP_H

#include <stddef.h>
#include <stdint.h>

/* Which of n scores are the k highest, best first; ties: the lower index first; a NaN is below everything. out: [k], of which
 * min(k, n) are written, and returned. */
size_t top_scores(const float *scores, uint32_t n, size_t k, uint32_t *out);

#endif
