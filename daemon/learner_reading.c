/* What the learner lane reads: partitions that come and go, their examples, and for lineages that lag behind older ones. */
#include "daemon/learner_lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"
#include "io/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CALL_MS = 10000,
	STEP_MS = 20,
	HISTORY_RECORDS = 2048,
	PROBE_US = 5000000,
	PROBE_MS = 1000,
	UNCOVERED_PROBES = 2,
	PASSED_US = 60000000, /* between lines on the log about examples that are passed over */
};

struct learner_part *learner_part_find(const struct learner_lane *lane, int32_t partition)
{
	struct learner_part *part = lane->parts;
	while (part && part->partition != partition)
		part = part->next;
	return part;
}

static void close_history(struct learner_part *part)
{
	if (!part->history)
		return;
	(void)rd_kafka_consumer_close(part->history);
	rd_kafka_destroy(part->history);
	part->history = NULL;
}

static void part_free(struct learner_part *part)
{
	close_history(part);
	free(part->resting);
	free(part);
}

void learner_parts_free(struct learner_lane *lane)
{
	while (lane->parts) {
		struct learner_part *part = lane->parts;
		lane->parts = part->next;
		part_free(part);
	}
}

/* ---- partitions ---- */

static void give_up_session(struct learner_lane *lane, const char *what, rd_kafka_resp_err_t code)
{
	if (!lane->renew)
		log_warning("learner: %s: %s", what, rd_kafka_err2str(code));
	lane->renew = true;
}

/* Where the partition is read from on, and the records that this rests on. */
static enum status take_part(struct learner_lane *lane, const rd_kafka_topic_partition_t *committed, struct error *err)
{
	int64_t low, high;
	rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(lane->consumer, committed->topic,
								    committed->partition, &low, &high, CALL_MS);
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "ends of %s: %s", committed->topic, rd_kafka_err2str(code));
	struct learner_part *part = calloc(1, sizeof *part);
	if (!part)
		return error_set_memory(err);
	part->partition = committed->partition;
	part->low = low;
	part->high = high;
	part->position = committed->offset < low || committed->offset > high ? low : committed->offset;
	if (committed->offset > high)
		log_error("learner: %s [%d] was made anew: its end is offset %lld, and %lld is committed",
			  committed->topic, committed->partition, (long long)high, (long long)committed->offset);
	if (committed->offset >= 0 && committed->metadata_size > 0)
		part->resting = strndup(committed->metadata, committed->metadata_size);
	part->next = lane->parts;
	lane->parts = part;
	return STATUS_OK;
}

/* Offsets are asked for after the group has made the assignment: those of transactions that are still open then are waited
 * for, and later ones of an earlier owner are refused. */
static enum status take_parts(struct learner_lane *lane, rd_kafka_topic_partition_list_t *list, struct error *err)
{
	rd_kafka_resp_err_t code = rd_kafka_committed(lane->consumer, list, CALL_MS);
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "committed offsets: %s", rd_kafka_err2str(code));
	for (int i = 0; i < list->cnt; i++) {
		enum status status = take_part(lane, &list->elems[i], err);
		if (status != STATUS_OK)
			return status;
		list->elems[i].offset = learner_part_find(lane, list->elems[i].partition)->position;
	}
	return STATUS_OK;
}

/* Those of examples: for a moment the subscription may name another topic. */
static rd_kafka_topic_partition_list_t *examples_of(const struct learner_lane *lane,
						    const rd_kafka_topic_partition_list_t *partitions)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions->cnt);
	for (int i = 0; i < partitions->cnt; i++)
		if (!strcmp(partitions->elems[i].topic, lane->ctx.config->examples_topic))
			rd_kafka_topic_partition_list_add(list, partitions->elems[i].topic,
							  partitions->elems[i].partition);
	return list;
}

