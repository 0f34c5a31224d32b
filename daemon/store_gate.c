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
	struct store *store;        /* under mutex */
	pthread_mutex_t said_mutex; /* never held over an opening */
	char said[512];             /* under said_mutex: why it is not open */
};

enum status store_gate_new(const struct config *config, struct store_gate **ret, struct error *err)
{
	struct store_gate *g = calloc(1, sizeof *g);
	if (!g)
		return error_set_memory(err);
	g->config = config;
	pthread_mutex_init(&g->mutex, NULL);
	pthread_mutex_init(&g->said_mutex, NULL);
	*ret = g;
	return STATUS_OK;
}

void store_gate_free(struct store_gate *g)
{
	if (!g)
		return;
	store_close(g->store);
	pthread_mutex_destroy(&g->mutex);
	pthread_mutex_destroy(&g->said_mutex);
	free(g);
}

void store_gate_trouble(struct store_gate *g, char *ret, size_t n)
{
	pthread_mutex_lock(&g->said_mutex);
	(void)snprintf(ret, n, "%s", g->said);
	pthread_mutex_unlock(&g->said_mutex);
}

static enum status try_open(struct store_gate *g, struct error *err)
{
	const struct config *config = g->config;
	char identity[1024];
	(void)snprintf(identity, sizeof identity, "%s %s %s", config->group, config->interactions_topic,
		       config->changelog_topic);
	enum status status =
		store_open(config->state_dir, identity, MEMORY_BYTES, (int64_t)STORE_DAYS * 86400000, &g->store, err);
	const char *now = status == STATUS_OK ? "" : err->text;
	pthread_mutex_lock(&g->said_mutex);
	bool news = strcmp(g->said, now) != 0;
	(void)snprintf(g->said, sizeof g->said, "%s", now);
	pthread_mutex_unlock(&g->said_mutex);
	if (news && status != STATUS_OK)
		log_warning("local store: %s; trying again", now);
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
