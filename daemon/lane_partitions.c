/* A lane's partitions: assignment, restore from store and changelog, revocation, and the way back after a failure. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "io/client.h"
#include "io/topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALL_MS = 2000, PAUSE_US = 200000, PATIENCE_US = 5000000 };

/* ---- restore: on the restorer's thread ---- */

static bool cancelled(const struct restore_job *job)
{
	return atomic_load(&job->cancel);
}

/* The group's offset of the partition, stable (no transaction pending); -1 where it has none. */
static enum status read_committed_offset(struct restore_job *job, int64_t *ret)
{
	struct lane *lane = job->lane;
	while (!cancelled(job)) {
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
		rd_kafka_topic_partition_list_add(list, lane->ctx.config->interactions_topic, job->shard->partition);
		rd_kafka_resp_err_t code = rd_kafka_committed(lane->consumer, list, CALL_MS);
		if (!code)
			code = list->elems[0].err;
		int64_t offset = list->elems[0].offset;
		rd_kafka_topic_partition_list_destroy(list);
		if (!code) {
			*ret = offset >= 0 ? offset : -1;
			return STATUS_OK;
		}
		client_note_error(code, rd_kafka_err2str(code));
		usleep(PAUSE_US);
	}
	return error_set(&job->err, STATUS_UNAVAILABLE, "cancelled");
}

static enum status ask_bounds(struct restore_job *job, const char *topic, int64_t *low, int64_t *high)
{
	struct lane *lane = job->lane;
	rd_kafka_resp_err_t code;
	while ((code = rd_kafka_query_watermark_offsets(lane->consumer, topic, job->shard->partition, low, high,
							CALL_MS))) {
		client_note_error(code, rd_kafka_err2str(code));
		if (cancelled(job))
			return error_set(&job->err, STATUS_UNAVAILABLE, "cancelled");
		usleep(PAUSE_US);
	}
	return STATUS_OK;
}

/* Whether the labels' topic has the partition; a topic that is away altogether is waited for. */
static enum status find_labels(struct restore_job *job)
{
	const struct lane *lane = job->lane;
	const char *topic = lane->ctx.config->labels_topic;
	struct error err;
	int32_t count = 0;
	job->labels = false;
	while (lane->ctx.labels && count == 0) {
		if (cancelled(job))
			return error_set(&job->err, STATUS_UNAVAILABLE, "cancelled");
		if (topics_partitions(lane->consumer, topic, CALL_MS, &count, &err) != STATUS_OK || count == 0)
			usleep(PAUSE_US);
	}
	job->labels = job->shard->partition < count;
	if (lane->ctx.labels && !job->labels)
		log_warning("lane %d: topic %s has no partition %d: its users' labels are not read before a restart",
			    lane->index, topic, job->shard->partition);
	return STATUS_OK;
}

/* Where the log of a fresh partition begins; whether a restored position lies in the log. A new leader may show too low an
 * end for a moment. */
static enum status check_bounds(struct restore_job *job)
{
	int64_t low, high, begin_us = clock_monotonic_us();
	enum status status;
	const char *topic = job->lane->ctx.config->interactions_topic;
	while ((status = ask_bounds(job, topic, &low, &high)) == STATUS_OK) {
		if (job->fresh)
			job->position = (struct position){ low, -1, -1, -1 };
		if (job->position.interactions <= high || clock_monotonic_us() - begin_us > PATIENCE_US)
			break;
		usleep(PAUSE_US);
	}
	if (status == STATUS_OK && (job->position.interactions < low || job->position.interactions > high))
		status = error_set(
			&job->err, STATUS_DATA,
			"position %lld lies outside of the log, %lld to %lld: interactions were deleted before "
			"they were read, or the topic was made anew; reset the group's offsets and %s to go on",
			(long long)job->position.interactions, (long long)low, (long long)high,
			job->lane->ctx.config->changelog_topic);
	return status;
}

/* Labels that nobody has read yet are read from the start. Those that were deleted before they were read are missing in
 * training, and nothing else is wrong. */
