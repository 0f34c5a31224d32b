/* peterctl demo: everything on this machine, and a check at the end that all of it was right. */
#include "tools/ctl.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"
#include "io/interaction.h"
#include "tools/demo_tasks.h"
#include "tools/demo_view.h"
#include "tools/feed.h"
#include "tools/scan.h"
#include "tools/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_A_ROUND = 2000, WAIT_MS = 5, SETTLE_MS = 60000, STOP_MS = 30000 };
enum { LEARN_MS = 5000 }; /* without another record of what was learnt: two would have come */
enum { HISTORY_A_USER = 40, HISTORY_LEAST = 4000, HISTORY_MOST = 100000 }; /* events to pre-train on */
enum { RECENT = 256 };

struct demo {
	const char *bootstrap; /* NULL: the embedded broker */
	int64_t seconds;       /* 0: until a signal */
	int64_t users;
	int64_t items;
	double rate;   /* events a second */
	double labels; /* a second, of all tasks */
	int64_t seed;
	int64_t partitions;
	struct simulation *simulation;
	struct site *site;
	uint32_t history; /* events that the backbone is pre-trained on */
	struct backbone *backbone;
	struct tracker *tracker;
	struct feed *feed;
	struct scan *interactions; /* read back, for the offsets that the updates must name */
	struct scan *updates;
	struct demo_tasks *tasks;
	struct demo_view view;
	uint32_t recent[RECENT];     /* users of the newest events, a ring */
	size_t recent_count;         /* events since the beginning */
	struct random_stream random; /* who is asked */
	struct buffer value;
	struct buffer floats;
	int64_t newest_ms; /* time of the last event */
	double played_s;
};

static enum status send_event(struct demo *d, struct error *err)
{
	char text[SIMULATION_ID_BYTES];
	uint32_t user;
	uint32_t item;
	simulation_next(d->simulation, &user, &item);
	const char *item_id = simulation_item_ids(d->simulation)[item];
	int64_t now_ms = clock_wall_ms();
	d->recent[d->recent_count++ % RECENT] = user;
	d->newest_ms = now_ms > d->newest_ms ? now_ms : d->newest_ms; /* never back, whatever the clock does */
	struct interaction interaction = { .user_id = simulation_user_id(user, text),
					   .item_id = { (const uint8_t *)item_id, strlen(item_id) },
					   .timestamp_ms = d->newest_ms };
	buffer_clear(&d->value);
	interaction_encode(&interaction, &d->value);
	if (d->value.failed)
		return error_set_memory(err);
	struct slice value = { d->value.data, d->value.length };
	enum status status = feed_put(d->feed, false, interaction.user_id, value, err);
	if (!status)
		tracker_sent(d->tracker, user, backbone_item(d->backbone, hash_item(item_id, strlen(item_id))),
			     d->newest_ms);
	return status;
}

/* A label of somebody who was here a moment ago, whose events are all older. */
static enum status send_label(struct demo *d, struct error *err)
{
	const size_t count = d->recent_count < RECENT ? d->recent_count : RECENT;
	if (count == 0)
		return STATUS_OK;
	const uint32_t user = d->recent[random_below(&d->random, (uint32_t)count)];
	return demo_tasks_ask(d->tasks, d->feed, user, d->newest_ms + 1, err);
}

static enum status take_interaction(void *arg, const rd_kafka_message_t *message, struct error *err)
{
	struct demo *d = arg;
	uint32_t user;
	struct slice key = { message->key, message->key_len };
	(void)err;
	if (simulation_user_parse(key, &user))
		tracker_interaction(d->tracker, user, message->partition, message->offset);
	return STATUS_OK;
}

static enum status take_update(void *arg, const rd_kafka_message_t *message, struct error *err)
{
	struct demo *d = arg;
	struct update update;
	uint32_t user;
	struct slice value = { message->payload, message->len };
	int64_t now_ms = clock_wall_ms();
	buffer_clear(&d->floats);
	enum status status = update_decode(value, &d->floats, &update, err);
	if (status)
		return error_prefix(err, "an update");
	if (simulation_user_parse(update.user_id, &user)) {
		tracker_update(d->tracker, user, &update, now_ms);
		status = demo_tasks_update(d->tasks, user, &update, demo_view_s(&d->view), err);
	}
	demo_view_note(&d->view, &update, now_ms - update.event_time_ms);
	return status;
}

static enum status look(struct demo *d, struct error *err)
{
	enum status status = child_check(site_daemon(d->site), err);
	if (!status)
		status = scan_drain(d->interactions, 0, take_interaction, d, err);
	if (!status)
		status = scan_drain(d->updates, WAIT_MS, take_update, d, err);
	if (!status)
		status = feed_poll(d->feed, err);
	if (!status)
		status = demo_tasks_follow(d->tasks, demo_view_s(&d->view), err);
	demo_view_show(&d->view, d->tracker, d->tasks);
	if (!status && ferror(stdout))
		return error_set_errno(err, "standard output");
	return status;
}

