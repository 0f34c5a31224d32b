#include "tools/bench_learning.h"

#include "base/clock.h"
#include "base/random.h"
#include "io/example.h"
#include "io/interaction.h"
#include "io/label.h"
#include "io/patch_topic.h"
#include "io/task_record.h"
#include "io/topic_write.h"
#include "io/update.h"
#include "tools/bench_waits.h"
#include "tools/ctl.h"
#include "tools/feed.h"
#include "tools/scan.h"
#include "tools/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_A_ROUND = 2000, TIMEOUT_MS = 20000, RECENT = 256 };

#define WARM_UP_S 6.0
#define PATIENCE_S 150.0 /* for the last labels to be learnt: two default cadences of patches inside the trunk */

static const struct script {
	const char *name;
	const char *type;
	enum simulation_question question;
} scripts[] = {
	{ "segment", "classification", SIMULATION_SEGMENT },
	{ "offer", "ranking", SIMULATION_OFFER },
	{ "age", "regression", SIMULATION_AGE },
};

enum { TASKS = sizeof scripts / sizeof *scripts };

struct place {
	int32_t partition;
	int64_t offset;
};

struct version { /* that was promoted */
	uint64_t number;
	uint64_t labels; /* consumed */
	int64_t seen_ms; /* the first update with its scores or a later one's; 0: none */
};

/* A label's number among its task's examples is how many the learner has consumed with it, from 1. */
struct task {
	struct place *labels; /* [label_count]: where label i + 1 stands */
	size_t label_count, label_room;
	struct version *versions; /* [version_count], in their order */
	size_t version_count, version_room;
	size_t unseen; /* those before were seen */
};

struct appended { /* [count]: when the labels of a partition were, by offset */
	int64_t *ms;
	size_t count, room;
};

struct bench {
	const char *bootstrap;
	const char *insertion;
	double rate;   /* events/s */
	double labels; /* labels/s, of all tasks */
	int64_t seconds;
	int64_t users;
	int64_t partitions;
	int64_t seed;
	bool json;
	struct simulation *simulation;
	struct site *site;
	struct feed *feed;
	struct scan *labels_read, *examples, *updates;
	struct patch_topic *patches;
	struct task tasks[TASKS];
	struct appended *appended; /* [partitions] */
	struct random_stream random;
	uint32_t recent[RECENT]; /* users of the newest events */
	size_t recent_count;
	size_t turn;
	struct buffer value, floats;
	struct update_scores scores;
	struct bench_waits *serving; /* of the run in hand, NULL: not measured */
	struct bench_waits alone, along, learnt;
	int64_t sent, asked;
	int64_t cpu_us;
	int64_t newest_ms; /* of an event */
};

/* One more element of an array that grows; NULL: out of memory. */
static void *one_more(void **array, size_t count, size_t *room, size_t size)
{
	if (count == *room) {
		const size_t larger_room = *room ? 2 * *room : 256;
		void *larger = reallocarray(*array, larger_room, size);
		if (!larger)
			return NULL;
		*array = larger;
		*room = larger_room;
	}
	return (char *)*array + count * size;
}

/* ---- what goes in ---- */

static enum status send_event(struct bench *b, struct error *err)
{
	char text[SIMULATION_ID_BYTES];
	uint32_t user, item;
	simulation_next(b->simulation, &user, &item);
	const char *id = simulation_item_ids(b->simulation)[item];
	const int64_t now_ms = clock_wall_ms();
	b->newest_ms = now_ms > b->newest_ms ? now_ms : b->newest_ms;
	const struct interaction interaction = { .user_id = simulation_user_id(user, text),
						 .item_id = { (const uint8_t *)id, strlen(id) },
						 .timestamp_ms = b->newest_ms };
	buffer_clear(&b->value);
	interaction_encode(&interaction, &b->value);
	if (b->value.failed)
		return error_set_memory(err);
	b->recent[b->recent_count++ % RECENT] = user;
	b->sent++;
	return feed_put(b->feed, false, interaction.user_id, (struct slice){ b->value.data, b->value.length }, err);
}

static enum status send_label(struct bench *b, struct error *err)
{
	char id[SIMULATION_ID_BYTES];
	const struct script *s = &scripts[b->turn++ % TASKS];
	const size_t count = b->recent_count < RECENT ? b->recent_count : RECENT;
	const uint32_t user = b->recent[random_below(&b->random, (uint32_t)count)];
	const struct simulation_answer answer = simulation_ask(b->simulation, user, s->question);
	const struct label label = { .task = { (const uint8_t *)s->name, strlen(s->name) },
				     .user_id = simulation_user_id(user, id),
				     .timestamp_ms = b->newest_ms + 1,
				     .text = { (const uint8_t *)answer.text, answer.text ? strlen(answer.text) : 0 },
				     .number = answer.number,
				     .weight = 1 };
	buffer_clear(&b->value);
	label_encode(&label, &b->value);
	if (b->value.failed)
		return error_set_memory(err);
	b->asked++;
	return feed_put(b->feed, true, label.user_id, (struct slice){ b->value.data, b->value.length }, err);
}

