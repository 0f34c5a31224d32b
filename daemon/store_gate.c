#include "daemon/store_gate.h"

#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RETRY_US = 200000,
	MEMORY_BYTES = 64 << 20,
	STORE_DAYS = 6, /* the changelog keeps tombstones for 7: an older store may know users that it has forgotten */
};

struct store_gate {
	const struct config *config;
	pthread_mutex_t mutex;
	struct store *store; /* under mutex */
	char said[512];      /* under mutex: the last trouble logged */
};

enum status store_gate_new(const struct config *config, struct store_gate **ret, struct error *err)
{
	struct store_gate *g = calloc(1, sizeof *g);
	if (!g)
		return error_set_memory(err);
	g->config = config;
	pthread_mutex_init(&g->mutex, NULL);
	*ret = g;
	return STATUS_OK;
}

void store_gate_free(struct store_gate *g)
{
	if (!g)
		return;
	store_close(g->store);
	pthread_mutex_destroy(&g->mutex);
	free(g);
}

static enum status try_open(struct store_gate *g, struct error *err)
{
	const struct config *config = g->config;
	char identity[1024];
	(void)snprintf(identity, sizeof identity, "%s %s %s", config->group, config->interactions_topic,
		       config->changelog_topic);
	enum status status =
		store_open(config->state_dir, identity, MEMORY_BYTES, (int64_t)STORE_DAYS * 86400000, &g->store, err);
	if (status != STATUS_OK && strcmp(g->said, err->text) != 0) {
		(void)snprintf(g->said, sizeof g->said, "%s", err->text);
		log_warning("local store: %s; trying again", err->text);
	}
	return status;
}

enum status store_gate_wait(struct store_gate *g, const _Atomic bool *cancel, struct store **ret, struct error *err)
{
	while (!atomic_load(cancel)) {
		pthread_mutex_lock(&g->mutex);
		enum status status = g->store ? STATUS_OK : try_open(g, err);
		struct store *store = g->store;
		pthread_mutex_unlock(&g->mutex);
		if (status == STATUS_OK)
			*ret = store;
		if (status == STATUS_OK || status == STATUS_MEMORY)
			return status;
		usleep(RETRY_US);
	}
	return error_set(err, STATUS_UNAVAILABLE, "stopped while waiting for the local store");
}
