/* What the lanes' status adds up to: ready or not, alive or not, with one line for each reason. A health is the control
 * loop's own; it is pure but for the board that it reads, and the caller passes the time. */
#ifndef DAEMON_HEALTH_H
#define DAEMON_HEALTH_H

#include "base/buffer.h"
#include "base/error.h"
#include "daemon/status_board.h"

#include <stdbool.h>

struct health;

/* A lane without a tick for `stall_ms` is not alive. Errors: STATUS_MEMORY. */
enum status health_new(struct status_board *board, int64_t stall_ms, struct health **ret, struct error *err) MUST_CHECK;
void health_free(struct health *h); /* NULL is fine */

/* The lanes run from now on; before that only `waiting` counts: why they do not, one line. */
void health_wait(struct health *h, const char *waiting);
void health_start(struct health *h, int64_t now_ms);

/* What is beside the lanes: why what is served is not what the topics say, or why nothing is learnt; one line, "": all is well. */
enum health_part { HEALTH_SERVING, HEALTH_LEARNING, HEALTH_PARTS };
void health_note(struct health *h, enum health_part part, const char *why);

/* Takes the board's news. Errors: STATUS_MEMORY; what it knew stays. */
enum status health_update(struct health *h, int64_t now_ms, struct error *err) MUST_CHECK;

/* After health_update. Reasons go to *reasons, a line each. */
bool health_ready(const struct health *h, struct buffer *reasons);
bool health_alive(const struct health *h, int64_t now_ms, struct buffer *reasons);

/* Whether the start is over: every lane has had its first assignment, empty perhaps, and restored what can be restored.
 * A shard that stopped for a person to look at does not hold up the start of the others. */
bool health_settled(const struct health *h);

/* Whether every lane's tick grew since the last call that returned true: what a watchdog may be fed with. */
bool health_progressed(struct health *h);

/* A lane that has ended ticks no more, and nobody expects it to. */
void health_lane_ended(struct health *h, int lane);

/* What the last health_update took, [status_board_lanes()], until the next. */
const struct lane_status *health_lanes(const struct health *h, size_t *ret_count);

#endif