static enum status put_task(struct bench *b, const struct script *s, struct error *err)
{
	char text[160];
	struct config *file = NULL;
	const int length =
		snprintf(text, sizeof text, "name: %s\ntype: %s\ninsertion: %s\n", s->name, s->type, b->insertion);
	enum status status = config_parse_tasks("--insertion", text, (size_t)length, &file, err);
	if (status)
		return status;
	buffer_clear(&b->value);
	task_record_encode(&file->tasks[0], &b->value);
	const struct topic_change change = { { (const uint8_t *)s->name, strlen(s->name) },
					     { b->value.data, b->value.length },
					     RD_KAFKA_PARTITION_UA };
	status = b->value.failed ? error_set_memory(err)
				 : topic_write(site_config(b->site), site_config(b->site)->tasks_topic, &change, 1,
					       TIMEOUT_MS, err);
	config_free(file);
	return status;
}

/* ---- what comes back ---- */

static enum status take_label(void *arg, const rd_kafka_message_t *message, struct error *err)
{
	struct bench *b = arg;
	rd_kafka_timestamp_type_t type;
	struct appended *a = &b->appended[message->partition];
	int64_t *ms = one_more((void **)&a->ms, a->count, &a->room, sizeof *a->ms);
	if (!ms)
		return error_set_memory(err);
	*ms = rd_kafka_message_timestamp(message, &type);
	a->count++;
	return STATUS_OK;
}

static struct task *find_task(struct bench *b, const void *name, size_t length)
{
	for (size_t i = 0; i < TASKS; i++)
		if (length == strlen(scripts[i].name) && !memcmp(name, scripts[i].name, length))
			return &b->tasks[i];
	return NULL;
}

static enum status take_example(void *arg, const rd_kafka_message_t *message, struct error *err)
{
	struct bench *b = arg;
	struct example example;
	struct task *task = find_task(b, message->key, message->key_len);
	enum status status = example_decode((struct slice){ message->payload, message->len }, &example, err);
	if (status || !task)
		return status;
	struct place *place =
		one_more((void **)&task->labels, task->label_count, &task->label_room, sizeof *task->labels);
	if (!place)
		return error_set_memory(err);
	*place = (struct place){ example.partition, example.offset };
	task->label_count++;
	return STATUS_OK;
}

static enum status take_record(struct bench *b, const struct patch_entry *entry, struct error *err)
{
	const struct patch_record *r = patch_entry_newest(entry);
	struct task *task = find_task(b, entry->task, strlen(entry->task));
	if (!task || !r || r->decision != PATCH_PROMOTED)
		return STATUS_OK;
	if (task->version_count > 0 && task->versions[task->version_count - 1].number >= r->version)
		return STATUS_OK;
	struct version *version =
		one_more((void **)&task->versions, task->version_count, &task->version_room, sizeof *task->versions);
	if (!version)
		return error_set_memory(err);
	*version = (struct version){ r->version, r->labels_trained, 0 };
	task->version_count++;
	return STATUS_OK;
}

static void see_score(struct bench *b, const struct update_score *score, int64_t now_ms)
{
	struct task *task = find_task(b, score->task.data, score->task.length);
	while (task && task->unseen < task->version_count &&
	       task->versions[task->unseen].number <= (uint64_t)score->version)
		task->versions[task->unseen++].seen_ms = now_ms;
}

static enum status take_update(void *arg, const rd_kafka_message_t *message, struct error *err)
{
	struct bench *b = arg;
	struct update update;
	const int64_t now_ms = clock_wall_ms();
	buffer_clear(&b->floats);
	enum status status = update_decode((struct slice){ message->payload, message->len }, &b->floats, &update, err);
	if (!status)
		status = update_decode_scores(&update, &b->scores, err);
	if (status)
		return error_prefix(err, "an update");
	for (size_t i = 0; i < b->scores.count; i++)
		see_score(b, &b->scores.items[i], now_ms);
	if (b->serving)
		bench_waits_add(b->serving, now_ms - update.event_time_ms);
	return STATUS_OK;
}

/* Versions before updates: one that an update names must be known. */
static enum status look(struct bench *b, struct error *err)
{
	bool got = true;
	enum status status = child_check(site_daemon(b->site), err);
	for (int i = 0; i < MOST_A_ROUND && got && !status; i++) {
		struct patch_change change;
		status = patch_topic_poll(b->patches, 0, &got, &change, err);
		if (!status && got && change.entry && change.kind == PATCH_KEY_DECISION)
			status = take_record(b, change.entry, err);
	}
	if (!status)
		status = scan_drain(b->labels_read, 0, take_label, b, err);
	if (!status)
		status = scan_drain(b->examples, 0, take_example, b, err);
	if (!status)
		status = scan_drain(b->updates, 1, take_update, b, err);
	return status ? status : feed_poll(b->feed, err);
}

