/* The control loop in a child process, with lanes, topics and store replaced by the fakes below: what it tells systemd
 * and HTTP, and with which code it exits. */
#include "base/log.h"
#include "daemon/control.h"
#include "daemon/lane.h"
#include "daemon/learner_lane.h"
#include "daemon/patches.h"
#include "daemon/tasks.h"
#include "io/topics.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- fakes ---- */

enum behaviour { GOOD, FENCED, FENCED_LAST, STUCK, STALLED, FAILED_SHARD, QUITS };

static enum behaviour behaviours[4]; /* by lane */
static enum status topics_answer;
static int topics_away; /* this many looks find no broker */
static int patches_behind, patches_made;
static int patches_followed, patches_lose; /* at this many looks they are lost, */
static bool patches_gone;                  /* and this is so until they are started again */
static bool older;                         /* an installation without a topic of patches */

struct lane {
	struct lane_context ctx;
	int index;
	pthread_t thread;
	_Atomic bool stop, finished;
	enum status status;
};

static void publish(const struct lane *lane, uint64_t ticks)
{
	struct shard_status shard = { .partition = 4, .phase = SHARD_LIVE };
	struct lane_status status = {
		.assigned_once = true, .ready = true, .ticks = ticks, .shards = &shard, .count = 1
	};
	if (behaviours[lane->index] == FAILED_SHARD) {
		shard.phase = SHARD_FAILED;
		(void)snprintf(shard.reason, sizeof shard.reason, "the log was cut");
		status.ready = false;
	}
	status_board_publish(lane->ctx.board, lane->index, &status);
}

static void *run_lane(void *arg)
{
	struct lane *lane = arg;
	enum behaviour behaviour = behaviours[lane->index];
	for (uint64_t ticks = 1; !lane->stop || behaviour == STUCK; ticks++) {
		publish(lane, behaviour == STALLED ? 1 : ticks);
		metrics_add(&lane->ctx.metrics[lane->index], METRIC_INTERACTIONS, 1);
		(void)usleep(10000);
		if (ticks == 20 && behaviour == FENCED)
			lane->status = STATUS_CONFIG;
		if (ticks == 20 && (behaviour == FENCED || behaviour == QUITS))
			break;
	}
	if (behaviour == FENCED_LAST)
		lane->status = STATUS_CONFIG;
	lane->finished = true;
	(void)uv_async_send(lane->ctx.exited);
	return NULL;
}

/* A learner that ends when it is told to. */
struct learner_lane {
	uv_async_t *exited;
	bool stopped;
};

enum status learner_lane_start(const struct learner_lane_context *ctx, struct learner_lane **ret, struct error *err)
{
	struct learner_lane *lane = calloc(1, sizeof *lane);
	if (!lane)
		abort();
	lane->exited = ctx->exited;
	metrics_add(ctx->metrics, METRIC_LABELS_TRAINED, 17);
	*ret = lane;
	return STATUS_OK;
}

void learner_lane_stop(struct learner_lane *lane)
{
	lane->stopped = true;
	(void)uv_async_send(lane->exited);
}

void learner_lane_trouble(struct learner_lane *lane, char *ret, size_t n)
{
	(void)snprintf(ret, n, "%s", "");
}

void learner_lane_reopen(struct learner_lane *lane)
{
	log_info("the learner is told");
}

bool learner_lane_finished(struct learner_lane *lane)
{
	return lane->stopped;
}

void learner_lane_join_free(struct learner_lane *lane)
{
	free(lane);
}

enum status lane_start(const struct lane_context *ctx, int index, struct lane **ret, struct error *err)
{
	struct lane *lane = calloc(1, sizeof *lane);
	if (!lane || ctx->labels == older)
		abort();
	lane->ctx = *ctx;
	lane->index = index;
	if (pthread_create(&lane->thread, NULL, run_lane, lane))
		abort();
	*ret = lane;
	return STATUS_OK;
}

void lane_stop(struct lane *lane)
{
	lane->stop = true;
}

bool lane_finished(struct lane *lane, enum status *ret_status, struct error *ret_err)
{
	if (!lane->finished)
		return false;
	*ret_status = lane->status;
	(void)error_set(ret_err, lane->status, "lane %d: fenced", lane->index);
	return true;
}

bool lane_was_fenced(const struct lane *lane)
{
	return lane->status == STATUS_CONFIG;
}

void lane_join_free(struct lane *lane)
{
	(void)pthread_join(lane->thread, NULL);
	free(lane);
}