static void assign(struct learner_lane *lane, const rd_kafka_topic_partition_list_t *partitions)
{
	struct error err;
	rd_kafka_topic_partition_list_t *list = examples_of(lane, partitions);
	enum status status = take_parts(lane, list, &err);
	rd_kafka_error_t *error = rd_kafka_incremental_assign(lane->consumer, list);
	if (error)
		rd_kafka_error_destroy(error);
	if (status != STATUS_OK)
		log_warning("learner: %s", err.text);
	lane->renew = lane->renew || status != STATUS_OK || error;
	lane->assigned = true;
	rd_kafka_topic_partition_list_destroy(list);
}

static void drop_part(struct learner_lane *lane, int32_t partition)
{
	struct learner_part **at = &lane->parts;
	while (*at && (*at)->partition != partition)
		at = &(*at)->next;
	if (!*at)
		return;
	struct learner_part *part = *at;
	*at = part->next;
	learner_close_lineages_of(lane, partition);
	part_free(part);
}

static void drop_parts(struct learner_lane *lane, const rd_kafka_topic_partition_list_t *partitions)
{
	rd_kafka_topic_partition_list_t *list = examples_of(lane, partitions);
	for (int i = 0; i < list->cnt; i++)
		drop_part(lane, list->elems[i].partition);
	rd_kafka_error_t *error = rd_kafka_incremental_unassign(lane->consumer, list);
	if (error)
		rd_kafka_error_destroy(error);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Whether it is the member still that it was at the last rebalance: thrown out, it joins again under another id, and until the
 * assignment the brokers take commits of partitions that others own by now. */
bool learner_is_member(const struct learner_lane *lane)
{
	char *id = rd_kafka_memberid(lane->consumer);
	const bool same = id && strcmp(id, lane->member) == 0 && !rd_kafka_assignment_lost(lane->consumer);
	if (id)
		rd_kafka_mem_free(lane->consumer, id);
	return same;
}

static void note_member(struct learner_lane *lane)
{
	char *id = rd_kafka_memberid(lane->consumer);
	if (lane->member[0] && (!id || strcmp(id, lane->member) != 0))
		lane->renew = true;
	(void)snprintf(lane->member, sizeof lane->member, "%s", id ? id : "");
	if (id)
		rd_kafka_mem_free(lane->consumer, id);
}

static void rebalance(struct learner_lane *lane, rd_kafka_event_t *event)
{
	const rd_kafka_topic_partition_list_t *partitions = rd_kafka_event_topic_partition_list(event);
	note_member(lane);
	if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		assign(lane, partitions);
		return;
	}
	if (rd_kafka_assignment_lost(lane->consumer))
		lane->renew = true;
	drop_parts(lane, partitions);
}

