#include "base/log.h"
#include "daemon/check.h"
#include "daemon/control.h"
#include "model/blas.h"

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum check { CHECK_NOT, CHECK_FILES, CHECK_BROKER };

struct options {
	const char *config;
	enum check check;
	bool print_config;
	bool help;
	bool version;
};

static const char usage[] =
	"usage: peterd --config FILE [--check[=broker]]\n"
	"       peterd --print-config\n"
	"\n"
	"Keeps a sequence for each user of a Kafka topic of interactions, and publishes each user's embedding by a "
	"frozen\n"
	"backbone, and scores by patches that a topic of labels trains, to another, exactly once.\n"
	"\n"
	"  --config FILE    run in the foreground with this configuration; logs go to stderr\n"
	"  --check          check the configuration and the files that it names, opening no socket\n"
	"  --check=broker   the same, then brokers and topics\n"
	"  --print-config   print an annotated sample configuration, every option with its default\n"
	"  --help           print this\n"
	"  --version        print the version\n"
	"\n"
	"Exit codes: 0 done, 64 usage, 65 bad data, 66 no such input, 69 broker unavailable, 70 a bug, 71 out of "
	"memory,\n"
	"74 input/output, 78 configuration (also: it names a file that cannot be read), or another process has taken "
	"this\n"
	"one's name.\n";

static enum status take_check(const char *argument, enum check *ret, struct error *err)
{
	if (argument && strcmp(argument, "broker") != 0)
		return error_set(err, STATUS_USAGE, "--check: %s: only --check and --check=broker are known", argument);
	*ret = argument ? CHECK_BROKER : CHECK_FILES;
	return STATUS_OK;
}

static enum status parse_options(int argc, char **argv, struct options *ret, struct error *err)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' }, { "check", optional_argument, NULL, 'k' },
		{ "print-config", no_argument, NULL, 'p' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },      { NULL, 0, NULL, 0 },
	};
	struct options o = { 0 };
	opterr = 0;
	for (int option; (option = getopt_long(argc, argv, ":", known, NULL)) != -1;) {
		switch (option) {
		case 'c':
			o.config = optarg;
			break;
		case 'k':
			if (take_check(optarg, &o.check, err))
				return err->status;
			break;
		case 'p':
			o.print_config = true;
			break;
		case 'h':
			o.help = true;
			break;
		case 'v':
			o.version = true;
			break;
		case ':':
			return error_set(err, STATUS_USAGE, "%s: needs a value; see --help", argv[optind - 1]);
		default:
			return error_set(err, STATUS_USAGE, "%s: unknown option; see --help", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return error_set(err, STATUS_USAGE, "%s: not an option; see --help", argv[optind]);
	*ret = o;
	return STATUS_OK;
}

static enum status flush_stdout(struct error *err)
{
	if (fflush(stdout) || ferror(stdout))
		return error_set(err, STATUS_IO, "standard output: cannot be written");
	return STATUS_OK;
}

static void choose_log_level(const char *name)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strcmp(names[i], name))
			log_set_level((enum log_level)i);
}

/* glibc gives every thread an arena of its own, librdkafka's three a client too, and each keeps what it once held. */
static void keep_few_arenas(const struct config *config)
{
	if (!getenv("MALLOC_ARENA_MAX"))
		(void)mallopt(M_ARENA_MAX, (int)config->workers + 2);
}

static enum status run(const struct options *o, struct error *err)
{
	struct parts parts = { 0 };
	(void)signal(SIGPIPE, SIG_IGN); /* a reader of ours that goes away is an error of write(2), */
	(void)signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
	enum status s = parts_load(o->config, &parts, err);
	if (!s)
		choose_log_level(parts.config->log_level);
	if (!s && o->check == CHECK_BROKER)
		s = parts_check_broker(&parts, err);
	if (!s && o->check == CHECK_NOT) {
		keep_few_arenas(parts.config);
		log_info("peterd " PETERD_VERSION ": group %s, instance %s, backbone %.12s (%s, %u floats)",
			 parts.config->group, parts.config->instance, backbone_hash(parts.backbone),
			 backbone_arch(parts.backbone), backbone_dim(parts.backbone));
		s = control_run(parts.config, parts.backbone, parts.net, parts.decoder, err);
	}
	parts_free(&parts);
	return s;
}

/* While blocked, a signal waits: also over the new start that OpenBLAS may need, which forgets handlers. */
static void block_stop_signals(int how)
{
	sigset_t signals;
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(how, &signals, NULL);
}

static enum status dispatch(int argc, char **argv, struct error *err)
{
	struct options o = { 0 };
	enum status s = parse_options(argc, argv, &o, err);
	if (s)
		return s;
	if (o.config && o.check == CHECK_NOT)
		control_note_signals();
	block_stop_signals(SIG_UNBLOCK);
	if (o.help || o.version) {
		(void)fputs(o.help ? usage : "peterd " PETERD_VERSION "\n", stdout);
		return flush_stdout(err);
	}
	if (o.print_config) {
		config_print_sample(stdout);
		return flush_stdout(err);
	}
	if (!o.config)
		return error_set(err, STATUS_USAGE, "--config FILE is missing; see --help");
	return run(&o, err);
}

/* A lane takes some twenty descriptors, the store as many as it has files: the soft limit is for programs with select(2). */
static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct error err = { 0 };
	block_stop_signals(SIG_BLOCK);
	blas_choose_core(argv);
	raise_descriptors();
	enum status s = dispatch(argc, argv, &err);
	if (s)
		(void)fprintf(stderr, "peterd: %s\n", err.text);
	return status_exit_code(s);
}