/* Events at the rate, until time is up or a signal comes. */
static enum status play(struct demo *d, struct error *err)
{
	int64_t started_us = clock_monotonic_us();
	int64_t sent = 0;
	int64_t asked = 0;
	enum status status = STATUS_OK;
	demo_view_start(&d->view);
	while (!status && !ctl_stopping()) {
		double seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
		if (d->seconds && seconds >= (double)d->seconds)
			break;
		int64_t due = (int64_t)(seconds * d->rate) - sent;
		for (int64_t i = 0; i < due && i < MOST_A_ROUND && !status && !ctl_stopping(); i++, sent++)
			status = send_event(d, err);
		if (!status)
			status = demo_tasks_begin(d->tasks, seconds, err);
		for (; asked < (int64_t)(seconds * d->labels) && !status; asked++)
			status = send_label(d, err);
		if (!status)
			status = look(d, err);
	}
	d->played_s = demo_view_s(&d->view);
	return ctl_stopping() && status == STATUS_UNAVAILABLE ? STATUS_OK : status;
}

/* Until every label is trained on, or records come no more. */
static enum status await_labels(struct demo *d, int64_t deadline_us, struct error *err)
{
	uint64_t waiting = demo_tasks_waiting(d->tasks);
	int64_t came_us = clock_monotonic_us();
	enum status status = STATUS_OK;
	while (!status && waiting > 0 && !ctl_stopping()) {
		const int64_t now_us = clock_monotonic_us();
		if (now_us > came_us + (int64_t)LEARN_MS * 1000 || now_us > deadline_us)
			break;
		status = look(d, err);
		if (demo_tasks_waiting(d->tasks) != waiting)
			came_us = now_us;
		waiting = demo_tasks_waiting(d->tasks);
	}
	return status;
}

/* Until every user's newest event has come back in an update, and what was sent is learnt; a second signal ends the wait. */
static enum status settle(struct demo *d, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + (int64_t)SETTLE_MS * 1000;
	ctl_forget_stop();
	enum status status = feed_finish(d->feed, err);
	while (!status && tracker_waiting(d->tracker) > 0 && clock_monotonic_us() < deadline_us && !ctl_stopping())
		status = look(d, err);
	return status ? status : await_labels(d, deadline_us, err);
}

static enum status summarise(struct demo *d, bool stopped, struct error *err)
{
	struct tracker_totals totals;
	struct tracker_verdict verdict;
	char latencies[96];
	enum status status = tracker_verify(d->tracker, &verdict, err);
	if (status)
		return status;
	tracker_totals(d->tracker, &totals);
	printf("\nSummary\n"
	       "  events produced                            %lld by %lld users\n"
	       "  updates seen                               %lld (users of one micro-batch are coalesced)\n"
	       "  event to update, the last %2d s             %s\n"
	       "  last update is of the newest interaction   %lld of %lld users\n"
	       "  and has the right number of events         %lld of %lld users\n"
	       "  and the embedding recomputed here          %lld of %lld users (largest difference %.1e)\n"
	       "  updates that went back                     %lld\n"
	       "  peterd stopped                             %s\n",
	       (long long)totals.sent, (long long)totals.active, (long long)totals.updates, TRACKER_WINDOW_S,
	       demo_view_latencies(&totals, latencies), (long long)verdict.newest, (long long)verdict.users,
	       (long long)verdict.lengths, (long long)verdict.users, (long long)verdict.embeddings,
	       (long long)verdict.users, verdict.worst, (long long)totals.backwards, stopped ? "exit 0" : "badly");
	demo_tasks_summarise(d->tasks, d->played_s);
	if (verdict.newest != verdict.users || verdict.lengths != verdict.users ||
	    verdict.embeddings != verdict.users || totals.backwards)
		return error_set(err, STATUS_BUG, "what came back is not what should have: see the summary");
	return STATUS_OK;
}