static enum status check_labels(struct restore_job *job)
{
	int64_t low = 0, high = 0;
	const struct lane *lane = job->lane;
	const char *topic = lane->ctx.config->labels_topic;
	enum status status = find_labels(job);
	if (status == STATUS_OK && job->labels)
		status = ask_bounds(job, topic, &low, &high);
	if (status != STATUS_OK || !job->labels)
		return status;
	int64_t position = job->position.labels;
	if (position >= 0 && (position < low || position > high))
		log_warning(
			"lane %d: partition %d of %s: position %lld lies outside of the log, %lld to %lld: labels were "
			"deleted before they were read, or the topic was made anew; going on at %lld",
			lane->index, job->shard->partition, topic, (long long)position, (long long)low, (long long)high,
			(long long)low);
	if (position < low || position > high)
		job->position.labels = low;
	job->labels_ended = job->position.labels == high;
	return STATUS_OK;
}

static enum status open_shard(struct restore_job *job)
{
	if (job->store)
		return STATUS_OK;
	struct store *store;
	enum status status = store_gate_wait(job->lane->ctx.gate, &job->cancel, &store, &job->err);
	if (status == STATUS_OK)
		status = store_shard_open(store, job->shard->partition, &job->store, &job->err);
	if (status == STATUS_BUG) /* another lane of this process lost the partition and has yet to notice */
		status = job->err.status = STATUS_UNAVAILABLE;
	return status;
}

static enum status reset_if_damaged(struct restore_job *job)
{
	struct position position;
	bool found;
	enum status status = store_shard_position(job->store, &position, &found, &job->err);
	if (status != STATUS_DATA && !job->reset)
		return status;
	log_warning("lane %d: partition %d: the local store is damaged: rebuilding it from %s", job->lane->index,
		    job->shard->partition, job->lane->ctx.config->changelog_topic);
	job->reset = false;
	return store_shard_reset(job->store, &job->err);
}

/* Damage of the local store is none of the log's: the next try begins the shard anew. */
static enum status blame_store(struct restore_job *job)
{
	struct position position;
	struct error err;
	bool found;
	if (store_shard_position(job->store, &position, &found, &err) != STATUS_DATA)
		return STATUS_DATA;
	job->reset = true;
	return job->err.status = STATUS_IO;
}

static enum status catch_up(struct restore_job *job)
{
	struct lane *lane = job->lane;
	int64_t group_offset;
	bool found = false;
	enum status status = open_shard(job);
	if (status == STATUS_OK)
		status = reset_if_damaged(job);
	if (status == STATUS_OK)
		status = read_committed_offset(job, &group_offset);
	if (status == STATUS_OK)
		status = restore_shard(lane->ctx.config, job->store, job->shard->partition, group_offset, &job->cancel,
				       &job->shard->progress, &job->position, &found, &job->err);
	if (status == STATUS_DATA)
		status = blame_store(job);
	job->fresh = !found;
	if (status == STATUS_OK && found && group_offset < 0)
		log_warning("lane %d: partition %d: the group has no offset: going on at %lld, from %s", lane->index,
			    job->shard->partition, (long long)job->position.interactions,
			    lane->ctx.config->changelog_topic);
	if (status == STATUS_OK)
		status = check_bounds(job);
	if (status == STATUS_OK)
		status = check_labels(job);
	if (status != STATUS_OK)
		return status;
	status = lane_owed_read(job->store, &job->owed, &job->err);
	if (status != STATUS_DATA)
		return status;
	job->reset = true; /* the next try begins it anew */
	job->err.status = STATUS_IO;
	return STATUS_IO;
}

/* Adds the inputs of a partition's number at a position to the list. */
static void add_inputs(const struct lane *lane, int32_t partition, const struct position *position, bool labels,
		       rd_kafka_topic_partition_list_t *list)
{
	const struct config *config = lane->ctx.config;
	rd_kafka_topic_partition_list_add(list, config->interactions_topic, partition)->offset = position->interactions;
	if (labels)
		rd_kafka_topic_partition_list_add(list, config->labels_topic, partition)->offset = position->labels;
}

/* The readers of a suspended shard's paused inputs are moved to the restored position. */
static enum status move_reader(struct restore_job *job)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(INBOX_INPUTS);
	add_inputs(job->lane, job->shard->partition, &job->position, job->shard->labels_assigned && job->labels, list);
	bool done = false;
	while (!cancelled(job) && !(done = lane_seek(job->lane->consumer, list)))
		usleep(PAUSE_US);
	rd_kafka_topic_partition_list_destroy(list);
	return done ? STATUS_OK : error_set(&job->err, STATUS_UNAVAILABLE, "cancelled");
}

