#include "io/topics.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "io/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	DEFAULT_PARTITIONS = 6,
	LOOK_AGAIN_MS = 100,
	SETTLE_MS = 2000,
	ANSWER_MS = 10000, /* for the first answer: brokers that are there give it, whatever time the rest may take */
};

/* How each topic is made. Dead letters keep the time of the record that they hold, which may be years old: a retention
 * by time would throw them away at once. Tombstones of the changelog stay as long as a local store is believed, those of
 * tasks for a hundred years: a task that was removed is not one that the topic has never had. */
static const struct {
	const char *cleanup; /* NULL: the brokers' default */
	const char *key;     /* one more property, NULL: none */
	const char *value;
} shapes[TOPIC_COUNT] = {
	[TOPIC_UPDATES] = { "compact", NULL, NULL },
	[TOPIC_CHANGELOG] = { "compact", "delete.retention.ms", "604800000" },
	[TOPIC_DEADLETTERS] = { "delete", "retention.ms", "-1" },
	[TOPIC_EXAMPLES] = { "delete", "message.timestamp.type", "LogAppendTime" },
	[TOPIC_PATCHES] = { "compact", NULL, NULL },
	[TOPIC_TASKS] = { "compact", "delete.retention.ms", "3153600000000" },
};

const char *topic_name(const struct config *config, enum topic topic)
{
	const char *const names[TOPIC_COUNT] = {
		[TOPIC_INTERACTIONS] = config->interactions_topic, [TOPIC_LABELS] = config->labels_topic,
		[TOPIC_UPDATES] = config->updates_topic,           [TOPIC_CHANGELOG] = config->changelog_topic,
		[TOPIC_DEADLETTERS] = config->deadletters_topic,   [TOPIC_EXAMPLES] = config->examples_topic,
		[TOPIC_PATCHES] = config->patches_topic,           [TOPIC_TASKS] = config->tasks_topic,
	};
	return names[topic];
}

const char *topic_cleanup(enum topic topic)
{
	return shapes[topic].cleanup;
}

/* Why the brokers do not answer, as far as the handle has been told. */
static enum status unavailable(rd_kafka_t *rk, const char *what, const char *why, struct error *err)
{
	char last[256] = "";
	for (int i = 0; i < 16 && rd_kafka_type(rk) == RD_KAFKA_CONSUMER; i++) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 0);
		if (message && message->err)
			client_note_error(message->err, rd_kafka_message_errstr(message));
		if (message)
			rd_kafka_message_destroy(message);
	}
	client_last_error(last, sizeof last);
	return error_set(err, STATUS_UNAVAILABLE, "%s: %s%s%s", what, why, *last ? "; last error: " : "", last);
}

/* Whether every partition has a leader: a topic made a moment ago may not. */
static bool is_led(const rd_kafka_metadata_topic_t *topic)
{
	for (int i = 0; i < topic->partition_cnt; i++)
		if (topic->partitions[i].leader < 0)
			return false;
	return true;
}

/* `led`: a topic without all its leaders counts as missing. */
static enum status read_metadata(rd_kafka_t *rk, const struct config *config, int timeout_ms, bool led,
				 struct topics *ret, struct error *err)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 1, NULL, &metadata, timeout_ms);
	if (code)
		return unavailable(rk, "the brokers' metadata", rd_kafka_err2str(code), err);
	memset(ret->partitions, 0, sizeof ret->partitions);
	for (int i = 0; i < metadata->topic_cnt; i++)
		for (int topic = 0; topic < TOPIC_COUNT; topic++)
			if (!metadata->topics[i].err && (!led || is_led(&metadata->topics[i])) &&
			    !strcmp(metadata->topics[i].topic, topic_name(config, (enum topic)topic)))
				ret->partitions[topic] = metadata->topics[i].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	return STATUS_OK;
}

enum status topics_partitions(rd_kafka_t *rk, const char *name, int timeout_ms, int32_t *ret, struct error *err)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 1, NULL, &metadata, timeout_ms);
	if (code)
		return unavailable(rk, "the brokers' metadata", rd_kafka_err2str(code), err);
	*ret = 0;
	for (int i = 0; i < metadata->topic_cnt; i++)
		if (!metadata->topics[i].err && !strcmp(metadata->topics[i].topic, name))
			*ret = metadata->topics[i].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	return STATUS_OK;
}

enum status topics_read(const struct config *config, int timeout_ms, struct topics *ret, struct error *err)
{
	rd_kafka_t *rk;
	struct topics topics = { { 0 }, { false } };
	enum status status = client_reader(config, &rk, err);
	if (status)
		return status;
	status = read_metadata(rk, config, timeout_ms, false, &topics, err);
	rd_kafka_destroy(rk);
	if (!status)
		*ret = topics;
	return status;
}

