#include "base/random.h"

#define GOLDEN_RATIO 0x9e3779b97f4a7c15 /* 2^64 / phi: the step of splitmix64 */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

struct random_stream random_from(uint64_t seed, uint64_t number)
{
	return (struct random_stream){ mix(mix(seed + GOLDEN_RATIO) + mix(number + 1)) };
}

uint64_t random_next(struct random_stream *r)
{
	return mix(r->state += GOLDEN_RATIO);
}

/* Lemire, "Fast random integer generation in an interval" (2019). */
uint32_t random_below(struct random_stream *r, uint32_t n)
{
	uint64_t product = (random_next(r) >> 32) * n;
	if ((uint32_t)product < n) {
		const uint32_t biased = (0U - n) % n; /* 2^32 mod n */
		while ((uint32_t)product < biased)
			product = (random_next(r) >> 32) * n;
	}
	return (uint32_t)(product >> 32);
}

float random_uniform(struct random_stream *r)
{
	return (float)(random_next(r) >> 40) * 0x1p-24F;
}

float random_normal(struct random_stream *r)
{
	int64_t sum = 0;
	for (int i = 0; i < 3; i++) {
		const uint64_t four = random_next(r);
		sum += (int64_t)((four & 0xffff) + (four >> 16 & 0xffff) + (four >> 32 & 0xffff) + (four >> 48));
	}
	return (float)(2 * sum - 12 * 0xffff) * 0x1p-17F;
}

void random_shuffle(struct random_stream *r, uint32_t *values, size_t n)
{
	for (size_t left = n; left > 1; left--) {
		const size_t at = random_below(r, (uint32_t)left);
		const uint32_t value = values[at];
		values[at] = values[left - 1];
		values[left - 1] = value;
	}
}
