#include "daemon/control.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/announcer.h"
#include "daemon/health.h"
#include "daemon/http.h"
#include "daemon/lane.h"
#include "daemon/learner_lane.h"
#include "daemon/notify.h"
#include "daemon/scrape.h"
#include "daemon/serving.h"
#include "io/topics.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 200
#define PATCHES_MS 50          /* between looks at the patches topic */
#define STALL_MS 30000         /* a lane without a tick for this long is not alive */
#define TOPICS_TIMEOUT_MS 5000 /* one try to see the topics; also how long a stop may wait for it */
#define TWIN_MS 60000          /* fenced more than so often within this: another process has our name */
#define TWIN_FENCINGS 3
#define HTTP_WAIT_MS 60000 /* for a taken address */
#define RETRY_MS 500
#define REOPEN_MS 1000     /* between tries to read lost topics again */
#define TOPICS_TRIES 4     /* brokers show a new topic a moment late */
#define SAME_SIGNAL_MS 500 /* a second one within this is the first again: timeout(1) sends it to process and group */

enum phase { PREPARING, RUNNING, STOPPING };

struct fencing {          /* of a lane, by the brokers */
	int64_t first_ms; /* of those counted */
	unsigned times;
};

struct control {
	const struct config *config;
	const struct backbone *backbone;
	struct network *net;
	enum phase phase;
	enum status status; /* why it stops; STATUS_OK: it was told to */
	struct error *err;
	bool handles_open;
	unsigned signals;
	int64_t signalled_ms; /* when the first came */
	struct announcer announcer;

	uv_loop_t loop;
	uv_signal_t signal_term, signal_int, signal_hup;
	uv_timer_t tick, retry, deadline, watchdog, http_retry, patches_timer;
	uv_async_t exited;
	struct http *http;
	int64_t http_until_ms; /* until when a taken address is waited for */

	uv_work_t topics_job; /* in the thread pool while topics_busy; the four below are its own then */
	bool topics_busy;
	struct topics topics;
	struct serving *serving; /* not started: labels are not read, and there are no scores */
	struct error topics_err;
	enum status topics_status;
	unsigned topics_wrong; /* tries in a row that found the topics wrong */
	bool reopening;        /* what is served was lost, and is read again */
	int64_t reopen_ms;     /* when that is tried next */

	struct status_board *board;
	struct health *health;
	struct metrics *metrics; /* [workers + 1]: the learner's is the last */
	struct store_gate *gate;
	struct task_board *board_of_tasks;
	struct lane_context context;
	struct lane **lanes;          /* [workers], NULL where not started or gone */
	struct learner_lane *learner; /* likewise */
	struct fencing *fencings;     /* [workers] */
	size_t running;
};

static int64_t now_ms(void)
{
	return clock_monotonic_us() / 1000;
}

/* ---- the end ---- */

/* A stop that nobody waits for any longer. Nothing is lost: what is not committed is done again by whoever comes next. */
static _Noreturn void cut_off(struct control *c, const char *why)
{
	if (c->status)
		log_error("%s", c->err->text);
	log_error("%s: cut off, what is not committed will be done again", why);
	_exit(c->status ? status_exit_code(c->status) : status_exit_code(STATUS_UNAVAILABLE));
}

static void on_deadline(uv_timer_t *timer)
{
	struct control *c = timer->data;
	cut_off(c, "the stop took longer than shutdown.deadline_ms");
}

static void close_handles(struct control *c)
{
	uv_handle_t *handles[] = {
		(uv_handle_t *)&c->signal_term,   (uv_handle_t *)&c->signal_int, (uv_handle_t *)&c->signal_hup,
		(uv_handle_t *)&c->tick,          (uv_handle_t *)&c->retry,      (uv_handle_t *)&c->deadline,
		(uv_handle_t *)&c->watchdog,      (uv_handle_t *)&c->exited,     (uv_handle_t *)&c->http_retry,
		(uv_handle_t *)&c->patches_timer,
	};
	if (!c->handles_open)
		return;
	c->handles_open = false;
	for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++)
		uv_close(handles[i], NULL);
	http_close(c->http);
	c->http = NULL;
}

static void close_if_done(struct control *c)
{
	if (c->phase == STOPPING && !c->running && !c->topics_busy)
		close_handles(c);
}