static enum status missing(const struct config *config, enum topic topic, struct error *err)
{
	return error_set(err, STATUS_CONFIG,
			 "topic %s is missing (or may not be described): peterctl topics create --config %s makes it",
			 topic_name(config, topic), config->path ? config->path : "FILE");
}

static enum status check_shapes(const struct config *config, const struct topics *topics, struct error *err)
{
	static const enum topic needed[] = { TOPIC_INTERACTIONS, TOPIC_UPDATES,  TOPIC_CHANGELOG, TOPIC_DEADLETTERS,
					     TOPIC_LABELS,       TOPIC_EXAMPLES, TOPIC_PATCHES,   TOPIC_TASKS };
	size_t count = sizeof needed / sizeof *needed - (config->tasks_count ? 0 : 4);
	for (size_t i = 0; i < count; i++)
		if (topics->partitions[needed[i]] == 0)
			return missing(config, needed[i], err);
	int32_t inputs = topics->partitions[TOPIC_INTERACTIONS];
	int32_t labels = topics->partitions[TOPIC_LABELS];
	if (labels && labels != inputs)
		return error_set(
			err, STATUS_CONFIG, "topics %s and %s must have the same number of partitions: %d and %d",
			topic_name(config, TOPIC_INTERACTIONS), topic_name(config, TOPIC_LABELS), inputs, labels);
	for (enum topic topic = TOPIC_UPDATES; topic <= TOPIC_CHANGELOG; topic++)
		if (topics->partitions[topic] < inputs)
			return error_set(
				err, STATUS_CONFIG,
				"topic %s has %d partition%s, fewer than the %d of %s: a user's partition is the same",
				topic_name(config, topic), topics->partitions[topic], plural(topics->partitions[topic]),
				inputs, topic_name(config, TOPIC_INTERACTIONS));
	return STATUS_OK;
}

enum status topics_check(const struct config *config, int timeout_ms, struct topics *ret, struct error *err)
{
	rd_kafka_t *rk;
	struct topics topics = { { 0 }, { false } };
	enum status status = client_reader(config, &rk, err);
	if (status)
		return status;
	/* metadata may lag behind a topic that was made a moment ago */
	for (int waited_ms = 0;; waited_ms += LOOK_AGAIN_MS) {
		status = read_metadata(rk, config, timeout_ms, false, &topics, err);
		if (!status)
			status = check_shapes(config, &topics, err);
		if (status != STATUS_CONFIG || waited_ms >= SETTLE_MS)
			break;
		(void)usleep(LOOK_AGAIN_MS * 1000);
	}
	rd_kafka_destroy(rk);
	if (status)
		return status;
	*ret = topics;
	return STATUS_OK;
}

/* The number of partitions that a missing topic gets. */
static int32_t choose_partitions(const struct topics *topics, enum topic topic, int32_t asked)
{
	int32_t inputs = topics->partitions[TOPIC_INTERACTIONS];
	if (topic == TOPIC_LABELS && inputs)
		return inputs;
	if (topic == TOPIC_INTERACTIONS && !asked && topics->partitions[TOPIC_LABELS])
		return topics->partitions[TOPIC_LABELS];
	if (!asked && inputs)
		return inputs;
	return asked ? asked : DEFAULT_PARTITIONS;
}

static rd_kafka_NewTopic_t *new_topic(const struct config *config, enum topic topic, int32_t partitions,
				      struct error *err)
{
	char why[256] = "";
	rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic_name(config, topic), partitions, -1, why, sizeof why);
	if (!made) {
		(void)error_set(err, STATUS_CONFIG, "topic %s: %s", topic_name(config, topic), why);
		return NULL;
	}
	if (shapes[topic].cleanup)
		(void)rd_kafka_NewTopic_set_config(made, "cleanup.policy", shapes[topic].cleanup);
	if (shapes[topic].key)
		(void)rd_kafka_NewTopic_set_config(made, shapes[topic].key, shapes[topic].value);
	return made;
}

static enum status take_results(rd_kafka_event_t *event, struct error *err)
{
	size_t count = 0;
	const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
	const rd_kafka_topic_result_t **results = result ? rd_kafka_CreateTopics_result_topics(result, &count) : NULL;
	for (size_t i = 0; i < count; i++) {
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
		const char *text = rd_kafka_topic_result_error_string(results[i]);
		if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			return error_set(err, STATUS_CONFIG, "topic %s: %s", rd_kafka_topic_result_name(results[i]),
					 text ? text : rd_kafka_err2str(code));
	}
	return STATUS_OK;
}

