/* Labels of a shard whose users had done nothing before them: each waits for the user's first older event, as long as its
 * task's wait_ms says.
 *
 * What waits is state: it stands in changelog and store under its offset (io/record.h), and in the table below as of the open
 * batch. Bounded; what exceeds the bound makes the oldest give up. One thread. */
#ifndef DAEMON_WAITING_H
#define DAEMON_WAITING_H

#include "base/error.h"
#include "io/label.h"
#include "io/record.h"

#include <stddef.h>

enum { WAITING_LABELS = 4096, WAITING_BYTES = 2 << 20 }; /* of a shard */

struct waiting_user;

struct waiting_label {
	struct record_label record; /* slices of `bytes` */
	struct label label;         /* its value, decoded; likewise */
	struct waiting_user *user;
	struct waiting_label *next, *previous; /* in the order of their offsets */
	struct waiting_label *next_of_user;    /* likewise */
	size_t length;
	uint8_t bytes[]; /* [length]: the record as it stands in the changelog */
};

struct waiting {                    /* zeroed: empty */
	struct waiting_user *users; /* by id */
	struct waiting_label *first, *last;
	size_t count, bytes;
	int64_t least_until_ms, least_deadline_ms; /* no label's is less */
};

/* Adds a label by its record; offsets come in their order. Errors: STATUS_DATA (damaged), STATUS_MEMORY; nothing changed. */
enum status waiting_add(struct waiting *w, struct slice record, struct error *err) MUST_CHECK;

/* The user's first label, NULL: none waits. Next ones are at `next_of_user`. */
struct waiting_label *waiting_of(const struct waiting *w, struct slice user_id);

/* The first label of which the interactions have passed the time, with `at_end` also one whose deadline is over by the wall
 * clock; NULL: there is none. */
struct waiting_label *waiting_over(struct waiting *w, int64_t stream_ms, bool at_end, int64_t wall_ms);

bool waiting_too_many(const struct waiting *w); /* the first is to give up */

/* Takes it off the table; it is the caller's, to be freed with free(3). */
void waiting_take(struct waiting *w, struct waiting_label *label);

void waiting_clear(struct waiting *w);

#endif
