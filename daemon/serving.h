/* What is served, by what the tasks and the patches topic say, kept up to date on the board. The control loop's, but for
 * serving_start, while which nothing else may be called but serving_swaps. */
#ifndef DAEMON_SERVING_H
#define DAEMON_SERVING_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "io/topics.h"
#include "model/backbone.h"
#include "model/network.h"

struct serving;

/* Opens nothing yet. What is passed is borrowed. Errors: STATUS_MEMORY. */
enum status serving_new(const struct config *config, const struct backbone *backbone, struct network *net,
			struct task_board *board, struct serving **ret, struct error *err) MUST_CHECK;
void serving_free(struct serving *s); /* NULL is fine */

/* Whether these topics are all that learning takes. An older installation has none of them, which is fine, or not all, which is
 * said: it is served without tasks. */
bool serving_is_possible(const struct config *config, const struct topics *topics);

/* Reads both topics to their ends and puts what is served on the board. Blocking, up to timeout_ms for each step: not on a loop.
 * Errors: those of tasks_start and patches_start; after STATUS_UNAVAILABLE call it again, and it goes on where it stopped. */
enum status serving_start(struct serving *s, int timeout_ms, struct error *err) MUST_CHECK;

bool serving_started(const struct serving *s); /* once */

/* Each takes what has come since on its topic. They wait for nothing. Errors: STATUS_MEMORY; outages are waited out. */
enum status serving_follow_tasks(struct serving *s, struct error *err) MUST_CHECK;
enum status serving_follow_patches(struct serving *s, struct error *err) MUST_CHECK;

/* One of them was deleted, made anew or cut off, which was said: what is served stays as it is until serving_start has read it
 * again. */
bool serving_lost(const struct serving *s);

uint64_t serving_swaps(const struct serving *s); /* versions that took another's place in a lineage; any thread */

#endif