static void run_restore(struct worker_job *base)
{
	struct restore_job *job = (struct restore_job *)base;
	int64_t begin_us = clock_monotonic_us();
	job->status = catch_up(job);
	while ((job->status == STATUS_IO || job->status == STATUS_UNAVAILABLE) && !cancelled(job)) {
		log_warning("lane %d: partition %d: %s; trying again", job->lane->index, job->shard->partition,
			    job->err.text);
		usleep(5 * PAUSE_US);
		job->status = catch_up(job);
	}
	if (job->status == STATUS_OK && job->move)
		job->status = move_reader(job);
	job->took_us = clock_monotonic_us() - begin_us;
}

/* ---- restore: on the loop ---- */

static void log_failure(const struct lane *lane, const char *what, rd_kafka_error_t *error)
{
	if (!error)
		return;
	log_error("lane %d: %s: %s", lane->index, what, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
}

static void set_paused(struct lane *lane, struct shard *shard, enum inbox_input input, bool paused)
{
	const struct config *config = lane->ctx.config;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(
		list, input == INBOX_LABELS ? config->labels_topic : config->interactions_topic, shard->partition);
	(void)(paused ? rd_kafka_pause_partitions(lane->consumer, list)
		      : rd_kafka_resume_partitions(lane->consumer, list));
	rd_kafka_topic_partition_list_destroy(list);
	shard->paused[input] = paused;
}

static void set_both_paused(struct lane *lane, struct shard *shard, bool paused)
{
	set_paused(lane, shard, INBOX_INTERACTIONS, paused);
	if (shard->labels_assigned)
		set_paused(lane, shard, INBOX_LABELS, paused);
}

void lane_pause_full(struct lane *lane, struct shard *shard)
{
	for (int i = 0; i < INBOX_INPUTS; i++) {
		enum inbox_input input = (enum inbox_input)i;
		bool full = inbox_full(&shard->inbox, input);
		if (shard->paused[i] ? inbox_low(&shard->inbox, input) : full)
			set_paused(lane, shard, input, !shard->paused[i]);
	}
}

/* Reads the shard's inputs from its position on. The first time they are assigned; later, after a suspension, the restore
 * has moved the reader already. An unassignment in between would be taken for the answer to a revocation that waits in
 * the queue. */
static bool start_reading(struct lane *lane, struct shard *shard)
{
	if (shard->reading) {
		set_both_paused(lane, shard, false);
		return true;
	}
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(2);
	add_inputs(lane, shard->partition, &shard->position, shard->labels, list);
	rd_kafka_error_t *error = rd_kafka_incremental_assign(lane->consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (error) {
		log_failure(lane, "assign", error);
		return false;
	}
	shard->reading = true;
	shard->labels_assigned = shard->labels;
	set_both_paused(lane, shard, false); /* librdkafka keeps the pause of an earlier assignment */
	return true;
}

static void suspend_reading(struct lane *lane, struct shard *shard)
{
	if (shard->reading)
		set_both_paused(lane, shard, true);
}

static void shard_failed(struct lane *lane, struct shard *shard, const struct error *err)
{
	shard->phase = SHARD_FAILED;
	(void)snprintf(shard->reason, sizeof shard->reason, "%.150s", err->text);
	log_error("lane %d: partition %d stopped: %s", lane->index, shard->partition, err->text);
}

static void go_live(struct lane *lane, struct shard *shard, const struct restore_job *job)
{
	struct error err;
	shard->committed = job->position;
	shard->labels = job->labels;
	shard_rewind(shard, &job->position, job->labels_ended);
	shard->phase = SHARD_LIVE;
	shard->reason[0] = '\0';
	metrics_add(lane->apply.metrics, METRIC_RESTORE_RECORDS, (uint64_t)atomic_load(&shard->progress.records));
	metrics_observe(lane->apply.metrics, METRIC_RESTORE_SECONDS, (double)job->took_us / 1e6);
	if (lane_owed_load(lane, shard, &job->owed, &err) != STATUS_OK) {
		lane_shard_broken(lane, shard, &err);
		return;
	}
	log_info("lane %d: partition %d live at offset %lld, %lld changelog record%s read in %lld ms", lane->index,
		 shard->partition, (long long)job->position.interactions,
		 (long long)atomic_load(&shard->progress.records), plural(atomic_load(&shard->progress.records)),
		 (long long)job->took_us / 1000);
	if (!start_reading(lane, shard)) {
		(void)error_set(&err, STATUS_IO, "it cannot be read yet");
		lane_shard_broken(lane, shard, &err);
	}
}

static void done_restore(struct worker_job *base)
{
	struct restore_job *job = (struct restore_job *)base;
	struct lane *lane = job->lane;
	struct shard *shard = job->shard;
	shard->restoring = NULL;
	shard->store = job->store;
	if (job->status == STATUS_OK && !cancelled(job))
		go_live(lane, shard, job);
	else if (job->status == STATUS_MEMORY)
		lane_fail(lane, job->status, &job->err);
	else if (!cancelled(job))
		shard_failed(lane, shard, &job->err);
	lane_owed_free(&job->owed);
	free(job);
	lane_wake(lane);
}

static void restore(struct lane *lane, struct shard *shard)
{
	struct restore_job *job = calloc(1, sizeof *job);
	if (!job) {
		struct error err;
		lane_fail(lane, error_set_memory(&err), &err);
		return;
	}
	job->lane = lane;
	job->shard = shard;
	job->store = shard->store;
	job->reset = shard->damaged;
	job->move = shard->reading;
	job->job = (struct worker_job){ .run = run_restore, .done = done_restore };
	shard->store = NULL;
	shard->broken = shard->damaged = false;
	shard->phase = SHARD_RESTORING;
	shard->restoring = job;
	atomic_store(&shard->progress.records, 0);
	atomic_store(&shard->progress.lag, -1);
	worker_submit(lane->restorer, &job->job);
}

bool lane_cancel_restores(struct lane *lane)
{
	bool none = true;
	for (struct shard *shard = lane->shards; shard; shard = shard->next) {
		if (shard->restoring)
			atomic_store(&shard->restoring->cancel, true);
		none = none && !shard->restoring;
	}
	return none;
}

/* ---- assignment ---- */

/* A partition is assigned to librdkafka's reader when its shard first goes live, at its exact position; the group is
 * content with any list. Other topics' partitions are the look for unowned ones at work (lane.c). */
void lane_assigned(struct lane *lane, const rd_kafka_topic_partition_list_t *partitions)
{
	rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
	log_failure(lane, "assign", rd_kafka_incremental_assign(lane->consumer, none));
	rd_kafka_topic_partition_list_destroy(none);
	lane_prepare_thinning(lane);
	lane->assigned_once = true;
	for (int i = 0; i < partitions->cnt; i++) {
		if (strcmp(partitions->elems[i].topic, lane->ctx.config->interactions_topic) != 0)
			continue;
		struct shard *shard = shard_new(partitions->elems[i].partition, &lane->thinning);
		if (!shard) {
			struct error err;
			lane_fail(lane, error_set_memory(&err), &err);
			return;
		}
		shard->next = lane->shards;
		lane->shards = shard;
		if (lane->phase != LANE_STARTING)
			restore(lane, shard);
	}
}

/* ---- revocation ---- */

static bool names(const rd_kafka_topic_partition_list_t *list, const struct lane *lane, const struct shard *shard)
{
	return rd_kafka_topic_partition_list_find(list, lane->ctx.config->interactions_topic, shard->partition) != NULL;
}

/* Whether a revocation under way names the shard. */
static bool leaving(const struct lane *lane, const struct shard *shard)
{
	return lane->revoking && names(rd_kafka_event_topic_partition_list(lane->revoking), lane, shard);
}

void lane_revoked(struct lane *lane, rd_kafka_event_t *event)
{
	const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
	for (struct shard *shard = lane->shards; shard; shard = shard->next) {
		if (!names(list, lane, shard))
			continue;
		if (shard->restoring)
			atomic_store(&shard->restoring->cancel, true);
		if (shard->phase == SHARD_LIVE)
			shard->phase = SHARD_DRAINING;
	}
	lane->revoking = event;
}

/* Takes the shards that `revoked` names off the lane; what they read is added to `unread`. */
static void leave_shards(struct lane *lane, const rd_kafka_topic_partition_list_t *revoked,
			 rd_kafka_topic_partition_list_t *unread)
{
	for (struct shard **at = &lane->shards; *at;) {
		struct shard *shard = *at;
		if (!names(revoked, lane, shard)) {
			at = &shard->next;
			continue;
		}
		log_info("lane %d: partition %d left at offset %lld", lane->index, shard->partition,
			 (long long)shard->committed.interactions);
		if (shard->reading)
			add_inputs(lane, shard->partition, &shard->position, shard->labels_assigned, unread);
		*at = shard->next;
		lane_store_forget_shard(lane, shard);
		shard_free(shard, &lane->cache);
	}
}

void lane_finish_revocation(struct lane *lane)
{
	const rd_kafka_topic_partition_list_t *revoked = rd_kafka_event_topic_partition_list(lane->revoking);
	for (const struct shard *shard = lane->shards; shard; shard = shard->next)
		if (names(revoked, lane, shard) && shard->restoring)
			return;
	rd_kafka_topic_partition_list_t *unread = rd_kafka_topic_partition_list_new(2 * revoked->cnt);
	leave_shards(lane, revoked, unread);
	log_failure(lane, "unassign", rd_kafka_incremental_unassign(lane->consumer, unread));
	rd_kafka_topic_partition_list_destroy(unread);
	rd_kafka_event_destroy(lane->revoking);
	lane->revoking = NULL;
}

/* ---- the way back ---- */

rd_kafka_topic_partition_list_t *lane_seeks(const struct lane *lane)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
	for (const struct shard *shard = lane->shards; shard; shard = shard->next)
		if (shard->phase == SHARD_LIVE && shard->reading)
			add_inputs(lane, shard->partition, &shard->committed, shard->labels && shard->labels_assigned,
				   list);
	return list;
}

void lane_shard_broken(struct lane *lane, struct shard *shard, const struct error *err)
{
	log_warning("lane %d: partition %d: local store: %s: rebuilding it from %s", lane->index, shard->partition,
		    err->text, lane->ctx.config->changelog_topic);
	(void)snprintf(shard->reason, sizeof shard->reason, "local store: %.140s", err->text);
	shard->broken = true;
	shard->damaged = err->status == STATUS_DATA;
	lane->breakage = true;
}

void lane_suspend_all(struct lane *lane)
{
	lane_drop_batches(lane);
	lane->breakage = false;
	for (struct shard *shard = lane->shards; shard; shard = shard->next) {
		shard_drop_users(shard, &lane->cache);
		if (shard->phase != SHARD_LIVE)
			continue;
		suspend_reading(lane, shard);
		inbox_clear(&shard->inbox);
		shard->phase = SHARD_RESTORING;
	}
}

void lane_restore_all(struct lane *lane)
{
	lane_store_forget(lane);
	for (struct shard *shard = lane->shards; shard; shard = shard->next)
		if (shard->phase == SHARD_RESTORING && !shard->restoring && !leaving(lane, shard))
			restore(lane, shard);
}

void lane_resume_after_abort(struct lane *lane)
{
	struct error err;
	lane->breakage = false;
	for (struct shard *shard = lane->shards; shard; shard = shard->next) {
		if (shard->phase == SHARD_DRAINING) /* a user who is due may still bring it into a batch */
			shard_rewind(shard, &shard->committed, shard_labels_ended(shard));
		if (shard->phase != SHARD_LIVE)
			continue;
		shard_rewind(shard, &shard->committed, shard_labels_ended(shard));
		lane_pause_full(lane, shard);
		if (shard->broken) {
			shard_drop_users(shard, &lane->cache);
			suspend_reading(lane, shard);
			restore(lane, shard);
			continue;
		}
		struct lane_owed owed = { 0 };
		enum status status = lane_owed_read(shard->store, &owed, &err);
		if (status == STATUS_OK)
			status = lane_owed_load(lane, shard, &owed, &err);
		lane_owed_free(&owed);
		if (status != STATUS_OK)
			lane_shard_broken(lane, shard, &err);
	}
}

void lane_free_shards(struct lane *lane)
{
	while (lane->shards) {
		struct shard *shard = lane->shards;
		lane->shards = shard->next;
		shard_free(shard, &lane->cache);
	}
}
