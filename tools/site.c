#include "tools/site.h"

#include "base/clock.h"
#include "io/broker.h"
#include "io/topics.h"
#include "model/random_backbone.h"
#include "tools/ctl.h"

#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_MS = 10000, TIMEOUT_MS = 20000, READY_MS = 60000, STOP_MS = 5000, PATH_BYTES = 512, WAIT_US = 20000 };

#define PRETRAIN_EPOCHS "8"

struct site {
	char directory[PATH_BYTES];
	char prefix[PATH_BYTES]; /* of group and topics */
	struct broker *broker;   /* NULL: somebody else's Kafka */
	char *servers;
	struct config *config;
	bool topics; /* ours stand on somebody else's Kafka */
	struct child *daemon;
};

static enum status make_directory(struct site *s, const char *name, struct error *err)
{
	const char *parent = getenv("TMPDIR");
	(void)snprintf(s->directory, sizeof s->directory, "%.400s/peterd-%.40s-XXXXXX",
		       parent && *parent ? parent : "/tmp", name);
	if (!mkdtemp(s->directory)) {
		enum status status = error_set_errno(err, "%s", s->directory);
		s->directory[0] = '\0';
		return status;
	}
	const char *unique = strrchr(s->directory, '-') + 1;
	(void)snprintf(s->prefix, sizeof s->prefix, "peterd-%.40s-%ld-%s", name, (long)getpid(), unique);
	return STATUS_OK;
}

static const char *site_path(const struct site *s, const char *name, char path[PATH_BYTES + 32])
{
	(void)snprintf(path, PATH_BYTES + 32, "%s/%s", s->directory, name);
	return path;
}

static enum status write_history(const char *path, const struct site_options *o, struct error *err)
{
	const char *const *items = simulation_item_ids(o->simulation);
	FILE *file = fopen(path, "we");
	if (!file)
		return error_set_errno(err, "%s", path);
	(void)fputs("user_id,item_id\n", file);
	for (uint32_t i = 0; i < o->history; i++) {
		uint32_t user, item;
		char text[SIMULATION_ID_BYTES];
		simulation_next(o->simulation, &user, &item);
		struct slice id = simulation_user_id(user, text);
		(void)fprintf(file, "%.*s,%s\n", (int)id.length, (const char *)id.data, items[item]);
	}
	bool failed = ferror(file) != 0;
	return fclose(file) || failed ? error_set_errno(err, "%s", path) : STATUS_OK;
}

/* What the audience did before, as a file, and `peterctl pretrain` on it, in a process of its own: a signal from the
 * terminal reaches both. */
static enum status pretrain_backbone(const struct site *s, const struct site_options *o, struct error *err)
{
	char events[PATH_BYTES + 32], backbone[PATH_BYTES + 32], seed[32];
	enum status status = write_history(site_path(s, "history.csv", events), o, err);
	if (status)
		return status;
	(void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
	(void)fflush(stdout);
	const char *const words[] = { "peterctl", "pretrain",
				      "--events", events,
				      "--out",    site_path(s, "backbone.safetensors", backbone),
				      "--epochs", PRETRAIN_EPOCHS,
				      "--seed",   seed,
				      NULL };
	pid_t pid;
	int code, how = 0;
	if ((code = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, (char *const *)words, environ)))
		return error_set(err, STATUS_IO, "pretrain: %s", strerror(code));
	for (pid_t ended = 0; ended != pid;) {
		ended = waitpid(pid, &how, WNOHANG);
		if (ended == 0 && ctl_stopping())
			(void)kill(pid, SIGKILL);
		if (ended == 0)
			(void)usleep(WAIT_US);
		else if (ended < 0 && errno != EINTR)
			return error_set_errno(err, "pretrain");
	}
	if (WIFSIGNALED(how) && WTERMSIG(how) == SIGPIPE)
		(void)raise(SIGTERM); /* nobody reads us either */
	if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
		return STATUS_OK;
	return WIFSIGNALED(how) ? error_set(err, STATUS_UNAVAILABLE, "stopped while pre-training")
				: error_set(err, STATUS_BUG, "peterctl pretrain ended with %d", WEXITSTATUS(how));
}

static enum status write_backbone(const struct site *s, const struct site_options *o, struct error *err)
{
	char path[PATH_BYTES + 32];
	if (o->history > 0)
		return pretrain_backbone(s, o, err);
	const struct random_backbone shape = {
		.channels = 64, .kernel_size = 3, .dilations = "1,4,1,4,1,4,1,4", .causal = true, .seed = o->seed
	};
	return random_backbone_write(site_path(s, "backbone.safetensors", path), &shape,
				     simulation_item_ids(o->simulation), simulation_items(o->simulation), err);
}

