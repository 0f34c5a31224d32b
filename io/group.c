#include "io/group.h"

#include <string.h>

static enum status count_partitions(rd_kafka_t *client, const char *topic, int timeout_ms, int32_t *ret,
				    struct error *err)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
	if (!handle)
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", topic,
				 rd_kafka_err2str(rd_kafka_last_error()));
	rd_kafka_resp_err_t code = rd_kafka_metadata(client, 0, handle, &metadata, timeout_ms);
	rd_kafka_topic_destroy(handle);
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "topic %s: %s", topic, rd_kafka_err2str(code));
	*ret = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
	rd_kafka_metadata_destroy(metadata);
	return STATUS_OK;
}

/* Bytes of the consumer protocol: big-endian, strings by a 16-bit length. */
struct cursor {
	const uint8_t *at, *end;
	bool cut;
};

static uint32_t take_number(struct cursor *c, size_t bytes)
{
	uint32_t value = 0;
	if (c->cut || (size_t)(c->end - c->at) < bytes) {
		c->cut = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | *c->at++;
	return value;
}

static bool take_is(struct cursor *c, const char *text)
{
	size_t length = take_number(c, 2);
	if (c->cut || (size_t)(c->end - c->at) < length) {
		c->cut = true;
		return false;
	}
	const uint8_t *bytes = c->at;
	c->at += length;
	return length == strlen(text) && memcmp(bytes, text, length) == 0;
}

/* Partitions of the topic in one member's assignment: version, then topics with their partitions. */
static int32_t count_assigned(const void *assignment, size_t size, const char *topic)
{
	struct cursor c = { assignment, (const uint8_t *)assignment + size, false };
	int32_t count = 0;
	(void)take_number(&c, 2);
	for (uint32_t topics = take_number(&c, 4); topics > 0 && !c.cut; topics--) {
		bool ours = take_is(&c, topic);
		uint32_t partitions = take_number(&c, 4);
		for (uint32_t i = 0; i < partitions && !c.cut; i++) {
			(void)take_number(&c, 4);
			count += ours && !c.cut;
		}
	}
	return count;
}

enum status group_coverage(rd_kafka_t *client, const char *group, const char *topic, int timeout_ms,
			   struct group_coverage *ret, struct error *err)
{
	struct group_coverage coverage = { 0 };
	const struct rd_kafka_group_list *groups;
	enum status status = count_partitions(client, topic, timeout_ms, &coverage.partitions, err);
	if (status != STATUS_OK)
		return status;
	rd_kafka_resp_err_t code = rd_kafka_list_groups(client, group, &groups, timeout_ms);
	if (code)
		return error_set(err, STATUS_UNAVAILABLE, "group %s: %s", group, rd_kafka_err2str(code));
	for (int i = 0; i < groups->group_cnt; i++) {
		const struct rd_kafka_group_info *info = &groups->groups[i];
		coverage.stable = !info->err && info->state && strcmp(info->state, "Stable") == 0;
		for (int j = 0; j < info->member_cnt; j++)
			coverage.owned += count_assigned(info->members[j].member_assignment,
							 (size_t)info->members[j].member_assignment_size, topic);
	}
	rd_kafka_group_list_destroy(groups);
	*ret = coverage;
	return STATUS_OK;
}
