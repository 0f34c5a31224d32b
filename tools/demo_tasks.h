/* The demonstration's tasks: put on their topic one after the other, fed with labels, and followed. What is said of them comes
 * from the patches and the updates topic alone; nothing is known of the learner.
 *
 * Times are seconds since the demonstration began to play. One thread. */
#ifndef TOOLS_DEMO_TASKS_H
#define TOOLS_DEMO_TASKS_H

#include "base/error.h"
#include "config/config.h"
#include "io/update.h"
#include "tools/feed.h"
#include "tools/simulation.h"

#include <stdbool.h>

struct demo_tasks;

enum { DEMO_TASKS_LINE = 240, DEMO_TASKS_NOTES = 6, DEMO_TASKS_LINES = 1 + 3 + DEMO_TASKS_NOTES };

/* `seconds`: how long it all lasts, 0: no end; when tasks appear and the drift comes depends on it. Configuration and
 * simulation stay the caller's. Errors: those of patch_topic_open, STATUS_DATA, STATUS_MEMORY. */
enum status demo_tasks_open(const struct config *config, struct simulation *simulation, double seconds,
			    struct demo_tasks **ret, struct error *err) MUST_CHECK;
void demo_tasks_close(struct demo_tasks *t); /* NULL is fine */

/* Puts the tasks whose time has come; lets the answers change when it has. Errors: those of topic_write. */
enum status demo_tasks_begin(struct demo_tasks *t, double now_s, struct error *err) MUST_CHECK;

/* One label of a user whose newest event is older than time_ms, for the tasks in turn that have been seen to be served; none of
 * those who never answer.
 * Errors: those of feed_put. */
enum status demo_tasks_ask(struct demo_tasks *t, struct feed *feed, uint32_t user, int64_t time_ms,
			   struct error *err) MUST_CHECK;

/* Takes what has come on the patches topic. Errors: those of patch_topic_poll. */
enum status demo_tasks_follow(struct demo_tasks *t, double now_s, struct error *err) MUST_CHECK;

/* Labels that were sent and that no record says to be trained on. */
uint64_t demo_tasks_waiting(const struct demo_tasks *t);

/* The scores of an update: of which tasks they are, and of users who never answer how they fit what is true. Errors: STATUS_MEMORY. */
enum status demo_tasks_update(struct demo_tasks *t, uint32_t user, const struct update *update, double now_s,
			      struct error *err) MUST_CHECK;

/* A line of decisions that is new since the last call, NULL: there is none; until the next demo_tasks_follow. */
const char *demo_tasks_news(struct demo_tasks *t);

/* Writes lines without newlines and returns how many: a table of the tasks with the newest decisions below it, always as
 * many lines, or a line for each task that there is. */
size_t demo_tasks_lines(const struct demo_tasks *t, double now_s, bool table,
			char lines[DEMO_TASKS_LINES][DEMO_TASKS_LINE]);

/* The tasks' part of the summary, on standard output. */
void demo_tasks_summarise(const struct demo_tasks *t, double now_s);

#endif
