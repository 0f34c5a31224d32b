/* What comes out of a lane's consumer: records, ends, rebalances, errors; and how much of it is taken. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "daemon/apply.h"
#include "daemon/join.h"
#include "io/client.h"

#include <stdio.h>
#include <string.h>

enum {
	DRAIN_EVENTS = 1000,        /* before the loop looks at its other handles */
	CHECK_EVENTS = 64,          /* between looks at the cache's budget and the trunk's work */
	REJECTED_BYTES = 32 << 20,  /* of dead letters held by one batch */
	STATES_WORK = 64 * 64 * 64, /* work of a cut on examples' states: d x d each, some 100 ms in all */
};

struct shard *lane_shard(struct lane *lane, int32_t partition)
{
	struct shard *shard = lane->shards;
	while (shard && shard->partition != partition)
		shard = shard->next;
	return shard;
}

bool lane_has_room(const struct lane *lane)
{
	return lane->open.records < (size_t)lane->ctx.config->transaction_max_records &&
	       lane->open.rejected_bytes < REJECTED_BYTES && lane->open.states_work < STATES_WORK;
}

/* What is committed makes room for what comes: only users that no store has yet may keep the cache over its budget. */
bool lane_cache_fits(struct lane *lane)
{
	if (lane->cache.bytes > lane->cache.budget_bytes)
		(void)user_cache_trim(&lane->cache);
	return lane->cache.bytes <= lane->cache.budget_bytes;
}

static bool may_read(struct lane *lane)
{
	return lane->phase != LANE_ABORTING && lane->phase != LANE_CLOSING && !lane->revoking && !lane->failed &&
	       !lane->breakage && !lane_stopping(lane) && lane_has_room(lane) && lane_cache_fits(lane);
}

/* The tasks in force, for a batch that has no example yet: those of one batch are of one set. */
static void look_at_tasks(struct lane *lane)
{
	struct shard_context *apply = &lane->apply;
	if (lane->open.examples_count > 0 ||
	    (apply->tasks && lane->tasks_version == task_board_version(lane->ctx.tasks)))
		return;
	task_set_release(apply->tasks);
	lane->tasks_version = task_board_version(lane->ctx.tasks);
	apply->tasks = task_board_get(lane->ctx.tasks);
}

/* Takes the event. */
static void apply_message(struct lane *lane, struct shard *shard, enum inbox_input input, rd_kafka_event_t *event,
			  const rd_kafka_message_t *message)
{
	struct error err;
	look_at_tasks(lane);
	enum status status = input == INBOX_INTERACTIONS
				     ? apply_interaction(shard, &lane->apply, &lane->open, event, message, &err)
				     : join_label(shard, &lane->apply, &lane->open, event, message, &err);
	if (status == STATUS_OK)
		return;
	rd_kafka_event_destroy(event);
	if (status == STATUS_MEMORY)
		lane_fail(lane, status, &err);
	else
		lane_shard_broken(lane, shard, &err);
}

/* Applies what need not wait any longer. */
static void empty_inbox(struct lane *lane, struct shard *shard)
{
	enum inbox_input input;
	struct inbox_record record;
	int64_t grace_us = lane->ctx.config->join_grace_ms * 1000;
	while (may_read(lane) && shard->phase == SHARD_LIVE &&
	       inbox_take(&shard->inbox, clock_monotonic_us(), grace_us, &input, &record))
		apply_message(lane, shard, input, record.event, record.message);
	lane_pause_full(lane, shard);
}

/* Nobody will move stream time on any more: labels wait by the wall clock. */
static void end_waits(struct lane *lane, struct shard *shard)
{
	const struct inbox_queue *interactions = &shard->inbox.queues[INBOX_INTERACTIONS];
	struct error err;
	if (shard->waiting.count > 0 && interactions->ended && interactions->count == 0 && may_read(lane) &&
	    join_over(shard, &lane->open, true, &err) != STATUS_OK)
		lane_fail(lane, err.status, &err);
}

