#include "daemon/metrics.h"
#include "daemon/scrape.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *text_of(struct buffer *b)
{
	buffer_append_byte(b, 0);
	assert_false(b->failed);
	return (char *)b->data;
}

static void assert_line(const char *text, const char *line)
{
	char wanted[256];
	(void)snprintf(wanted, sizeof wanted, "\n%s\n", line);
	if (!strstr(text, wanted))
		fail_msg("no line %s in:\n%s", line, text);
}

static void lanes_are_summed(void **state)
{
	struct metrics *m = metrics_new(2);
	assert_non_null(m);
	metrics_add(&m[0], METRIC_INTERACTIONS, 40);
	metrics_add(&m[0], METRIC_INTERACTIONS, 1);
	metrics_add(&m[1], METRIC_INTERACTIONS, 1);
	metrics_set(&m[0], METRIC_CACHE_BYTES, 7);
	metrics_set(&m[0], METRIC_CACHE_BYTES, 5000000000);
	metrics_set(&m[1], METRIC_CACHE_BYTES, 3);
	metrics_add(&m[0], METRIC_UPDATES_OWED, 5);
	metrics_sub(&m[0], METRIC_UPDATES_OWED, 2);
	metrics_add_reason(&m[0], METRIC_DEADLETTERS, REASON_OVERSIZE, 2);
	metrics_add_reason(&m[1], METRIC_DEADLETTERS, REASON_OVERSIZE, 1);
	metrics_add_reason(&m[1], METRIC_DEADLETTERS, REASON_UNDECODABLE, 1);
	assert_int_equal(metrics_sum(m, 2, METRIC_INTERACTIONS), 42);
	assert_int_equal(metrics_sum(m, 1, METRIC_INTERACTIONS), 41);
	struct buffer out = { 0 };
	metrics_print(m, 2, &out);
	const char *text = text_of(&out);
	assert_line(text, "peterd_interactions_total 42");
	assert_line(text, "peterd_cache_bytes 5000000003");
	assert_line(text, "peterd_updates_owed 3");
	assert_line(text, "peterd_updates_total 0");
	assert_line(text, "peterd_deadletters_total{reason=\"oversize\"} 3");
	assert_line(text, "peterd_deadletters_total{reason=\"undecodable\"} 1");
	assert_line(text, "peterd_deadletters_total{reason=\"timestamp\"} 0");
	assert_line(text, "# TYPE peterd_deadletters_total counter");
	assert_line(text, "# TYPE peterd_cache_bytes gauge");
	assert_null(strstr(text, "reason=\"none\""));
	buffer_free(&out);
	metrics_free(m);
}

static void histograms_are_cumulative(void **state)
{
	struct metrics *m = metrics_new(2);
	assert_non_null(m);
	metrics_observe(&m[0], METRIC_TRANSACTION_SECONDS, 0.001); /* a bound belongs to its bucket */
	metrics_observe(&m[0], METRIC_TRANSACTION_SECONDS, 0.0011);
	metrics_observe(&m[1], METRIC_TRANSACTION_SECONDS, 0.0125);
	metrics_observe(&m[1], METRIC_TRANSACTION_SECONDS, 1e9);
	metrics_observe(&m[1], METRIC_TRANSACTION_SECONDS, -1);
	metrics_observe(&m[1], METRIC_TRANSACTION_SECONDS, (double)NAN);
	struct buffer out = { 0 };
	metrics_print(m, 2, &out);
	const char *text = text_of(&out);
	assert_line(text, "# TYPE peterd_transaction_seconds histogram");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"0.001\"} 2");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"0.0025\"} 3");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"0.01\"} 3");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"0.025\"} 4");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"1800\"} 4");
	assert_line(text, "peterd_transaction_seconds_bucket{le=\"+Inf\"} 5");
	assert_line(text, "peterd_transaction_seconds_sum 999999999");
	assert_line(text, "peterd_transaction_seconds_count 5");
	assert_line(text, "peterd_store_write_seconds_count 0");
	buffer_free(&out);
	metrics_free(m);
}

/* Prometheus' rules for names: a counter ends in _total, nothing else does, each stands once, HELP before TYPE. */
static void names_keep_the_conventions(void **state)
{
	static const struct {
		const char *name, *kind;
	} rows[] = {
#define METRIC(id, name, kind, label, help) { name, #kind },
#define DERIVED(id, name, kind, help) { name, #kind },
#include "daemon/metrics.def"
#undef METRIC
#undef DERIVED
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *total = strstr(rows[i].name, "_total");
		assert_int_equal(total && !total[6], !strcmp(rows[i].kind, "COUNTER"));
		assert_true(!strncmp(rows[i].name, "peterd_", 7) || !strncmp(rows[i].name, "process_", 8));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(rows[i].name, rows[j].name);
	}
}

