/* A lane's transactions: the producer, the cut of a batch, its commit or abort. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "daemon/apply.h"
#include "io/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SLICE_MS = 1000,            /* a blocking call returns this often, and is resumed */
	PAUSE_US = 200000,          /* between tries */
	SAY_AGAIN_US = 60000000,    /* between lines about the same trouble */
	SAY_REJECTED_US = 10000000, /* between lines about dead letters */
	SEEK_TIMEOUT_MS = 5000,
};

/* ---- the producer ---- */

static bool is_over(const struct lane *lane)
{
	return atomic_load(&lane->stop_wanted) || atomic_load(&lane->failed);
}

/* One try; false: try again. */
static bool try_open(struct open_job *job)
{
	if (!job->producer) {
		job->status = client_lane_producer(job->lane->ctx.config, job->lane->index, job->batch_bytes,
						   &job->producer, &job->err);
		if (job->status != STATUS_OK)
			return true;
	}
	rd_kafka_error_t *error = rd_kafka_init_transactions(job->producer, SLICE_MS);
	if (!error)
		return true;
	client_note_error(rd_kafka_error_code(error), rd_kafka_error_string(error));
	if (rd_kafka_error_is_fatal(error)) {
		client_close_producer(job->producer);
		job->producer = NULL;
	}
	rd_kafka_error_destroy(error);
	usleep(PAUSE_US);
	return false;
}

static void run_open(struct worker_job *base)
{
	struct open_job *job = (struct open_job *)base;
	client_close_producer(job->old);
	job->old = job->producer = NULL;
	job->status = STATUS_OK;
	while (!try_open(job)) {
		if (!is_over(job->lane))
			continue;
		client_close_producer(job->producer);
		job->producer = NULL;
		job->status = error_set(&job->err, STATUS_UNAVAILABLE, "stopped before the brokers answered");
		return;
	}
	if (job->status == STATUS_OK)
		client_note_success();
}

static void on_producer_ready(uv_poll_t *handle, int status, int events)
{
	struct lane *lane = handle->data;
	uint64_t count;
	ssize_t got = read(lane->producer_fd, &count, sizeof count);
	(void)got;
	lane_drain_reports(lane);
}

static void done_open(struct worker_job *base)
{
	struct open_job *job = (struct open_job *)base;
	struct lane *lane = job->lane;
	static const uint64_t one = 1;
	lane->phase = LANE_RUNNING;
	if (job->status != STATUS_OK) {
		if (job->status != STATUS_UNAVAILABLE)
			lane_fail(lane, job->status, &job->err);
		lane_wake(lane);
		return;
	}
	lane->producer = job->producer;
	lane->producer_queue = rd_kafka_queue_get_main(lane->producer);
	rd_kafka_queue_io_event_enable(lane->producer_queue, lane->producer_fd, &one, sizeof one);
	uv_poll_start(&lane->producer_poll, UV_READABLE, on_producer_ready);
	lane_drain_reports(
		lane); /* only a queue that becomes non-empty wakes the loop: errors may wait in it already */
	struct error err;
	if (publisher_use(&lane->publisher, lane->producer, &err) != STATUS_OK) {
		lane_fail(lane, err.status, &err);
		lane_wake(lane);
		return;
	}
	lane_restore_all(lane);
	lane_wake(lane);
}

static void release_producer(struct lane *lane)
{
	if (!lane->producer)
		return;
	uv_poll_stop(&lane->producer_poll);
	publisher_release(&lane->publisher);
	rd_kafka_queue_io_event_enable(lane->producer_queue, -1, NULL, 0);
	rd_kafka_queue_destroy(lane->producer_queue);
	lane->producer_queue = NULL;
	lane->open_job.old = lane->producer;
	lane->producer = NULL;
}

void lane_open_producer(struct lane *lane)
{
	lane->phase = LANE_STARTING;
	release_producer(lane);
	lane->open_job.lane = lane;
	lane->open_job.batch_bytes = lane->publisher.batch_bytes;
	lane->open_job.job = (struct worker_job){ .run = run_open, .done = done_open };
	worker_submit(lane->transactions, &lane->open_job.job);
}

