/* How training spreads a batch over threads without knowing any: the caller lends a way to run `parts` calls at once.
 *
 * What a part computes depends on its number only, and results are added up in the order of the parts: the same number
 * of parts gives the same bits, whatever the threads do. */
#ifndef MODEL_PARALLEL_H
#define MODEL_PARALLEL_H

#include <stdint.h>

struct parallel {
	uint32_t parts; /* at least 1 */

	/* Calls part(job, 0) .. part(job, parts - 1), in any order or at once, and returns when all have returned. */
	void (*run)(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job);
	void *arg;
};

/* One part, in the calling thread. */
extern const struct parallel parallel_none;

#endif