static void begin_stop(struct control *c)
{
	if (c->phase == STOPPING)
		return;
	c->phase = STOPPING;
	log_info("stopping");
	notify_stopping();
	notify_extend(c->config->shutdown_deadline_ms + ANNOUNCER_EXTEND_EVERY_MS);
	notify_status("stopping");
	(void)uv_timer_stop(&c->retry);
	(void)uv_timer_start(&c->deadline, on_deadline, (uint64_t)c->config->shutdown_deadline_ms, 0);
	for (int64_t i = 0; i < c->config->workers; i++)
		if (c->lanes[i])
			lane_stop(c->lanes[i]);
	if (c->learner)
		learner_lane_stop(c->learner);
	close_if_done(c);
}

/* The first error is the one that the process ends with. */
static void fail(struct control *c, const struct error *err)
{
	if (!c->status) {
		*c->err = *err;
		c->status = err->status;
	}
	begin_stop(c);
}

static volatile sig_atomic_t noted_signal; /* one that came before the loop listened */

static void note_signal(int number)
{
	noted_signal = number;
}

void control_note_signals(void)
{
	const struct sigaction action = { .sa_handler = note_signal, .sa_flags = SA_RESTART };
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGINT, &action, NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct control *c = handle->data;
	if (number == SIGHUP) {
		log_info("SIGHUP: the configuration is read at a start only");
		return;
	}
	int64_t now = now_ms();
	if (c->signals == 0)
		c->signalled_ms = now;
	else if (now - c->signalled_ms < SAME_SIGNAL_MS)
		return;
	if (++c->signals > 1)
		cut_off(c, "a second signal");
	begin_stop(c);
}

/* ---- lanes ---- */

static void run_lane(struct control *c, size_t index)
{
	struct error err;
	if (lane_start(&c->context, (int)index, &c->lanes[index], &err)) {
		(void)error_prefix(&err, "lane %zu", index);
		fail(c, &err);
		return;
	}
	c->running++;
}

/* After an outage that outlived the session, late requests of our own look like a twin's, once or twice. The lane joins
 * again; a twin that is one does so too, and of the two the older is the first to be fenced once too often. */
static bool may_join_again(struct control *c, size_t index, bool fenced)
{
	struct fencing *f = &c->fencings[index];
	int64_t now = now_ms();
	if (!fenced || c->phase == STOPPING)
		return false;
	if (f->times == 0 || now - f->first_ms > TWIN_MS)
		*f = (struct fencing){ .first_ms = now };
	if (++f->times > TWIN_FENCINGS)
		return false;
	log_warning("lane %zu: fenced: joining the group again, to see whether another process has our name", index);
	return true;
}

static void lane_ended(struct control *c, size_t index, const struct error *how)
{
	struct error unasked;
	bool fenced = lane_was_fenced(c->lanes[index]);
	lane_join_free(c->lanes[index]);
	c->lanes[index] = NULL;
	c->running--;
	if (may_join_again(c, index, fenced)) {
		run_lane(c, index);
		return;
	}
	health_lane_ended(c->health, (int)index);
	if (fenced && c->phase == STOPPING) {
		log_warning(
			"lane %zu: fenced while stopping: what it had not committed is done again by who owns it next",
			index);
	} else if (how->status) {
		fail(c, how);
	} else if (c->phase != STOPPING) {
		(void)error_set(&unasked, STATUS_BUG, "lane %zu ended without being asked", index);
		fail(c, &unasked);
	}
}

static void on_exited(uv_async_t *async)
{
	struct control *c = async->data;
	if (c->learner && learner_lane_finished(c->learner)) {
		learner_lane_join_free(c->learner);
		c->learner = NULL;
		c->running--;
	}
	for (int64_t i = 0; i < c->config->workers; i++) {
		struct error how = { 0 };
		enum status s = STATUS_OK;
		if (!c->lanes[i] || !lane_finished(c->lanes[i], &s, &how))
			continue;
		how.status = s;
		lane_ended(c, (size_t)i, &how);
	}
	close_if_done(c);
}

/* ---- what is served ---- */

static void reopen(uv_work_t *job)
{
	struct control *c = job->data;
	c->topics_status = serving_start(c->serving, TOPICS_TIMEOUT_MS, &c->topics_err);
}

