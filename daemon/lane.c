/* A lane's thread: its loop, and the order in which things are done. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "io/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { TICK_MS = 250 };

void lane_fail(struct lane *lane, enum status status, const struct error *err)
{
	if (lane->failed)
		return;
	lane->result = status;
	lane->err = *err;
	lane->failed = true;
}

bool lane_stopping(const struct lane *lane)
{
	return atomic_load(&lane->stop_wanted);
}

void lane_wake(struct lane *lane)
{
	uv_async_send(&lane->wake);
}

/* ---- what comes next ---- */

static void run_close(struct worker_job *base)
{
	struct close_job *job = (struct close_job *)base;
	client_close_member(job->consumer);
	client_close_producer(job->producer);
}

static void done_close(struct worker_job *base)
{
	struct close_job *job = (struct close_job *)base;
	uv_stop(&job->lane->loop);
}

static void close_lane(struct lane *lane)
{
	lane->phase = LANE_CLOSING;
	uv_poll_stop(&lane->consumer_poll);
	uv_timer_stop(&lane->cut_timer);
	if (lane->revoking)
		rd_kafka_event_destroy(lane->revoking);
	lane->revoking = NULL;
	lane_drop_batches(lane);
	lane_free_shards(lane);
	if (lane->producer) {
		uv_poll_stop(&lane->producer_poll);
		publisher_release(&lane->publisher);
		rd_kafka_queue_destroy(lane->producer_queue);
		lane->producer_queue = NULL;
	}
	rd_kafka_queue_destroy(lane->consumer_queue);
	rd_kafka_queue_destroy(lane->idle_queue);
	lane->consumer_queue = lane->idle_queue = NULL;
	lane->close_job = (struct close_job){ { run_close, done_close, NULL }, lane, lane->consumer, lane->producer };
	worker_submit(lane->transactions, &lane->close_job.job);
}

/* Nothing is produced, committed or waiting; what the disk refuses stays in the changelog. */
static bool settled(const struct lane *lane)
{
	return lane->phase == LANE_RUNNING && !lane->store_writing && (lane_stored(lane) || lane->store_retry_us != 0);
}

static void step_stop(struct lane *lane)
{
	/* what a lost lane has can be committed by nobody: its partitions' next owner does it again */
	bool drain = !lane->failed && lane->producer && !lane->outcast && !lane->renew &&
		     !rd_kafka_assignment_lost(lane->consumer);
	if (drain)
		lane_cut(lane);
	bool restores_ended = lane_cancel_restores(lane);
	if (!settled(lane) || !restores_ended || lane->restorer_probing)
		return;
	if (!drain || batch_empty(&lane->open))
		close_lane(lane);
}

static void step_revocation(struct lane *lane)
{
	if (lane->outcast || lane->renew) {
		if (lane->phase == LANE_RUNNING)
			lane_suspend_all(lane);
	} else if (rd_kafka_assignment_lost(lane->consumer)) {
		if (!batch_empty(&lane->open) && lane->phase == LANE_RUNNING) {
			lane_abandon(lane, "partitions were lost");
			return;
		}
	} else {
		lane_cut(lane);
	}
	if (settled(lane) && batch_empty(&lane->open))
		lane_finish_revocation(lane);
	if (!lane->revoking)
		lane_wake(lane); /* reading goes on */
}

/* Everything that was ours under another member id is restored: others may have owned it in between. */
static void step_renewal(struct lane *lane)
{
	if (lane->phase != LANE_RUNNING)
		return;
	lane_suspend_all(lane);
	if (!lane_cancel_restores(lane) || lane->store_writing)
		return;
	lane->renew = lane->outcast = false;
	lane_restore_all(lane);
}

void lane_step(struct lane *lane)
{
	if (lane->phase == LANE_CLOSING)
		return;
	if (lane->breakage && lane->phase == LANE_RUNNING && !lane->failed) {
		lane_abandon(lane, "the local store could not be read");
		return;
	}
	if (lane->failed || lane_stopping(lane))
		step_stop(lane);
	else if (lane->renew && !lane->revoking)
		step_renewal(lane);
	else if (lane->revoking)
		step_revocation(lane);
	else if (!lane_has_room(lane) || !lane_cache_fits(lane))
		lane_cut(lane);
}

/* ---- the loop ---- */