enum status learner_subscribe(struct learner_lane *lane, bool with_other, struct error *err)
{
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(2);
	rd_kafka_topic_partition_list_add(topics, lane->ctx.config->examples_topic, RD_KAFKA_PARTITION_UA);
	if (with_other)
		rd_kafka_topic_partition_list_add(topics, lane->ctx.config->patches_topic, RD_KAFKA_PARTITION_UA);
	rd_kafka_resp_err_t code = rd_kafka_subscribe(lane->consumer, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	lane->subscribed_other = with_other;
	return code ? error_set(err, STATUS_UNAVAILABLE, "subscription: %s", rd_kafka_err2str(code)) : STATUS_OK;
}

/* Partitions that belong to nobody (io/group.h): a subscription that changes for a moment makes the broker rebalance. */
static enum status heal_coverage(struct learner_lane *lane, struct error *err)
{
	char group[CLIENT_GROUP_BYTES];
	struct group_coverage coverage;
	const int64_t now_us = clock_monotonic_us();
	if (now_us - lane->probed_us < PROBE_US)
		return STATUS_OK;
	lane->probed_us = now_us;
	if (lane->subscribed_other)
		return learner_subscribe(lane, false, err);
	client_learner_group(lane->ctx.config, group);
	if (group_coverage(lane->consumer, group, lane->ctx.config->examples_topic, PROBE_MS, &coverage, err))
		return STATUS_OK; /* what is wrong with the brokers shows elsewhere */
	lane->uncovered = coverage.stable && coverage.owned < coverage.partitions ? lane->uncovered + 1 : 0;
	if (lane->uncovered < UNCOVERED_PROBES)
		return STATUS_OK;
	lane->uncovered = 0;
	return learner_subscribe(lane, true, err);
}

/* ---- examples ---- */

/* Nobody but we writes there, and the topic has no place for letters of its own: a count, and a line now and then. */
static void pass_over(struct learner_lane *lane, const rd_kafka_message_t *message, const char *why)
{
	const int64_t now_us = clock_monotonic_us();
	metrics_add(lane->ctx.metrics, METRIC_EXAMPLES_PASSED_OVER, 1);
	lane->passed_over++;
	if (lane->passed_us && now_us - lane->passed_us < PASSED_US)
		return;
	log_warning("learner: %s [%d]: offset %lld: %s: passed over (%llu since the last such line)",
		    lane->ctx.config->examples_topic, message->partition, (long long)message->offset, why,
		    (unsigned long long)lane->passed_over);
	lane->passed_us = now_us;
	lane->passed_over = 0;
}

/* Why nobody learns from it, NULL where somebody does, here or elsewhere. */
static const char *misfit(const struct learner_lane *lane, int32_t partition, const struct example *example)
{
	if (!task_set_find(lane->tasks, example->task))
		return "no such task is in force";
	if (learner_partition_of(lane, example->task) != partition)
		return "the examples of its task come in another partition (has their number changed?)";
	return NULL;
}

/* To the task's lineage, if it reads along, or lags, as `history` says: what lags was read along once. */
static enum status deliver(struct learner_lane *lane, const rd_kafka_message_t *message, bool history,
			   struct error *err)
{
	struct example example;
	struct lineage *l = lane->lineages;
	const char *why = "no value";
	if (message->payload) {
		const struct slice value = { message->payload, message->len };
		why = example_decode(value, &example, err) == STATUS_OK ? misfit(lane, message->partition, &example)
									: err->text;
	}
	if (why && !history)
		pass_over(lane, message, why);
	if (why)
		return STATUS_OK;
	while (l && (l->partition != message->partition || l->failed ||
		     strlen(l->setup.lineage.task) != example.task.length ||
		     memcmp(l->setup.lineage.task, example.task.data, example.task.length) != 0))
		l = l->next;
	return l && l->lagging == history ? lineage_take(l, message->offset, &example, err) : STATUS_OK;
}

static enum status take_message(struct learner_lane *lane, const rd_kafka_message_t *message, struct error *err)
{
	struct learner_part *part = learner_part_find(lane, message->partition);
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF || !part)
		return STATUS_OK;
	if (message->err) {
		give_up_session(lane, "examples", message->err);
		return STATUS_OK;
	}
	if (message->offset < part->position)
		return STATUS_OK;
	client_note_success();
	part->position = message->offset + 1;
	return deliver(lane, message, false, err);
}

static void take_error(struct learner_lane *lane, rd_kafka_event_t *event)
{
	const rd_kafka_resp_err_t code = rd_kafka_event_error(event);
	if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		return;
	client_note_error(code, rd_kafka_event_error_string(event));
	if (rd_kafka_event_error_is_fatal(event) || code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
	    code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
		give_up_session(lane, "examples", code);
}

/* Takes the event. */
static enum status take_event(struct learner_lane *lane, rd_kafka_event_t *event, struct error *err)
{
	const rd_kafka_message_t *message;
	enum status status = STATUS_OK;
	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_FETCH:
		while (status == STATUS_OK && (message = rd_kafka_event_message_next(event)))
			status = take_message(lane, message, err);
		break;
	case RD_KAFKA_EVENT_REBALANCE:
		rebalance(lane, event);
		break;
	case RD_KAFKA_EVENT_ERROR:
		take_error(lane, event);
		break;
	default:
		break;
	}
	rd_kafka_event_destroy(event);
	return status;
}

/* ---- history ---- */