static enum status send_create(rd_kafka_t *rk, rd_kafka_NewTopic_t **list, size_t count, int timeout_ms,
			       struct error *err)
{
	char why[256] = "";
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	(void)rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, why, sizeof why);
	(void)rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms / 2, why, sizeof why);
	rd_kafka_CreateTopics(rk, list, count, options, queue);
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms + 1000);
	enum status status = STATUS_OK;
	if (!event)
		status = unavailable(rk, "creating topics", "no answer", err);
	else if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__TIMED_OUT)
		status = unavailable(rk, "creating topics",
				     "no answer (the development broker never gives one: name its topics with "
				     "peterctl broker --topic)",
				     err);
	else if (rd_kafka_event_error(event))
		status = unavailable(rk, "creating topics", rd_kafka_event_error_string(event), err);
	else
		status = take_results(event, err);
	if (event)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	return status;
}

/* Creates the missing ones of the topics from `first` on. */
static enum status create_missing(rd_kafka_t *rk, const struct config *config, enum topic first, int32_t partitions,
				  int timeout_ms, struct topics *topics, struct error *err)
{
	rd_kafka_NewTopic_t *list[TOPIC_COUNT];
	size_t count = 0;
	enum status status = STATUS_OK;
	for (enum topic topic = first; topic < TOPIC_COUNT && !status; topic++) {
		if (topics->partitions[topic])
			continue;
		int32_t chosen = choose_partitions(topics, topic, partitions);
		list[count] = new_topic(config, topic, chosen, err);
		if (!list[count]) {
			status = STATUS_CONFIG;
			break;
		}
		count++;
		topics->partitions[topic] = chosen;
		topics->created[topic] = true;
	}
	if (!status && count)
		status = send_create(rk, list, count, timeout_ms, err);
	rd_kafka_NewTopic_destroy_array(list, count);
	return status;
}

/* Waits until metadata shows every topic; the number of partitions is then what the brokers say. */
static enum status await_topics(rd_kafka_t *rk, const struct config *config, enum topic first, int timeout_ms,
				struct topics *topics, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	for (;;) {
		enum topic topic = first;
		enum status status = read_metadata(rk, config, timeout_ms, true, topics, err);
		while (!status && topic < TOPIC_COUNT && topics->partitions[topic])
			topic++;
		if (status || topic == TOPIC_COUNT)
			return status;
		if (clock_monotonic_us() > deadline_us)
			return error_set(err, STATUS_UNAVAILABLE, "topic %s was created and is not in the metadata",
					 topic_name(config, topic));
		(void)usleep(LOOK_AGAIN_MS * 1000);
	}
}

static enum status create_from(const struct config *config, enum topic first, int32_t partitions, int timeout_ms,
			       struct topics *ret, struct error *err)
{
	rd_kafka_t *rk;
	struct topics topics = { { 0 }, { false } };
	enum status status = client_reader(config, &rk, err);
	if (status)
		return status;
	status = read_metadata(rk, config, timeout_ms < ANSWER_MS ? timeout_ms : ANSWER_MS, false, &topics, err);
	if (!status && first > TOPIC_INTERACTIONS && topics.partitions[TOPIC_INTERACTIONS] == 0)
		status = missing(config, TOPIC_INTERACTIONS, err);
	if (!status)
		status = create_missing(rk, config, first, partitions, timeout_ms, &topics, err);
	if (!status)
		status = await_topics(rk, config, first, timeout_ms, &topics, err);
	rd_kafka_destroy(rk);
	if (!status)
		*ret = topics;
	return status;
}

enum status topics_create(const struct config *config, int32_t partitions, int timeout_ms, struct topics *ret,
			  struct error *err)
{
	return create_from(config, TOPIC_INTERACTIONS, partitions, timeout_ms, ret, err);
}

enum status topics_create_internal(const struct config *config, int timeout_ms, struct topics *ret, struct error *err)
{
	return create_from(config, TOPIC_UPDATES, (int32_t)config->create_partitions, timeout_ms, ret, err);
}

enum status topics_delete(const struct config *config, int timeout_ms, struct error *err)
{
	rd_kafka_t *rk;
	struct topics topics = { { 0 }, { false } };
	rd_kafka_DeleteTopic_t *list[TOPIC_COUNT];
	size_t count = 0;
	enum status status = client_reader(config, &rk, err);
	if (status)
		return status;
	status = read_metadata(rk, config, timeout_ms, false, &topics, err);
	for (enum topic topic = TOPIC_INTERACTIONS; topic < TOPIC_COUNT && !status; topic++)
		if (topics.partitions[topic])
			list[count++] = rd_kafka_DeleteTopic_new(topic_name(config, topic));
	if (!status && count) {
		rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
		rd_kafka_DeleteTopics(rk, list, count, NULL, queue);
		rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
		if (!event || rd_kafka_event_error(event))
			status = unavailable(rk, "deleting topics",
					     event ? rd_kafka_event_error_string(event) : "no answer", err);
		if (event)
			rd_kafka_event_destroy(event);
		rd_kafka_queue_destroy(queue);
	}
	rd_kafka_DeleteTopic_destroy_array(list, count);
	rd_kafka_destroy(rk);
	return status;
}
