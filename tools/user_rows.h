/* Matrices with a row for each user of an audience: what embed and score write. Main thread, which lends others. */
#ifndef TOOLS_USER_ROWS_H
#define TOOLS_USER_ROWS_H

#include "base/error.h"
#include "io/audience.h"
#include "model/parallel.h"
#include "model/patch.h"
#include "model/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All events as vocabulary indices: user u's are items[begins[u]] .. items[begins[u + 1] - 1]. */
struct user_items {
	size_t *begins; /* [users + 1] */
	uint32_t *items;
};
enum status user_items_make(const struct audience *a, const struct vocabulary *v, struct user_items *ret,
			    struct error *err) MUST_CHECK;
void user_items_free(struct user_items *u); /* zeroes it */

/* A backbone and a patch for it, with its users' events. */
struct user_rows {
	struct network *net;
	struct patch *patch;
	const struct audience *audience;
	const struct user_items *items;
	const struct parallel *parallel;
};

/* The task's scores of each user, [users, C], or where `embeddings` the states that the head reads, [users, d]. Errors:
 * STATUS_DATA (one is not finite: the weights are too large), STATUS_MEMORY. */
enum status user_rows_compute(const struct user_rows *r, bool embeddings, float *out, struct error *err) MUST_CHECK;

/* Whether each id fits on a line of its own. Errors: STATUS_DATA, with the row. */
enum status user_ids_check(const struct audience *a, struct error *err) MUST_CHECK;

/* A text file of the users' ids, a line a row. Errors: STATUS_IO, STATUS_MEMORY. */
enum status user_ids_write(const char *path, const struct audience *a, struct error *err) MUST_CHECK;

/* Errors: STATUS_DATA where one of [rows, columns] is not finite. */
enum status user_rows_check(const float *values, size_t rows, size_t columns, struct error *err) MUST_CHECK;

#endif
