/* peterctl topics create: the topics of a configuration, where missing. */
#include "tools/ctl.h"

#include "base/log.h"
#include "io/topics.h"

#include <stdio.h>
#include <string.h>

static void print_topics(const struct config *config, const struct topics *topics)
{
	for (enum topic topic = TOPIC_INTERACTIONS; topic < TOPIC_COUNT; topic++)
		printf("%-8s %-28s %4d partitions%s%s\n", topics->created[topic] ? "created" : "exists",
		       topic_name(config, topic), topics->partitions[topic],
		       topics->created[topic] && topic_cleanup(topic) ? ", cleanup " : "",
		       topics->created[topic] && topic_cleanup(topic) ? topic_cleanup(topic) : "");
}

/* Settings that may not be read are no fault of the topics. */
static enum status check_cleanup(const struct config *config, int timeout_ms, struct error *err)
{
	enum status status = topics_check_cleanup(config, timeout_ms, err);
	if (status != STATUS_UNAVAILABLE)
		return status;
	log_warning("cleanup policies not checked: %s", err->text);
	return STATUS_OK;
}

enum status ctl_topics(int argc, char **argv, struct error *err)
{
	const char *config_path = NULL;
	int64_t partitions = 0;
	int64_t timeout_ms = 30000;
	const struct ctl_option options[] = {
		CTL_OPTION_CONFIG(&config_path),
		{ "partitions", CTL_WHOLE, false, &partitions, "N",
		  "partitions of missing inputs; default: as the other input, or 6", 1, 100000 },
		{ "timeout-ms", CTL_WHOLE, false, &timeout_ms, "MS",
		  "give up after this; default 30000; where no broker answers at all, after 10000", 100, 3600000 },
	};
	const struct ctl_usage usage = {
		"topics create",
		"",
		"Creates the topics of a configuration where they are missing, with the right cleanup policies and\n"
		"the brokers' default replication, and returns once metadata shows them. Existing ones stay as\n"
		"they are; where their numbers of partitions or their cleanup do not fit the daemon, that is an error "
		"(78).\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	struct config *config;
	struct topics topics;
	if (argc < 2 || (strcmp(argv[1], "create") && strcmp(argv[1], "--help")))
		return error_set(err, STATUS_USAGE, "topics: what to do is missing: create");
	bool create = !strcmp(argv[1], "create");
	enum status status = ctl_parse(argc - create, argv + create, &usage, &operands, &help, err);
	if (status || help)
		return status;
	status = config_load(config_path, &config, err);
	if (status)
		return status;
	status = topics_create(config, (int32_t)partitions, (int)timeout_ms, &topics, err);
	if (!status) {
		print_topics(config, &topics);
		status = topics_check(config, (int)timeout_ms, &topics, err);
	}
	if (!status)
		status = check_cleanup(config, (int)timeout_ms, err);
	config_free(config);
	return status;
}
