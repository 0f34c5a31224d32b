/* The board that lanes pin their status to and the control loop reads: one slot a lane, copies in and copies out under
 * a mutex, so that neither side ever waits for more than a memcpy. Any thread. */
#ifndef DAEMON_STATUS_BOARD_H
#define DAEMON_STATUS_BOARD_H

#include "base/error.h"
#include "daemon/lane_status.h"

struct status_board;

/* A board with `lanes` slots; a slot nobody published to reads as a lane that waits for its first assignment.
 * Errors: STATUS_MEMORY. */
enum status status_board_new(int lanes, struct status_board **ret, struct error *err) MUST_CHECK;
void status_board_free(struct status_board *board); /* NULL is fine; no thread may be using it */

int status_board_lanes(const struct status_board *board);

/* Copies *status, shards included, into the slot of `lane`. Never fails: where memory is short the slot says so, is not
 * ready and has no shards until the next call. */
void status_board_publish(struct status_board *board, int lane, const struct lane_status *status);

/* Copies the slot of `lane` into *ret, whose shards are then the caller's: lane_status_clear. Errors: STATUS_MEMORY. */
enum status status_board_read(struct status_board *board, int lane, struct lane_status *ret,
			      struct error *err) MUST_CHECK;

void lane_status_clear(struct lane_status *status); /* frees the shards and zeroes */

#endif
