/* peterctl broker: the development broker in the foreground. */
#include "tools/ctl.h"

#include "base/atomic_file.h"
#include "io/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* NAME:PARTITIONS */
static enum status make_topic(struct broker *broker, const char *text, struct error *err)
{
	char name[256];
	char *end = NULL;
	const char *colon = strrchr(text, ':');
	long partitions = colon ? strtol(colon + 1, &end, 10) : 0;
	if (!colon || colon == text || (size_t)(colon - text) >= sizeof name || *end || partitions < 1 ||
	    partitions > 10000)
		return error_set(err, STATUS_USAGE, "--topic: %s is not NAME:PARTITIONS", text);
	memcpy(name, text, (size_t)(colon - text));
	name[colon - text] = '\0';
	return broker_topic(broker, name, (int32_t)partitions, err);
}

static enum status announce(const char *servers, const char *file, struct error *err)
{
	printf("%s\n", servers);
	if (fflush(stdout))
		return error_set_errno(err, "standard output");
	if (!file)
		return STATUS_OK;
	const struct atomic_file_part parts[] = { { servers, strlen(servers) }, { "\n", 1 } };
	return atomic_file_write(file, parts, 2, err);
}

/* Not what was given as a file and is none: /dev/stdout. */
static void remove_file(const char *path)
{
	struct stat about;
	if (lstat(path, &about) == 0 && S_ISREG(about.st_mode))
		(void)unlink(path);
}

enum status ctl_broker(int argc, char **argv, struct error *err)
{
	struct ctl_texts topics = { .count = 0 };
	const char *file = NULL;
	const struct ctl_option options[] = {
		{ "topic", CTL_MANY, false, &topics, "NAME:PARTITIONS", "make this topic; may be given again", 0, 0 },
		{ "bootstrap-file", CTL_TEXT, false, &file, "FILE",
		  "write bootstrap.servers there once ready; removed at the end", 0, 0 },
	};
	const struct ctl_usage usage = {
		"broker",
		"",
		"A development broker in the foreground, on 127.0.0.1 and a random port; prints bootstrap.servers.\n"
		"It is librdkafka's mock cluster: for trying things out. It keeps no promise of transactions\n"
		"(aborted records are seen, committed offsets are lost with it), never answers the creation of\n"
		"topics, and forgets the oldest records of a partition beyond 5 MiB. SIGINT or SIGTERM ends it.\n",
		options,
		CTL_COUNT(options),
		0
	};
	int operands;
	bool help;
	struct broker *broker;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	ctl_stop_on_signals();
	status = broker_start(&broker, err);
	if (status)
		return status;
	for (size_t i = 0; i < topics.count && !status; i++)
		status = make_topic(broker, topics.items[i], err);
	if (!status)
		status = announce(broker_servers(broker), file, err);
	while (!status && !ctl_stopping())
		(void)usleep(100000);
	if (file && !status)
		remove_file(file);
	broker_stop(broker);
	return status;
}
