#include "tools/bench_daemon.h"

#include "base/clock.h"
#include "io/interaction.h"
#include "io/update.h"
#include "tools/ctl.h"
#include "tools/feed.h"
#include "tools/scan.h"
#include "tools/site.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_A_ROUND = 2000, LATENCIES_MS = 60000, PATIENCE_US = 60000000 };

#define WINDOW_S 0.5 /* of a backlog's rate, under way in the live run */

struct bench {
	const char *bootstrap;
	int64_t events; /* of the run at full speed */
	int64_t users;
	int64_t partitions;
	int64_t seconds; /* of the live runs, each */
	int64_t interval_ms;
	int64_t seed;
	double rate; /* events/s of the last run; 0: half of the live one's */
	bool json;
	struct simulation *simulation;
	struct site *site;
	struct feed *feed;
	struct scan *interactions;
	struct scan *updates;
	struct buffer value;
	struct buffer floats;
	int64_t *read;      /* [partitions]: newest interaction in the topic, -1: none */
	int64_t *reflected; /* [partitions]: newest interaction in an update */
	int64_t sent;
	int64_t interactions_read;
	int64_t updates_read;
	int64_t *latencies; /* [LATENCIES_MS + 1]: updates by ms from append to visible */
	int64_t timed;      /* updates in `latencies` */
	bool timing;
};

static enum status send_event(struct bench *b, struct error *err)
{
	char text[SIMULATION_ID_BYTES];
	uint32_t user;
	uint32_t item;
	simulation_next(b->simulation, &user, &item);
	const char *id = simulation_item_ids(b->simulation)[item];
	struct interaction interaction = { .user_id = simulation_user_id(user, text),
					   .item_id = { (const uint8_t *)id, strlen(id) },
					   .timestamp_ms = clock_wall_ms() };
	buffer_clear(&b->value);
	interaction_encode(&interaction, &b->value);
	if (b->value.failed)
		return error_set_memory(err);
	struct slice value = { b->value.data, b->value.length };
	b->sent++;
	return feed_put(b->feed, false, interaction.user_id, value, err);
}

static enum status take_update(struct bench *b, const rd_kafka_message_t *message, struct error *err)
{
	struct update update;
	struct slice value = { message->payload, message->len };
	buffer_clear(&b->floats);
	enum status status = update_decode(value, &b->floats, &update, err);
	if (status)
		return error_prefix(err, "an update");
	b->updates_read++;
	if (update.partition >= 0 && update.partition < b->partitions && update.offset > b->reflected[update.partition])
		b->reflected[update.partition] = update.offset;
	if (!b->timing)
		return STATUS_OK;
	int64_t latency_ms = clock_wall_ms() - update.event_time_ms;
	b->latencies[latency_ms < 0 ? 0 : latency_ms > LATENCIES_MS ? LATENCIES_MS : latency_ms]++;
	b->timed++;
	return STATUS_OK;
}

/* Takes what has come of both topics, waiting a moment where nothing has. */
static enum status look(struct bench *b, int wait_ms, struct error *err)
{
	rd_kafka_message_t *message;
	enum status status = STATUS_OK;
	for (int i = 0; i < MOST_A_ROUND && !status; i++) {
		status = scan_next(b->interactions, 0, &message, err);
		if (status || !message)
			break;
		b->read[message->partition] = message->offset;
		b->interactions_read++;
		rd_kafka_message_destroy(message);
	}
	for (int i = 0; i < MOST_A_ROUND && !status; i++) {
		status = scan_next(b->updates, i ? 0 : wait_ms, &message, err);
		if (status || !message)
			break;
		status = take_update(b, message, err);
		rd_kafka_message_destroy(message);
	}
	return status;
}

static bool caught_up(const struct bench *b)
{
	for (int64_t i = 0; i < b->partitions; i++)
		if (b->reflected[i] < b->read[i])
			return false;
	return true;
}

/* Until `sent` interactions have been read back and the newest of each partition is in an update. */
static enum status await(struct bench *b, int64_t sent, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + PATIENCE_US;
	int64_t seen = b->updates_read;
	while (b->interactions_read < sent || !caught_up(b)) {
		enum status status = child_check(site_daemon(b->site), err);
		if (!status)
			status = look(b, 5, err);
		if (status)
			return status;
		if (b->updates_read != seen)
			deadline_us = clock_monotonic_us() + PATIENCE_US;
		seen = b->updates_read;
		if (ctl_stopping() || clock_monotonic_us() > deadline_us)
			return error_set(err, STATUS_UNAVAILABLE, "%s",
					 ctl_stopping() ? "stopped by a signal" : "no update came for a minute");
	}
	return STATUS_OK;
}