/* What the learner has is what the topics had before. */
static void reopened(uv_work_t *job, int status)
{
	struct control *c = job->data;
	c->topics_busy = false;
	c->reopening = c->topics_status != STATUS_OK;
	c->reopen_ms = now_ms() + REOPEN_MS;
	health_note(c->health, HEALTH_SERVING, c->reopening ? c->topics_err.text : "");
	if (c->phase == STOPPING)
		close_if_done(c);
	else if (c->topics_status == STATUS_MEMORY)
		fail(c, &c->topics_err);
	else if (!c->reopening && c->learner)
		learner_lane_reopen(c->learner);
}

static void follow(struct control *c, enum status (*take)(struct serving *s, struct error *err))
{
	struct error err;
	if (c->phase != RUNNING || c->topics_busy || !serving_started(c->serving))
		return;
	if (!c->reopening && take(c->serving, &err)) {
		fail(c, &err);
		return;
	}
	c->reopening = c->reopening || serving_lost(c->serving);
	if (!c->reopening || now_ms() < c->reopen_ms)
		return;
	c->topics_busy = true;
	(void)uv_queue_work(&c->loop, &c->topics_job, reopen, reopened);
}

static void on_patches(uv_timer_t *timer)
{
	follow(timer->data, serving_follow_patches);
}

static void start_learner(struct control *c)
{
	struct error err;
	const struct learner_lane_context context = { .config = c->config,
						      .backbone = c->backbone,
						      .net = c->context.net,
						      .tasks = c->board_of_tasks,
						      .metrics = &c->metrics[c->config->workers],
						      .exited = &c->exited };
	if (!serving_started(c->serving) || !c->config->learner_enabled)
		return;
	if (learner_lane_start(&context, &c->learner, &err)) {
		(void)error_prefix(&err, "learner");
		fail(c, &err);
		return;
	}
	c->running++;
}

static void start_lanes(struct control *c)
{
	c->phase = RUNNING;
	c->context.labels = serving_started(c->serving);
	if (serving_started(c->serving))
		(void)uv_timer_start(&c->patches_timer, on_patches, PATCHES_MS, PATCHES_MS);
	health_start(c->health, now_ms());
	for (int64_t i = 0; i < c->config->workers && c->phase == RUNNING; i++)
		run_lane(c, (size_t)i);
	if (c->phase == RUNNING)
		start_learner(c);
}

/* ---- topics: looked at in the thread pool until they are as they must be, and the tasks are read ---- */

static void topics_look(uv_work_t *job)
{
	struct control *c = job->data;
	c->topics_status = STATUS_OK;
	if (c->config->create_topics)
		c->topics_status = topics_create_internal(c->config, TOPICS_TIMEOUT_MS, &c->topics, &c->topics_err);
	if (!c->topics_status)
		c->topics_status = topics_check(c->config, TOPICS_TIMEOUT_MS, &c->topics, &c->topics_err);
	if (!c->topics_status && serving_is_possible(c->config, &c->topics))
		c->topics_status = serving_start(c->serving, TOPICS_TIMEOUT_MS, &c->topics_err);
}

static void on_retry(uv_timer_t *timer);

static void topics_looked(uv_work_t *job, int status)
{
	struct control *c = job->data;
	c->topics_busy = false;
	if (c->phase == STOPPING) {
		close_if_done(c);
		return;
	}
	if (!c->topics_status) {
		start_lanes(c);
		return;
	}
	c->topics_wrong = c->topics_status == STATUS_CONFIG ? c->topics_wrong + 1 : 0;
	if ((c->topics_status != STATUS_UNAVAILABLE && c->topics_status != STATUS_CONFIG) ||
	    c->topics_wrong == TOPICS_TRIES) {
		fail(c, &c->topics_err);
		return;
	}
	if (c->topics_status == STATUS_UNAVAILABLE)
		(void)error_prefix(&c->topics_err, "brokers");
	health_wait(c->health, c->topics_err.text);
	(void)uv_timer_start(&c->retry, on_retry, RETRY_MS, 0);
}

static void look_at_topics(struct control *c)
{
	c->topics_job.data = c;
	c->topics_busy = true;
	(void)uv_queue_work(&c->loop, &c->topics_job, topics_look, topics_looked);
}

