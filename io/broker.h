/* A development broker inside this process: librdkafka's mock cluster, on 127.0.0.1 and a random port.
 *
 * It keeps no promise of transactions (aborted records are seen, transactional offsets are dropped, nobody is fenced), never
 * answers the creation of topics, and forgets the oldest records of a partition beyond 5 MiB: for trying things out. Lives
 * in threads of its own. */
#ifndef IO_BROKER_H
#define IO_BROKER_H

#include "base/error.h"

#include <stdint.h>

struct broker;

enum status broker_start(struct broker **ret, struct error *err) MUST_CHECK; /* STATUS_UNAVAILABLE, STATUS_MEMORY */
void broker_stop(struct broker *b);                                          /* NULL is fine */

const char *broker_servers(const struct broker *b); /* its bootstrap.servers, until broker_stop */

/* Makes a topic. Errors: STATUS_USAGE (librdkafka refuses it, exists already). */
enum status broker_topic(struct broker *b, const char *name, int32_t partitions, struct error *err) MUST_CHECK;

#endif
