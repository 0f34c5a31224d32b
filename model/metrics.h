/* What `evaluate` reports, as running sums. Ranking metrics follow Krichene and Rendle's (2020) advice of a full ranking;
 * the sampled form is there to compare with publications. Rank 0 is the best; ties: the lower index first. One thread. */
#ifndef MODEL_METRICS_H
#define MODEL_METRICS_H

#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rank of `target` among n scores; excluded[i] (NULL: none) leaves i out, the target excepted. A NaN ranks below
 * everything. */
uint32_t metrics_rank(const float *scores, uint32_t n, uint32_t target, const bool *excluded);

/* The same among the target and `negatives` of the others, drawn without replacement from those that are not excluded; among
 * all of them where there are no more. marks: [n], all false before and after. */
uint32_t metrics_sampled_rank(const float *scores, uint32_t n, uint32_t target, const bool *excluded,
			      uint32_t negatives, struct random_stream *random, bool *marks);

struct metrics_ranking { /* of one relevant item each: sums; divide by count */
	uint32_t k;
	uint64_t count;
	double reciprocal; /* MRR@k */
	double hits;       /* HR@k */
	double gain;       /* NDCG@k: 1 / log2(rank + 2) */
	double reciprocal_square;
	double gain_square;
};
void metrics_ranking_add(struct metrics_ranking *m, uint32_t rank); /* UINT32_MAX: not in the list at all */

/* The standard error of a mean, from the values' sum and their squares' (of hits: the sum again). NaN of less than two. */
double metrics_error(uint64_t count, double sum, double squares);

/* Area under the ROC curve: the chance that a positive scores above a negative, ties counted half. Reorders the rows. A NaN
 * scores below everything. NaN without both classes. */
struct metrics_scored {
	float score;
	bool positive;
};
double metrics_auc(struct metrics_scored *rows, size_t n);

#endif
