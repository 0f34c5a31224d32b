/* Adam and AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019) over blocks of parameters. One thread. */
#ifndef MODEL_OPTIMIZER_H
#define MODEL_OPTIMIZER_H

#include "model/parameters.h"

#include <stdint.h>

struct optimizer_options {
	float rate;          /* at its peak */
	double beta1, beta2; /* 0.9, 0.999: as double, for 1 - 0.999F is 1e-5 away from 0.001 */
	float epsilon;       /* 1e-8 */
	float decay;         /* AdamW's, decoupled; of tensors of rank 2 and more; 0: Adam */
	float clip;          /* largest norm of the whole gradient; 0: none */
	float proximal;      /* pull towards `anchor`: gradient + proximal x (w - anchor); 0: none */
	uint64_t warm_up;    /* steps of linear rise to `rate` */
	uint64_t steps;      /* after the warm-up, cosine down to rate x `floor` at this step; 0: constant */
	float floor;
};

struct optimizer {
	struct optimizer_options options;
	uint64_t step; /* taken */
	float *mean;   /* blocks of the table: first and second moments */
	float *square;
	const float *anchor; /* block, borrowed; NULL where proximal is 0 */
};

enum status optimizer_init(struct optimizer *o, const struct optimizer_options *options, const struct parameters *table,
			   struct error *err) MUST_CHECK;
void optimizer_close(struct optimizer *o);

float optimizer_rate(const struct optimizer *o); /* of the next step */

/* One step on the `trained` tensors of the table. *ret_norm receives the gradient's norm before clipping. A gradient that
 * is not finite, or too large to be squared, changes nothing and returns false. `gradients` is overwritten. A table may
 * gain and lose `trained` marks between steps. */
bool optimizer_step(struct optimizer *o, const struct parameters *table, float *weights, float *gradients,
		    double *ret_norm);

#endif
