/* The settings of existing topics (io/topics.h). */
#include "io/topics.h"

#include "io/client.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_BYTES = 8192, EVENT_BYTES = 24 }; /* of a record, and of an event in it, more than they have */

/* The value of one setting, NULL where the brokers did not send it. */
static const char *setting(const rd_kafka_ConfigResource_t *resource, const char *name)
{
	size_t count;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), name))
			return rd_kafka_ConfigEntry_value(entries[i]);
	return NULL;
}

typedef enum status (*judge_fn)(const struct config *config, const char *topic,
				const rd_kafka_ConfigResource_t *resource, struct error *err);

static enum status judge_all(const struct config *config, rd_kafka_event_t *event, judge_fn judge, struct error *err)
{
	size_t count;
	enum status status = STATUS_OK;
	const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
	const rd_kafka_ConfigResource_t **resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
	for (size_t i = 0; i < count && status == STATUS_OK; i++) {
		rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(resources[i]);
		const char *name = rd_kafka_ConfigResource_name(resources[i]);
		if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			continue;
		status = code ? error_set(err, STATUS_UNAVAILABLE, "topic %s: its settings: %s", name,
					  rd_kafka_err2str(code))
			      : judge(config, name, resources[i], err);
	}
	return status;
}

/* Asks for the settings of all of the topics that are wanted. */
static enum status describe(const struct config *config, bool (*wanted)(enum topic topic), judge_fn judge,
			    int timeout_ms, struct error *err)
{
	rd_kafka_t *rk;
	rd_kafka_ConfigResource_t *list[TOPIC_COUNT];
	size_t count = 0;
	char why[256] = "";
	enum status status = client_reader(config, &rk, err);
	if (status)
		return status;
	for (enum topic topic = TOPIC_INTERACTIONS; topic < TOPIC_COUNT; topic++)
		if (wanted(topic))
			list[count++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic_name(config, topic));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	(void)rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, why, sizeof why);
	rd_kafka_DescribeConfigs(rk, list, count, options, queue);
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms + 1000);
	if (!event || rd_kafka_event_error(event))
		status = error_set(err, STATUS_UNAVAILABLE, "the topics' settings: %s",
				   event ? rd_kafka_event_error_string(event) : "no answer");
	else
		status = judge_all(config, event, judge, err);
	if (event)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	rd_kafka_ConfigResource_destroy_array(list, count);
	rd_kafka_destroy(rk);
	return status;
}

static bool is_compacted(enum topic topic)
{
	return topic_cleanup(topic) && !strcmp(topic_cleanup(topic), "compact");
}

/* A changelog that is deleted by age forgets users that are still there; so does a consumer's view of updates. */
static enum status judge_cleanup(const struct config *config, const char *topic,
				 const rd_kafka_ConfigResource_t *resource, struct error *err)
{
	const char *policy = setting(resource, "cleanup.policy");
	if (policy && strcmp(policy, "compact"))
		return error_set(err, STATUS_CONFIG, "topic %s: cleanup.policy is %s, must be compact", topic, policy);
	return STATUS_OK;
}

enum status topics_check_cleanup(const struct config *config, int timeout_ms, struct error *err)
{
	return describe(config, is_compacted, judge_cleanup, timeout_ms, err);
}

static bool is_ours(enum topic topic)
{
	return topic != TOPIC_INTERACTIONS && topic != TOPIC_LABELS;
}

/* Batches, versions and letters are cut to what a topic takes; one record cannot be, and a user's has the whole sequence. */
static enum status judge_size(const struct config *config, const char *topic, const rd_kafka_ConfigResource_t *resource,
			      struct error *err)
{
	const char *most = setting(resource, "max.message.bytes");
	const bool users = !strcmp(topic, config->changelog_topic) || !strcmp(topic, config->examples_topic);
	const long long least = LEAST_BYTES + (users ? EVENT_BYTES * (long long)config->sequences_keep : 0);
	if (most && strtoll(most, NULL, 10) < least)
		return error_set(err, STATUS_CONFIG, "topic %s: max.message.bytes is %s, must be at least %lld", topic,
				 most, least);
	return STATUS_OK;
}

enum status topics_check_sizes(const struct config *config, int timeout_ms, struct error *err)
{
	return describe(config, is_ours, judge_size, timeout_ms, err);
}