static void take_report(struct lane *lane, const rd_kafka_message_t *message)
{
	struct batch_shard *part = publish_opaque_shard(&lane->committing, message->_private);
	if (!part) /* still being produced */
		part = publish_opaque_shard(&lane->open, message->_private);
	if (part && !message->err)
		part->position.changelog = message->offset + 1;
	if (message->err != RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		return;
	lane->too_large = true;
	if (strcmp(rd_kafka_topic_name(message->rkt), lane->ctx.config->deadletters_topic) == 0)
		lane->letters_too_large = true;
}

static void drain_reports(void *arg, int wait_ms)
{
	struct lane *lane = arg;
	rd_kafka_event_t *event;
	while (lane->producer_queue && (event = rd_kafka_queue_poll(lane->producer_queue, wait_ms))) {
		const rd_kafka_message_t *message;
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
			while ((message = rd_kafka_event_message_next(event)))
				take_report(lane, message);
		else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
			client_note_error(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
		rd_kafka_event_destroy(event);
		wait_ms = 0;
	}
}

void lane_prepare_reports(struct lane *lane)
{
	lane->publisher.drain_reports = drain_reports;
	lane->publisher.drain_arg = lane;
}

void lane_drain_reports(struct lane *lane)
{
	drain_reports(lane, 0);
}

/* ---- batches ---- */

void lane_next_batch(struct lane *lane)
{
	lane->open.number = ++lane->next_number;
}

static void drop_batch_users(struct lane *lane, struct batch *batch, uint64_t unless)
{
	for (size_t i = 0; i < batch->users_count; i++) {
		struct user *u = batch->users[i];
		if (u->batch == unless)
			continue; /* the later batch has it too, and drops it */
		thinning_remove(&lane->thinning, u);
		user_cache_drop(&lane->cache, u);
	}
}

void lane_drop_batches(struct lane *lane)
{
	drop_batch_users(lane, &lane->committing, lane->open.number);
	drop_batch_users(lane, &lane->open, 0);
	batch_clear(&lane->committing);
	batch_clear(&lane->open);
	lane_next_batch(lane);
}

/* ---- commit ---- */

static bool failed_for_good(struct commit_job *job, rd_kafka_error_t *error)
{
	bool resume = !rd_kafka_error_is_fatal(error) && !rd_kafka_error_txn_requires_abort(error) &&
		      rd_kafka_error_is_retriable(error);
	if (!resume) {
		job->result = rd_kafka_error_is_fatal(error) ? COMMIT_FATAL : COMMIT_ABORT;
		(void)snprintf(job->reason, sizeof job->reason, "%s", rd_kafka_error_string(error));
	}
	rd_kafka_error_destroy(error);
	return !resume;
}

static void run_commit(struct worker_job *base)
{
	struct commit_job *job = (struct commit_job *)base;
	int64_t begin_us = clock_monotonic_us();
	rd_kafka_error_t *error;
	job->result = COMMIT_DONE;
	while ((error = rd_kafka_send_offsets_to_transaction(job->producer, job->offsets, job->group, 10 * SLICE_MS)))
		if (failed_for_good(job, error))
			return;
	if (job->abort_instead) {
		job->result = COMMIT_ABORT;
		(void)snprintf(job->reason, sizeof job->reason, "fault injection");
		return;
	}
	while ((error = rd_kafka_commit_transaction(job->producer, SLICE_MS)))
		if (failed_for_good(job, error))
			return;
	job->took_us = clock_monotonic_us() - begin_us;
}

/* Dead letters are said at most every ten seconds, with the newest reason. */
static void say_rejected(struct lane *lane, const struct batch *batch)
{
	int64_t now_us = clock_monotonic_us();
	lane->rejected += batch->rejected_count;
	if (batch->rejected_count == 0 || now_us - lane->rejected_said_us < SAY_REJECTED_US)
		return;
	const struct batch_rejected *last = &batch->rejected[batch->rejected_count - 1];
	log_warning("lane %d: %llu record%s went to %s, the last one: %s: %s", lane->index,
		    (unsigned long long)lane->rejected, plural((int64_t)lane->rejected),
		    lane->ctx.config->deadletters_topic, reason_name(last->reason), last->detail);
	lane->rejected = 0;
	lane->rejected_said_us = now_us;
}

static void count_committed(struct lane *lane, const struct batch *batch, int64_t took_us)
{
	struct metrics *m = lane->apply.metrics;
	int64_t now_ms = clock_wall_ms();
	metrics_add(m, METRIC_INTERACTIONS, batch->interactions);
	metrics_add(m, METRIC_INTERACTIONS_LATE, batch->late);
	metrics_add(m, METRIC_INTERACTIONS_FILTERED, batch->filtered);
	metrics_add(m, METRIC_INTERACTIONS_OOV, batch->unknown_items);
	metrics_add(m, METRIC_USERS_FORGOTTEN, batch->forgotten);
	metrics_add(m, METRIC_UPDATES, batch->updates);
	metrics_add(m, METRIC_USERS_REFRESHED, batch->refreshed);
	metrics_add(m, METRIC_LABELS, batch->labels);
	metrics_add(m, METRIC_EXAMPLES, batch->examples_count);
	for (size_t i = 0; i < batch->rejected_count; i++)
		metrics_add_reason(m, METRIC_DEADLETTERS, batch->rejected[i].reason, 1);
	for (size_t i = 0; i < batch->appended_count; i++)
		metrics_observe(m, METRIC_EVENT_TO_UPDATE_SECONDS, (double)(now_ms - batch->appended_ms[i]) / 1e3);
	metrics_add(m, METRIC_TRANSACTIONS_COMMITTED, 1);
	metrics_observe(m, METRIC_TRANSACTION_SECONDS, (double)took_us / 1e6);
}

static void note_position(struct lane *lane, const struct batch_shard *part)
{
	struct shard *shard = part->shard;
	if (part->position.changelog >= 0 && part->position.changelog <= shard->committed.changelog)
		log_error(
			"lane %d: partition %d: %s was made anew: users who have not been seen since are in the local "
			"store only, and lost to a restore without it",
			lane->index, shard->partition, lane->ctx.config->changelog_topic);
	shard->committed = part->position;
}

static void committed(struct lane *lane, const struct commit_job *job)
{
	struct error err;
	client_note_success();
	lane->aborts = 0;
	lane_drain_reports(lane);
	count_committed(lane, &lane->committing, job->took_us);
	say_rejected(lane, &lane->committing);
	lane->read_ahead = (lane->committing.updates - lane->committing.refreshed) * 2 >= lane->committing.interactions;
	for (size_t i = 0; i < lane->committing.shards_count; i++)
		note_position(lane, &lane->committing.shards[i]);
	if (!lane_store_queue(lane, &lane->committing)) {
		(void)error_set_memory(&err);
		lane_fail(lane, STATUS_MEMORY, &err);
	}
	batch_clear(&lane->committing);
	lane->phase = LANE_RUNNING;
	lane_store_retry(lane);
	if (clock_monotonic_us() - lane->cut_us >= lane->ctx.config->transaction_interval_ms * 1000)
		lane_cut(lane);
}

/* ---- abort ---- */

/* librdkafka before 2.1.0 takes a seek's milliseconds for microseconds. */
static int seek_timeout(void)
{
	return rd_kafka_version() < 0x02010000 ? SEEK_TIMEOUT_MS * 1000 : SEEK_TIMEOUT_MS;
}

bool lane_seek(rd_kafka_t *consumer, rd_kafka_topic_partition_list_t *seeks)
{
	if (seeks->cnt == 0)
		return true;
	rd_kafka_error_t *error = rd_kafka_seek_partitions(consumer, seeks, seek_timeout());
	bool done = !error;
	if (error)
		rd_kafka_error_destroy(error);
	for (int i = 0; i < seeks->cnt && done; i++)
		done = !seeks->elems[i].err;
	return done;
}

/* Partitions that came since the producer last looked. */
static void refresh_topic(rd_kafka_t *producer, rd_kafka_topic_t *topic)
{
	const struct rd_kafka_metadata *metadata;
	if (producer && !rd_kafka_metadata(producer, 0, topic, &metadata, SLICE_MS))
		rd_kafka_metadata_destroy(metadata);
}

static void run_abort(struct worker_job *base)
{
	struct abort_job *job = (struct abort_job *)base;
	job->fatal = false;
	rd_kafka_error_t *error = NULL;
	while (job->producer && (error = rd_kafka_abort_transaction(job->producer, SLICE_MS))) {
		bool resume = !rd_kafka_error_is_fatal(error) && rd_kafka_error_is_retriable(error);
		job->fatal = !resume;
		(void)snprintf(job->reason, sizeof job->reason, "abort: %s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		if (!resume)
			return;
	}
	if (!lane_seek(job->consumer, job->seeks)) {
		job->fatal = true;
		(void)snprintf(job->reason, sizeof job->reason, "the inputs could not be rewound");
	}
	for (size_t i = 0; i < sizeof job->topics / sizeof *job->topics && job->topics[i]; i++)
		refresh_topic(job->producer, job->topics[i]);
	usleep((useconds_t)job->pause_us);
}

/* Aborts in a row are logged once a minute. */
static void note_abort(struct lane *lane, const char *why, const char *what)
{
	int64_t now_us = clock_monotonic_us();
	metrics_add(lane->apply.metrics, METRIC_TRANSACTIONS_ABORTED, 1);
	(void)snprintf(lane->abort_reason, sizeof lane->abort_reason, "%.150s", why);
	if (++lane->aborts > 1 && now_us - lane->abort_said_us < SAY_AGAIN_US)
		return;
	lane->abort_said_us = now_us;
	if (lane->aborts == 1)
		log_warning("lane %d: %s: %s", lane->index, why, what);
	else
		log_warning("lane %d: %u transactions in a row aborted, now: %s", lane->index, lane->aborts, why);
}

static void begin_anew(struct lane *lane, const char *why)
{
	note_abort(lane, why, "new producer, back to the last commit");
	lane_suspend_all(lane);
	lane_open_producer(lane);
}

/* Where a topic has refused a batch for its size, the next producer sends smaller ones. False: it has not, or they are as
 * small as can be. An abort leaves no report behind. */
static bool send_less(struct lane *lane)
{
	lane_drain_reports(lane);
	bool refused = lane->too_large, letters = lane->letters_too_large;
	lane->too_large = lane->letters_too_large = false;
	if (!refused || !publisher_cut_more(&lane->publisher, letters))
		return false;
	log_info("lane %d: a topic takes no batch of this size: batches of at most %zu bytes from now on", lane->index,
		 lane->publisher.batch_bytes);
	lane_suspend_all(lane);
	lane_open_producer(lane);
	return true;
}

static void done_abort(struct worker_job *base)
{
	struct abort_job *job = (struct abort_job *)base;
	struct lane *lane = job->lane;
	rd_kafka_topic_partition_list_destroy(job->seeks);
	job->seeks = NULL;
	if (job->fatal) {
		begin_anew(lane, job->reason);
		return;
	}
	if (send_less(lane))
		return;
	lane->phase = LANE_RUNNING;
	if (lane_stored(lane)) {
		lane_drop_batches(lane);
		lane_resume_after_abort(lane);
	} else {
		lane_suspend_all(lane);
		lane_restore_all(lane); /* the disk fails: what the store lacks comes from the changelog */
	}
	lane_wake(lane);
}

static void start_abort(struct lane *lane, bool in_transaction, const char *why)
{
	struct abort_job *job = &lane->abort_job;
	const struct publisher *p = &lane->publisher;
	note_abort(lane, why, "back to the last commit");
	lane->phase = LANE_ABORTING;
	lane->committed_us = clock_monotonic_us();
	*job = (struct abort_job){ .job = { .run = run_abort, .done = done_abort },
				   .lane = lane,
				   .producer = in_transaction ? lane->producer : NULL,
				   .consumer = lane->consumer,
				   .seeks = lane_seeks(lane) };
	if (lane->aborts > 1) {
		rd_kafka_topic_t *topics[] = { p->updates, p->changelog, p->deadletters, p->examples };
		memcpy(job->topics, topics, sizeof topics);
		job->pause_us = (int64_t)PAUSE_US * (lane->aborts < 5 ? lane->aborts - 1 : 5);
	}
	worker_submit(lane->transactions, &job->job);
}

void lane_abandon(struct lane *lane, const char *why)
{
	start_abort(lane, false, why);
}

/* ---- the cut ---- */

static void done_commit(struct worker_job *base)
{
	struct commit_job *job = (struct commit_job *)base;
	struct lane *lane = job->lane;
	rd_kafka_topic_partition_list_destroy(job->offsets);
	rd_kafka_consumer_group_metadata_destroy(job->group);
	switch (job->result) {
	case COMMIT_DONE:
		committed(lane, job);
		break;
	case COMMIT_ABORT:
		start_abort(lane, true, job->reason);
		break;
	case COMMIT_FATAL:
		begin_anew(lane, job->reason);
		break;
	}
	lane_wake(lane);
}

/* Users whose held-back update is due join the batch; all of them when memory is short or the lane stops. */
static bool collect_due(struct lane *lane, int64_t now_us)
{
	bool hurry = lane_stopping(lane) || !user_cache_trim(&lane->cache);
	struct user *u;
	while (lane->open.users_count < (size_t)lane->ctx.config->transaction_max_records &&
	       (u = thinning_due(&lane->thinning, now_us, hurry))) {
		if (!batch_touch_shard(&lane->open, u->shard) || !batch_touch_user(&lane->open, u))
			return false;
		hurry = lane_stopping(lane) || (hurry && lane->cache.bytes > lane->cache.budget_bytes);
	}
	return true;
}

/* Users whose scores are by older patches join the batch, unless there is enough to do. */
static bool collect_refreshed(struct lane *lane)
{
	const size_t many = (size_t)lane->ctx.config->transaction_max_records / 2;
	if (lane_stopping(lane) || lane->revoking || lane->open.users_count > many)
		return true;
	return refresh_collect(&lane->refresh, &lane->open, task_board_version(lane->ctx.tasks), clock_wall_ms(),
			       refresh_slice(lane->publisher.user_us));
}

static enum status expire(struct lane *lane, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < lane->open.shards_count && status == STATUS_OK; i++) {
		struct shard *shard = lane->open.shards[i].shard;
		status = apply_expiry(shard, &lane->apply, &lane->open, err);
		if (status != STATUS_OK && status != STATUS_MEMORY)
			lane_shard_broken(lane, shard, err);
	}
	return status;
}

static rd_kafka_topic_partition_list_t *offsets_of(const struct lane *lane, const struct batch *batch)
{
	rd_kafka_topic_partition_list_t *list =
		rd_kafka_topic_partition_list_new((int)(INBOX_INPUTS * batch->shards_count));
	for (size_t i = 0; i < batch->shards_count; i++) {
		const struct batch_shard *part = &batch->shards[i];
		rd_kafka_topic_partition_list_add(list, lane->ctx.config->interactions_topic, part->shard->partition)
			->offset = part->position.interactions;
		if (part->shard->labels && part->position.labels >= 0)
			rd_kafka_topic_partition_list_add(list, lane->ctx.config->labels_topic, part->shard->partition)
				->offset = part->position.labels;
	}
	return list;
}

static void submit_commit(struct lane *lane)
{
	struct commit_job *job = &lane->commit_job;
	job->lane = lane;
	job->producer = lane->producer;
	job->offsets = offsets_of(lane, &lane->committing);
	lane->commits++;
	job->abort_instead = lane->abort_every && lane->commits % lane->abort_every == 0;
	job->job = (struct worker_job){ .run = run_commit, .done = done_commit };
	lane->phase = LANE_COMMITTING;
	lane->committed_us = clock_monotonic_us();
	worker_submit(lane->transactions, &job->job);
}

/* Produces the open batch in a new transaction. False: it failed, and what follows is under way. */
static bool produce_open(struct lane *lane, int64_t now_us)
{
	struct error err;
	rd_kafka_error_t *error = rd_kafka_begin_transaction(lane->producer);
	if (error) {
		(void)error_set(&err, STATUS_UNAVAILABLE, "begin: %s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		begin_anew(lane, err.text);
		return false;
	}
	enum status status = publish_batch(&lane->publisher, &lane->open, now_us, &err);
	if (status == STATUS_OK)
		return true;
	if (status == STATUS_MEMORY)
		lane_fail(lane, status, &err);
	start_abort(lane, true, err.text);
	return false;
}

/* A member that stood still for longer than its session is thrown out and joins again under a new id; until the
 * assignment that follows, the broker takes its commits of partitions that others own by now. */
static bool still_ours(const struct lane *lane)
{
	if (rd_kafka_assignment_lost(lane->consumer))
		return false;
	char *id = rd_kafka_memberid(lane->consumer);
	bool same = id && id[0] && strcmp(id, lane->member) == 0;
	if (id)
		rd_kafka_mem_free(lane->consumer, id);
	return same;
}

static void give_up(struct lane *lane)
{
	log_warning("lane %d: the group gave our partitions away: nothing is committed until it assigns some",
		    lane->index);
	lane->outcast = true;
	lane_suspend_all(lane);
}

void lane_cut(struct lane *lane)
{
	struct error err;
	int64_t now_us = clock_monotonic_us();
	if (lane->phase != LANE_RUNNING || !lane->producer || lane->failed || lane->breakage || lane->outcast ||
	    lane->renew)
		return;
	if (!collect_due(lane, now_us) || !collect_refreshed(lane)) {
		(void)error_set_memory(&err);
		lane_fail(lane, STATUS_MEMORY, &err);
	}
	lane->cut_us = now_us;
	if (batch_empty(&lane->open) || lane->failed)
		return;
	if (expire(lane, &err) != STATUS_OK)
		return;
	/* First the membership that the broker will check, then whether it is that of our partitions. */
	lane->commit_job.group = rd_kafka_consumer_group_metadata(lane->consumer);
	if (!lane->commit_job.group || !still_ours(lane)) {
		if (lane->commit_job.group)
			rd_kafka_consumer_group_metadata_destroy(lane->commit_job.group);
		give_up(lane);
		return;
	}
	struct batch spare = lane->committing;
	if (!produce_open(lane, now_us)) {
		rd_kafka_consumer_group_metadata_destroy(lane->commit_job.group);
		return;
	}
	lane->committing = lane->open;
	lane->open = spare;
	lane_next_batch(lane);
	submit_commit(lane);
	(void)user_cache_trim(&lane->cache);
	lane_wake(lane); /* the next batch is read while this one commits */
}
