/* The mean of vectors. Its bits depend on the vectors and their order alone, so that whoever adds up the same ones, in a
 * window or out of a ring, has the same: sums begin with zeros, mean_add takes the oldest first, mean_finish ends it. */
#ifndef MODEL_MEAN_H
#define MODEL_MEAN_H

#include <stddef.h>

static inline void mean_add(float *sum, const float *vector, size_t dim)
{
	for (size_t i = 0; i < dim; i++)
		sum[i] += vector[i];
}

static inline void mean_finish(float *sum, size_t count, size_t dim)
{
	const float share = 1.0F / (float)(count > 0 ? count : 1);
	for (size_t i = 0; i < dim; i++)
		sum[i] *= share;
}

#endif
