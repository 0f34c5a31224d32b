/* The scores of a lane's users by the live patches of a set: side patches from the states that the trunk keeps, patches inside
 * the trunk by a pass over the window, heads alone from the embedding. They are those of tuner_scores (model/tuner.h) to 1e-5.
 *
 * Memory is got when a set is taken, none for a user. One thread. */
#ifndef DAEMON_SCORER_H
#define DAEMON_SCORER_H

#include "daemon/task_set.h"
#include "daemon/trunk.h"
#include "io/update.h"
#include "model/network.h"

struct scorer;

enum { SCORER_ROWS = 64 }; /* users of one run at most */

/* What is passed is borrowed. Errors: STATUS_MEMORY. */
enum status scorer_new(const struct backbone *backbone, const struct network *net, struct trunk *trunk,
		       struct scorer **ret, struct error *err) MUST_CHECK;
void scorer_free(struct scorer *s); /* NULL is fine */

/* From now on by the patches of this set, which it holds; the trunk keeps what they read. Errors: STATUS_MEMORY, then by none
 * at all. */
enum status scorer_use(struct scorer *s, struct task_set *set, struct error *err) MUST_CHECK;

bool scorer_has_work(const struct scorer *s); /* there is a patch */

/* Scores n <= SCORER_ROWS distinct users with at least one event each, as of the ends of their sequences; embeddings: [n, d],
 * trunk_embed's. Errors: STATUS_MEMORY. */
enum status scorer_run(struct scorer *s, struct user *const users[], size_t n, const float *embeddings,
		       struct error *err) MUST_CHECK;

/* The scores of user i of the last run, one entry a task with a patch, in the order of their names; until the next call of any
 * of these functions. */
const struct update_score *scorer_of(struct scorer *s, size_t i, size_t *ret_count);

#endif