/* ---- the runs ---- */

static bool all_seen(const struct bench *b)
{
	for (size_t i = 0; i < TASKS; i++) {
		const struct task *t = &b->tasks[i];
		const bool whole = t->version_count > 0 && t->versions[t->version_count - 1].labels == t->label_count;
		if (!whole || t->unseen < t->version_count)
			return false;
	}
	return true;
}

/* Events at the rate for so long, and labels; `until_seen`: or until every label has been learnt. */
static enum status play(struct bench *b, double length_s, bool labels, bool until_seen, struct bench_waits *serving,
			struct error *err)
{
	const int64_t started_us = clock_monotonic_us();
	const int64_t sent = b->sent, asked = b->asked;
	double seconds = 0;
	enum status status = STATUS_OK;
	b->cpu_us = child_cpu_us(site_daemon(b->site));
	b->serving = serving;
	while (!status && seconds < length_s && !(until_seen && all_seen(b))) {
		if (ctl_stopping())
			return error_set(err, STATUS_UNAVAILABLE, "stopped by a signal");
		for (int64_t due = (int64_t)(seconds * b->rate) - (b->sent - sent); due > 0 && !status; due--)
			status = send_event(b, err);
		for (int64_t due = labels ? (int64_t)(seconds * b->labels) - (b->asked - asked) : 0; due > 0 && !status;
		     due--)
			status = send_label(b, err);
		if (!status)
			status = look(b, err);
		seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
	}
	b->cpu_us = (child_cpu_us(site_daemon(b->site)) - b->cpu_us) / (b->sent > sent ? b->sent - sent : 1);
	return status;
}

/* The first moment at which a version showed that learnt from the label of this number; 0: none did. */
static int64_t seen_ms(const struct task *task, size_t number)
{
	for (size_t i = 0; i < task->version_count; i++)
		if (task->versions[i].labels >= number && task->versions[i].seen_ms)
			return task->versions[i].seen_ms;
	return 0;
}

/* Labels of the run: those from `first` on, of each task. Returns how many were never seen to be learnt from. */
static int64_t measure_labels(struct bench *b, const size_t first[TASKS], const size_t end[TASKS])
{
	int64_t missing = 0;
	for (size_t t = 0; t < TASKS; t++) {
		const struct task *task = &b->tasks[t];
		for (size_t i = first[t]; i < end[t]; i++) {
			const struct appended *a = &b->appended[task->labels[i].partition];
			const int64_t ms = seen_ms(task, i + 1);
			if (!ms || (size_t)task->labels[i].offset >= a->count)
				missing++;
			else
				bench_waits_add(&b->learnt, ms - a->ms[task->labels[i].offset]);
		}
	}
	return missing;
}

static void report(const struct bench *b, const char *what, const struct bench_waits *w)
{
	printf(b->json ? "{\"bench\": \"learning\", \"what\": \"%s\", \"insertion\": \"%s\", \"count\": %lld, "
			 "\"p50_ms\": %lld, "
			 "\"p99_ms\": %lld, \"max_ms\": %lld}\n"
		       : "%-36s %-8s %8lld times: p50 %lld ms, p99 %lld ms, max %lld ms\n",
	       what, b->insertion, (long long)w->count, (long long)bench_waits_percentile(w, 0.5),
	       (long long)bench_waits_percentile(w, 0.99), (long long)bench_waits_percentile(w, 1));
	(void)fflush(stdout);
}

static void report_cpu(const struct bench *b, const char *what)
{
	printf(b->json ? "{\"bench\": \"learning\", \"what\": \"%s\", \"cpu_us_per_event\": %lld}\n"
		       : "%-36s %lld us of processor time an event, the whole process\n",
	       what, (long long)b->cpu_us);
}

static void count_examples(const struct bench *b, size_t counts[TASKS])
{
	for (size_t i = 0; i < TASKS; i++)
		counts[i] = b->tasks[i].label_count;
}