enum status tasks_new(const struct config *config, const struct backbone *backbone, struct tasks **ret,
		      struct error *err)
{
	*ret = (struct tasks *)(uintptr_t)1;
	return STATUS_OK;
}

enum status tasks_start(struct tasks *t, int timeout_ms, struct error *err)
{
	return STATUS_OK;
}

void tasks_free(struct tasks *t)
{
}

bool tasks_lost(const struct tasks *t)
{
	return false;
}

enum status tasks_follow(struct tasks *t, struct error *err)
{
	return STATUS_OK;
}

const struct task_set *tasks_in_force(const struct tasks *t)
{
	return NULL;
}

enum status patches_start(struct patches *p, const struct task_set *tasks, int timeout_ms, struct error *err)
{
	if (patches_behind-- > 0)
		return error_set(err, STATUS_UNAVAILABLE, "patches are not read to their end");
	patches_gone = false;
	return STATUS_OK;
}

enum status patches_new(const struct config *config, const struct backbone *backbone, struct network *net,
			struct task_board *board, struct patches **ret, struct error *err)
{
	if (patches_made++)
		abort();

	*ret = (struct patches *)(uintptr_t)1;
	return STATUS_OK;
}

void patches_free(struct patches *p)
{
}

uint64_t patches_swaps(const struct patches *p)
{
	return 7;
}

enum status patches_follow(struct patches *p, const struct task_set *tasks, struct error *err)
{
	if (patches_gone)
		abort();
	patches_gone = ++patches_followed == patches_lose;
	if (patches_gone)
		patches_behind = 2;
	return STATUS_OK;
}

bool patches_lost(const struct patches *p)
{
	return patches_gone;
}

const char *topic_name(const struct config *config, enum topic topic)
{
	return "topic";
}

enum status topics_check(const struct config *config, int timeout_ms, struct topics *ret, struct error *err)
{
	if (topics_away-- > 0)
		return error_set(err, STATUS_UNAVAILABLE, "nobody answers");
	for (size_t i = 0; i < TOPIC_COUNT; i++)
		ret->partitions[i] = older && i == TOPIC_PATCHES ? 0 : 6;
	return topics_answer ? error_set(err, topics_answer, "topic labels has 5 partitions") : STATUS_OK;
}

enum status topics_create_internal(const struct config *config, int timeout_ms, struct topics *ret, struct error *err)
{
	return STATUS_OK;
}

enum status store_gate_new(const struct config *config, struct store_gate **ret, struct error *err)
{
	*ret = NULL;
	return STATUS_OK;
}

void store_gate_free(struct store_gate *g)
{
}

const char *backbone_hash(const struct backbone *b)
{
	return "00ff";
}

const char *backbone_arch(const struct backbone *b)
{
	return "nextitnet";
}

/* ---- a child that runs control_run ---- */

struct child {
	pid_t pid;
	int notify; /* systemd's end of the socket */
	char folder[64];
	char told[8192]; /* everything that came over the socket, a line each */
};

static char *in_folder(const struct child *c, const char *name, char ret[128])
{
	(void)snprintf(ret, 128, "%s/%s", c->folder, name);
	return ret;
}

static int run_child(const struct child *c, int workers)
{
	char text[512], path[128];
	struct config *config = NULL;
	struct error err = { 0 };
	(void)snprintf(text, sizeof text,
		       "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\nhttp: {listen: \"127.0.0.1:0\"}\n"
		       "workers: %d\nshutdown: {deadline_ms: 600}\n",
		       workers);
	(void)setenv("NOTIFY_SOCKET", in_folder(c, "notify", path), 1);
	(void)setenv("WATCHDOG_USEC", "100000", 1);
	if (!freopen(in_folder(c, "log", path), "w", stderr) ||
	    config_parse("f.yaml", text, strlen(text), &config, &err))
		return 1;
	enum status s = control_run(config, NULL, NULL, NULL, &err);
	if (s)
		(void)dprintf(STDERR_FILENO, "peterd: %s\n", err.text);
	config_free(config);
	return status_exit_code(s);
}

