#include "io/client.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	LANE_CONSUMER = 1,
	LANE_PRODUCER = 2,
	READER = 4,
	PRODUCER = 8,
	LEARNER_PRODUCER = 16,
	CONSUMERS = LANE_CONSUMER | READER,
	PRODUCERS = LANE_PRODUCER | LEARNER_PRODUCER | PRODUCER,
	ALL = CONSUMERS | PRODUCERS,
};

struct setting {
	const char *name;
	const char *value;
	int kinds;
};

/* What a user may override. */
static const struct setting defaults[] = {
	{ "client.id", "peterd", ALL },
	{ "reconnect.backoff.max.ms", "1000", ALL },
	{ "socket.nagle.disable", "true", ALL },
	{ "socket.keepalive.enable", "true", ALL },
	/* a process that died holds its partitions this long, and its open transaction holds every reader */
	{ "session.timeout.ms", "10000", LANE_CONSUMER },
	{ "transaction.timeout.ms", "10000", LANE_PRODUCER },
	/* a checkpoint may be hundreds of megabytes, and who reads patches can wait */
	{ "transaction.timeout.ms", "60000", LEARNER_PRODUCER },
	/* above these a fetcher sleeps up to a second: more than a lane works off in that time */
	{ "queued.min.messages", "200000", CONSUMERS },
	{ "queued.max.messages.kbytes", "32768", CONSUMERS },
	{ "fetch.max.bytes", "16777216", CONSUMERS },
	/* a broker answers at once where it has data; this bounds how long a new partition waits for its first fetch */
	{ "fetch.wait.max.ms", "50", LANE_CONSUMER },
	{ "fetch.message.max.bytes", "8388608", READER }, /* of its one partition */
	{ "fetch.error.backoff.ms", "100", CONSUMERS },
	{ "check.crcs", "true", CONSUMERS },
	/* the wait before CONCURRENT_TRANSACTIONS is asked again: part of every commit under load */
	{ "retry.backoff.ms", "5", PRODUCERS },
	{ "linger.ms", "5", PRODUCERS },
	{ "queue.buffering.max.messages", "200000", PRODUCERS },
	{ "queue.buffering.max.kbytes", "65536", PRODUCERS },
};

/* What correctness rests on. */
static const struct setting fixed[] = {
	{ "isolation.level", "read_committed", CONSUMERS },
	{ "enable.auto.commit", "false", CONSUMERS },
	{ "enable.auto.offset.store", "false", CONSUMERS },
	{ "auto.offset.reset", "error", CONSUMERS },
	{ "enable.partition.eof", "true", CONSUMERS },
	{ "allow.auto.create.topics", "false", CONSUMERS },
	{ "partition.assignment.strategy", "cooperative-sticky", LANE_CONSUMER },
	{ "enable.idempotence", "true", PRODUCERS },
	{ "partitioner", "murmur2_random", PRODUCERS },
	{ "delivery.report.only.error", "false", LANE_PRODUCER | LEARNER_PRODUCER },
	{ "delivery.report.only.error", "true", PRODUCER },
};

/* What a user's property does not reach: it is meant for the lanes. A reader reads up to an end, which it learns from a
 * fetch that found nothing, and so waits for it as long as such a fetch waits. What bounds memory stays the user's. */
static const struct setting readers[] = {
	{ "fetch.min.bytes", "1", READER },
	{ "queued.min.messages", "200000", READER },
};

