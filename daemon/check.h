/* What a configuration names, opened and checked: the backbone, the writer's schema, librdkafka's properties; and for
 * --check=broker the topics. What is wrong with a file is told with the line of the configuration that names it. */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include "config/config.h"
#include "io/interaction.h"
#include "model/backbone.h"
#include "model/network.h"

struct parts { /* all NULL to begin with */
	struct config *config;
	struct backbone *backbone;
	struct network *net; /* the same file, without its output layer */
	struct interaction_decoder *decoder;
};

/* Reads everything that `path` names; opens no socket. Errors: STATUS_NO_INPUT (`path` itself), STATUS_CONFIG, STATUS_DATA
 * (a damaged backbone), STATUS_IO, STATUS_MEMORY. *parts must be freed either way. */
enum status parts_load(const char *path, struct parts *parts, struct error *err) MUST_CHECK;
void parts_free(struct parts *parts);

/* Whether brokers answer and the topics are as the daemon needs them. Blocks for ten seconds at most.
 * Errors: STATUS_UNAVAILABLE, STATUS_CONFIG, STATUS_MEMORY. */
enum status parts_check_broker(const struct parts *parts, struct error *err) MUST_CHECK;

#endif
