/* A lane's batches on their way into the local store, after their commits, in order. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { STORE_RETRY_US = 1000000 }; /* between tries of a write that the disk refused */

static void free_store_job(struct store_job *job)
{
	for (size_t i = 0; i < job->count; i++)
		store_batch_free(job->parts[i].batch);
	free(job->parts);
	free(job);
}

static void run_store(struct worker_job *base)
{
	struct store_job *job = (struct store_job *)base;
	int64_t begin_us = clock_monotonic_us();
	job->status = STATUS_OK;
	while (job->written < job->count && job->status == STATUS_OK) {
		job->status = store_batch_write(job->parts[job->written].batch, &job->parts[job->written].position,
						&job->err);
		job->written += job->status == STATUS_OK;
	}
	job->took_us = clock_monotonic_us() - begin_us;
}

static void note_store_trouble(struct lane *lane, const struct error *err)
{
	if (lane->store_retry_us == 0)
		log_error("lane %d: local store: %s; going on without it, trying again", lane->index, err->text);
	lane->store_retry_us = clock_monotonic_us() + STORE_RETRY_US;
	(void)snprintf(lane->store_reason, sizeof lane->store_reason, "local store: %.140s", err->text);
}

/* A full disk is waited out; what the store has lost it never takes, nor a batch that is not whole. */
static void refused(struct lane *lane, const struct store_job *job)
{
	note_store_trouble(lane, &job->err);
	if (job->status == STATUS_DATA)
		lane_shard_broken(lane, job->parts[job->written].shard, &job->err);
	else if (job->status == STATUS_MEMORY)
		lane_fail(lane, job->status, &job->err);
}

static void done_store(struct worker_job *base)
{
	struct store_job *job = (struct store_job *)base;
	struct lane *lane = job->lane;
	lane->store_writing = false;
	if (job->status != STATUS_OK) {
		refused(lane, job);
		lane_wake(lane);
		return;
	}
	if (lane->store_retry_us != 0)
		log_info("lane %d: the local store takes writes again", lane->index);
	lane->store_retry_us = 0;
	lane->store_reason[0] = '\0';
	lane->cache.stored = job->number;
	metrics_observe(lane->apply.metrics, METRIC_STORE_WRITE_SECONDS, (double)job->took_us / 1e6);
	lane->store_first = job->next;
	if (!lane->store_first)
		lane->store_last = &lane->store_first;
	free_store_job(job);
	lane_store_retry(lane);
	lane_wake(lane);
}

bool lane_stored(const struct lane *lane)
{
	return lane->store_first == NULL;
}

void lane_store_retry(struct lane *lane)
{
	struct store_job *job = lane->store_first;
	bool in_order = lane->phase == LANE_RUNNING || lane->phase == LANE_COMMITTING;
	if (!job || !in_order || lane->store_writing || clock_monotonic_us() < lane->store_retry_us)
		return;
	lane->store_writing = true;
	job->job = (struct worker_job){ .run = run_store, .done = done_store };
	worker_submit(lane->transactions, &job->job);
}

void lane_store_forget(struct lane *lane)
{
	while (lane->store_first) {
		struct store_job *job = lane->store_first;
		lane->store_first = job->next;
		free_store_job(job);
	}
	lane->store_last = &lane->store_first;
	lane->store_retry_us = 0;
	lane->store_reason[0] = '\0';
}

void lane_store_forget_shard(struct lane *lane, const struct shard *shard)
{
	for (struct store_job *job = lane->store_first; job; job = job->next) {
		size_t kept = job->written;
		for (size_t i = job->written; i < job->count; i++) {
			if (job->parts[i].shard == shard)
				store_batch_free(job->parts[i].batch);
			else
				job->parts[kept++] = job->parts[i];
		}
		job->count = kept;
	}
}

/* Moves the committed batch's store batches into a job. */
bool lane_store_queue(struct lane *lane, struct batch *batch)
{
	struct store_job *job = calloc(1, sizeof *job);
	if (job)
		job->parts = calloc(batch->shards_count, sizeof *job->parts);
	if (!job || !job->parts) {
		free(job);
		return false;
	}
	job->lane = lane;
	job->number = batch->number;
	for (size_t i = 0; i < batch->shards_count; i++) {
		job->parts[i].shard = batch->shards[i].shard;
		job->parts[i].batch = batch->shards[i].store;
		job->parts[i].position = batch->shards[i].position;
		batch->shards[i].store = NULL;
	}
	job->count = batch->shards_count;
	*lane->store_last = job;
	lane->store_last = &job->next;
	return true;
}