static void start(struct child *c, int workers)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = 10 };
	memset(c, 0, sizeof *c);
	(void)snprintf(c->folder, sizeof c->folder, "/tmp/test_control.XXXXXX");
	assert_non_null(mkdtemp(c->folder));
	char path[128];
	(void)snprintf(address.sun_path, sizeof address.sun_path, "%s", in_folder(c, "notify", path));
	c->notify = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_true(c->notify >= 0);
	assert_int_equal(bind(c->notify, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(setsockopt(c->notify, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves no child behind */
		_exit(run_child(c, workers));
	}
}

/* Reads what systemd is told until `line` (or `times` of it), which must come. */
static void wait_told(struct child *c, const char *line, int times)
{
	char message[512];
	while (times > 0) {
		ssize_t n = recv(c->notify, message, sizeof message - 1, 0);
		if (n <= 0)
			fail_msg("%s is not told; told: %s", line, c->told);
		message[n] = '\0';
		size_t length = strlen(c->told);
		(void)snprintf(c->told + length, sizeof c->told - length, "%s\n", message);
		times -= !strcmp(message, line);
	}
}

static void read_log(const struct child *c, char *ret, size_t n)
{
	char path[128];
	FILE *log = fopen(in_folder(c, "log", path), "r");
	assert_non_null(log);
	ret[fread(ret, 1, n - 1, log)] = '\0';
	(void)fclose(log);
}

static void end(struct child *c, int code, const char *logged)
{
	int status = 0;
	char log[8192], path[128], message[512];
	pid_t ended = 0;
	for (int waited_ms = 0; !ended && waited_ms < 20000; waited_ms++) {
		while (recv(c->notify, message, sizeof message, MSG_DONTWAIT) > 0)
			; /* sd_notify waits where systemd does not read */
		ended = waitpid(c->pid, &status, WNOHANG);
		(void)usleep(1000);
	}
	if (!ended)
		(void)kill(c->pid, SIGKILL);
	assert_int_equal(ended, c->pid);
	read_log(c, log, sizeof log);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code || (logged && !strstr(log, logged)))
		fail_msg("status %x, expected exit %d and %s in: %s", status, code, logged ? logged : "anything", log);
	(void)close(c->notify);
	(void)unlink(in_folder(c, "notify", path));
	(void)unlink(in_folder(c, "log", path));
	(void)rmdir(c->folder);
}

static int setup(void **state)
{
	memset(behaviours, 0, sizeof behaviours);
	topics_answer = STATUS_OK;
	topics_away = 0;
	older = false;
	patches_behind = patches_made = patches_followed = patches_lose = 0;
	patches_gone = false;
	return 0;
}

/* ---- tests ---- */

static void told_to_stop_it_stops(void **state)
{
	struct child c;
	start(&c, 3);
	wait_told(&c, "READY=1", 1);
	assert_non_null(strstr(c.told, "EXTEND_TIMEOUT_USEC=30000000\n"));
	wait_told(&c, "WATCHDOG=1", 3);
	assert_non_null(strstr(c.told, "STATUS=ready\n"));
	assert_int_equal(kill(c.pid, SIGHUP), 0);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	wait_told(&c, "STOPPING=1", 1);
	end(&c, 0, "SIGHUP");
}

static void topics_that_are_lost_are_read_again(void **state)
{
	struct child c;
	patches_lose = 40;
	start(&c, 1);
	wait_told(&c, "STATUS=ready", 1);
	wait_told(&c, "STATUS=patches are not read to their end", 1);
	wait_told(&c, "STATUS=ready", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, "the learner is told");
}

static void fenced_it_stops_the_others(void **state)
{
	struct child c;
	behaviours[1] = FENCED;
	start(&c, 3);
	wait_told(&c, "STOPPING=1", 1);
	end(&c, 78, "lane 1: fenced");
}

static void fenced_while_stopping_is_a_stop(void **state)
{
	struct child c;
	behaviours[1] = FENCED_LAST;
	start(&c, 3);
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, "lane 1: fenced while stopping");
}

static void a_lane_that_quits_is_a_bug(void **state)
{
	struct child c;
	behaviours[0] = QUITS;
	start(&c, 2);
	end(&c, 70, "lane 0 ended without being asked");
}

static void a_stop_has_a_deadline(void **state)
{
	struct child c;
	behaviours[1] = STUCK;
	start(&c, 2);
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGINT), 0);
	end(&c, 69, "shutdown.deadline_ms: cut off");
	behaviours[0] = FENCED;
	start(&c, 2);
	end(&c, 78, "lane 0: fenced");
}

static void a_second_signal_cuts_off(void **state)
{
	struct child c;
	behaviours[0] = STUCK;
	start(&c, 1);
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	wait_told(&c, "STOPPING=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0); /* at once: the first again */
	(void)usleep(600000);
	assert_int_equal(kill(c.pid, 0), 0);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 69, "a second signal: cut off");
}