/* A lineage is read for from the oldest example that one of those that lag asks for. */
static enum status open_history(struct learner_lane *lane, struct learner_part *part, struct error *err)
{
	const char *topic = lane->ctx.config->examples_topic;
	int64_t from = INT64_MAX;
	bool wanted = !part->history;
	for (struct lineage *l = lane->lineages; l; l = l->next) {
		if (l->partition != part->partition || !l->lagging)
			continue;
		from = l->read_offset < from ? l->read_offset : from;
		wanted = wanted || l->rewind;
		l->rewind = false;
	}
	if (!wanted)
		return STATUS_OK;
	close_history(part);
	enum status status = client_reader(lane->ctx.config, &part->history, err);
	if (status != STATUS_OK)
		return status;
	part->history_position = from < part->low ? part->low : from;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, part->partition)->offset = part->history_position;
	rd_kafka_resp_err_t code = rd_kafka_assign(part->history, list);
	rd_kafka_topic_partition_list_destroy(list);
	return code ? error_set(err, STATUS_UNAVAILABLE, "history of %s: %s", topic, rd_kafka_err2str(code))
		    : STATUS_OK;
}

/* Which lineages of the partition lag; false: none. */
static bool mark_lagging(struct learner_lane *lane, const struct learner_part *part)
{
	bool any = false;
	for (struct lineage *l = lane->lineages; l; l = l->next) {
		if (l->partition != part->partition || l->failed)
			continue;
		if (l->rewind)
			l->lagging = l->read_offset < part->position;
		else if (l->lagging)
			l->lagging = part->history_position < part->position;
		l->rewind = l->rewind && l->lagging;
		any = any || l->lagging;
	}
	return any;
}

static bool any_full(const struct learner_lane *lane)
{
	for (const struct lineage *l = lane->lineages; l; l = l->next)
		if (lineage_is_full(l))
			return true;
	return false;
}

static enum status read_history(struct learner_lane *lane, struct learner_part *part, struct error *err)
{
	enum status status = STATUS_OK;
	for (int i = 0; i < HISTORY_RECORDS && status == STATUS_OK && !any_full(lane); i++) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(part->history, i ? 0 : STEP_MS);
		if (!message)
			return STATUS_OK;
		if (!message->err) {
			part->history_position = message->offset + 1;
			status = deliver(lane, message, true, err);
		} else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
			part->history_position = message->offset;
		} else if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
			give_up_session(lane, "history", message->err);
		} else {
			client_note_error(message->err, rd_kafka_message_errstr(message));
		}
		rd_kafka_message_destroy(message);
		if (part->history_position >= part->position)
			return status;
	}
	return status;
}

/* Reads on for the lineages that lag; *ret_any: some do. */
static enum status follow_history(struct learner_lane *lane, bool *ret_any, struct error *err)
{
	enum status status = STATUS_OK;
	*ret_any = false;
	for (struct learner_part *part = lane->parts; part && status == STATUS_OK; part = part->next) {
		if (!mark_lagging(lane, part)) {
			close_history(part);
			continue;
		}
		*ret_any = true;
		status = open_history(lane, part, err);
		if (status == STATUS_OK)
			status = read_history(lane, part, err);
	}
	return status;
}

static bool any_busy(const struct learner_lane *lane)
{
	for (const struct lineage *l = lane->lineages; l; l = l->next)
		if (lineage_busy(l))
			return true;
	return false;
}

enum status learner_collect(struct learner_lane *lane, int wait_ms, struct error *err)
{
	bool lagging = false;
	const int64_t until_us = clock_monotonic_us() + (int64_t)wait_ms * 1000;
	enum status status = heal_coverage(lane, err);
	if (status == STATUS_OK)
		status = follow_history(lane, &lagging, err);
	while (status == STATUS_OK && !lane->renew && !learner_stopping(lane)) {
		const bool wait = !lagging && !any_busy(lane) && clock_monotonic_us() < until_us;
		rd_kafka_event_t *event =
			any_full(lane) ? NULL : rd_kafka_queue_poll(lane->consumer_queue, wait ? STEP_MS : 0);
		if (event)
			status = take_event(lane, event, err);
		else if (!wait)
			break;
	}
	return status;
}
