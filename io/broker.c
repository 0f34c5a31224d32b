#include "io/broker.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdlib.h>

struct broker {
	rd_kafka_t *host; /* the handle that the cluster lives in */
	rd_kafka_mock_cluster_t *cluster;
};

enum status broker_start(struct broker **ret, struct error *err)
{
	char why[256] = "";
	struct broker *b = calloc(1, sizeof *b);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	if (!b || !conf) {
		free(b);
		return error_set_memory(err);
	}
	/* without it each answer waits for a delayed acknowledgement: 44 ms a commit in place of 1 */
	(void)rd_kafka_conf_set(conf, "socket.nagle.disable", "true", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
	b->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	if (!b->host) {
		rd_kafka_conf_destroy(conf);
		free(b);
		return error_set(err, STATUS_UNAVAILABLE, "development broker: %s", why);
	}
	b->cluster = rd_kafka_mock_cluster_new(b->host, 1);
	if (!b->cluster) {
		broker_stop(b);
		return error_set(err, STATUS_UNAVAILABLE, "development broker: cannot listen on 127.0.0.1");
	}
	*ret = b;
	return STATUS_OK;
}

void broker_stop(struct broker *b)
{
	if (!b)
		return;
	if (b->cluster)
		rd_kafka_mock_cluster_destroy(b->cluster);
	rd_kafka_destroy(b->host);
	free(b);
}

const char *broker_servers(const struct broker *b)
{
	return rd_kafka_mock_cluster_bootstraps(b->cluster);
}

enum status broker_topic(struct broker *b, const char *name, int32_t partitions, struct error *err)
{
	rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(b->cluster, name, partitions, 1);
	if (code)
		return error_set(err, STATUS_USAGE, "topic %s: %s", name, rd_kafka_err2str(code));
	return STATUS_OK;
}
