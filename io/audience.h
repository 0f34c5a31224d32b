/* The users of an events file, in order of first appearance, each with its events in time order.
 *
 * What the commands that read whole files (embed) work on. One thread. */
#ifndef IO_AUDIENCE_H
#define IO_AUDIENCE_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/events_file.h"
#include "io/sequence.h"

#include <stdbool.h>

struct audience;

/* Reads all of `path` (io/events_file.h). Errors: those of events_file, STATUS_MEMORY. */
enum status audience_load(const char *path, struct audience **ret, struct error *err) MUST_CHECK;

/* The same, and `each` sees every row of the file in its order: what else of it is wanted, such as the items' ids.
 * Its error ends the reading. */
struct audience_observer {
	enum status (*each)(void *arg, const struct events_file *file, const struct events_row *row, struct error *err);
	void *arg;
};
enum status audience_load_observed(const char *path, const struct audience_observer *observer, struct audience **ret,
				   struct error *err) MUST_CHECK;
void audience_free(struct audience *a); /* NULL is fine */

size_t audience_users(const struct audience *a);
size_t audience_events(const struct audience *a);
struct slice audience_user(const struct audience *a, size_t user); /* its id, until audience_free */

bool audience_find(const struct audience *a, struct slice id, size_t *ret_user); /* false: no such user */

/* The user's events by timestamp, equal ones by line; until audience_free. */
const struct event *audience_sequence(const struct audience *a, size_t user, size_t *ret_length);

#endif
