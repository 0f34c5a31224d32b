#include "daemon/check.h"

#include "daemon/task_fit.h"
#include "io/client.h"
#include "io/topics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_MAX_BYTES 1048576
#define BROKER_TIMEOUT_MS 10000

static enum status read_schema(const char *path, char **ret, struct error *err)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return error_set_errno(err, "%s", path);
	char *text = malloc(SCHEMA_MAX_BYTES + 1);
	size_t length = text ? fread(text, 1, SCHEMA_MAX_BYTES + 1, file) : 0;
	enum status s = STATUS_OK;
	if (!text)
		s = error_set_memory(err);
	else if (ferror(file))
		s = error_set_errno(err, "%s", path);
	else if (length > SCHEMA_MAX_BYTES)
		s = error_set(err, STATUS_DATA, "%s: larger than %d bytes", path, SCHEMA_MAX_BYTES);
	else if (memchr(text, 0, length))
		s = error_set(err, STATUS_DATA, "%s: not a text", path);
	(void)fclose(file);
	if (s) {
		free(text);
		return s;
	}
	text[length] = '\0';
	*ret = text;
	return STATUS_OK;
}

/* A file that the configuration names and that cannot be read is the configuration's fault. */
static enum status blame(const struct config *config, const char *key, struct error *err)
{
	struct error why = *err;
	if (why.status == STATUS_MEMORY)
		return why.status;
	(void)config_fault(config, key, err, "%s", why.text);
	err->status = why.status == STATUS_DATA ? STATUS_DATA : STATUS_CONFIG;
	return err->status;
}

/* The decoder names the field's key itself; else it is the schema that is at fault. */
static enum status blame_decoder(const struct config *config, struct error *err)
{
	static const char *const keys[] = { "interactions.fields.user_id", "interactions.fields.item_id",
					    "interactions.fields.timestamp", "interactions.fields.event_type" };
	struct error why = *err;
	if (why.status == STATUS_MEMORY)
		return why.status;
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		size_t length = strlen(keys[i]);
		if (!strncmp(why.text, keys[i], length) && !strncmp(why.text + length, ": ", 2))
			return config_fault(config, keys[i], err, "%s", why.text + length + 2);
	}
	return config_fault(config, "interactions.schema", err, "%s: %s", config->interactions_schema, why.text);
}

static enum status load_decoder(struct parts *p, struct error *err)
{
	const struct config *c = p->config;
	const struct interaction_fields fields = {
		.user_id = c->interactions_user_id,
		.item_id = c->interactions_item_id,
		.timestamp = c->interactions_timestamp,
		.event_type = c->interactions_event_type,
	};
	char *schema = NULL;
	if (*c->interactions_schema && read_schema(c->interactions_schema, &schema, err)) {
		err->status = err->status == STATUS_DATA ? STATUS_CONFIG : err->status;
		return blame(c, "interactions.schema", err);
	}
	enum status s = interaction_decoder_new(schema, &fields, &p->decoder, err);
	free(schema);
	return s ? blame_decoder(c, err) : STATUS_OK;
}

static enum status load_backbone(struct parts *p, struct error *err)
{
	const struct config *c = p->config;
	if (network_load_beside(c->backbone, &p->backbone, &p->net, err))
		return blame(c, "backbone", err);
	uint32_t window = backbone_window(p->backbone);
	if (c->sequences_keep < (int64_t)window)
		return config_fault(c, "sequences.keep", err,
				    "%" PRId64 " events are fewer than the %" PRIu32
				    " that the backbone's window reads",
				    c->sequences_keep, window);
	return STATUS_OK;
}

static enum status check_tasks(const struct parts *p, struct error *err)
{
	const struct config *c = p->config;
	const struct task_fit fit = { p->backbone, c->sequences_keep };
	for (size_t i = 0; i < c->tasks_count; i++) {
		const struct config_task *task = &c->tasks[i];
		enum status s = task_fits(&fit, task, err);
		if (s == STATUS_MEMORY)
			return s;
		if (s) {
			err->status = STATUS_CONFIG;
			return error_prefix(err, "%s:%d: tasks[%zu]", c->path, task->line, i);
		}
	}
	return STATUS_OK;
}

enum status parts_load(const char *path, struct parts *parts, struct error *err)
{
	enum status s = config_load(path, &parts->config, err);
	if (!s)
		s = client_check(parts->config, err);
	if (!s)
		s = load_decoder(parts, err);
	if (!s)
		s = load_backbone(parts, err);
	if (!s)
		s = check_tasks(parts, err);
	return s;
}

void parts_free(struct parts *parts)
{
	interaction_decoder_free(parts->decoder);
	backbone_free(parts->backbone);
	network_free(parts->net);
	config_free(parts->config);
	memset(parts, 0, sizeof *parts);
}

enum status parts_check_broker(const struct parts *parts, struct error *err)
{
	struct topics topics;
	client_hide_log(); /* what brokers that are away make librdkafka say stands in the error */
	enum status s = topics_check(parts->config, BROKER_TIMEOUT_MS, &topics, err);
	if (s)
		return s;
	s = topics_check_sizes(parts->config, BROKER_TIMEOUT_MS, err);
	return s == STATUS_UNAVAILABLE ? STATUS_OK : s; /* settings are not shown to everybody */
}
