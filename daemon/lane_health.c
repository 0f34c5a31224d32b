/* A lane's health: whether brokers answer and every partition has an owner, and what the outside is told. */
#include "daemon/lane_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/client.h"
#include "io/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PROBE_US = 5000000,          /* between questions to the brokers while all is well */
	PROBE_TROUBLED_US = 1000000, /* and while it is not */
	PROBE_TIMEOUT_MS = 2000,
	UNCOVERED_PROBES = 2,      /* in a row before a rebalance is asked for */
	ABORTS_IN_A_ROW = 3,       /* that are no accident any more */
	STUCK_COMMIT_US = 5000000, /* a commit or an abort that takes longer means that brokers are away */
};

/* Whether every partition of interactions has an owner; the first lane of each process looks. */
static void check_coverage(struct probe_job *job)
{
	struct group_coverage coverage;
	struct error err;
	const struct config *config = job->lane->ctx.config;
	job->uncovered = false;
	if (job->lane->index != 0 || group_coverage(job->consumer, config->group, config->interactions_topic,
						    PROBE_TIMEOUT_MS, &coverage, &err) != STATUS_OK)
		return;
	job->uncovered = coverage.stable && coverage.owned < coverage.partitions;
}

static void run_probe(struct worker_job *base)
{
	struct probe_job *job = (struct probe_job *)base;
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t code = rd_kafka_metadata(job->consumer, 0, NULL, &metadata, PROBE_TIMEOUT_MS);
	if (code) {
		client_note_error(code, rd_kafka_err2str(code));
		return;
	}
	rd_kafka_metadata_destroy(metadata);
	client_note_success();
	check_coverage(job);
}