/* What comes from other keys of the configuration. */
static const char *const identities[][2] = {
	{ "group.id", "group" },
	{ "group.instance.id", "instance" },
	{ "transactional.id", "group and instance" },
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct {
	pthread_mutex_t lock;
	char text[256]; /* under lock */
	_Atomic bool set;
} last = { .lock = PTHREAD_MUTEX_INITIALIZER };

void client_note_error(rd_kafka_resp_err_t code, const char *text)
{
	(void)pthread_mutex_lock(&last.lock);
	(void)snprintf(last.text, sizeof last.text, "%s%s%s", rd_kafka_err2str(code), text ? ": " : "",
		       text ? text : "");
	atomic_store(&last.set, true);
	(void)pthread_mutex_unlock(&last.lock);
}

void client_note_success(void)
{
	if (!atomic_load_explicit(&last.set, memory_order_relaxed))
		return;
	(void)pthread_mutex_lock(&last.lock);
	last.text[0] = '\0';
	atomic_store(&last.set, false);
	(void)pthread_mutex_unlock(&last.lock);
}

void client_last_error(char *ret, size_t n)
{
	(void)pthread_mutex_lock(&last.lock);
	(void)snprintf(ret, n, "%s", last.text);
	(void)pthread_mutex_unlock(&last.lock);
}

/* opaque: a follower's, whose topic is its own affair and not the brokers'; NULL of others. */
static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
	if (opaque && code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		*(bool *)opaque = true;
	else
		client_note_error((rd_kafka_resp_err_t)code, reason);
}

/* At most BURST lines of one facility (librdkafka's word for the kind of a line) in a PERIOD. */
enum { FACILITIES = 32, BURST = 5 };
#define PERIOD_US 10000000

static struct facility {
	char name[16];
	int64_t since_us;
	unsigned lines;
	unsigned dropped;
} facilities[FACILITIES];
static pthread_mutex_t facilities_lock = PTHREAD_MUTEX_INITIALIZER;

/* Whether a line of this facility may pass; *ret_dropped: how many did not before it. */
static bool pass(const char *name, unsigned *ret_dropped)
{
	int64_t now_us = clock_monotonic_us();
	bool passes = true;
	*ret_dropped = 0;
	(void)pthread_mutex_lock(&facilities_lock);
	for (size_t i = 0; i < FACILITIES; i++) {
		struct facility *f = &facilities[i];
		if (!f->name[0])
			(void)snprintf(f->name, sizeof f->name, "%s", name);
		if (strncmp(f->name, name, sizeof f->name - 1) != 0)
			continue;
		if (f->lines == 0 || now_us - f->since_us > PERIOD_US) {
			*ret_dropped = f->dropped;
			f->since_us = now_us;
			f->lines = 0;
			f->dropped = 0;
		}
		passes = f->lines++ < BURST;
		f->dropped += passes ? 0 : 1;
		break;
	}
	(void)pthread_mutex_unlock(&facilities_lock);
	return passes;
}

static _Atomic bool hidden;

void client_hide_log(void)
{
	atomic_store(&hidden, true);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	unsigned dropped = 0;
	if (atomic_load(&hidden))
		level = 7;
	/* `kafka:` is one list for consumers and producers: each handle would warn about the other's properties */
	if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "property and will be ignored by"))
		return;
	if (strcmp(facility, "AUTOCREATE") == 0) /* the mock cluster's answer to every request for metadata */
		return;
	if (level > 6 || pass(facility, &dropped)) {
		char more[48] = "";
		if (dropped)
			(void)snprintf(more, sizeof more, " (%u line%s like this one left out)", dropped,
				       plural(dropped));
		const char *name = rk ? rd_kafka_name(rk) : "";
		/* a broker that is away is a warning: the daemon waits for it */
		if (level <= 2)
			log_error("kafka %s: %s: %s%s", name, facility, text, more);
		else if (level <= 4)
			log_warning("kafka %s: %s: %s%s", name, facility, text, more);
		else if (level <= 6)
			log_info("kafka %s: %s: %s%s", name, facility, text, more);
		else
			log_debug("kafka %s: %s: %s%s", name, facility, text, more);
	}
}

static enum status set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
	char why[384];
	if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
		return error_set(err, STATUS_CONFIG, "kafka.%s: %s", name, why);
	return STATUS_OK;
}

static enum status apply(rd_kafka_conf_t *conf, const struct setting *settings, size_t count, int kind,
			 struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		if (settings[i].kinds & kind)
			status = set(conf, settings[i].name, settings[i].value, err);
	return status;
}

static enum status refuse(const struct config *config, const struct config_property *p, const char *why,
			  const char *what, struct error *err)
{
	return error_set(err, STATUS_CONFIG, "%s:%d: kafka.%s: %s%s", config->path ? config->path : "configuration",
			 p->line, p->name, why, what);
}

