#include "model/optimizer.h"

#include <math.h>
#include <stdlib.h>

enum status optimizer_init(struct optimizer *o, const struct optimizer_options *options, const struct parameters *table,
			   struct error *err)
{
	*o = (struct optimizer){ .options = *options };
	o->mean = parameters_block_new(table);
	o->square = parameters_block_new(table);
	if (o->mean == NULL || o->square == NULL) {
		optimizer_close(o);
		return error_set_memory(err);
	}
	return STATUS_OK;
}

void optimizer_close(struct optimizer *o)
{
	free(o->mean);
	free(o->square);
	*o = (struct optimizer){ 0 };
}

float optimizer_rate(const struct optimizer *o)
{
	const struct optimizer_options *p = &o->options;
	const uint64_t step = o->step + 1;
	if (step <= p->warm_up)
		return (float)((double)p->rate * (double)step / (double)p->warm_up);
	if (p->steps <= p->warm_up)
		return p->rate;
	const double way = step < p->steps ? (double)(step - p->warm_up) / (double)(p->steps - p->warm_up) : 1.0;
	const double low = (double)p->rate * (double)p->floor;
	return (float)(low + ((double)p->rate - low) * 0.5 * (1.0 + cos(way * 3.14159265358979323846)));
}

static void pull(float *restrict gradients, const float *restrict weights, const float *restrict anchor, size_t n,
		 float proximal)
{
	for (size_t i = 0; i < n; i++)
		gradients[i] += proximal * (weights[i] - anchor[i]);
}

/* The sum of squares, in lanes so that it is vectors and no order of one addition after the other. */
static double squares(const float *values, size_t n)
{
	enum { LANES = 8, STRIDE = 4096 };
	double sum = 0;
	for (size_t from = 0; from < n; from += STRIDE) {
		const size_t end = n - from < STRIDE ? n : from + STRIDE;
		double lanes[LANES] = { 0 };
		size_t i = from;
		for (; i + LANES <= end; i += LANES) {
			for (size_t lane = 0; lane < LANES; lane++)
				lanes[lane] += (double)values[i + lane] * (double)values[i + lane];
		}
		for (; i < end; i++)
			sum += (double)values[i] * (double)values[i];
		for (size_t lane = 0; lane < LANES; lane++)
			sum += lanes[lane];
	}
	return sum;
}

/* The constants of one step. */
struct step {
	float factor;        /* of the gradient: clipping */
	float beta1, fresh1; /* fresh = 1 - beta */
	float beta2, fresh2;
	float rate; /* over the mean's bias correction */
	float root; /* 1 / sqrt of the square's bias correction */
	float epsilon;
	float keep; /* 1 - rate x decay */
};

/* w <- keep w - rate' m / (root sqrt(v) + epsilon), as PyTorch orders it. */
static void move(const struct step *s, size_t n, float *restrict w, const float *restrict gradients,
		 float *restrict mean, float *restrict square)
{
	for (size_t i = 0; i < n; i++) {
		const float g = gradients[i] * s->factor;
		mean[i] = s->beta1 * mean[i] + s->fresh1 * g;
		square[i] = s->beta2 * square[i] + s->fresh2 * g * g;
		w[i] = s->keep * w[i] - s->rate * mean[i] / (s->root * sqrtf(square[i]) + s->epsilon);
	}
}

static struct step step_of(const struct optimizer *o, double norm)
{
	const struct optimizer_options *p = &o->options;
	const double number = (double)o->step + 1.0;
	const double rate = (double)optimizer_rate(o);
	return (struct step){
		.factor = p->clip > 0 && norm > (double)p->clip ? (float)((double)p->clip / norm) : 1.0F,
		.beta1 = (float)p->beta1,
		.fresh1 = (float)(1.0 - p->beta1),
		.beta2 = (float)p->beta2,
		.fresh2 = (float)(1.0 - p->beta2),
		.rate = (float)(rate / (1.0 - pow(p->beta1, number))),
		.root = (float)(1.0 / sqrt(1.0 - pow(p->beta2, number))),
		.epsilon = p->epsilon,
		.keep = (float)(1.0 - rate * (double)p->decay),
	};
}

bool optimizer_step(struct optimizer *o, const struct parameters *table, float *weights, float *gradients,
		    double *ret_norm)
{
	double sum = 0;
	for (size_t i = 0; i < table->count; i++) {
		const struct parameter *t = &table->list[i];
		if (!t->trained)
			continue;
		if (o->options.proximal > 0)
			pull(gradients + t->offset, weights + t->offset, o->anchor + t->offset, t->count,
			     o->options.proximal);
		sum += squares(gradients + t->offset, t->count);
	}
	*ret_norm = sqrt(sum);
	const struct step s = step_of(o, *ret_norm);
	if (!(*ret_norm * (double)s.factor < 1e18)) /* whose square is still a float */
		return false;
	for (size_t i = 0; i < table->count; i++) {
		const struct parameter *t = &table->list[i];
		struct step own = s;
		own.keep = t->rank >= 2 ? s.keep : 1.0F;
		if (t->trained)
			move(&own, t->count, weights + t->offset, gradients + t->offset, o->mean + t->offset,
			     o->square + t->offset);
	}
	o->step++;
	return true;
}
