#include "daemon/join.h"

#include "base/clock.h"
#include "daemon/task_set.h"
#include "io/deadletter.h"
#include "io/example.h"
#include "io/label.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t kafka_timestamp_ms(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	return rd_kafka_message_timestamp(message, &type);
}

static struct slice value_of(const rd_kafka_message_t *message)
{
	return (struct slice){ message->payload, message->len };
}

int64_t join_label_time(const rd_kafka_message_t *message)
{
	struct label label;
	struct error err;
	bool fine = label_decode(value_of(message), kafka_timestamp_ms(message), &label, &err) == REASON_NONE;
	return fine ? label.timestamp_ms : INBOX_NO_TIME;
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static enum reason refuse(struct error *err, enum reason reason, const char *what, struct slice name)
{
	(void)error_set(err, STATUS_DATA, "%s %.*s", what, (int)name.length, (const char *)name.data);
	return reason;
}

/* Whether there is such a task, and the label is one of its kind. */
static enum reason judge_task(const struct shard_context *ctx, const struct label *label,
			      const struct served_task **ret_task, struct error *err)
{
	const struct served_task *task = task_set_find(ctx->tasks, label->task);
	if (!task)
		return refuse(err, REASON_UNKNOWN_TASK, "there is no task", label->task);
	bool number = task->spec.type == PATCH_REGRESSION;
	if (number != !label->text.data) {
		(void)error_set(err, STATUS_DATA, "label is a %s, which a task of type %s does not take",
				number ? "string" : "number", task->definition.type);
		return REASON_SCHEMA;
	}
	if (!number && !served_task_takes(task, label->text))
		return refuse(err, REASON_UNKNOWN_LABEL, "the task does not have the label", label->text);
	*ret_task = task;
	return REASON_NONE;
}

/* How many of the kept events are strictly older than time_ms. */
static uint32_t events_before(const struct sequence *s, int64_t time_ms)
{
	uint32_t low = 0, high = s->length;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (s->events[middle].time_ms < time_ms)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Whether enough is kept of what the user had done by then. A full sequence may have lost what was older. */
static enum reason judge_past(const struct shard_context *ctx, const struct user *u, uint32_t before, struct error *err)
{
	bool full = u->sequence.length >= (uint32_t)ctx->config->sequences_keep;
	if (full && before < backbone_window(ctx->backbone)) {
		(void)error_set(err, STATUS_DATA, "only %u of the user's %u kept events are older than the label",
				before, u->sequence.length);
		return REASON_LATE;
	}
	if (before > 0)
		return REASON_NONE;
	(void)error_set(err, STATUS_DATA, "the user has no event before the label");
	return REASON_UNKNOWN_USER;
}

static uint32_t events_wanted(const struct shard_context *ctx, const struct served_task *task)
{
	uint32_t window = backbone_window(ctx->backbone);
	return task->levels_count == 0 ? window : window + (uint32_t)task->definition.mean_window;
}

static enum status add_example(const struct shard_context *ctx, struct batch *batch, const struct served_task *task,
			       const struct example *example, const struct sequence *past, struct error *err)
{
	struct example whole = *example;
	struct buffer events = { 0 };
	if (past)
		sequence_encode(past, &events);
	whole.task = text(task->definition.name);
	whole.definition = text(task->hash);
	whole.backbone = text(backbone_hash(ctx->backbone));
	whole.events = (struct slice){ events.data, events.length };
	bool done = !events.failed && batch_add_example(batch, ctx->tasks, task, &whole);
	if (past && task->levels_count > 0)
		batch->states_work += (size_t)backbone_dim(ctx->backbone) * backbone_dim(ctx->backbone);
	buffer_free(&events);
	return done ? STATUS_OK : error_set_memory(err);
}

/* An example of the label with the user's events before it, so many. */
static enum status add(const struct shard *shard, const struct shard_context *ctx, struct batch *batch,
		       const struct served_task *task, const struct label *label, const struct user *u, uint32_t before,
		       int64_t offset, struct error *err)
{
	uint32_t wanted = events_wanted(ctx, task);
	uint32_t length = before < wanted ? before : wanted;
	const struct sequence past = { .events = u->sequence.events + (before - length), .length = length };
	const struct example example = {
		.kind = label->text.data ? EXAMPLE_TEXT : EXAMPLE_NUMBER,
		.user_id = label->user_id,
		.timestamp_ms = label->timestamp_ms,
		.text = label->text,
		.number = label->number,
		.weight = label->weight,
		.partition = shard->partition,
		.offset = offset,
	};
	return add_example(ctx, batch, task, &example, &past, err);
}

/* ---- labels that wait ---- */

/* It becomes a dead letter. */
static enum status give_up(struct shard *shard, struct batch *batch, struct waiting_label *label, enum reason reason,
			   const char *detail, struct error *err)
{
	if (!batch_touch_shard(batch, shard) ||
	    !batch_note_wait(batch, shard, label->record.offset, (struct slice){ NULL, 0 }))
		return error_set_memory(err);
	waiting_take(&shard->waiting, label);
	if (batch_reject_kept(batch, label, shard->partition, reason, detail))
		return STATUS_OK;
	free(label);
	return error_set_memory(err);
}

static enum status start_waiting(struct shard *shard, struct batch *batch, int64_t wait_ms, const struct label *label,
				 const rd_kafka_message_t *message, struct error *err)
{
	struct buffer headers = { 0 }, bytes = { 0 };
	struct record_label record = { .offset = message->offset,
				       .until_ms = label->timestamp_ms + wait_ms,
				       .deadline_ms = clock_wall_ms() + wait_ms,
				       .appended_ms = kafka_timestamp_ms(message),
				       .key = { message->key, message->key_len },
				       .value = value_of(message) };
	deadletter_save_headers(message, &headers);
	record.headers = (struct slice){ headers.data, headers.length };
	record_label_encode(&record, &bytes);
	const struct slice whole = { bytes.data, bytes.length };
	const bool failed = headers.failed || bytes.failed;
	enum status status = failed ? error_set_memory(err) : waiting_add(&shard->waiting, whole, err);
	if (status == STATUS_OK && !batch_note_wait(batch, shard, record.offset, whole))
		status = error_set_memory(err);
	while (status == STATUS_OK && waiting_too_many(&shard->waiting))
		status = give_up(shard, batch, shard->waiting.first, REASON_UNKNOWN_USER,
				 "the user has no event before the label, and too many labels wait", err);
	buffer_free(&headers);
	buffer_free(&bytes);
	return status;
}

/* Joins it with the events that it has now. */
static enum status release(struct shard *shard, const struct shard_context *ctx, struct batch *batch,
			   struct waiting_label *label, const struct user *u, uint32_t before, struct error *err)
{
	const struct served_task *task;
	struct error rejection;
	enum reason reason = judge_task(ctx, &label->label, &task, &rejection);
	if (reason == REASON_NONE)
		reason = judge_past(ctx, u, before, &rejection);
	if (reason != REASON_NONE)
		return give_up(shard, batch, label, reason, rejection.text, err);
	enum status status = add(shard, ctx, batch, task, &label->label, u, before, label->record.offset, err);
	if (status != STATUS_OK)
		return status;
	if (!batch_note_wait(batch, shard, label->record.offset, (struct slice){ NULL, 0 }))
		return error_set_memory(err);
	waiting_take(&shard->waiting, label);
	free(label);
	return STATUS_OK;
}

enum status join_waiting(struct shard *shard, const struct shard_context *ctx, struct batch *batch,
			 const struct user *u, struct error *err)
{
	struct waiting_label *next;
	enum status status = STATUS_OK;
	for (struct waiting_label *label = waiting_of(&shard->waiting, user_id(u)); label && status == STATUS_OK;
	     label = next) {
		const uint32_t before = events_before(&u->sequence, label->label.timestamp_ms);
		next = label->next_of_user;
		if (before > 0)
			status = release(shard, ctx, batch, label, u, before, err);
	}
	return status;
}

enum status join_over(struct shard *shard, struct batch *batch, bool at_end, struct error *err)
{
	struct waiting_label *label;
	enum status status = STATUS_OK;
	while (status == STATUS_OK && shard->waiting.count > 0 &&
	       (label = waiting_over(&shard->waiting, shard->position.stream_time_ms, at_end,
				     at_end ? clock_wall_ms() : 0)))
		status = give_up(shard, batch, label, REASON_UNKNOWN_USER,
				 "the user has no event before the label, which has waited for one", err);
	return status;
}

/* ---- labels ---- */

/* Takes the message in; a bad one's reason is returned, with its text in *rejection. */
static enum reason take(struct shard *shard, struct shard_context *ctx, struct batch *batch,
			const rd_kafka_message_t *message, struct error *rejection, enum status *status,
			struct error *err)
{
	struct label label;
	const struct served_task *task;
	struct user *u;
	enum reason reason = label_decode(value_of(message), kafka_timestamp_ms(message), &label, rejection);
	if (reason == REASON_NONE)
		reason = judge_task(ctx, &label, &task, rejection);
	if (reason != REASON_NONE)
		return reason;
	*status = shard_user(shard, ctx, label.user_id, &u, err);
	if (*status != STATUS_OK)
		return REASON_NONE;
	uint32_t before = shard_outlived(shard, ctx, u) ? 0 : events_before(&u->sequence, label.timestamp_ms);
	reason = judge_past(ctx, u, before, rejection);
	const int64_t wait_ms = task->definition.wait_ms;
	if (reason == REASON_UNKNOWN_USER && shard->position.stream_time_ms <= label.timestamp_ms + wait_ms &&
	    wait_ms > 0) {
		*status = start_waiting(shard, batch, wait_ms, &label, message, err);
		return REASON_NONE;
	}
	if (reason == REASON_NONE)
		*status = add(shard, ctx, batch, task, &label, u, before, message->offset, err);
	return reason;
}

enum status join_label(struct shard *shard, struct shard_context *ctx, struct batch *batch, rd_kafka_event_t *event,
		       const rd_kafka_message_t *message, struct error *err)
{
	struct error rejection;
	enum status status = STATUS_OK;
	const int64_t next = message->offset + 1;
	if (!batch_touch_shard(batch, shard))
		return error_set_memory(err);
	enum reason reason = take(shard, ctx, batch, message, &rejection, &status, err);
	if (status != STATUS_OK)
		return status;
	if (!batch_take(batch, event, message, reason, rejection.text))
		return error_set_memory(err);
	shard->position.labels = next;
	batch->labels++;
	return STATUS_OK;
}

enum status join_forget(struct shard *shard, const struct shard_context *ctx, struct batch *batch, struct slice user_id,
			int64_t offset, struct error *err)
{
	struct waiting_label *label;
	const struct example example = {
		.kind = EXAMPLE_FORGET, .user_id = user_id, .partition = shard->partition, .offset = offset
	};
	enum status status = STATUS_OK;
	for (size_t i = 0; ctx->tasks && i < ctx->tasks->count && status == STATUS_OK; i++)
		status = add_example(ctx, batch, ctx->tasks->entries[i].task, &example, NULL, err);
	while (status == STATUS_OK && (label = waiting_of(&shard->waiting, user_id)))
		status = give_up(shard, batch, label, REASON_UNKNOWN_USER,
				 "the user was forgotten while the label waited for an event", err);
	return status;
}
