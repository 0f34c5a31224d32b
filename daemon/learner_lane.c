/* The learner lane's thread: sessions, and their rounds. */
#include "daemon/learner_lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"
#include "io/topics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	ROUND_MS = 150,    /* examples are collected for so long, unless there is enough to do */
	CALL_MS = 1000,    /* a blocking call returns this often */
	PAUSE_US = 100000, /* between looks at whether to stop */
	RETRY_US = 500000, /* before a session is tried again, */
	RETRY_AT_MOST_US = 5000000,
	ABORT_MS = 3000,
	FAILURES = 3,       /* in a row are trouble */
	WELL_US = 10000000, /* a session that lasts so long is none */
	SMALLEST_MESSAGE_BYTES = 2000,
	NICENESS = 10,
};

bool learner_stopping(const struct learner_lane *lane)
{
	return atomic_load(&lane->stop_wanted);
}

static void tell(struct learner_lane *lane, const char *why)
{
	(void)pthread_mutex_lock(&lane->lock);
	(void)snprintf(lane->trouble, sizeof lane->trouble, "%s", why);
	(void)pthread_mutex_unlock(&lane->lock);
}

/* ---- a session ---- */

static enum status open_producer(struct learner_lane *lane, struct error *err)
{
	enum status status = client_learner_producer(lane->ctx.config, lane->message_bytes, &lane->producer, err);
	if (status != STATUS_OK)
		return status;
	lane->producer_queue = rd_kafka_queue_get_main(lane->producer);
	rd_kafka_error_t *error;
	while ((error = rd_kafka_init_transactions(lane->producer, CALL_MS))) {
		const bool again = rd_kafka_error_is_retriable(error) && !learner_stopping(lane);
		(void)error_set(err, STATUS_UNAVAILABLE, "transactions: %s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		learner_drain_reports(lane, 0);
		if (!again)
			return err->status;
	}
	status = patch_writer_open(lane->ctx.config, lane->producer, learner_drain_reports, lane, CALL_MS,
				   &lane->writer, err);
	if (status == STATUS_OK)
		lane->message_bytes = patch_writer_message_bytes(lane->writer);
	return status;
}

static enum status join_group(struct learner_lane *lane, struct error *err)
{
	const char *topic = lane->ctx.config->examples_topic;
	enum status status = client_learner_consumer(lane->ctx.config, &lane->consumer, err);
	if (status != STATUS_OK)
		return status;
	lane->consumer_queue = rd_kafka_queue_get_consumer(lane->consumer);
	status = topics_partitions(lane->consumer, topic, CALL_MS, &lane->partitions, err);
	if (status == STATUS_OK && lane->partitions == 0)
		status = error_set(err, STATUS_UNAVAILABLE, "topic %s is missing", topic);
	if (status != STATUS_OK)
		return status;
	return learner_subscribe(lane, false, err);
}

/* What was begun holds readers of the patches topic until it has ended. */
static void abort_transaction(struct learner_lane *lane)
{
	if (!lane->in_transaction)
		return;
	rd_kafka_error_t *error = rd_kafka_abort_transaction(lane->producer, ABORT_MS);
	if (error)
		rd_kafka_error_destroy(error);
	lane->in_transaction = false;
}

static void close_session(struct learner_lane *lane)
{
	learner_close_lineages(lane);
	learner_parts_free(lane);
	patch_writer_close(lane->writer);
	lane->writer = NULL;
	if (lane->producer) {
		abort_transaction(lane);
		rd_kafka_queue_destroy(lane->producer_queue);
		client_close_producer(lane->producer);
	}
	if (lane->consumer) {
		rd_kafka_queue_destroy(lane->consumer_queue);
		client_close_member(lane->consumer);
	}
	lane->producer = lane->consumer = NULL;
	lane->producer_queue = lane->consumer_queue = NULL;
}

/* ---- a round ---- */

static enum status work(struct learner_lane *lane, bool *ret_writes, struct error *err)
{
	*ret_writes = false;
	for (struct lineage *l = lane->lineages; l && !learner_stopping(lane); l = l->next) {
		const struct learner_part *part = learner_part_find(lane, l->partition);
		if (l->failed)
			continue;
		enum status status = lineage_work(l, l->lagging ? part->history_position : part->position, err);
		if (status != STATUS_OK)
			return error_prefix(err, "task %s", l->setup.lineage.task);
		*ret_writes = *ret_writes || lineage_has_writes(l);
	}
	return STATUS_OK;
}

static void count(struct learner_lane *lane)
{
	struct metrics *m = lane->ctx.metrics;
	for (struct lineage *l = lane->lineages; l; l = l->next) {
		const struct lineage_counts *c = &l->counts;
		metrics_add(m, METRIC_LABELS_TRAINED, c->labels);
		metrics_add(m, METRIC_LABELS_DROPPED, c->dropped);
		metrics_add(m, METRIC_LABELS_SHED, c->shed);
		metrics_add(m, METRIC_TRAINING_STEPS, c->steps);
		metrics_add(m, METRIC_TRAINING_STEPS_SKIPPED, c->skipped);
		metrics_add(m, METRIC_PATCHES_PROMOTED, c->promoted);
		metrics_add(m, METRIC_PATCHES_REJECTED, c->rejected);
		metrics_add(m, METRIC_PATCHES_ROLLED_BACK, c->rolled_back);
		l->counts = (struct lineage_counts){ 0 };
	}
}

void learner_well(struct learner_lane *lane)
{
	if (lane->failures > 0)
		tell(lane, "");
	lane->failures = 0;
}

static enum status round_once(struct learner_lane *lane, struct error *err)
{
	bool writes;
	if (atomic_exchange(&lane->reopen_wanted, false))
		learner_reopen_lineages(lane);
	enum status status = learner_match_lineages(lane, err);
	if (status == STATUS_OK)
		status = learner_collect(lane, ROUND_MS, err);
	if (status != STATUS_OK || lane->renew || learner_stopping(lane))
		return status;
	status = work(lane, &writes, err);
	if (status == STATUS_OK && writes)
		status = learner_commit(lane, err);
	if (status == STATUS_OK)
		count(lane);
	return status;
}

static enum status run_session(struct learner_lane *lane, struct error *err)
{
	const int64_t begin_us = clock_monotonic_us();
	lane->renew = false;
	lane->assigned = true;
	lane->member[0] = '\0';
	lane->uncovered = 0;
	lane->refused_bytes = 0;
	enum status status = open_producer(lane, err);
	if (status == STATUS_OK)
		status = join_group(lane, err);
	while (status == STATUS_OK && !lane->renew && !learner_stopping(lane)) {
		status = round_once(lane, err);
		if (status == STATUS_OK && clock_monotonic_us() - begin_us > WELL_US)
			learner_well(lane);
	}
	close_session(lane);
	return status;
}

/* Longer and longer while nothing is committed in between. */
static void pause_before_next(const struct learner_lane *lane)
{
	int64_t us = RETRY_US;
	for (unsigned i = 1; i < lane->failures && us < RETRY_AT_MOST_US; i++)
		us *= 2;
	for (; us > 0 && !learner_stopping(lane); us -= PAUSE_US)
		usleep(PAUSE_US);
}

/* A topic says that a batch was too large, not how large one may be. False: it has not, or they are as small as can be. */
static bool send_less(struct learner_lane *lane)
{
	size_t bytes = lane->refused_bytes / 2;
	if (bytes > lane->message_bytes / 2)
		bytes = lane->message_bytes / 2;
	if (bytes < SMALLEST_MESSAGE_BYTES)
		bytes = SMALLEST_MESSAGE_BYTES;
	if (lane->refused_bytes == 0 || bytes >= lane->message_bytes)
		return false;
	lane->message_bytes = bytes;
	log_info("learner: topic %s takes no batch of this size (its max.message.bytes): batches of at most %zu bytes "
		 "from now on",
		 lane->ctx.config->patches_topic, bytes);
	return true;
}

static void note_failure(struct learner_lane *lane, const struct error *err)
{
	char why[sizeof lane->trouble];
	if (err->status == STATUS_DATA)
		lane->message_bytes = 0; /* a record is larger: perhaps the topic takes more by now */
	log_warning("learner: %s: back to what is committed", err->text);
	(void)snprintf(why, sizeof why, "learner: %s", err->text);
	if (++lane->failures >= FAILURES)
		tell(lane, why);
}

static void *learner_main(void *arg)
{
	struct learner_lane *lane = arg;
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	while (!learner_stopping(lane)) {
		struct error err;
		enum status status = run_session(lane, &err);
		if (learner_stopping(lane))
			break;
		if (status != STATUS_OK && !send_less(lane))
			note_failure(lane, &err);
		metrics_add(lane->ctx.metrics, METRIC_LEARNER_RESTARTS, 1);
		pause_before_next(lane);
	}
	atomic_store(&lane->finished, true);
	uv_async_send(lane->ctx.exited);
	return NULL;
}

/* ---- from outside ---- */

static void free_lane(struct learner_lane *lane)
{
	example_input_free(lane->input);
	task_set_release(lane->tasks);
	(void)pthread_mutex_destroy(&lane->lock);
	free(lane);
}

enum status learner_lane_start(const struct learner_lane_context *ctx, struct learner_lane **ret, struct error *err)
{
	struct learner_lane *lane = calloc(1, sizeof *lane);
	if (!lane)
		return error_set_memory(err);
	lane->ctx = *ctx;
	(void)pthread_mutex_init(&lane->lock, NULL);
	const char *every =
		getenv("PETERD_TEST_LEARNER_ABORT_EVERY"); /* fault injection, for the project's own tests */
	lane->abort_every = every ? (unsigned)strtoul(every, NULL, 10) : 0;
	enum status status = example_input_new(ctx->backbone, &lane->input, err);
	lane->lineage_ctx = (struct lineage_context){ ctx->config, ctx->backbone, ctx->net, lane->input };
	if (status == STATUS_OK && pthread_create(&lane->thread, NULL, learner_main, lane) != 0)
		status = error_set(err, STATUS_IO, "cannot start a thread");
	if (status != STATUS_OK) {
		free_lane(lane);
		return status;
	}
	pthread_setname_np(lane->thread, "learner");
	*ret = lane;
	return STATUS_OK;
}

void learner_lane_stop(struct learner_lane *lane)
{
	atomic_store(&lane->stop_wanted, true);
}

void learner_lane_reopen(struct learner_lane *lane)
{
	atomic_store(&lane->reopen_wanted, true);
}

void learner_lane_trouble(struct learner_lane *lane, char *ret, size_t n)
{
	(void)pthread_mutex_lock(&lane->lock);
	(void)snprintf(ret, n, "%s", lane->trouble);
	(void)pthread_mutex_unlock(&lane->lock);
}

bool learner_lane_finished(struct learner_lane *lane)
{
	return atomic_load(&lane->finished);
}

void learner_lane_join_free(struct learner_lane *lane)
{
	if (!lane)
		return;
	pthread_join(lane->thread, NULL);
	free_lane(lane);
}