/* Everything is in the topic before the daemon starts: it works as fast as it can. */
static enum status run_full(struct bench *b, double *ret_rate, double *ret_cpu_us, struct error *err)
{
	enum status status = STATUS_OK;
	for (int64_t i = 0; i < b->events && !status && !ctl_stopping(); i++)
		status = send_event(b, err);
	if (!status)
		status = feed_finish(b->feed, err);
	while (!status && b->interactions_read < b->events && !ctl_stopping())
		status = look(b, 0, err);
	if (!status)
		status = site_start_daemon(b->site, err);
	if (status)
		return status;
	int64_t started_us = clock_monotonic_us();
	int64_t cpu_us = child_cpu_us(site_daemon(b->site));
	status = await(b, b->events, err);
	if (status)
		return status;
	*ret_rate = (double)b->events * 1e6 / (double)(clock_monotonic_us() - started_us);
	*ret_cpu_us = (double)(child_cpu_us(site_daemon(b->site)) - cpu_us) / (double)b->events;
	return STATUS_OK;
}

static int64_t reflected(const struct bench *b)
{
	int64_t events = 0;
	for (int64_t i = 0; i < b->partitions; i++)
		events += b->reflected[i] + 1;
	return events;
}

struct live {           /* a run in which events come while the daemon works */
	double rate;    /* events/s to send; 0: as many as it keeps up with, the window's worth under way */
	int64_t window; /* events */
	double per_s;   /* out: events/s that came out */
	double cpu_us;  /* out: of the daemon, an event */
	int64_t events; /* out */
};

static enum status run_live(struct bench *b, struct live *live, struct error *err)
{
	int64_t started_us = clock_monotonic_us();
	int64_t cpu_us = child_cpu_us(site_daemon(b->site));
	int64_t before = b->sent;
	double seconds = 0;
	enum status status = STATUS_OK;
	while (!status && !ctl_stopping() && seconds < (double)b->seconds) {
		int64_t due = live->rate > 0 ? (int64_t)(seconds * live->rate) - (b->sent - before)
					     : live->window - (b->sent - reflected(b));
		for (int64_t i = 0; i < due && i < MOST_A_ROUND && !status; i++)
			status = send_event(b, err);
		if (!status)
			status = feed_poll(b->feed, err);
		if (!status)
			status = look(b, 1, err);
		seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
	}
	if (!status)
		status = feed_finish(b->feed, err);
	if (!status)
		status = await(b, b->sent, err);
	if (status)
		return status;
	live->events = b->sent - before;
	live->per_s = (double)live->events * 1e6 / (double)(clock_monotonic_us() - started_us);
	live->cpu_us = live->events ? (double)(child_cpu_us(site_daemon(b->site)) - cpu_us) / (double)live->events : 0;
	return STATUS_OK;
}

static int64_t percentile(const struct bench *b, double share)
{
	int64_t rank = (int64_t)ceil(share * (double)b->timed);
	int64_t seen = 0;
	for (int64_t ms = 0; ms <= LATENCIES_MS; ms++) {
		seen += b->latencies[ms];
		if (seen >= rank)
			return ms;
	}
	return LATENCIES_MS;
}

static void report(const struct bench *b, const char *what, int64_t events, double per_s, double cpu_us)
{
	if (b->json)
		printf("{\"bench\": \"daemon\", \"what\": \"%s\", \"events\": %lld, \"events_per_s\": %.0f, "
		       "\"cpu_us_per_event\": %.3f",
		       what, (long long)events, per_s, cpu_us);
	else
		printf("peterd, %-12s %9lld events  %8.0f /s  %6.2f us CPU an event (whole process)", what,
		       (long long)events, per_s, cpu_us);
	if (b->json && b->timed)
		printf(", \"updates\": %lld, \"p50_ms\": %lld, \"p99_ms\": %lld, \"max_ms\": %lld", (long long)b->timed,
		       (long long)percentile(b, 0.5), (long long)percentile(b, 0.99), (long long)percentile(b, 1));
	else if (b->timed)
		printf("\n  append to visible update: p50 %lld ms, p99 %lld ms, max %lld ms",
		       (long long)percentile(b, 0.5), (long long)percentile(b, 0.99), (long long)percentile(b, 1));
	printf(b->json ? "}\n" : "\n");
	(void)fflush(stdout);
}