static void on_tick(uv_timer_t *timer)
{
	struct lane *lane = timer->data;
	lane->ticks++;
	if (lane->phase == LANE_CLOSING) {
		lane_publish_health(lane);
		return;
	}
	lane_check_fatal(lane);
	rd_kafka_event_t *event = rd_kafka_queue_poll(lane->idle_queue, 0);
	if (event)
		rd_kafka_event_destroy(event);
	lane_drain_reports(lane);
	lane_store_retry(lane);
	if (!lane_stopping(lane) && !lane->failed)
		lane_probe(lane);
	lane_publish_health(lane);
	lane_drain(lane);
}

static void on_cut(uv_timer_t *timer)
{
	struct lane *lane = timer->data;
	lane_cut(lane);
	lane_drain(lane);
}

static void on_wake(uv_async_t *wake)
{
	lane_drain(wake->data);
}

static void on_consumer_ready(uv_poll_t *handle, int status, int events)
{
	struct lane *lane = handle->data;
	uint64_t count;
	ssize_t got = read(lane->consumer_fd, &count, sizeof count);
	(void)got;
	lane_drain(lane);
}

static enum status open_consumer(struct lane *lane, struct error *err)
{
	static const uint64_t one = 1;
	enum status status = client_lane_consumer(lane->ctx.config, lane->index, &lane->consumer, err);
	if (status != STATUS_OK)
		return status;
	rd_kafka_poll_set_consumer(lane->consumer);
	lane->consumer_queue = rd_kafka_queue_get_consumer(lane->consumer);
	lane->idle_queue = rd_kafka_queue_new(lane->consumer);
	rd_kafka_queue_io_event_enable(lane->consumer_queue, lane->consumer_fd, &one, sizeof one);
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(topics, lane->ctx.config->interactions_topic, RD_KAFKA_PARTITION_UA);
	rd_kafka_resp_err_t code = rd_kafka_subscribe(lane->consumer, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	return code ? error_set(err, STATUS_CONFIG, "subscribe to %s: %s", lane->ctx.config->interactions_topic,
				rd_kafka_err2str(code))
		    : STATUS_OK;
}

/* Of a lane that never ran. */
static void close_consumer(struct lane *lane)
{
	if (!lane->consumer)
		return;
	rd_kafka_queue_destroy(lane->consumer_queue);
	rd_kafka_queue_destroy(lane->idle_queue);
	client_close_member(lane->consumer); /* it has subscribed, and may lead the group by now */
}

static enum status open_loop(struct lane *lane, struct error *err)
{
	lane->consumer_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	lane->producer_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (lane->consumer_fd < 0 || lane->producer_fd < 0)
		return error_set_errno(err, "eventfd");
	if (uv_loop_init(&lane->loop) != 0)
		return error_set(err, STATUS_IO, "cannot make an event loop");
	lane->loop_open = true;
	uv_timer_init(&lane->loop, &lane->cut_timer);
	uv_timer_init(&lane->loop, &lane->tick_timer);
	if (uv_async_init(&lane->loop, &lane->wake, on_wake) != 0 ||
	    uv_poll_init(&lane->loop, &lane->consumer_poll, lane->consumer_fd) != 0 ||
	    uv_poll_init(&lane->loop, &lane->producer_poll, lane->producer_fd) != 0)
		return error_set(err, STATUS_IO, "cannot watch its descriptors");
	lane->wake.data = lane->cut_timer.data = lane->tick_timer.data = lane;
	lane->consumer_poll.data = lane->producer_poll.data = lane;
	return STATUS_OK;
}

static enum status open_work(struct lane *lane, struct error *err)
{
	const struct config *config = lane->ctx.config;
	char name[16];
	lane->read_ahead = true;
	lane->store_last = &lane->store_first;
	lane->thinning.interval_us = config->updates_min_interval_ms * 1000;
	lane->refresh.cache = &lane->cache;
	if (strcmp(config->scores_refresh, "on_patch") == 0)
		lane->refresh.window_ms = config->scores_refresh_ms;
	lane->cache.budget_bytes = (size_t)(config->cache_bytes / config->workers);
	lane->cache.state_bytes = trunk_state_bytes(lane->ctx.backbone);
	lane->apply = (struct shard_context){ .config = config,
					      .backbone = lane->ctx.backbone,
					      .decoder = lane->ctx.decoder,
					      .cache = &lane->cache,
					      .metrics = &lane->ctx.metrics[lane->index] };
	enum status status = trunk_new(lane->ctx.backbone, &lane->cache, &lane->trunk, err);
	if (status != STATUS_OK)
		return status;
	lane->publisher = (struct publisher){ .config = config,
					      .backbone = lane->ctx.backbone,
					      .trunk = lane->trunk,
					      .thinning = &lane->thinning,
					      .cache = &lane->cache,
					      .tasks = lane->ctx.tasks,
					      .metrics = &lane->ctx.metrics[lane->index] };
	lane_prepare_reports(lane);
	status = publisher_init(&lane->publisher, err);
	if (status == STATUS_OK)
		status = scorer_new(lane->ctx.backbone, lane->ctx.net, lane->trunk, &lane->publisher.scorer, err);
	(void)snprintf(name, sizeof name, "transact-%d", lane->index);
	if (status == STATUS_OK)
		status = worker_new(&lane->loop, name, &lane->transactions, err);
	(void)snprintf(name, sizeof name, "restore-%d", lane->index);
	if (status == STATUS_OK)
		status = worker_new(&lane->loop, name, &lane->restorer, err);
	lane_next_batch(lane);
	return status;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void close_loop(struct lane *lane)
{
	if (!lane->loop_open)
		return;
	worker_close(lane->transactions);
	worker_close(lane->restorer);
	uv_walk(&lane->loop, close_handle, NULL);
	(void)uv_run(&lane->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&lane->loop);
	lane_store_forget(lane);
}

/* Frees what the lane holds, half built or whole; its handles of librdkafka are closed. */
static void free_inside(struct lane *lane)
{
	close_loop(lane);
	batch_free(&lane->open);
	batch_free(&lane->committing);
	publisher_free(&lane->publisher);
	scorer_free(lane->publisher.scorer);
	trunk_free(lane->trunk);
	task_set_release(lane->apply.tasks);
	buffer_free(&lane->apply.scratch);
	free(lane->described);
	if (lane->consumer_fd >= 0)
		close(lane->consumer_fd);
	if (lane->producer_fd >= 0)
		close(lane->producer_fd);
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	uv_poll_start(&lane->consumer_poll, UV_READABLE, on_consumer_ready);
	uv_timer_start(&lane->tick_timer, on_tick, 0, TICK_MS);
	uv_timer_start(&lane->cut_timer, on_cut, 0, (uint64_t)lane->ctx.config->transaction_interval_ms);
	lane_open_producer(lane);
	(void)uv_run(&lane->loop, UV_RUN_DEFAULT);
	atomic_store(&lane->finished, true);
	uv_async_send(lane->ctx.exited);
	return NULL;
}

enum status lane_start(const struct lane_context *ctx, int index, struct lane **ret, struct error *err)
{
	struct lane *lane = calloc(1, sizeof *lane);
	if (!lane)
		return error_set_memory(err);
	lane->ctx = *ctx;
	lane->index = index;
	lane->consumer_fd = lane->producer_fd = -1;
	const char *every = getenv("PETERD_TEST_ABORT_EVERY"); /* fault injection, for the project's own tests */
	lane->abort_every = every ? (unsigned)strtoul(every, NULL, 10) : 0;
	enum status status = open_loop(lane, err);
	if (status == STATUS_OK)
		status = open_work(lane, err);
	if (status == STATUS_OK)
		status = open_consumer(lane, err);
	char name[16];
	(void)snprintf(name, sizeof name, "lane-%d", index);
	if (status == STATUS_OK && pthread_create(&lane->thread, NULL, lane_main, lane) != 0)
		status = error_set(err, STATUS_IO, "cannot start a thread");
	if (status == STATUS_OK) {
		pthread_setname_np(lane->thread, name);
		*ret = lane;
		return STATUS_OK;
	}
	close_consumer(lane);
	free_inside(lane);
	free(lane);
	return status;
}

void lane_stop(struct lane *lane)
{
	atomic_store(&lane->stop_wanted, true);
	uv_async_send(&lane->wake);
}

bool lane_finished(struct lane *lane, enum status *ret_status, struct error *ret_err)
{
	if (!atomic_load(&lane->finished))
		return false;
	*ret_status = lane->result;
	*ret_err = lane->err;
	return true;
}

bool lane_was_fenced(const struct lane *lane)
{
	return lane->fenced;
}

void lane_join_free(struct lane *lane)
{
	if (!lane)
		return;
	pthread_join(lane->thread, NULL);
	free_inside(lane); /* not before: lane_stop may send to its loop until here */
	free(lane);
}
