/* The tasks topic, followed from its beginning into a table. What writes to it is io/topic_write.h.
 *
 * One thread. Opening blocks up to its time-out, polling as long as it is told: with 0, not at all. Nothing
 * belongs to a group: every process reads every partition. Partitions that are added later are not seen until it is opened anew. */
#ifndef IO_TASK_TOPIC_H
#define IO_TASK_TOPIC_H

#include "base/error.h"
#include "config/config.h"
#include "io/task_table.h"

struct task_topic;

/* `judge` as in task_table_new. Errors: STATUS_CONFIG (no such topic, with the command that makes it; a property that librdkafka refuses), STATUS_UNAVAILABLE,
 * STATUS_MEMORY. */
enum status task_topic_open(const struct config *config, const struct task_judge *judge, int timeout_ms,
			    struct task_topic **ret, struct error *err) MUST_CHECK;
void task_topic_close(struct task_topic *t); /* NULL is fine */

/* Begins anew, with an empty table, as follower_restart. */
enum status task_topic_restart(struct task_topic *t, int timeout_ms, struct error *err) MUST_CHECK;

/* Takes the next record, waiting for it at most wait_ms: *ret as in task_table_apply. Outages are waited out. Errors:
 * STATUS_UNAVAILABLE (the topic was deleted, or may not be read: restart it), STATUS_MEMORY. */
enum status task_topic_poll(struct task_topic *t, int wait_ms, const struct task_entry **ret,
			    struct error *err) MUST_CHECK;

bool task_topic_caught_up(const struct task_topic *t); /* everything is read that was there when it was opened */

/* Polls until caught up. Errors: those of polling, and STATUS_UNAVAILABLE after timeout_ms. */
enum status task_topic_catch_up(struct task_topic *t, int timeout_ms, struct error *err) MUST_CHECK;

const struct task_table *task_topic_table(const struct task_topic *t);

#endif