static void subscribe(struct lane *lane, bool with_other)
{
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(2);
	rd_kafka_topic_partition_list_add(topics, lane->ctx.config->interactions_topic, RD_KAFKA_PARTITION_UA);
	if (with_other)
		rd_kafka_topic_partition_list_add(topics, lane->ctx.config->updates_topic, RD_KAFKA_PARTITION_UA);
	(void)rd_kafka_subscribe(lane->consumer, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	lane->subscribed_other = with_other;
}

/* A member whose subscription changes makes the broker rebalance, which a plain rejoin need not: another topic is added,
 * whose partitions nobody reads, and taken away again. */
static void heal_coverage(struct lane *lane, bool uncovered)
{
	lane->uncovered = uncovered ? lane->uncovered + 1 : 0;
	if (lane->subscribed_other) {
		subscribe(lane, false);
	} else if (lane->uncovered >= UNCOVERED_PROBES) {
		log_warning("lane %d: some partitions of %s belong to no member of the group: asking for a rebalance",
			    lane->index, lane->ctx.config->interactions_topic);
		lane->uncovered = 0;
		subscribe(lane, true);
	}
}

static void done_probe(struct worker_job *base)
{
	struct probe_job *job = (struct probe_job *)base;
	struct lane *lane = job->lane;
	lane->restorer_probing = false;
	if (!lane_stopping(lane) && !lane->failed)
		heal_coverage(lane, job->uncovered);
	lane_wake(lane);
}

void lane_probe(struct lane *lane)
{
	char trouble[64];
	int64_t now_us = clock_monotonic_us();
	client_last_error(trouble, sizeof trouble);
	if (lane->restorer_probing || now_us - lane->probed_us < (trouble[0] ? PROBE_TROUBLED_US : PROBE_US))
		return;
	lane->probed_us = now_us;
	lane->restorer_probing = true;
	lane->probe_job =
		(struct probe_job){ .job = { run_probe, done_probe, NULL }, .lane = lane, .consumer = lane->consumer };
	worker_submit(lane->restorer, &lane->probe_job.job);
}

static void describe_shard(struct lane *lane, const struct shard *shard, struct shard_status *out)
{
	int64_t low = -1, high = -1;
	(void)rd_kafka_get_watermark_offsets(lane->consumer, lane->ctx.config->interactions_topic, shard->partition,
					     &low, &high);
	int64_t position = shard->committed.interactions;
	int64_t marks = position == shard->end_position ? shard->end_offset - position : 0; /* no records: no lag */
	*out = (struct shard_status){
		.partition = shard->partition,
		.phase = shard->phase,
		.position = position,
		.end_offset = high >= 0 ? high - marks : -1,
		.restore_records = atomic_load(&shard->progress.records),
		.restore_lag = atomic_load(&shard->progress.lag),
		.labels_assigned = shard->labels_assigned,
	};
	char trouble[128] = "";
	if (shard->phase == SHARD_RESTORING)
		store_gate_trouble(lane->ctx.gate, trouble, sizeof trouble);
	if (trouble[0])
		(void)snprintf(out->reason, sizeof out->reason, "local store: %s", trouble);
	else
		memcpy(out->reason, shard->reason, sizeof out->reason);
}

/* Why the lane as a whole is not ready; "" where it is. */
static void describe_trouble(struct lane *lane, char *out, size_t n)
{
	char brokers[128];
	int64_t stuck_us = clock_monotonic_us() - lane->committed_us;
	client_last_error(brokers, sizeof brokers);
	if (brokers[0])
		(void)snprintf(out, n, "brokers: %s", brokers);
	else if (lane->phase == LANE_STARTING)
		(void)snprintf(out, n, "waiting for the brokers to open a transactional producer");
	else if ((lane->phase == LANE_COMMITTING || lane->phase == LANE_ABORTING) && stuck_us > STUCK_COMMIT_US)
		(void)snprintf(out, n, "brokers: %s has waited for %lld s",
			       lane->phase == LANE_COMMITTING ? "a commit" : "an abort", (long long)stuck_us / 1000000);
	else if (lane->aborts >= ABORTS_IN_A_ROW)
		(void)snprintf(out, n, "%u transactions in a row were aborted: %.100s", lane->aborts,
			       lane->abort_reason);
	else if (lane->outcast)
		(void)snprintf(out, n, "thrown out of the group, waiting for its assignment");
	else if (!lane->assigned_once)
		(void)snprintf(out, n, "waiting for the first assignment");
	else if (lane->uncovered > 0)
		(void)snprintf(out, n, "some partitions of %s belong to no member of the group",
			       lane->ctx.config->interactions_topic);
	else if (lane->store_reason[0])
		(void)snprintf(out, n, "%s", lane->store_reason);
}

static bool room_to_describe(struct lane *lane, size_t count)
{
	if (count < lane->described_capacity)
		return true;
	size_t capacity = lane->described_capacity ? 2 * lane->described_capacity : 16;
	struct shard_status *larger = reallocarray(lane->described, capacity, sizeof *larger);
	if (!larger)
		return false;
	lane->described = larger;
	lane->described_capacity = capacity;
	return true;
}

static void publish_gauges(struct lane *lane)
{
	struct metrics *m = lane->apply.metrics;
	uint64_t waiting = 0;
	for (const struct shard *s = lane->shards; s; s = s->next)
		waiting += s->waiting.count;
	metrics_set(m, METRIC_CACHE_BYTES, lane->cache.bytes);
	metrics_set(m, METRIC_CACHE_USERS, lane->cache.users);
	metrics_set(m, METRIC_UPDATES_OWED, lane->cache.owed);
	metrics_set(m, METRIC_LABELS_WAITING, waiting);
	metrics_set(m, METRIC_STORE_FAILED, lane->store_retry_us != 0);
	metrics_add(m, METRIC_CACHE_EVICTIONS, lane->cache.evictions);
	lane->cache.evictions = 0;
}

void lane_publish_health(struct lane *lane)
{
	struct lane_status status = { .lane = lane->index, .assigned_once = lane->assigned_once, .ticks = lane->ticks };
	bool live = true;
	publish_gauges(lane);
	describe_trouble(lane, status.reason, sizeof status.reason);
	for (const struct shard *s = lane->shards; s; s = s->next) {
		if (!room_to_describe(lane, status.count))
			break;
		describe_shard(lane, s, &lane->described[status.count++]);
		live = live && (s->phase == SHARD_LIVE || s->phase == SHARD_DRAINING);
	}
	status.shards = lane->described;
	status.ready = live && !status.reason[0];
	status_board_publish(lane->ctx.board, lane->index, &status);
}
