#include "daemon/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { COUNTER, GAUGE, HISTOGRAM };
enum label { NONE, REASON };

struct description {
	enum metric first; /* slot */
	const char *name;
	enum kind kind;
	enum label label;
	const char *help;
};

static const struct description descriptions[] = {
#define METRIC(id, name, kind, label, help) { METRIC_##id, name, kind, label, help },
#define DERIVED(...)
#include "daemon/metrics.def"
#undef METRIC
#undef DERIVED
};

static const double bounds[] = { METRICS_BOUNDS };
static const char *const kind_names[] = { "counter", "gauge", "histogram" };

struct metrics *metrics_new(size_t lanes)
{
	if (lanes > SIZE_MAX / sizeof(struct metrics))
		return NULL;
	size_t bytes = (lanes ? lanes : 1) * sizeof(struct metrics);
	struct metrics *metrics = aligned_alloc(alignof(struct metrics), bytes);
	if (metrics)
		memset((void *)metrics, 0, bytes);
	return metrics;
}

void metrics_free(struct metrics *metrics)
{
	free(metrics);
}

/* A block has one writer, so a load and a store do what an atomic addition would. */
static void slot_add(_Atomic uint64_t *slot, uint64_t n)
{
	atomic_store_explicit(slot, atomic_load_explicit(slot, memory_order_relaxed) + n, memory_order_relaxed);
}

void metrics_add(struct metrics *m, enum metric counter_or_gauge, uint64_t n)
{
	slot_add(&m->slots[counter_or_gauge], n);
}

void metrics_sub(struct metrics *m, enum metric gauge, uint64_t n)
{
	slot_add(&m->slots[gauge], 0 - n);
}

void metrics_set(struct metrics *m, enum metric gauge, uint64_t value)
{
	atomic_store_explicit(&m->slots[gauge], value, memory_order_relaxed);
}

void metrics_add_reason(struct metrics *m, enum metric counter, enum reason reason, uint64_t n)
{
	assert(reason < REASON_COUNT);
	slot_add(&m->slots[(size_t)counter + reason], n);
}

static double bits_to_double(uint64_t bits)
{
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

void metrics_observe(struct metrics *m, enum metric histogram, double seconds)
{
	if (isnan(seconds))
		return;
	size_t bucket = 0;
	while (bucket < METRICS_BOUNDS_COUNT && seconds > bounds[bucket])
		bucket++;
	slot_add(&m->slots[histogram + bucket], 1);
	_Atomic uint64_t *sum = &m->slots[(size_t)histogram + METRICS_BOUNDS_COUNT + 1];
	double value = bits_to_double(atomic_load_explicit(sum, memory_order_relaxed)) + seconds;
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	atomic_store_explicit(sum, bits, memory_order_relaxed);
}

static uint64_t sum_slot(const struct metrics *metrics, size_t lanes, size_t slot)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < lanes; i++)
		sum += atomic_load_explicit(&metrics[i].slots[slot], memory_order_relaxed);
	return sum;
}

uint64_t metrics_sum(const struct metrics *metrics, size_t lanes, enum metric metric)
{
	return sum_slot(metrics, lanes, metric);
}

void metrics_printf(struct buffer *out, const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	assert(n >= 0 && (size_t)n < sizeof text);
	buffer_append(out, text, (size_t)n);
}

void metrics_print_escaped(struct buffer *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			buffer_append_byte(out, '\\');
		if (*text == '\n')
			buffer_append(out, "\\n", 2);
		else
			buffer_append_byte(out, (uint8_t)*text);
	}
}

static void print_reasons(const struct metrics *metrics, size_t lanes, const struct description *d, struct buffer *out)
{
	for (size_t r = REASON_NONE + 1; r < REASON_COUNT; r++)
		metrics_printf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", d->name, reason_name((enum reason)r),
			       sum_slot(metrics, lanes, d->first + r));
}

static void print_histogram(const struct metrics *metrics, size_t lanes, const struct description *d,
			    struct buffer *out)
{
	uint64_t count = 0;
	for (size_t i = 0; i < METRICS_BOUNDS_COUNT; i++) {
		count += sum_slot(metrics, lanes, d->first + i);
		metrics_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", d->name, bounds[i], count);
	}
	count += sum_slot(metrics, lanes, (size_t)d->first + METRICS_BOUNDS_COUNT);
	metrics_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", d->name, count);
	double seconds = 0;
	size_t slot = (size_t)d->first + METRICS_BOUNDS_COUNT + 1;
	for (size_t i = 0; i < lanes; i++)
		seconds += bits_to_double(atomic_load_explicit(&metrics[i].slots[slot], memory_order_relaxed));
	metrics_printf(out, "%s_sum %.9g\n%s_count %" PRIu64 "\n", d->name, seconds, d->name, count);
}

void metrics_print(const struct metrics *metrics, size_t lanes, struct buffer *out)
{
	for (size_t i = 0; i < sizeof descriptions / sizeof descriptions[0]; i++) {
		const struct description *d = &descriptions[i];
		metrics_printf(out, "# HELP %s %s\n# TYPE %s %s\n", d->name, d->help, d->name, kind_names[d->kind]);
		if (d->kind == HISTOGRAM)
			print_histogram(metrics, lanes, d, out);
		else if (d->label == REASON)
			print_reasons(metrics, lanes, d, out);
		else
			metrics_printf(out, "%s %" PRIu64 "\n", d->name, sum_slot(metrics, lanes, d->first));
	}
}