static enum status prepare(struct demo *d, struct error *err)
{
	char path[600];
	d->simulation = simulation_new((uint64_t)d->seed, (uint32_t)d->users, (uint32_t)d->items);
	if (!d->simulation)
		return error_set_memory(err);
	d->history = d->users > HISTORY_MOST / HISTORY_A_USER ? HISTORY_MOST : (uint32_t)d->users * HISTORY_A_USER;
	if (d->history < HISTORY_LEAST)
		d->history = HISTORY_LEAST;
	printf("peterd demo: %lld simulated users, %lld items, %.0f events/s, seed %lld\n\n"
	       "Pre-training a backbone on what they did before ...\n",
	       (long long)d->users, (long long)d->items, d->rate, (long long)d->seed);
	const struct site_options options = { .name = "demo",
					      .bootstrap = d->bootstrap,
					      .partitions = (int32_t)d->partitions,
					      .interval_ms = 100,
					      .simulation = d->simulation,
					      .history = d->history,
					      .seed = (uint64_t)d->seed };
	enum status status = site_open(&options, &d->site, err);
	if (status)
		return status;
	const struct config *config = site_config(d->site);
	printf("\n  broker    %s (%s)\n"
	       "  files     %s, removed at the end\n"
	       "  backbone  pre-trained on %u events of this audience, frozen from now on\n\n"
	       "Starting peterd ...\n",
	       site_servers(d->site), d->bootstrap ? "yours" : "embedded: librdkafka's mock cluster",
	       site_directory(d->site), d->history);
	(void)fflush(stdout);
	(void)snprintf(path, sizeof path, "%s", config->backbone);
	status = backbone_load(path, &d->backbone, err);
	if (status)
		return status;
	d->tracker =
		tracker_new(d->backbone, (uint32_t)d->users, (uint32_t)config->sequences_keep, (int32_t)d->partitions);
	status = d->tracker ? feed_open(config, &d->feed, err) : error_set_memory(err);
	if (!status)
		status = scan_open(config, config->interactions_topic, SCAN_BEGINNING, false, &d->interactions, err);
	if (!status)
		status = scan_open(config, config->updates_topic, SCAN_BEGINNING, false, &d->updates, err);
	if (!status)
		status = demo_tasks_open(config, d->simulation, (double)d->seconds, &d->tasks, err);
	return status ? status : site_start_daemon(d->site, err);
}

static enum status run(struct demo *d, struct error *err)
{
	struct error stop_err;
	enum status status = prepare(d, err);
	if (status == STATUS_UNAVAILABLE && ctl_stopping()) {
		printf("Stopped before peterd was ready\n");
		return STATUS_OK;
	}
	if (!status)
		status = play(d, err);
	if (!status)
		status = settle(d, err);
	if (status)
		return status;
	enum status stopped = child_stop(site_daemon(d->site), STOP_MS, &stop_err);
	status = summarise(d, stopped == STATUS_OK, err);
	if (!status && stopped) {
		*err = stop_err;
		status = stopped;
	}
	return status;
}

static void clean_up(struct demo *d)
{
	feed_close(d->feed);
	scan_close(d->interactions);
	scan_close(d->updates);
	tracker_free(d->tracker);
	demo_tasks_close(d->tasks);
	site_close(d->site);
	backbone_free(d->backbone);
	simulation_free(d->simulation);
	buffer_free(&d->value);
	buffer_free(&d->floats);
}

enum status ctl_demo(int argc, char **argv, struct error *err)
{
	struct demo d = {
		.seconds = 90, .users = 1000, .items = 500, .rate = 500, .labels = 120, .seed = 1, .partitions = 4
	};
	const struct ctl_option options[] = {
		{ "bootstrap", CTL_TEXT, false, &d.bootstrap, "HOST:PORT",
		  "a running Kafka; default: a broker inside this program", 0, 0 },
		{ "seconds", CTL_WHOLE, false, &d.seconds, "N", "how long; 0: until Ctrl-C; default 90", 0, 1000000 },
		{ "users", CTL_WHOLE, false, &d.users, "N", "simulated users; default 1000", 1, 1000000 },
		{ "items", CTL_WHOLE, false, &d.items, "N", "items of the catalogue; default 500", 1, 100000 },
		{ "rate", CTL_REAL, false, &d.rate, "R", "events a second; default 500", 0, 0 },
		{ "labels", CTL_REAL, false, &d.labels, "R", "labels a second, of all tasks; default 120", 0, 0 },
		{ "partitions", CTL_WHOLE, false, &d.partitions, "N", "partitions of each topic; default 4", 1, 1000 },
		{ "seed", CTL_WHOLE, false, &d.seed, "S", "of the audience and the weights; default 1", 0, INT64_MAX },
	};
	const struct ctl_usage usage = {
		"demo",
		"",
		"Everything on this machine: a broker, a seeded audience, a backbone pre-trained for it, peterd, and "
		"its\n"
		"updates as they arrive. Three tasks appear while it runs, labels trickle in, patches go live; "
		"half-way the\n"
		"same people begin to answer differently. Metrics are of labels before they were trained on, from the "
		"patches\n"
		"topic, over 5 seconds; the age's RMSE is in years. Labels have noise (of offers half are another than "
		"the\n"
		"favourite); the scores of users who never answer, `unasked`, are held against what is true of them. "
		"At the\n"
		"end every user's last update is checked. Times from event to update are of the last 10 seconds. "
		"Ctrl-C\n"
		"leaves nothing behind.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	ctl_stop_on_signals();
	status = run(&d, err);
	clean_up(&d);
	return status;
}
