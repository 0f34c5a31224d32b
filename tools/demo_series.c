#include "tools/demo_series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Half as many points, twice as wide. */
static void coarsen(struct demo_series *s)
{
	for (size_t i = 0; i < DEMO_SERIES_POINTS / 2; i++) {
		const struct demo_point *two = &s->points[2 * i];
		s->points[i] = (struct demo_point){ two[0].sum + two[1].sum, two[0].count + two[1].count };
	}
	memset(&s->points[DEMO_SERIES_POINTS / 2], 0, sizeof s->points / 2);
	s->width_s *= 2;
}

void demo_series_add(struct demo_series *s, double now_s, double sum, double count)
{
	if (s->width_s <= 0)
		s->width_s = 1;
	while (now_s >= s->width_s * DEMO_SERIES_POINTS)
		coarsen(s);
	struct demo_point *point = &s->points[(size_t)(now_s / s->width_s)];
	point->sum += sum;
	point->count += count;
}

double demo_series_mean(const struct demo_series *s, double from_s, double to_s)
{
	double sum = 0, count = 0;
	for (size_t i = 0; i < DEMO_SERIES_POINTS && s->width_s > 0; i++) {
		const double begin_s = (double)i * s->width_s;
		if (begin_s < from_s || begin_s >= to_s)
			continue;
		sum += s->points[i].sum;
		count += s->points[i].count;
	}
	return count > 0 ? sum / count : (double)NAN;
}

const char *demo_series_bars(const struct demo_series *s, double to_s, double low, double high,
			     char text[DEMO_SERIES_TEXT])
{
	static const char *const bars[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	const double width_s = to_s / DEMO_SERIES_BARS;
	size_t length = 0;
	for (int i = 0; i < DEMO_SERIES_BARS; i++) {
		const double mean = demo_series_mean(s, floor(i * width_s), floor((i + 1) * width_s));
		const double share = fmin(fmax((mean - low) / (high - low), 0), 1);
		const char *bar = isnan(mean) ? " " : bars[(int)(share * 7.99)];
		length += (size_t)snprintf(text + length, DEMO_SERIES_TEXT - length, "%s", bar);
	}
	return text;
}
