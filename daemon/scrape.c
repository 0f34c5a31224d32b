#include "daemon/scrape.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum derived {
#define METRIC(...)
#define DERIVED(id, name, kind, help) id,
#include "daemon/metrics.def"
#undef METRIC
#undef DERIVED
};

static const struct {
	const char *name;
	const char *kind;
	const char *help;
} rows[] = {
#define COUNTER "counter"
#define GAUGE "gauge"
#define METRIC(...)
#define DERIVED(id, name, kind, help) { name, kind, help },
#include "daemon/metrics.def"
#undef METRIC
#undef DERIVED
};

static const char *const phases[] = {
	[SHARD_RESTORING] = "restoring",
	[SHARD_LIVE] = "live",
	[SHARD_DRAINING] = "draining",
	[SHARD_FAILED] = "failed",
};

static void print_head(enum derived d, struct buffer *out)
{
	metrics_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[d].name, rows[d].help, rows[d].name, rows[d].kind);
}

/* One line of a per-partition metric; a negative value is unknown and left out. */
static void print_partition(enum derived d, const char *topic, int32_t partition, int64_t value, struct buffer *out)
{
	if (value < 0)
		return;
	metrics_printf(out, "%s{topic=\"", rows[d].name);
	metrics_print_escaped(out, topic);
	metrics_printf(out, "\",partition=\"%" PRId32 "\"} %" PRId64 "\n", partition, value);
}

static void print_shard(const struct scrape *s, enum derived d, const struct shard_status *shard, struct buffer *out)
{
	bool restoring = shard->phase == SHARD_RESTORING;
	const char *topic = s->interactions_topic;
	int64_t lag = shard->end_offset - shard->position;
	if (d == ASSIGNED_PARTITIONS) {
		print_partition(d, topic, shard->partition, 1, out);
		if (shard->labels_assigned)
			print_partition(d, s->labels_topic, shard->partition, 1, out);
	} else if (d == POSITION) {
		print_partition(d, topic, shard->partition, shard->position, out);
	} else if (d == LAG) {
		bool known = shard->position >= 0 && shard->end_offset >= 0;
		print_partition(d, topic, shard->partition, known ? (lag > 0 ? lag : 0) : -1, out);
	} else if (d == RESTORE_PROGRESS) {
		print_partition(d, topic, shard->partition, restoring ? shard->restore_records : -1, out);
	} else if (d == RESTORE_LAG) {
		print_partition(d, topic, shard->partition, restoring ? shard->restore_lag : -1, out);
	} else {
		metrics_printf(out, "%s{partition=\"%" PRId32 "\",phase=\"%s\"} 1\n", rows[d].name, shard->partition,
			       phases[shard->phase]);
	}
}

static void print_shards(const struct scrape *s, enum derived d, struct buffer *out)
{
	print_head(d, out);
	for (size_t i = 0; i < s->lanes; i++)
		for (size_t j = 0; j < s->status[i].count; j++)
			print_shard(s, d, &s->status[i].shards[j], out);
}

static void print_patches(const struct scrape *s, struct buffer *out)
{
	print_head(PATCH_VERSION, out);
	for (size_t i = 0; s->tasks && i < s->tasks->count; i++) {
		const struct served *entry = &s->tasks->entries[i];
		if (entry->patch)
			metrics_printf(out, "%s{task=\"%s\"} %" PRIu64 "\n", rows[PATCH_VERSION].name,
				       entry->task->definition.name, entry->patch->version);
	}
	print_head(PATCH_SWAPS, out);
	metrics_printf(out, "%s %" PRIu64 "\n", rows[PATCH_SWAPS].name, s->swaps);
}

static double cpu_seconds(void)
{
	struct timespec t = { 0 };
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t resident_bytes(void)
{
	unsigned long long size = 0, resident = 0;
	FILE *statm = fopen("/proc/self/statm", "re");
	if (!statm)
		return 0;
	if (fscanf(statm, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	(void)fclose(statm);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Wall time of the start: field 22 of /proc/self/stat counts clock ticks since the boot. */
static double start_seconds(void)
{
	struct timespec wall = { 0 }, boot = { 0 };
	unsigned long long ticks = 0;
	FILE *stat = fopen("/proc/self/stat", "re");
	if (!stat)
		return 0;
	int fields = fscanf(stat,
			    "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			    "%*d %*d %llu",
			    &ticks);
	(void)fclose(stat);
	(void)clock_gettime(CLOCK_REALTIME, &wall);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	double since_boot = (double)ticks / (double)sysconf(_SC_CLK_TCK);
	return fields == 1 ? (double)(wall.tv_sec - boot.tv_sec) + since_boot : 0;
}

static void print_process(struct buffer *out)
{
	print_head(PROCESS_CPU, out);
	metrics_printf(out, "%s %.6f\n", rows[PROCESS_CPU].name, cpu_seconds());
	print_head(PROCESS_RSS, out);
	metrics_printf(out, "%s %" PRIu64 "\n", rows[PROCESS_RSS].name, resident_bytes());
	print_head(PROCESS_START, out);
	metrics_printf(out, "%s %.2f\n", rows[PROCESS_START].name, start_seconds());
}

void scrape_print(const struct scrape *s, struct buffer *out)
{
	metrics_print(s->metrics, s->lanes + 1, out);
	print_head(READY, out);
	metrics_printf(out, "%s %d\n", rows[READY].name, s->ready);
	print_head(LANE_READY, out);
	for (size_t i = 0; i < s->lanes; i++)
		metrics_printf(out, "%s{lane=\"%zu\"} %d\n", rows[LANE_READY].name, i, s->status[i].ready);
	static const enum derived by_shard[] = { ASSIGNED_PARTITIONS, POSITION,         LAG,
						 SHARD_PHASE,         RESTORE_PROGRESS, RESTORE_LAG };
	for (size_t i = 0; i < sizeof by_shard / sizeof by_shard[0]; i++)
		print_shards(s, by_shard[i], out);
	print_patches(s, out);
	print_head(INFO, out);
	metrics_printf(out, "%s{version=\"%s\",backbone=\"%s\",arch=\"%s\"} 1\n", rows[INFO].name, PETERD_VERSION,
		       s->backbone, s->arch);
	print_process(out);
}