static json_t *topic_object(const struct site *s, const char *name)
{
	return json_pack("{s:o}", "topic", json_sprintf("%s.%s", s->prefix, name));
}

/* The configuration as JSON, which is YAML too. */
static enum status write_config(const struct site *s, const struct site_options *o, struct error *err)
{
	static const char *const others[] = { "examples", "patches", "tasks", "changelog", "deadletters" };
	char path[PATH_BYTES + 32];
	json_t *topics = json_object();
	for (size_t i = 0; i < CTL_COUNT(others); i++)
		(void)json_object_set_new(topics, others[i], json_sprintf("%s.%s", s->prefix, others[i]));
	json_t *kafka = json_pack("{s:s}", "bootstrap.servers", s->servers);
	if (s->broker) /* it answers a fetch that finds nothing only after the whole wait */
		(void)json_object_set_new(kafka, "fetch.wait.max.ms", json_string("5"));
	json_t *config =
		json_pack("{s:s, s:s, s:i, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:{s:I}, s:{s:s}}", "group",
			  s->prefix, "instance", "a", "workers", 1, "backbone",
			  site_path(s, "backbone.safetensors", path), "state_dir", s->directory, "create_topics", 1,
			  "kafka", kafka, "topics", topics, "interactions", topic_object(s, "interactions"), "labels",
			  topic_object(s, "labels"), "updates", topic_object(s, "updates"), "transaction",
			  "interval_ms", (json_int_t)o->interval_ms, "http", "listen", "127.0.0.1:0");
	if (!config)
		return error_set_memory(err);
	int failed = json_dump_file(config, site_path(s, "peterd.yaml", path), JSON_INDENT(1));
	json_decref(config);
	return failed ? error_set_errno(err, "%s", path) : STATUS_OK;
}

static enum status make_topics(struct site *s, const struct site_options *o, struct error *err)
{
	struct topics topics;
	enum status status = STATUS_OK;
	if (!s->broker) {
		status = topics_read(s->config, ANSWER_MS, &topics, err);
		s->topics = !status;
		return status ? status : topics_create(s->config, o->partitions, TIMEOUT_MS, &topics, err);
	}
	for (enum topic topic = TOPIC_INTERACTIONS; topic < TOPIC_COUNT && !status; topic++)
		status = broker_topic(s->broker, topic_name(s->config, topic), o->partitions, err);
	return status;
}

static enum status open_site(struct site *s, const struct site_options *o, struct error *err)
{
	char path[PATH_BYTES + 32];
	enum status status = make_directory(s, o->name, err);
	if (!status && !o->bootstrap)
		status = broker_start(&s->broker, err);
	if (status)
		return status;
	s->servers = strdup(o->bootstrap ? o->bootstrap : broker_servers(s->broker));
	if (!s->servers)
		return error_set_memory(err);
	status = write_config(s, o, err);
	if (!status)
		status = config_load(site_path(s, "peterd.yaml", path), &s->config, err);
	if (!status)
		status = make_topics(s, o, err); /* brokers that are away are found before the long work */
	return status ? status : write_backbone(s, o, err);
}

enum status site_open(const struct site_options *options, struct site **ret, struct error *err)
{
	struct site *s = calloc(1, sizeof *s);
	if (!s)
		return error_set_memory(err);
	enum status status = open_site(s, options, err);
	if (status) {
		site_close(s);
		return status;
	}
	*ret = s;
	return STATUS_OK;
}

enum status site_start_daemon(struct site *s, struct error *err)
{
	char log[PATH_BYTES + 32];
	enum status status = child_start(s->config->path, site_path(s, "peterd.log", log), &s->daemon, err);
	return status ? status : child_await_ready(s->daemon, READY_MS, err);
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
	return remove(path);
}

void site_close(struct site *s)
{
	struct error err;
	if (!s)
		return;
	if (s->daemon) /* whoever wants to know how it ends stops it before */
		(void)(child_stop(s->daemon, STOP_MS, &err) == STATUS_OK);
	child_free(s->daemon);
	if (s->topics && topics_delete(s->config, TIMEOUT_MS, &err))
		(void)fprintf(stderr, "peterctl: topics %s.* stay on the broker: %s\n", s->prefix, err.text);
	broker_stop(s->broker);
	config_free(s->config);
	if (s->directory[0])
		(void)nftw(s->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(s->servers);
	free(s);
}

const struct config *site_config(const struct site *s)
{
	return s->config;
}

const char *site_directory(const struct site *s)
{
	return s->directory;
}

const char *site_servers(const struct site *s)
{
	return s->servers;
}

struct child *site_daemon(const struct site *s)
{
	return s->daemon;
}