static void on_retry(uv_timer_t *timer)
{
	look_at_topics(timer->data);
}

/* ---- health ---- */

static void on_tick(uv_timer_t *timer)
{
	struct control *c = timer->data;
	struct error err;
	int64_t now = now_ms();
	if (health_update(c->health, now, &err)) {
		log_warning("status: %s", err.text);
		return;
	}
	follow(c, serving_follow_tasks);
	if (c->phase == STOPPING)
		return;
	if (c->learner) {
		char why[256];
		learner_lane_trouble(c->learner, why, sizeof why);
		health_note(c->health, HEALTH_LEARNING, why);
	}
	struct buffer reasons = { 0 };
	bool ready = health_ready(c->health, &reasons);
	announcer_readiness(&c->announcer, now, ready, &reasons);
	announcer_start(&c->announcer, now, health_settled(c->health));
	buffer_free(&reasons);
}

static void on_watchdog(uv_timer_t *timer)
{
	struct control *c = timer->data;
	struct error err;
	if (!health_update(c->health, now_ms(), &err) && health_progressed(c->health))
		notify_watchdog();
}

static unsigned answer(void *arg, const char *path, struct buffer *body)
{
	struct control *c = arg;
	struct error err;
	bool ready = strcmp(path, "/readyz") == 0, alive = strcmp(path, "/livez") == 0;
	bool metrics = strcmp(path, "/metrics") == 0;
	if (!ready && !alive && !metrics) {
		metrics_printf(body, "no such page: /livez, /readyz, /metrics\n");
		return 404;
	}
	if (health_update(c->health, now_ms(), &err)) {
		metrics_printf(body, "%s\n", err.text);
		return 503;
	}
	struct buffer reasons = { 0 };
	bool good = alive ? health_alive(c->health, now_ms(), &reasons) : health_ready(c->health, &reasons);
	if (c->phase == STOPPING && !alive) {
		good = false;
		metrics_printf(&reasons, "stopping\n");
	}
	if (metrics) {
		struct scrape scrape = { .metrics = c->metrics,
					 .ready = good,
					 .interactions_topic = c->config->interactions_topic,
					 .labels_topic = c->config->labels_topic,
					 .backbone = backbone_hash(c->backbone),
					 .arch = backbone_arch(c->backbone) };
		struct task_set *tasks = task_board_get(c->board_of_tasks);
		scrape.tasks = tasks;
		scrape.swaps = serving_swaps(c->serving);
		scrape.status = health_lanes(c->health, &scrape.lanes);
		scrape_print(&scrape, body);
		task_set_release(tasks);
	} else if (good) {
		metrics_printf(body, alive ? "alive\n" : "ready\n");
	} else {
		buffer_append(body, reasons.data, reasons.length);
	}
	buffer_free(&reasons);
	return good || metrics ? 200 : 503;
}

/* ---- start ---- */

static enum status open_memory(struct control *c, struct error *err)
{
	c->lanes = calloc((size_t)c->config->workers, sizeof(struct lane *));
	c->fencings = calloc((size_t)c->config->workers, sizeof *c->fencings);
	c->metrics = metrics_new((size_t)c->config->workers + 1);
	c->board_of_tasks = task_board_new();
	if (!c->lanes || !c->fencings || !c->metrics || !c->board_of_tasks)
		return error_set_memory(err);
	enum status s = status_board_new((int)c->config->workers, &c->board, err);
	if (!s)
		s = health_new(c->board, STALL_MS, &c->health, err);
	if (!s) {
		health_wait(c->health, "brokers: no answer yet");
		s = store_gate_new(c->config, &c->gate, err);
	}
	if (!s)
		s = serving_new(c->config, c->backbone, c->net, c->board_of_tasks, &c->serving, err);
	return s;
}