static enum status measure(struct bench *b, struct error *err)
{
	size_t first[TASKS], end[TASKS];
	enum status status = play(b, WARM_UP_S, false, false, NULL, err);
	if (!status)
		status = play(b, (double)b->seconds, false, false, &b->alone, err);
	if (status)
		return status;
	report(b, "event to update, without learning", &b->alone);
	report_cpu(b, "without learning");
	for (size_t i = 0; i < TASKS && !status; i++)
		status = put_task(b, &scripts[i], err);
	if (!status)
		status = play(b, 2, false, false, NULL, err); /* until every process has them */
	if (!status)
		status = play(b, WARM_UP_S, true, false, NULL, err);
	if (status)
		return status;
	count_examples(b, first);
	status = play(b, (double)b->seconds, true, false, &b->along, err);
	if (status)
		return status;
	count_examples(b, end);
	report(b, "event to update, with learning", &b->along);
	report_cpu(b, "with learning");
	status = play(b, PATIENCE_S, false, true, NULL, err);
	if (status)
		return status;
	const int64_t missing = measure_labels(b, first, end);
	report(b, "label to the first update from it", &b->learnt);
	if (missing)
		return error_set(err, STATUS_BUG, "%lld labels were not learnt from in %.0f s", (long long)missing,
				 PATIENCE_S);
	return STATUS_OK;
}

static enum status prepare(struct bench *b, struct error *err)
{
	b->simulation = simulation_new((uint64_t)b->seed, (uint32_t)b->users, 10000);
	b->appended = calloc((size_t)b->partitions, sizeof *b->appended);
	if (!b->simulation || !b->appended)
		return error_set_memory(err);
	const struct site_options options = { .name = "bench",
					      .bootstrap = b->bootstrap,
					      .partitions = (int32_t)b->partitions,
					      .interval_ms = 100,
					      .simulation = b->simulation,
					      .seed = (uint64_t)b->seed };
	enum status status = site_open(&options, &b->site, err);
	if (status)
		return status;
	const struct config *config = site_config(b->site);
	status = feed_open(config, &b->feed, err);
	if (!status)
		status = scan_open(config, config->labels_topic, SCAN_BEGINNING, false, &b->labels_read, err);
	if (!status)
		status = scan_open(config, config->examples_topic, SCAN_BEGINNING, false, &b->examples, err);
	if (!status)
		status = scan_open(config, config->updates_topic, SCAN_BEGINNING, false, &b->updates, err);
	if (!status)
		status = patch_topic_open(config, false, TIMEOUT_MS, &b->patches, err);
	return status ? status : site_start_daemon(b->site, err);
}

static void clean_up(struct bench *b)
{
	feed_close(b->feed);
	scan_close(b->labels_read);
	scan_close(b->examples);
	scan_close(b->updates);
	patch_topic_close(b->patches);
	site_close(b->site);
	simulation_free(b->simulation);
	buffer_free(&b->value);
	buffer_free(&b->floats);
	update_scores_free(&b->scores);
	for (size_t i = 0; i < TASKS; i++) {
		free(b->tasks[i].labels);
		free(b->tasks[i].versions);
	}
	for (int64_t i = 0; b->appended && i < b->partitions; i++)
		free(b->appended[i].ms);
	free(b->appended);
}

enum status bench_learning(int argc, char **argv, struct error *err)
{
	static struct bench b = { .insertion = "side",
				  .rate = 2000,
				  .labels = 100,
				  .seconds = 30,
				  .users = 20000,
				  .partitions = 6,
				  .seed = 1 };
	const struct ctl_option options[] = {
		{ "bootstrap", CTL_TEXT, true, &b.bootstrap, "HOST:PORT", "a running Kafka (tools/kafka starts one)", 0,
		  0 },
		{ "insertion", CTL_TEXT, false, &b.insertion, "I",
		  "of the three tasks' patches: side, serial or parallel; default side", 0, 0 },
		{ "rate", CTL_REAL, false, &b.rate, "N", "events a second; default 2000", 0, 0 },
		{ "labels", CTL_REAL, false, &b.labels, "N", "labels a second, of all tasks; default 100", 0, 0 },
		{ "seconds", CTL_WHOLE, false, &b.seconds, "N", "length of each run; default 30", 1, 100000 },
		{ "users", CTL_WHOLE, false, &b.users, "N", "simulated users; default 20000", 1, 1000000 },
		{ "partitions", CTL_WHOLE, false, &b.partitions, "N", "partitions of each topic; default 6", 1, 1000 },
		{ "seed", CTL_WHOLE, false, &b.seed, "S", "of audience and weights; default 1", 0, INT64_MAX },
		{ "json", CTL_FLAG, false, &b.json, NULL, "one object a line", 0, 0 },
	};
	const struct ctl_usage usage = { "bench learning",
					 "",
					 "Three tasks that learn while events are served, through a real broker: from "
					 "an event to its update without and\n"
					 "with learning, and from a label's append to the first update that was scored "
					 "by a patch that learnt from it.\n",
					 options,
					 CTL_COUNT(options),
					 0 };
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	ctl_stop_on_signals();
	status = prepare(&b, err);
	if (!status)
		status = measure(&b, err);
	clean_up(&b);
	return status;
}