static enum status check_not_ours(const struct config *config, const struct config_property *p, struct error *err)
{
	for (size_t i = 0; i < COUNT(identities); i++)
		if (strcmp(p->name, identities[i][0]) == 0)
			return refuse(config, p, "follows from the key ", identities[i][1], err);
	for (size_t i = 0; i < COUNT(fixed); i++)
		if (strcmp(p->name, fixed[i].name) == 0 && strcmp(p->value, fixed[i].value) != 0)
			return refuse(config, p, "exactly once needs ", fixed[i].value, err);
	return STATUS_OK;
}

/* The user's properties; `offline` leaves out what would make a handle use the network or ask for credentials. */
static enum status apply_users(rd_kafka_conf_t *conf, const struct config *config, bool offline, struct error *err)
{
	for (size_t i = 0; i < config->kafka_count; i++) {
		const struct config_property *p = &config->kafka[i];
		const char *value = p->value;
		enum status status = check_not_ours(config, p, err);
		if (status != STATUS_OK)
			return status;
		if (offline &&
		    (strcmp(p->name, "bootstrap.servers") == 0 || strcmp(p->name, "metadata.broker.list") == 0 ||
		     strcmp(p->name, "test.mock.num.brokers") == 0 || strncmp(p->name, "sasl.", 5) == 0))
			continue;
		if (offline && strcmp(p->name, "security.protocol") == 0)
			value = strcasecmp(value, "ssl") == 0 || strcasecmp(value, "sasl_ssl") == 0 ? "ssl"
												    : "plaintext";
		char why[384];
		if (rd_kafka_conf_set(conf, p->name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
			return refuse(config, p, why, "", err);
	}
	return STATUS_OK;
}

/* The properties of one kind of handle. */
static enum status build(const struct config *config, int kind, bool offline, rd_kafka_conf_t **ret, struct error *err)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	if (!conf)
		return error_set_memory(err);
	enum status status = apply(conf, defaults, COUNT(defaults), kind, err);
	if (status == STATUS_OK)
		status = apply_users(conf, config, offline, err);
	if (status == STATUS_OK)
		status = apply(conf, fixed, COUNT(fixed), kind, err);
	if (status == STATUS_OK)
		status = apply(conf, readers, COUNT(readers), kind, err);
	if (status == STATUS_OK && (kind & CONSUMERS))
		status = set(conf, "group.id", config->group, err);
	if (status != STATUS_OK) {
		rd_kafka_conf_destroy(conf);
		return status;
	}
	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_error_cb(conf, on_error);
	if (kind & LANE_CONSUMER)
		rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR |
						       RD_KAFKA_EVENT_OFFSET_COMMIT);
	if (kind & PRODUCERS)
		rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
	*ret = conf;
	return STATUS_OK;
}

/* A handle of the properties, which it takes. */
static enum status open(const struct config *config, rd_kafka_conf_t *conf, int kind, rd_kafka_t **ret,
			struct error *err)
{
	char why[384];
	rd_kafka_t *rk = rd_kafka_new(kind & CONSUMERS ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, why, sizeof why);
	if (!rk) {
		enum status status =
			rd_kafka_last_error() == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE ? STATUS_MEMORY : STATUS_CONFIG;
		rd_kafka_conf_destroy(conf);
		return error_set(err, status, "%s: kafka: %s", config->path ? config->path : "configuration", why);
	}
	if (kind & CONSUMERS)
		(void)rd_kafka_poll_set_consumer(rk);
	*ret = rk;
	return STATUS_OK;
}

/* A lane's handle: a member of `group`, or a producer, of this name; `limit` is at most so many bytes, where these are not 0. */
static enum status open_lane(const struct config *config, int kind, const char *group, const char *name,
			     const char *limit, size_t limit_bytes, rd_kafka_t **ret, struct error *err)
{
	char most[24];
	rd_kafka_conf_t *conf;
	enum status status = build(config, kind, false, &conf, err);
	if (status != STATUS_OK)
		return status;
	status = set(conf, kind == LANE_CONSUMER ? "group.instance.id" : "transactional.id", name, err);
	if (status == STATUS_OK && kind == LANE_CONSUMER)
		status = set(conf, "group.id", group, err);
	(void)snprintf(most, sizeof most, "%zu", limit_bytes);
	if (status == STATUS_OK && limit_bytes > 0)
		status = set(conf, limit, most, err);
	if (status != STATUS_OK) {
		rd_kafka_conf_destroy(conf);
		return status;
	}
	return open(config, conf, kind, ret, err);
}

