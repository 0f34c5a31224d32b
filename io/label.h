/* Label records: encode for replay (contract, "Topics"). Pure; any thread. */
#ifndef IO_LABEL_H
#define IO_LABEL_H

#include "base/buffer.h"

#include <stdbool.h>

struct label {
	struct slice task;
	struct slice user_id;
	int64_t timestamp_ms; /* since the epoch */
	struct slice text;    /* a class or an item; data NULL: `number` */
	double number;        /* a regression target */
	float weight;
};

void label_encode(const struct label *l, struct buffer *out); /* appends a plain datum */

#endif
