/* The layers' loops for any processor: four floats at a time in the compiler's own vectors. */
#include <stdint.h>
#include <string.h>

typedef float vector __attribute__((vector_size(16)));
typedef int32_t vector_mask __attribute__((vector_size(16)));

static inline vector load(const float *p)
{
	vector v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline void store(float *p, vector v)
{
	memcpy(p, &v, sizeof v);
}

static inline vector splat(float s)
{
	return (vector){ s, s, s, s };
}

/* The lanes of v where y is above 0. */
static inline vector gate(vector y, vector v)
{
	return (vector)((vector_mask)(y > splat(0.0F)) & (vector_mask)v);
}

#define NAME(x) portable##x
#define NAME_TEXT "portable"
#define VECTOR vector
#define LANES 4
#define LOAD(p) load(p)
#define STORE(p, v) store(p, v)
#define SPLAT(s) splat(s)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define FMA(a, b, c) ((a) * (b) + (c))
#define SUM(v) (((v)[0] + (v)[1]) + ((v)[2] + (v)[3]))
#define GATE(y, v) gate(y, v)
#define OUTER_ROWS 2
#define OUTER_PANELS 1
#define UNROLL

#include "model/layers_vector.h"