enum { NAME_BYTES = CLIENT_GROUP_BYTES };

/* Cut, two lanes would have one identity. */
static enum status check_length(int length, struct error *err)
{
	if (length < 0 || length >= NAME_BYTES)
		return error_set(err, STATUS_CONFIG, "group and instance are longer than %d bytes", NAME_BYTES);
	return STATUS_OK;
}

enum status client_lane_consumer(const struct config *config, int lane, rd_kafka_t **ret, struct error *err)
{
	char name[NAME_BYTES];
	enum status status = check_length(snprintf(name, sizeof name, "%s-%d", config->instance, lane), err);
	return status == STATUS_OK ? open_lane(config, LANE_CONSUMER, config->group, name, NULL, 0, ret, err) : status;
}

enum status client_lane_producer(const struct config *config, int lane, size_t batch_bytes, rd_kafka_t **ret,
				 struct error *err)
{
	char name[NAME_BYTES];
	enum status status =
		check_length(snprintf(name, sizeof name, "%s/%s/%d", config->group, config->instance, lane), err);
	return status == STATUS_OK ? open_lane(config, LANE_PRODUCER, NULL, name, "batch.size", batch_bytes, ret, err)
				   : status;
}

void client_learner_group(const struct config *config, char ret[CLIENT_GROUP_BYTES])
{
	(void)snprintf(ret, CLIENT_GROUP_BYTES, "%s-learner", config->group);
}

enum status client_learner_consumer(const struct config *config, rd_kafka_t **ret, struct error *err)
{
	char group[CLIENT_GROUP_BYTES];
	enum status status = check_length((int)strlen(config->group) + (int)sizeof "-learner", err);
	client_learner_group(config, group);
	return status == STATUS_OK ? open_lane(config, LANE_CONSUMER, group, config->instance, NULL, 0, ret, err)
				   : status;
}

enum status client_learner_producer(const struct config *config, size_t message_bytes, rd_kafka_t **ret,
				    struct error *err)
{
	char name[NAME_BYTES];
	enum status status =
		check_length(snprintf(name, sizeof name, "%s/%s/learner", config->group, config->instance), err);
	return status == STATUS_OK
		       ? open_lane(config, LEARNER_PRODUCER, NULL, name, "message.max.bytes", message_bytes, ret, err)
		       : status;
}

static enum status open_reader(const struct config *config, const char *wait_ms, bool *gone, rd_kafka_t **ret,
			       struct error *err)
{
	rd_kafka_conf_t *conf;
	enum status status = build(config, READER, false, &conf, err);
	if (status != STATUS_OK)
		return status;
	status = set(conf, "fetch.wait.max.ms", wait_ms, err);
	rd_kafka_conf_set_opaque(conf, gone);
	if (status == STATUS_OK)
		return open(config, conf, READER, ret, err);
	rd_kafka_conf_destroy(conf);
	return status;
}

enum status client_reader(const struct config *config, rd_kafka_t **ret, struct error *err)
{
	return open_reader(config, "10", NULL, ret, err);
}

enum status client_follower(const struct config *config, bool *gone, rd_kafka_t **ret, struct error *err)
{
	return open_reader(config, "100", gone, ret, err);
}

enum status client_producer(const struct config *config, const char *transactional_id, rd_kafka_t **ret,
			    struct error *err)
{
	rd_kafka_conf_t *conf;
	enum status status = build(config, PRODUCER, false, &conf, err);
	if (status != STATUS_OK)
		return status;
	if (transactional_id)
		status = set(conf, "transactional.id", transactional_id, err);
	if (status != STATUS_OK) {
		rd_kafka_conf_destroy(conf);
		return status;
	}
	return open(config, conf, PRODUCER, ret, err);
}

/* ---- closing ---- */

/* Before 2.3.0 librdkafka's destroy asserts where the member leads a group that it has not assigned yet (its issue 4312):
 * a closed member is left to the process's end then, which is near, or to one that was fenced. */
