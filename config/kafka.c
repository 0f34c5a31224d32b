#include "config/reader.h"

#include <stdlib.h>
#include <string.h>

/* Properties that correctness rests on: peterd sets them. */
static const struct {
	const char *name;
	const char *reason;
} owned[] = {
	{ "group.id", "it is the option `group`" },
	{ "group.instance.id", "it follows from the option `instance` and the lane" },
	{ "transactional.id", "it follows from the options `group` and `instance` and the lane" },
	{ "group.protocol", "lanes rest on the classic protocol" },
	{ "enable.auto.commit", "offsets are committed with what they stand for, in one transaction" },
	{ "auto.commit.enable", "offsets are committed with what they stand for, in one transaction" },
	{ "enable.auto.offset.store", "offsets are committed with what they stand for, in one transaction" },
	{ "offset.store.method", "offsets are committed with what they stand for, in one transaction" },
	{ "isolation.level", "exactly once rests on read_committed" },
	{ "enable.idempotence", "exactly once rests on it" },
	{ "enable.gapless.guarantee", "exactly once rests on transactions" },
	{ "partition.assignment.strategy", "rebalancing is cooperative-sticky" },
	{ "partitioner", "what goes out follows the partitions of what came in" },
	{ "auto.offset.reset",
	  "reading starts at the earliest where nothing is known of a partition, and a lost offset stops it" },
	{ "enable.partition.eof", "lanes rest on it" },
	{ "delivery.report.only.error", "lanes rest on it" },
	{ "enabled_events", "lanes rest on it" },
	{ "internal.termination.signal", "it would take SIGTERM away from us" },
	{ "log.queue", "log lines go to stderr" },
	{ "log.thread.name", "log lines go to stderr" },
	{ "metadata.broker.list", "write bootstrap.servers" },
};

static enum status refuse_owned(struct reader *r, const char *key, int line)
{
	const char *name = key + strlen("kafka.");
	for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
		if (!strcmp(owned[i].name, name))
			return reader_refuse(r, line, key, "cannot be set: %s", owned[i].reason);
	return STATUS_OK;
}

/* Unlike other texts a property may span lines: keys and certificates come as PEM. */
static enum status read_value(struct reader *r, const char *key, const struct node *node, char **ret)
{
	if (node->kind != NODE_SCALAR)
		return reader_refuse(r, node->line, key, "must be a text or a number; librdkafka's lists are \"a,b\"");
	if (node_is_null(&r->tree, node))
		return reader_refuse(r, node->line, key, "has no value");
	char *value = strdup(node_text(&r->tree, node));
	if (!value)
		return error_set_memory(r->err);
	*ret = value;
	return STATUS_OK;
}

enum status kafka_read_property(struct reader *r, const char *key, const struct node *node)
{
	struct config *c = r->config;
	enum status s = refuse_owned(r, key, node->line);
	if (s)
		return s;
	if (c->kafka_count == r->kafka_capacity) {
		size_t capacity = r->kafka_capacity ? r->kafka_capacity * 2 : 16;
		struct config_property *grown = realloc(c->kafka, capacity * sizeof *grown);
		if (!grown)
			return error_set_memory(r->err);
		c->kafka = grown;
		r->kafka_capacity = capacity;
	}
	struct config_property property = { .line = node->line };
	s = read_value(r, key, node, &property.value);
	if (s)
		return s;
	property.name = strdup(key + strlen("kafka."));
	if (!property.name) {
		free(property.value);
		return error_set_memory(r->err);
	}
	c->kafka[c->kafka_count++] = property;
	return STATUS_OK;
}

enum status kafka_read(struct reader *r, const char *prefix, const struct node *node)
{
	if (node_is_null(&r->tree, node))
		return STATUS_OK;
	if (node->kind != NODE_MAP)
		return reader_refuse(r, node->line, prefix, "must be a map of librdkafka properties");
	for (const struct node *child = node_child(&r->tree, node, NULL); child;
	     child = node_child(&r->tree, node, child)) {
		char key[KEY_MAX_BYTES];
		enum status s = reader_key(r, prefix, child, key);
		if (!s)
			s = child->kind == NODE_MAP ? kafka_read(r, key, child) : kafka_read_property(r, key, child);
		if (s)
			return s;
	}
	return STATUS_OK;
}
