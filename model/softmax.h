/* The vectorised passes over a row of scores, each a row at a time so that the row stays in the nearest cache. Chosen
 * once for the processor; a result depends on its own row alone. Any thread. */
#ifndef MODEL_SOFTMAX_H
#define MODEL_SOFTMAX_H

#include <stddef.h>

/* row = e^(row - max) with max the largest of the row, to 2e-7 relative; what is more than 87.3 below becomes 0. Returns
 * the sum of the new row, which is NaN where one of the old row was or the largest is infinite, and *ret_max. n > 0. */
float softmax_row(float *row, size_t n, float *ret_max);

/* row = factor x row; sums (NULL: none) += row. */
void softmax_scale(float *row, size_t n, float factor, float *sums);

#endif
