#include "tools/feed.h"

#include "base/log.h"
#include "base/plural.h"
#include "io/client.h"
#include "tools/ctl.h"

#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MS = 50, POLL_EVERY = 256 };

struct feed {
	rd_kafka_t *producer;
	rd_kafka_queue_t *reports;
	rd_kafka_topic_t *interactions;
	rd_kafka_topic_t *labels;
	int64_t queued;
	int waited_for;     /* undelivered records when it was last waited */
	bool said;          /* that brokers are in trouble */
	enum status failed; /* the first failed delivery, in `failure` */
	struct error failure;
};

enum status feed_open(const struct config *config, struct feed **ret, struct error *err)
{
	struct feed *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	enum status status = client_producer(config, NULL, &f->producer, err);
	if (status) {
		free(f);
		return status;
	}
	f->reports = rd_kafka_queue_get_main(f->producer);
	f->interactions = rd_kafka_topic_new(f->producer, config->interactions_topic, NULL);
	f->labels = rd_kafka_topic_new(f->producer, config->labels_topic, NULL);
	if (!f->interactions || !f->labels) {
		feed_close(f);
		return error_set_memory(err);
	}
	*ret = f;
	return STATUS_OK;
}

void feed_close(struct feed *f)
{
	if (!f)
		return;
	if (f->interactions)
		rd_kafka_topic_destroy(f->interactions);
	if (f->labels)
		rd_kafka_topic_destroy(f->labels);
	rd_kafka_queue_destroy(f->reports);
	client_close_producer(f->producer);
	free(f);
}

static enum status status_of(rd_kafka_resp_err_t code)
{
	switch (code) {
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		return STATUS_DATA;
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		return STATUS_CONFIG;
	default:
		return STATUS_UNAVAILABLE;
	}
}

static void note_reports(struct feed *f, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;
	while ((message = rd_kafka_event_message_next(event)))
		if (message->err && !f->failed)
			f->failed = error_set(&f->failure, status_of(message->err), "topic %s: %s",
					      rd_kafka_topic_name(message->rkt), rd_kafka_err2str(message->err));
}

/* What is waited for should not be a riddle; once, until something is delivered again. */
static void say_trouble(struct feed *f)
{
	char trouble[256];
	int undelivered = rd_kafka_outq_len(f->producer);
	if (undelivered < f->waited_for) {
		client_note_success();
		f->said = false;
	}
	f->waited_for = undelivered;
	client_last_error(trouble, sizeof trouble);
	if (*trouble && !f->said)
		log_warning("waiting for brokers: %s", trouble);
	f->said = f->said || *trouble;
}

/* Serves one report, waiting for it at most wait_ms. False: there was none. */
static bool serve(struct feed *f, int wait_ms)
{
	char why[256];
	rd_kafka_event_t *event = rd_kafka_queue_poll(f->reports, wait_ms);
	if (!event && wait_ms > 0)
		say_trouble(f);
	if (!event)
		return false;
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
		note_reports(f, event);
	else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR &&
		 rd_kafka_fatal_error(f->producer, why, sizeof why))
		f->failed = error_set(&f->failure, STATUS_UNAVAILABLE, "kafka: %s", why);
	else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
		client_note_error(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
	rd_kafka_event_destroy(event);
	return true;
}

enum status feed_poll(struct feed *f, struct error *err)
{
	while (serve(f, 0))
		;
	if (f->failed)
		*err = f->failure;
	return f->failed;
}

enum status feed_put(struct feed *f, bool labels, struct slice key, struct slice value, struct error *err)
{
	rd_kafka_topic_t *topic = labels ? f->labels : f->interactions;
	while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value.data,
				value.length, key.data, key.length, NULL)) {
		rd_kafka_resp_err_t code = rd_kafka_last_error();
		if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			return error_set(err, status_of(code), "topic %s: %s", rd_kafka_topic_name(topic),
					 rd_kafka_err2str(code));
		(void)serve(f, WAIT_MS);
		if (f->failed)
			break;
		if (ctl_stopping())
			return error_set(err, STATUS_UNAVAILABLE, "stopped while the brokers took nothing");
	}
	f->queued++;
	return f->queued % POLL_EVERY && !f->failed ? STATUS_OK : feed_poll(f, err);
}

enum status feed_finish(struct feed *f, struct error *err)
{
	while (rd_kafka_outq_len(f->producer) > 0 && !f->failed) {
		(void)serve(f, WAIT_MS);
		if (ctl_stopping())
			return error_set(err, STATUS_UNAVAILABLE, "stopped with %d record%s undelivered",
					 rd_kafka_outq_len(f->producer), plural(rd_kafka_outq_len(f->producer)));
	}
	return feed_poll(f, err);
}

int64_t feed_delivered(const struct feed *f)
{
	int64_t under_way = rd_kafka_outq_len(f->producer);
	return f->queued > under_way ? f->queued - under_way : 0;
}