#define MEMBER_DESTROY_IS_SAFE 0x02030000

enum { LET_GO_US = 10000000, DRAIN_MS = 20, CLOSE_S = 3 };

struct kept {
	rd_kafka_t *rk;
	struct kept *next;
};

static _Atomic(struct kept *) kept_handles; /* never freed, but not lost */

static void keep(rd_kafka_t *rk)
{
	struct kept *kept = malloc(sizeof *kept);
	if (!kept)
		return;
	*kept = (struct kept){ rk, atomic_load(&kept_handles) };
	while (!atomic_compare_exchange_weak(&kept_handles, &kept->next, kept))
		;
}

/* Takes back what is queued or in flight, until librdkafka's threads hold none of it. */
static bool drop_messages(rd_kafka_t *producer)
{
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer);
	int64_t until_us = clock_monotonic_us() + LET_GO_US;
	bool dropped = false;
	while (!(dropped = rd_kafka_outq_len(producer) == 0) && clock_monotonic_us() < until_us) {
		/* without waiting: a broker's thread may be asking a name server */
		(void)rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
						       RD_KAFKA_PURGE_F_NON_BLOCKING);
		rd_kafka_event_t *event = rd_kafka_queue_poll(reports, DRAIN_MS);
		for (; event; event = rd_kafka_queue_poll(reports, 0))
			rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(reports);
	return dropped;
}

/* librdkafka's destroy frees the text of a transaction's error before it has joined the brokers' threads, and one of
 * those that takes a fencing answer to a produce request then frees it again. Without a message in flight none does. */
void client_close_producer(rd_kafka_t *producer)
{
	if (!producer)
		return;
	if (drop_messages(producer)) {
		rd_kafka_destroy(producer);
		return;
	}
	log_warning("kafka %s: does not let go of %d message%s: left as it is", rd_kafka_name(producer),
		    rd_kafka_outq_len(producer), plural(rd_kafka_outq_len(producer)));
	keep(producer);
}

static void *run_close(void *consumer)
{
	(void)rd_kafka_consumer_close(consumer);
	return NULL;
}

/* librdkafka's close waits for ever where an assignment that comes meanwhile is thrown away with the group's other business
 * (its issue 4884, open): that thread is left behind with the handle. */
static bool close_in_time(rd_kafka_t *consumer)
{
	pthread_t thread;
	struct timespec until;
	if (pthread_create(&thread, NULL, run_close, consumer) != 0)
		return false;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLOSE_S;
	if (pthread_timedjoin_np(thread, NULL, &until) == 0)
		return true;
	(void)pthread_detach(thread);
	return false;
}

void client_close_member(rd_kafka_t *consumer)
{
	if (!consumer)
		return;
	bool closed = close_in_time(consumer);
	if (closed && rd_kafka_version() >= MEMBER_DESTROY_IS_SAFE)
		rd_kafka_destroy(consumer);
	else
		keep(consumer);
}

/* ---- the check ---- */

/* One kind's properties: each alone, then all together in a handle that knows no broker. */
static enum status check_kind(const struct config *config, int kind, struct error *err)
{
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	enum status status = build(config, kind, false, &conf, err);
	if (status != STATUS_OK)
		return status;
	rd_kafka_conf_destroy(conf);
	status = build(config, kind, true, &conf, err);
	if (status != STATUS_OK)
		return status;
	status = set(conf, "log_level", "4", err); /* not its notice that there is no broker */
	if (status == STATUS_OK && kind == LANE_PRODUCER)
		status = set(conf, "transactional.id", "check", err);
	if (status != STATUS_OK) {
		rd_kafka_conf_destroy(conf);
		return status;
	}
	status = open(config, conf, kind, &rk, err);
	if (status == STATUS_OK)
		rd_kafka_destroy(rk);
	return status;
}

enum status client_check(const struct config *config, struct error *err)
{
	static const int kinds[] = { LANE_CONSUMER, LANE_PRODUCER, READER, PRODUCER };
	enum status status = STATUS_OK;
	for (size_t i = 0; status == STATUS_OK && i < COUNT(kinds); i++)
		status = check_kind(config, kinds[i], err);
	return status;
}
