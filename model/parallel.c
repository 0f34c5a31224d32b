#include "model/parallel.h"

static void run_here(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	for (uint32_t number = 0; number < parts; number++)
		part(job, number);
}

const struct parallel parallel_none = { .parts = 1, .run = run_here };
