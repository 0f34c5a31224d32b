#include "config/listen.h"
#include "config/reader.h"

#include <string.h>

#define TOPIC_MAX_BYTES 249 /* Kafka's limit */
#define GROUP_MAX_BYTES 200 /* leaves room for "/<instance>/<lane>" in a transactional id */
#define INSTANCE_MAX_BYTES 100
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static enum status check_id(const struct config *c, const char *key, const char *id, size_t most, struct error *err)
{
	size_t length = strlen(id);
	if (length == 0 || length > most || id[strspn(id, NAME_CHARACTERS)])
		return config_fault(c, key, err, "must be 1 to %zu of a-z A-Z 0-9 . _ -", most);
	return STATUS_OK;
}

static enum status check_topics(const struct config *c, struct error *err)
{
	const struct {
		const char *key;
		const char *topic;
	} topics[] = {
		{ "interactions.topic", c->interactions_topic }, { "labels.topic", c->labels_topic },
		{ "updates.topic", c->updates_topic },           { "topics.examples", c->examples_topic },
		{ "topics.patches", c->patches_topic },          { "topics.tasks", c->tasks_topic },
		{ "topics.changelog", c->changelog_topic },      { "topics.deadletters", c->deadletters_topic },
	};
	for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
		enum status s = check_id(c, topics[i].key, topics[i].topic, TOPIC_MAX_BYTES, err);
		if (s)
			return s;
		if (!strcmp(topics[i].topic, ".") || !strcmp(topics[i].topic, ".."))
			return config_fault(c, topics[i].key, err, "is no name for a topic");
		for (size_t j = 0; j < i; j++)
			if (!strcmp(topics[i].topic, topics[j].topic)) {
				/* Blame the one that the file gives. */
				size_t at = config_line(c, topics[i].key) ? i : j;
				return config_fault(c, topics[at].key, err, "the topic %.64s is also %s",
						    topics[i].topic, topics[at == i ? j : i].key);
			}
	}
	return STATUS_OK;
}

static enum status check_fields(const struct config *c, struct error *err)
{
	const struct {
		const char *key;
		const char *path;
	} fields[] = {
		{ "interactions.fields.user_id", c->interactions_user_id },
		{ "interactions.fields.item_id", c->interactions_item_id },
		{ "interactions.fields.timestamp", c->interactions_timestamp },
		{ "interactions.fields.event_type", c->interactions_event_type },
	};
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		const char *path = fields[i].path;
		size_t length = strlen(path);
		if (fields[i].path == c->interactions_timestamp && !strcmp(path, "$record"))
			continue;
		if (length == 0 || path[0] == '.' || path[length - 1] == '.' || strstr(path, "..") ||
		    path[strspn(path, NAME_CHARACTERS)] || strchr(path, '-'))
			return config_fault(c, fields[i].key, err, "must be a dotted path of field names%s",
					    fields[i].path == c->interactions_timestamp ? ", or $record" : "");
	}
	return STATUS_OK;
}

static enum status check_event_types(const struct config *c, struct error *err)
{
	const struct config_list *types = &c->interactions_event_types;
	for (size_t i = 0; i < types->count; i++)
		if (!*types->items[i])
			return config_fault(c, "interactions.event_types", err, "an event type is empty");
	return STATUS_OK;
}

static enum status check_level(const struct config *c, struct error *err)
{
	static const char *const levels[] = { "error", "warning", "info", "debug" };
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (!strcmp(c->log_level, levels[i]))
			return STATUS_OK;
	return config_fault(c, "log_level", err, "must be error, warning, info or debug");
}

static enum status check_refresh(const struct config *c, struct error *err)
{
	if (!strcmp(c->scores_refresh, "on_event") || !strcmp(c->scores_refresh, "on_patch"))
		return STATUS_OK;
	return config_fault(c, "scores.refresh", err, "must be on_event or on_patch");
}

static enum status check_listen(const struct config *c, struct error *err)
{
	struct sockaddr_storage address;
	socklen_t length;
	struct error why;
	if (*c->http_listen && listen_parse(c->http_listen, &address, &length, &why))
		return config_fault(c, "http.listen", err, "%s", why.text);
	return STATUS_OK;
}

enum status config_check(const struct config *c, struct error *err)
{
	const char *bootstrap = config_kafka(c, "bootstrap.servers");
	if (!bootstrap || !*bootstrap)
		return config_fault(c, config_line(c, "kafka.bootstrap.servers") ? "kafka.bootstrap.servers" : "kafka",
				    err, "bootstrap.servers is missing; it must be given");
	if (!*c->backbone)
		return config_fault(c, "backbone", err, "must name a file");
	if (!*c->state_dir)
		return config_fault(c, "state_dir", err, "must name a directory");
	if (*c->schema_registry_url)
		return config_fault(c, "schema_registry.url", err,
				    "a schema registry is not supported by this version; leave it empty");
	enum status s = check_id(c, "group", c->group, GROUP_MAX_BYTES, err);
	if (!s)
		s = check_id(c, "instance", c->instance, INSTANCE_MAX_BYTES, err);
	if (!s)
		s = check_level(c, err);
	if (!s)
		s = check_refresh(c, err);
	if (!s)
		s = check_topics(c, err);
	if (!s)
		s = check_fields(c, err);
	if (!s)
		s = check_event_types(c, err);
	if (!s)
		s = check_listen(c, err);
	return s;
}
