/* The learner lane's thread: sessions, and their rounds. */
#include "daemon/learner_lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"
#include "io/topics.h"

#include <pthread.h>
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
	NICENESS = 10,
};

bool learner_stopping(const struct learner_lane *lane)
{
	return atomic_load(&lane->stop_wanted);
}

/* ---- a session ---- */

static enum status open_producer(struct learner_lane *lane, struct error *err)
{
	enum status status = client_learner_producer(lane->ctx.config, &lane->producer, err);
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
	return patch_writer_open(lane->ctx.config, lane->producer, learner_drain_reports, lane, CALL_MS, &lane->writer,
				 err);
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
	for (struct lineage *l = lane->lineages; l; l = l->next) {
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

static enum status run_session(struct learner_lane *lane, int64_t *ret_rounds, struct error *err)
{
	lane->renew = false;
	lane->assigned = true;
	lane->member[0] = '\0';
	lane->uncovered = 0;
	enum status status = open_producer(lane, err);
	if (status == STATUS_OK)
		status = join_group(lane, err);
	for (*ret_rounds = 0; status == STATUS_OK && !lane->renew && !learner_stopping(lane); (*ret_rounds)++)
		status = round_once(lane, err);
	close_session(lane);
	return status;
}

static void pause_before_next(const struct learner_lane *lane, int64_t us)
{
	for (; us > 0 && !learner_stopping(lane); us -= PAUSE_US)
		usleep(PAUSE_US);
}

static void *learner_main(void *arg)
{
	struct learner_lane *lane = arg;
	int64_t pause_us = RETRY_US;
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	while (!learner_stopping(lane)) {
		struct error err;
		int64_t rounds = 0;
		enum status status = run_session(lane, &rounds, &err);
		if (learner_stopping(lane))
			break;
		pause_us = rounds > 0 ? RETRY_US : pause_us * 2 < RETRY_AT_MOST_US ? pause_us * 2 : RETRY_AT_MOST_US;
		if (status != STATUS_OK)
			log_warning("learner: %s: back to what is committed", err.text);
		metrics_add(lane->ctx.metrics, METRIC_LEARNER_RESTARTS, 1);
		pause_before_next(lane, pause_us);
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
	free(lane);
}

enum status learner_lane_start(const struct learner_lane_context *ctx, struct learner_lane **ret, struct error *err)
{
	struct learner_lane *lane = calloc(1, sizeof *lane);
	if (!lane)
		return error_set_memory(err);
	lane->ctx = *ctx;
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