static void a_lane_that_stalls_starves_the_watchdog(void **state)
{
	struct child c;
	struct timeval patience = { .tv_usec = 500000 };
	char message[512];
	behaviours[1] = STALLED;
	start(&c, 2);
	wait_told(&c, "READY=1", 1);
	(void)usleep(300000);
	while (recv(c.notify, message, sizeof message, MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(c.notify, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
	ssize_t n = recv(c.notify, message, sizeof message - 1, 0);
	if (n > 0) {
		message[n] = '\0';
		fail_msg("a stalled lane, and systemd is told %s", message);
	}
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, NULL);
}

static void brokers_are_waited_for(void **state)
{
	struct child c;
	topics_away = 2;
	start(&c, 1);
	wait_told(&c, "STATUS=brokers: nobody answers", 1);
	assert_null(strstr(c.told, "READY=1"));
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, NULL);
	topics_away = 1000;
	start(&c, 1);
	wait_told(&c, "STATUS=brokers: nobody answers", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, NULL);
}

/* What was read of the patches is not read again: the second look goes on. */
static void patches_are_waited_for(void **state)
{
	struct child c;
	patches_behind = 2;
	start(&c, 1);
	wait_told(&c, "STATUS=brokers: patches are not read to their end", 1);
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, NULL);
}

static void wrong_topics_are_the_configurations_fault(void **state)
{
	struct child c;
	topics_answer = STATUS_CONFIG;
	start(&c, 1);
	end(&c, 78, "topic labels has 5 partitions");
}

static void without_patches_there_are_no_labels(void **state)
{
	struct child c;
	older = true;
	start(&c, 2);
	wait_told(&c, "READY=1", 1);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, "topic topic is missing: labels are not read, and updates have no scores");
}

static void get(const struct child *c, const char *path, char *ret, size_t n)
{
	char log[4096], request[128];
	read_log(c, log, sizeof log);
	const char *port = strstr(log, "http: listening on 127.0.0.1:");
	assert_non_null(port);
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(strrchr(port, ':') + 1)) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
	assert_int_equal(send(fd, request, (size_t)length, MSG_NOSIGNAL), length);
	size_t got = 0;
	for (ssize_t more; got < n - 1 && (more = recv(fd, ret + got, n - 1 - got, 0)) > 0;)
		got += (size_t)more;
	ret[got] = '\0';
	(void)close(fd);
}

static void http_tells_the_same(void **state)
{
	struct child c;
	static char answer[65536];
	behaviours[1] = FAILED_SHARD;
	start(&c, 2);
	wait_told(&c, "READY=1", 1); /* a failed shard does not hold up the start of the rest */
	get(&c, "/readyz", answer, sizeof answer);
	assert_non_null(strstr(answer, " 503 "));
	assert_non_null(strstr(answer, "\r\n\r\nlane 1: partition 4: stopped: the log was cut\n"));
	get(&c, "/livez", answer, sizeof answer);
	assert_non_null(strstr(answer, " 200 "));
	get(&c, "/nothing", answer, sizeof answer);
	assert_non_null(strstr(answer, " 404 "));
	get(&c, "/metrics", answer, sizeof answer);
	assert_non_null(strstr(answer, "\npeterd_ready 0\n"));
	assert_non_null(strstr(answer, "\npeterd_patch_swaps_total 7\n"));
	assert_non_null(strstr(answer, "\npeterd_lane_ready{lane=\"0\"} 1\n"));
	assert_non_null(strstr(answer, "\npeterd_shard_phase{partition=\"4\",phase=\"failed\"} 1\n"));
	assert_null(strstr(answer, "\npeterd_interactions_total 0\n"));
	assert_non_null(strstr(answer, "\npeterd_labels_trained_total 17\n"));
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	end(&c, 0, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(told_to_stop_it_stops, setup),
		cmocka_unit_test_setup(topics_that_are_lost_are_read_again, setup),
		cmocka_unit_test_setup(fenced_it_stops_the_others, setup),
		cmocka_unit_test_setup(fenced_while_stopping_is_a_stop, setup),
		cmocka_unit_test_setup(a_lane_that_quits_is_a_bug, setup),
		cmocka_unit_test_setup(a_stop_has_a_deadline, setup),
		cmocka_unit_test_setup(a_second_signal_cuts_off, setup),
		cmocka_unit_test_setup(a_lane_that_stalls_starves_the_watchdog, setup),
		cmocka_unit_test_setup(brokers_are_waited_for, setup),
		cmocka_unit_test_setup(patches_are_waited_for, setup),
		cmocka_unit_test_setup(wrong_topics_are_the_configurations_fault, setup),
		cmocka_unit_test_setup(without_patches_there_are_no_labels, setup),
		cmocka_unit_test_setup(http_tells_the_same, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