static void wait_in_inbox(struct lane *lane, struct shard *shard, enum inbox_input input, rd_kafka_event_t *event,
			  const rd_kafka_message_t *message)
{
	struct error err;
	const struct inbox_record record = {
		.event = event,
		.message = message,
		.time_ms = input == INBOX_LABELS ? join_label_time(message)
						 : apply_interaction_time(&lane->apply, message),
		.read_us = clock_monotonic_us(),
	};
	if (!inbox_put(&shard->inbox, input, &record)) {
		rd_kafka_event_destroy(event);
		lane_fail(lane, error_set_memory(&err), &err);
		return;
	}
	empty_inbox(lane, shard);
}

/* Which of a shard's inputs a topic is; INBOX_INPUTS: none. */
static enum inbox_input input_named(const struct lane *lane, const char *topic)
{
	if (strcmp(topic, lane->ctx.config->interactions_topic) == 0)
		return INBOX_INTERACTIONS;
	return strcmp(topic, lane->ctx.config->labels_topic) == 0 ? INBOX_LABELS : INBOX_INPUTS;
}

static void take_message(struct lane *lane, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message = rd_kafka_event_message_next(event);
	struct shard *shard = message ? lane_shard(lane, message->partition) : NULL;
	enum inbox_input input = message ? input_named(lane, rd_kafka_topic_name(message->rkt)) : INBOX_INPUTS;
	if (!shard || shard->phase != SHARD_LIVE || input == INBOX_INPUTS || message->offset < shard->read[input]) {
		rd_kafka_event_destroy(event);
		return;
	}
	shard->read[input] = message->offset + 1;
	if (input == INBOX_INTERACTIONS && (!shard->labels || !shard->labels_assigned || inbox_passes(&shard->inbox)))
		apply_message(lane, shard, input, event, message);
	else
		wait_in_inbox(lane, shard, input, event, message);
}

/* Remembers the member id under which the lane's partitions are its own; every rebalance ends with an assignment. True:
 * it is another one than before, so that others may have owned them in between. */
static bool note_member(struct lane *lane)
{
	char *id = rd_kafka_memberid(lane->consumer);
	bool changed = lane->member[0] && (!id || strcmp(id, lane->member) != 0);
	(void)snprintf(lane->member, sizeof lane->member, "%s", id ? id : "");
	if (id)
		rd_kafka_mem_free(lane->consumer, id);
	return changed;
}

static void take_rebalance(struct lane *lane, rd_kafka_event_t *event)
{
	const rd_kafka_topic_partition_list_t *partitions = rd_kafka_event_topic_partition_list(event);
	bool assigned = rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
	metrics_add(lane->apply.metrics, METRIC_REBALANCES, 1);
	log_info("lane %d: %d partition%s %s%s", lane->index, partitions->cnt, plural(partitions->cnt),
		 assigned ? "assigned" : "revoked", rd_kafka_assignment_lost(lane->consumer) ? " (lost)" : "");
	if (!assigned) {
		lane_revoked(lane, event);
		return;
	}
	bool had_shards = lane->shards != NULL;
	if ((note_member(lane) && had_shards) || lane->outcast)
		lane->renew = true;
	lane_assigned(lane, partitions);
	rd_kafka_event_destroy(event);
}

void lane_check_fatal(struct lane *lane)
{
	struct error err;
	char text[256];
	rd_kafka_resp_err_t code = rd_kafka_fatal_error(lane->consumer, text, sizeof text);
	if (!code)
		return;
	lane->fenced = code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
	if (lane->fenced)
		(void)error_set(&err, STATUS_CONFIG,
				"fenced: another process runs with group %s and instance %s; give each its own",
				lane->ctx.config->group, lane->ctx.config->instance);
	else
		(void)error_set(&err, STATUS_UNAVAILABLE, "consumer: %s", text);
	lane_fail(lane, err.status, &err);
}

/* The live shard whose input `where` is; NULL: none. */
static struct shard *shard_reading(struct lane *lane, const rd_kafka_topic_partition_t *where,
				   enum inbox_input *ret_input)
{
	*ret_input = where ? input_named(lane, where->topic) : INBOX_INPUTS;
	if (*ret_input == INBOX_INPUTS)
		return NULL;
	struct shard *shard = lane_shard(lane, where->partition);
	return shard && shard->phase == SHARD_LIVE ? shard : NULL;
}

