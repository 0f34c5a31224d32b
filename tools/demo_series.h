/* A mean over time, to be asked for of any stretch, and its course as a line of bars. Seconds from 0 that do not go back;
 * what is long ago is kept coarser. Zeroed: empty. One thread. */
#ifndef TOOLS_DEMO_SERIES_H
#define TOOLS_DEMO_SERIES_H

#include <stddef.h>

enum { DEMO_SERIES_POINTS = 512, DEMO_SERIES_BARS = 24, DEMO_SERIES_TEXT = DEMO_SERIES_BARS * 3 + 1 };

struct demo_series {
	struct demo_point {
		double sum;
		double count;
	} points[DEMO_SERIES_POINTS];
	double width_s; /* of a point; 0: nothing was added yet */
};

void demo_series_add(struct demo_series *s, double now_s, double sum, double count);

/* Of the points that begin in from_s <= t < to_s; NaN without any. */
double demo_series_mean(const struct demo_series *s, double from_s, double to_s);

/* From time 0 to to_s in DEMO_SERIES_BARS bars, as high as the mean lies between low (no bar's height) and high; blank where
 * there is none. low may be above high. */
const char *demo_series_bars(const struct demo_series *s, double to_s, double low, double high,
			     char text[DEMO_SERIES_TEXT]);

#endif