static void shards_are_scraped(void **state)
{
	static char name[] = "gender";
	struct metrics *m = metrics_new(3);
	assert_non_null(m);
	struct shard_status shards[] = {
		{ .partition = 3, .phase = SHARD_LIVE, .position = 90, .end_offset = 100, .labels_assigned = true },
		{ .partition = 5,
		  .phase = SHARD_RESTORING,
		  .position = -1,
		  .end_offset = -1,
		  .restore_records = 12,
		  .restore_lag = 8 },
		{ .partition = 6, .phase = SHARD_LIVE, .position = 101, .end_offset = 100 },
	};
	const struct lane_status lanes[] = {
		{ .lane = 0, .ready = true, .shards = shards, .count = 2 },
		{ .lane = 1, .shards = shards + 2, .count = 1 },
	};
	struct served_task gender = { .definition = { .name = name } }, bare = { .definition = { .name = name } };
	struct served_patch third = { .version = 3 };
	struct task_set *tasks = NULL;
	struct error err;
	const struct served served[] = { { &gender, &third }, { &bare, NULL } };
	assert_int_equal(task_set_new(served, 2, &tasks, &err), STATUS_OK);
	const struct scrape s = { .metrics = m,
				  .tasks = tasks,
				  .swaps = 2,
				  .status = lanes,
				  .lanes = 2,
				  .ready = true,
				  .interactions_topic = "in",
				  .labels_topic = "la\"b",
				  .backbone = "abc",
				  .arch = "nextitnet" };
	struct buffer out = { 0 };
	scrape_print(&s, &out);
	const char *text = text_of(&out);
	assert_line(text, "peterd_ready 1");
	assert_line(text, "peterd_lane_ready{lane=\"0\"} 1");
	assert_line(text, "peterd_lane_ready{lane=\"1\"} 0");
	assert_line(text, "peterd_assigned_partitions{topic=\"in\",partition=\"3\"} 1");
	assert_line(text, "peterd_assigned_partitions{topic=\"la\\\"b\",partition=\"3\"} 1");
	assert_null(strstr(text, "{topic=\"la\\\"b\",partition=\"5\"}"));
	assert_line(text, "peterd_lag{topic=\"in\",partition=\"3\"} 10");
	assert_line(text, "peterd_lag{topic=\"in\",partition=\"6\"} 0");
	assert_null(strstr(text, "peterd_lag{topic=\"in\",partition=\"5\"}"));
	assert_line(text, "peterd_restore_progress_records{topic=\"in\",partition=\"5\"} 12");
	assert_line(text, "peterd_restore_lag{topic=\"in\",partition=\"5\"} 8");
	assert_null(strstr(text, "peterd_restore_lag{topic=\"in\",partition=\"3\"}"));
	assert_line(text, "peterd_shard_phase{partition=\"5\",phase=\"restoring\"} 1");
	assert_line(text, "peterd_info{version=\"" PETERD_VERSION "\",backbone=\"abc\",arch=\"nextitnet\"} 1");
	assert_line(text, "peterd_patch_version{task=\"gender\"} 3");
	assert_line(text, "peterd_patch_swaps_total 2");
	const char *rss = strstr(text, "\nprocess_resident_memory_bytes ");
	assert_non_null(rss);
	assert_true(strtod(rss + strlen("\nprocess_resident_memory_bytes "), NULL) > 1e6);
	const char *start = strstr(text, "\nprocess_start_time_seconds ");
	assert_non_null(start);
	double began = strtod(start + strlen("\nprocess_start_time_seconds "), NULL);
	assert_true(fabs(began - (double)time(NULL)) < 300);
	buffer_free(&out);
	gender.holders++; /* they are this function's */
	bare.holders++;
	third.holders++;
	task_set_release(tasks);
	metrics_free(m);
}

static void *count_up(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		metrics_add(arg, METRIC_INTERACTIONS, 1);
		metrics_observe(arg, METRIC_TRANSACTION_SECONDS, 0.5);
	}
	return NULL;
}

/* A lane writes while others read: no torn value, no race for the thread sanitizer to see. */
static void one_writes_many_read(void **state)
{
	struct metrics *m = metrics_new(1);
	assert_non_null(m);
	pthread_t writer;
	assert_int_equal(pthread_create(&writer, NULL, count_up, m), 0);
	uint64_t before = 0;
	for (int i = 0; i < 100; i++) {
		uint64_t now = metrics_sum(m, 1, METRIC_INTERACTIONS);
		assert_true(now >= before);
		before = now;
		struct buffer out = { 0 };
		metrics_print(m, 1, &out);
		assert_false(out.failed);
		buffer_free(&out);
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(metrics_sum(m, 1, METRIC_INTERACTIONS), 20000);
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lanes_are_summed),           cmocka_unit_test(histograms_are_cumulative),
		cmocka_unit_test(names_keep_the_conventions), cmocka_unit_test(shards_are_scraped),
		cmocka_unit_test(one_writes_many_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
