/* The patches topic: followed from its beginning into a table, and written to inside of transactions.
 *
 * One thread each. Opening blocks up to its time-out, polling as long as it is told: with 0, not at all. */
#ifndef IO_PATCH_TOPIC_H
#define IO_PATCH_TOPIC_H

#include "io/follower.h"
#include "io/patch_plan.h"

struct patch_topic;

/* `checkpoints` as in patch_table_new. Errors: those of follower_open. */
enum status patch_topic_open(const struct config *config, bool checkpoints, int timeout_ms, struct patch_topic **ret,
			     struct error *err) MUST_CHECK;
void patch_topic_close(struct patch_topic *t); /* NULL is fine */

/* Begins anew, with an empty table, as follower_restart. */
enum status patch_topic_restart(struct patch_topic *t, int timeout_ms, struct error *err) MUST_CHECK;

/* Takes the next record, waiting for it at most wait_ms: *ret_got, and *ret as in patch_table_apply. Of a transaction that is
 * committed, so that versions appear whole. Errors: STATUS_UNAVAILABLE (restart it), STATUS_MEMORY. */
enum status patch_topic_poll(struct patch_topic *t, int wait_ms, bool *ret_got, struct patch_change *ret,
			     struct error *err) MUST_CHECK;

bool patch_topic_caught_up(const struct patch_topic *t); /* everything is read that was there when it was opened */

/* Polls until caught up. Errors: those of polling, and STATUS_UNAVAILABLE after timeout_ms. */
enum status patch_topic_catch_up(struct patch_topic *t, int timeout_ms, struct error *err) MUST_CHECK;

const struct patch_table *patch_topic_table(const struct patch_topic *t);

/* ---- writing ---- */

struct patch_writer;

/* Serves the producer's events for about wait_ms, for a queue that is full. */
typedef void (*patch_drain_fn)(void *arg, int wait_ms);

/* On a producer that is the caller's and outlives the writer. `drain` NULL: a full queue is an error at once. Errors:
 * STATUS_CONFIG (no such topic), STATUS_UNAVAILABLE, STATUS_MEMORY. */
enum status patch_writer_open(const struct config *config, rd_kafka_t *producer, patch_drain_fn drain, void *arg,
			      int timeout_ms, struct patch_writer **ret, struct error *err) MUST_CHECK;
void patch_writer_close(struct patch_writer *w); /* NULL is fine; before the producer */

size_t patch_writer_message_bytes(const struct patch_writer *w); /* the largest message that its producer takes */

/* Produces a record into the producer's open transaction, and with bytes (data not NULL, not empty) those first: chunks,
 * tombstones of older ones beyond them, the manifest, the decision. record->weights is filled in; record->number is plan->number
 * for a new record, or one less to write the newest again. Deliveries are reported to the producer's owner. Errors, after which the
 * transaction is to be aborted and the plan, which is as before, stands for it: STATUS_DATA (too large), STATUS_CONFIG,
 * STATUS_UNAVAILABLE, STATUS_MEMORY. */
enum status patch_writer_write(struct patch_writer *w, struct patch_plan *plan, struct patch_record *record,
			       struct slice bytes, struct error *err) MUST_CHECK;

#endif