static void open_handles(struct control *c)
{
	(void)uv_signal_init(&c->loop, &c->signal_term);
	(void)uv_signal_init(&c->loop, &c->signal_int);
	(void)uv_signal_init(&c->loop, &c->signal_hup);
	(void)uv_timer_init(&c->loop, &c->tick);
	(void)uv_timer_init(&c->loop, &c->retry);
	(void)uv_timer_init(&c->loop, &c->deadline);
	(void)uv_timer_init(&c->loop, &c->watchdog);
	(void)uv_timer_init(&c->loop, &c->http_retry);
	(void)uv_timer_init(&c->loop, &c->patches_timer);
	(void)uv_async_init(&c->loop, &c->exited, on_exited);
	c->handles_open = true;
	announcer_init(&c->announcer, now_ms());
	c->signal_term.data = c->signal_int.data = c->signal_hup.data = c;
	c->tick.data = c->retry.data = c->deadline.data = c->watchdog.data = c->exited.data = c;
	c->http_retry.data = c->patches_timer.data = c;
	(void)uv_signal_start(&c->signal_term, on_signal, SIGTERM);
	(void)uv_signal_start(&c->signal_int, on_signal, SIGINT);
	(void)uv_signal_start(&c->signal_hup, on_signal, SIGHUP);
	(void)uv_timer_start(&c->tick, on_tick, 0, TICK_MS);
	int64_t watchdog_ms = notify_watchdog_interval_ms();
	if (watchdog_ms)
		(void)uv_timer_start(&c->watchdog, on_watchdog, (uint64_t)watchdog_ms, (uint64_t)watchdog_ms);
}

static enum status open_http(struct control *c, struct error *err)
{
	const char *listen_at = c->config->http_listen;
	if (!*listen_at)
		return STATUS_OK;
	enum status s = http_open(&c->loop, listen_at, answer, c, &c->http, err);
	if (s)
		return error_prefix(err, "%s: http.listen: %s", c->config->path, listen_at);
	log_info("http: listening on %s", http_address(c->http));
	return STATUS_OK;
}

static void on_http_retry(uv_timer_t *timer)
{
	struct control *c = timer->data;
	struct error err;
	enum status s = c->phase == STOPPING ? STATUS_OK : open_http(c, &err);
	if (s == STATUS_UNAVAILABLE && now_ms() < c->http_until_ms)
		return;
	(void)uv_timer_stop(timer);
	if (s == STATUS_UNAVAILABLE)
		err.status = STATUS_IO;
	if (s)
		fail(c, &err);
}

/* A taken address may be that of the process whose place we take, and which is about to stop: it is waited for. */
static enum status begin_http(struct control *c, struct error *err)
{
	enum status s = open_http(c, err);
	if (s != STATUS_UNAVAILABLE)
		return s;
	log_warning("%s; trying again", err->text);
	c->http_until_ms = now_ms() + HTTP_WAIT_MS;
	(void)uv_timer_start(&c->http_retry, on_http_retry, RETRY_MS, RETRY_MS);
	return STATUS_OK;
}

static enum status run_loop(struct control *c, struct error *err)
{
	int code = uv_loop_init(&c->loop);
	if (code)
		return error_set(err, STATUS_IO, "event loop: %s", uv_strerror(code));
	open_handles(c);
	c->context.exited = &c->exited;
	enum status s = begin_http(c, err);
	if (s)
		close_handles(c);
	else if (noted_signal)
		begin_stop(c);
	else
		look_at_topics(c);
	(void)uv_run(&c->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&c->loop))
		return error_set(err, STATUS_BUG, "the control loop ended with open handles");
	return s ? s : c->status;
}

enum status control_run(const struct config *config, const struct backbone *backbone, struct network *net,
			const struct interaction_decoder *decoder, struct error *err)
{
	struct control *c = calloc(1, sizeof *c);
	if (!c)
		return error_set_memory(err);
	c->config = config;
	c->backbone = backbone;
	c->net = net;
	c->err = err;
	enum status s = open_memory(c, err);
	c->context = (struct lane_context){ .config = config,
					    .backbone = backbone,
					    .net = net,
					    .decoder = decoder,
					    .gate = c->gate,
					    .board = c->board,
					    .metrics = c->metrics,
					    .tasks = c->board_of_tasks };
	if (!s)
		s = run_loop(c, err);
	serving_free(c->serving);
	task_board_free(c->board_of_tasks);
	store_gate_free(c->gate);
	health_free(c->health);
	status_board_free(c->board);
	metrics_free(c->metrics);
	free(c->fencings);
	free(c->lanes);
	free(c);
	return s;
}