/* Half load is half of what comes through while producer, broker and reader share the machine, not of a backlog's rate. */
static enum status measure(struct bench *b, struct error *err)
{
	double rate;
	double cpu_us;
	enum status status = run_full(b, &rate, &cpu_us, err);
	if (status)
		return status;
	report(b, "backlog", b->events, rate, cpu_us);
	struct live live = { .window = (int64_t)(rate * WINDOW_S) + 1 };
	status = run_live(b, &live, err);
	if (status)
		return status;
	report(b, "live", live.events, live.per_s, live.cpu_us);
	char what[32] = "half load";
	if (b->rate > 0)
		(void)snprintf(what, sizeof what, "at %.0f/s", b->rate);
	struct live timed = { .rate = b->rate > 0 ? b->rate : live.per_s / 2 };
	b->timing = true;
	status = run_live(b, &timed, err);
	if (!status)
		report(b, what, timed.events, timed.per_s, timed.cpu_us);
	return status;
}

static enum status prepare(struct bench *b, struct error *err)
{
	b->simulation = simulation_new((uint64_t)b->seed, (uint32_t)b->users, 10000);
	b->read = calloc((size_t)b->partitions, sizeof *b->read);
	b->reflected = calloc((size_t)b->partitions, sizeof *b->reflected);
	b->latencies = calloc(LATENCIES_MS + 1, sizeof *b->latencies);
	if (!b->simulation || !b->read || !b->reflected || !b->latencies)
		return error_set_memory(err);
	for (int64_t i = 0; i < b->partitions; i++)
		b->read[i] = b->reflected[i] = -1;
	const struct site_options options = { .name = "bench",
					      .bootstrap = b->bootstrap,
					      .partitions = (int32_t)b->partitions,
					      .interval_ms = b->interval_ms,
					      .simulation = b->simulation,
					      .seed = (uint64_t)b->seed };
	enum status status = site_open(&options, &b->site, err);
	if (status)
		return status;
	const struct config *config = site_config(b->site);
	status = feed_open(config, &b->feed, err);
	if (!status)
		status = scan_open(config, config->interactions_topic, SCAN_BEGINNING, false, &b->interactions, err);
	if (!status)
		status = scan_open(config, config->updates_topic, SCAN_BEGINNING, false, &b->updates, err);
	return status;
}

static void clean_up(struct bench *b)
{
	feed_close(b->feed);
	scan_close(b->interactions);
	scan_close(b->updates);
	site_close(b->site);
	simulation_free(b->simulation);
	buffer_free(&b->value);
	buffer_free(&b->floats);
	free(b->read);
	free(b->reflected);
	free(b->latencies);
}

enum status bench_daemon(int argc, char **argv, struct error *err)
{
	struct bench b = {
		.events = 500000, .users = 20000, .partitions = 6, .seconds = 20, .interval_ms = 100, .seed = 1
	};
	const struct ctl_option options[] = {
		{ "bootstrap", CTL_TEXT, true, &b.bootstrap, "HOST:PORT", "a running Kafka (tools/kafka starts one)", 0,
		  0 },
		{ "events", CTL_WHOLE, false, &b.events, "N", "events at full speed; default 500000", 1000, INT64_MAX },
		{ "users", CTL_WHOLE, false, &b.users, "N", "simulated users; default 20000", 1, 1000000 },
		{ "partitions", CTL_WHOLE, false, &b.partitions, "N", "partitions of each topic; default 6", 1, 1000 },
		{ "seconds", CTL_WHOLE, false, &b.seconds, "N", "length of each live run; default 20", 1, 100000 },
		{ "rate", CTL_REAL, false, &b.rate, "N",
		  "events a second of the last run; default: half of the live rate", 0, 0 },
		{ "interval-ms", CTL_WHOLE, false, &b.interval_ms, "MS", "between commits; default 100", 1, 60000 },
		{ "seed", CTL_WHOLE, false, &b.seed, "S", "of audience and weights; default 1", 0, INT64_MAX },
		{ "json", CTL_FLAG, false, &b.json, NULL, "one object a line", 0, 0 },
	};
	const struct ctl_usage usage = {
		"bench daemon",
		"",
		"The whole daemon through a real broker: rate and CPU time of the process per "
		"event with a backlog and with "
		"live\n"
		"events, and the time from append to visible update at half of the live rate, or at --rate. "
		"The backbone is the default "
		"shape with\n"
		"random weights.\n",
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
	status = prepare(&b, err);
	if (!status)
		status = measure(&b, err);
	clean_up(&b);
	return status;
}
