/* What a demonstration knows of its users: what was sent, where it stands in the topic, and what came back.
 *
 * One thread. Users are numbers from 0. */
#ifndef TOOLS_TRACKER_H
#define TOOLS_TRACKER_H

#include "base/error.h"
#include "io/update.h"
#include "model/backbone.h"

#include <stdbool.h>

struct tracker;

enum { TRACKER_WINDOW_S = 10 };

struct tracker_totals {
	int64_t sent;
	int64_t active; /* users with an event */
	int64_t updates;
	int64_t behind;    /* events that stand in the topic and are in no update yet, an estimate */
	int64_t backwards; /* updates of an older interaction than the one before: never */
	int64_t p50_ms; /* from event to update, of the newest TRACKER_WINDOW_S seconds' updates: not of a start long ago */
	int64_t p99_ms; /* -1, as the others: there was none yet */
	int64_t max_ms;
};

struct tracker_verdict {
	int64_t users;      /* with an event */
	int64_t newest;     /* whose last update is of their newest interaction, by partition and offset */
	int64_t lengths;    /* and has the right number of events */
	int64_t embeddings; /* and the embedding that is recomputed here, to 1e-5 of its largest value or of 1 */
	double worst;       /* largest difference of an embedding */
};

/* `keep`: sequences.keep of the daemon. The backbone stays the caller's and outlives the tracker. NULL: out of memory. */
struct tracker *tracker_new(const struct backbone *backbone, uint32_t users, uint32_t keep, int32_t partitions);
void tracker_free(struct tracker *t); /* NULL is fine */

void tracker_sent(struct tracker *t, uint32_t user, uint32_t item, int64_t time_ms); /* item: vocabulary index */
void tracker_interaction(struct tracker *t, uint32_t user, int32_t partition, int64_t offset);
void tracker_update(struct tracker *t, uint32_t user, const struct update *update, int64_t now_ms);

void tracker_totals(const struct tracker *t, struct tracker_totals *ret);

/* Users whose newest event is not in an update yet. */
int64_t tracker_waiting(const struct tracker *t);

/* Recomputes every user's embedding from what was sent. Errors: STATUS_MEMORY. */
enum status tracker_verify(const struct tracker *t, struct tracker_verdict *ret, struct error *err) MUST_CHECK;

#endif
