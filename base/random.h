/* Random numbers that are the same on every machine: splitmix64. One stream is eight bytes of state, which may be stored
 * and taken up again. Not for secrets. Any thread with a stream of its own. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random_stream {
	uint64_t state;
};

/* Streams of one seed with different `number`s are independent for our purposes. { seed } alone is splitmix64's own
 * stream of that seed. */
struct random_stream random_from(uint64_t seed, uint64_t number);

uint64_t random_next(struct random_stream *r);
uint32_t random_below(struct random_stream *r, uint32_t n); /* 0 .. n - 1, unbiased; n > 0 */
float random_uniform(struct random_stream *r);              /* [0, 1), 24 bits */

/* Mean 0, variance 1: the sum of twelve uniforms less its mean. Whole numbers all the way, hence the same everywhere; no
 * value lies beyond 6. */
float random_normal(struct random_stream *r);

/* Any order with the same probability; n below 2^32. */
void random_shuffle(struct random_stream *r, uint32_t *values, size_t n);

#endif