static void end_reached(struct lane *lane, rd_kafka_event_t *event)
{
	rd_kafka_topic_partition_t *where = rd_kafka_event_topic_partition(event);
	enum inbox_input input;
	struct shard *shard = shard_reading(lane, where, &input);
	if (shard && where->offset >= shard->read[input]) {
		inbox_end(&shard->inbox, input);
		if (input == INBOX_INTERACTIONS) {
			shard->end_position = shard->read[input];
			shard->end_offset = where->offset;
		}
		empty_inbox(lane, shard);
	}
	if (where)
		rd_kafka_topic_partition_destroy(where);
}

static void position_lost(struct lane *lane, rd_kafka_event_t *event)
{
	rd_kafka_topic_partition_t *where = rd_kafka_event_topic_partition(event);
	enum inbox_input input;
	struct shard *shard = shard_reading(lane, where, &input);
	if (shard) {
		struct error err;
		(void)error_set(&err, STATUS_UNAVAILABLE, "%s", rd_kafka_event_error_string(event));
		lane_shard_broken(lane, shard, &err); /* its restore says what is wrong with the position */
	}
	if (where)
		rd_kafka_topic_partition_destroy(where);
}

static void take_error(struct lane *lane, rd_kafka_event_t *event)
{
	switch (rd_kafka_event_error(event)) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		end_reached(lane, event);
		break;
	case RD_KAFKA_RESP_ERR__FATAL:
		lane_check_fatal(lane);
		break;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		position_lost(lane, event);
		break;
	default:
		client_note_error(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
		log_debug("lane %d: %s", lane->index, rd_kafka_event_error_string(event));
	}
	rd_kafka_event_destroy(event);
}

static void take_event(struct lane *lane, rd_kafka_event_t *event)
{
	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_FETCH:
		take_message(lane, event);
		break;
	case RD_KAFKA_EVENT_REBALANCE:
		take_rebalance(lane, event);
		break;
	case RD_KAFKA_EVENT_ERROR:
		take_error(lane, event);
		break;
	default:
		rd_kafka_event_destroy(event);
	}
}

/* Runs new users of the open batch through the trunk before the cut, while a commit may be under way. */
static void advance(struct lane *lane, size_t at_least)
{
	struct error err;
	struct batch *b = &lane->open;
	if (b->users_count - b->users_advanced < at_least)
		return;
	size_t embeddable = 0;
	struct user *users[2 * CHECK_EVENTS];
	while (b->users_advanced < b->users_count && embeddable < sizeof users / sizeof *users) {
		struct user *u = b->users[b->users_advanced++];
		if (u->sequence.length > 0)
			users[embeddable++] = u;
	}
	if (trunk_advance(lane->trunk, users, embeddable, lane->read_ahead, &err) != STATUS_OK)
		lane_fail(lane, err.status, &err);
}

/* Every so many events: the trunk's work, and the cache's budget. Reading stops while what is not committed exceeds it. A
 * commit that is under way waits until its delivery reports have been taken. */
static void keep_up(struct lane *lane)
{
	advance(lane, CHECK_EVENTS);
	if (lane->phase == LANE_COMMITTING)
		lane_drain_reports(lane);
	(void)user_cache_trim(&lane->cache);
}

void lane_drain(struct lane *lane)
{
	for (struct shard *shard = lane->shards; shard && lane->ctx.labels; shard = shard->next)
		if (shard->phase == SHARD_LIVE) {
			empty_inbox(lane, shard);
			end_waits(lane, shard);
		}
	for (int n = 0; n < DRAIN_EVENTS; n++) {
		if (n % CHECK_EVENTS == 0)
			keep_up(lane);
		if (!may_read(lane))
			break;
		rd_kafka_event_t *event = rd_kafka_queue_poll(lane->consumer_queue, 0);
		if (!event)
			break;
		take_event(lane, event);
		if (n == DRAIN_EVENTS - 1)
			lane_wake(lane);
	}
	lane_step(lane);
}
