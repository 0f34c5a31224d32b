/* Whether the consumer group covers its topic: every partition owned by some member.
 *
 * It may not: a static member that dies between giving partitions up and rejoining, and comes back under its name, is
 * handed its old assignment without a rebalance, and what it had given up belongs to nobody, for ever (the broker sees a
 * stable group; compare KAFKA-13435). Blocking: never on a loop. */
#ifndef IO_GROUP_H
#define IO_GROUP_H

#include "base/error.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

struct group_coverage {
	bool stable;        /* no rebalance is under way: the numbers mean something */
	int32_t partitions; /* of the topic */
	int32_t owned;      /* of them, by a member */
};

/* Asks the group's coordinator. Errors: STATUS_UNAVAILABLE (brokers away, not authorised, not supported). */
enum status group_coverage(rd_kafka_t *client, const char *group, const char *topic, int timeout_ms,
			   struct group_coverage *ret, struct error *err) MUST_CHECK;

#endif
