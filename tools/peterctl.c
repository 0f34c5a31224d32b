/* peterctl: the tool for people. See ctl.h; each command is a file. */
#include "tools/ctl.h"

#include "io/client.h"
#include "model/blas.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct command {
	const char *name;
	enum status (*run)(int argc, char **argv, struct error *err);
	const char *text;
};

static const struct command commands[] = {
	{ "demo", ctl_demo, "everything on this machine: broker, simulated audience, daemon, live view" },
	{ "broker", ctl_broker, "a development broker in the foreground" },
	{ "topics", ctl_topics, "create: the topics of a configuration, where missing" },
	{ "replay", ctl_replay, "produce the rows of a file to the configured topics" },
	{ "watch", ctl_watch, "follow the updates topic, readable" },
	{ "task", ctl_task, "list | put | remove: the definitions of tasks" },
	{ "patch", ctl_patch, "list | show | rollback | export | verify: the versions of tasks' patches" },
	{ "pretrain", ctl_pretrain, "pre-train a backbone on a file of events, without labels" },
	{ "finetune", ctl_finetune, "a task's labels to a patch: offline training" },
	{ "evaluate", ctl_evaluate, "what a backbone's next items or a patch's scores are worth" },
	{ "score", ctl_score, "a patch's scores of a file of events, as .npy" },
	{ "embed", ctl_embed, "user embeddings of a file of events, as .npy" },
	{ "inspect", ctl_inspect, "what is in a backbone, patch or state directory" },
	{ "deadletter", ctl_deadletter, "list | requeue: look at and re-submit rejected records" },
	{ "schema", ctl_schema, "the shipped Avro schemas" },
	{ "bench", ctl_bench, "the benchmarks of the README" },
};

static void print_help(void)
{
	printf("Usage: peterctl COMMAND [OPTION]...\n"
	       "       peterctl COMMAND --help\n"
	       "       peterctl --help | --version\n\n"
	       "Commands:\n");
	for (size_t i = 0; i < CTL_COUNT(commands); i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].text);
	printf("\nExit codes: 0 done, 64 usage, 65 bad data, 66 no such input, 69 broker unavailable, 70 a bug,\n"
	       "71 out of memory, 74 input/output, 78 configuration.\n");
}

static enum status unknown(const char *name, struct error *err)
{
	const char *names[CTL_COUNT(commands)];
	for (size_t i = 0; i < CTL_COUNT(commands); i++)
		names[i] = commands[i].name;
	const char *nearest = ctl_nearest(name, names, CTL_COUNT(names));
	if (nearest)
		return error_set(err, STATUS_USAGE, "%s: unknown command; did you mean %s?", name, nearest);
	return error_set(err, STATUS_USAGE, "%s: unknown command; see peterctl --help", name);
}

static enum status dispatch(int argc, char **argv, struct error *err)
{
	if (argc < 2)
		return error_set(err, STATUS_USAGE, "a command is missing; see peterctl --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_help();
		return STATUS_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("peterctl %s\n", PETERD_VERSION);
		return STATUS_OK;
	}
	for (size_t i = 0; i < CTL_COUNT(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1, err);
	return unknown(argv[1], err);
}

/* Whether writing failed because whoever read the pipe has gone: standard output's, or another output's. */
static bool reader_has_gone(const struct error *err)
{
	const char *why = strerror(EPIPE);
	size_t length = strlen(err->text);
	struct pollfd out = { .fd = STDOUT_FILENO };
	if (length >= strlen(why) && !strcmp(err->text + length - strlen(why), why))
		return true;
	return ferror(stdout) && poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int main(int argc, char **argv)
{
	struct error err = { 0 };
	blas_choose_core(argv);
	(void)signal(SIGPIPE, SIG_IGN); /* until a command has cleaned up */
	(void)signal(SIGXFSZ, SIG_IGN); /* a file's limit is an error of write(2) like any other */
	client_hide_log();
	enum status status = dispatch(argc, argv, &err);
	if (fflush(stdout) != 0 && status == STATUS_OK)
		status = error_set_errno(&err, "standard output");
	if (ferror(stdout) && status == STATUS_OK)
		status = error_set(&err, STATUS_IO, "standard output: cannot be written");
	if (status == STATUS_IO && reader_has_gone(&err)) { /* no error of ours: as other tools end */
		(void)signal(SIGPIPE, SIG_DFL);
		(void)raise(SIGPIPE);
	}
	if (status)
		(void)fprintf(stderr, "peterctl: %s\n", err.text);
	return status_exit_code(status);
}
