/* daemon/lane with live patches: updates are scored by versions that were on the board, exactly, through swaps, failures and
 * restarts; on_patch brings the newest to those who do nothing. */
#include "lane_fixture.h"
#include "model/tuner.h"

enum { VERSIONS = 64, TASKS = 3 };

static const char yaml[] = "tasks:\n- {name: age, type: classification, labels: [a, b, c], mean_window: 2}\n"
			   "- {name: films, type: ranking, labels: [p, q, r, s, t], insertion: serial, scores_k: 2}\n"
			   "- {name: spend, type: regression, insertion: parallel}\n";

static struct task_set *tasks; /* without patches */
static struct served_patch *versions[VERSIONS][TASKS];
static uint64_t newest;

static int begin_group(void **state)
{
	struct config *c = NULL;
	struct error err;
	char path[] = "/tmp/peterd-test-XXXXXX";
	if (lf_begin_group(state) != 0)
		return -1;
	int fd = mkstemp(path);
	(void)close(fd);
	fixture_write(path, &(struct random_backbone){ 16, 3, "1", true, 0, 1 }); /* as lane_fixture.h has it */
	assert_int_equal(network_load(path, &lf.net, &err), STATUS_OK);
	(void)unlink(path);
	assert_int_equal(config_parse_tasks("t", yaml, sizeof yaml - 1, &c, &err), STATUS_OK);
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, 1, &tasks, &err), STATUS_OK);
	config_free(c);
	return 0;
}

static int end_group(void **state)
{
	for (size_t v = 0; v < VERSIONS; v++)
		for (size_t t = 0; t < TASKS; t++)
			served_patch_release(versions[v][t]);
	task_set_release(tasks);
	network_free(lf.net);
	return lf_end_group(state);
}

static struct served_patch *version_of(const struct served_task *task, uint64_t version)
{
	struct random_stream random = random_from(version, 3);
	struct served_patch *served = NULL;
	struct patch *p = NULL;
	struct error err;
	bool numbers = task->spec.type == PATCH_REGRESSION;
	const char *const *labels = (const char *const *)task->definition.labels.items;
	assert_int_equal(patch_new(&task->spec, lf.net, task->definition.name, numbers ? NULL : labels,
				   numbers ? 1 : (uint32_t)task->definition.labels.count, &random, &p, &err),
			 STATUS_OK);
	for (size_t i = 0; i < p->table.count; i++)
		for (size_t k = 0; k < p->table.list[i].count; k++)
			p->weights[p->table.list[i].offset + k] += 0.2F * random_normal(&random);
	(void)snprintf(p->hash, sizeof p->hash, "%064llu", (unsigned long long)version);
	assert_int_equal(served_patch_new(p, version, &served, &err), STATUS_OK);
	return served;
}

/* The next version of every task; `only`: of that one. */
static void swap(size_t only)
{
	struct served entries[TASKS];
	struct task_set *set = NULL;
	struct error err;
	newest++;
	assert_true(newest < VERSIONS);
	for (size_t t = 0; t < TASKS; t++) {
		struct served_task *task = tasks->entries[t].task;
		versions[newest][t] = only == TASKS || only == t ? version_of(task, newest)
								 : served_patch_hold(versions[newest - 1][t]);
		entries[t] = (struct served){ task, versions[newest][t] };
	}
	assert_int_equal(task_set_new(entries, TASKS, &set, &err), STATUS_OK);
	task_board_put(lf.ctx.tasks, set);
}

static void start(void)
{
	struct error err;
	lf_open_context();
	swap(TASKS);
	if (lane_start(&lf.ctx, 0, &lf.lane, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static struct seen { /* a user's newest update */
	struct buffer value;
	bool tombstone;
	int64_t least; /* of the versions in it */
} seen[LANE_USERS];

static void visit(const rd_kafka_message_t *message)
{
	char key[32];
	size_t user = LANE_USERS;
	(void)snprintf(key, sizeof key, "%.*s", (int)message->key_len, (const char *)message->key);
	assert_int_equal(sscanf(key, "user %zu", &user), 1);
	buffer_clear(&seen[user].value);
	seen[user].tombstone = !message->payload;
	buffer_append(&seen[user].value, message->payload, message->len);
}

static void expect_score(size_t t, const struct update_score *score, const struct sequence *events)
{
	const struct served_task *task = tasks->entries[t].task;
	const struct served_patch *served = NULL;
	struct tuner *tuner = NULL;
	struct error err;
	uint32_t items[LANE_KEEP];
	float full[8];
	assert_memory_equal(score->task.data, task->definition.name, score->task.length);
	for (uint64_t v = 1; v <= newest; v++)
		if ((int64_t)versions[v][t]->version == score->version)
			served = versions[v][t];
	assert_non_null(served);
	assert_memory_equal(score->patch.data, served->hash, HASH_HEX_LENGTH);
	for (uint32_t i = 0; i < events->length; i++)
		items[i] = backbone_item(lf.backbone, events->events[i].item);
	const struct tuner_example example = { .items = items, .length = events->length, .weight = 1 };
	assert_int_equal(tuner_new(served->patch, lf.net, NULL, &parallel_none, 1, &tuner, &err), STATUS_OK);
	tuner_scores(tuner, &(struct tuner_batch){ &example, NULL, 1 }, full);
	tuner_free(tuner);
	assert_int_equal(score->count, t == 0 ? 3 : t == 1 ? 2 : 1);
	for (size_t i = 0; i < score->count; i++) {
		uint32_t row = t == 2 ? 0 : UINT32_MAX;
		for (uint32_t l = 0; l < served->patch->classes && t != 2; l++)
			if (score->labels[i].length == 1 &&
			    score->labels[i].data[0] == (uint8_t)served->patch->labels[l][0])
				row = l;
		assert_true(row < served->patch->classes);
		assert_true(fabsf(score->values[i] - full[row]) <= 1e-5F * (1 + fabsf(full[row])));
	}
}

/* Every user's newest update is of the last state and has the scores that the named versions give it. */
static void expect_scores(void)
{
	struct update_scores scores = { 0 };
	struct buffer floats = { 0 };
	lf_read(lf.config->updates_topic, visit);
	for (size_t u = 0; u < LANE_USERS; u++) {
		struct update update;
		struct error err;
		const struct oracle_user *o = &lf.users[u];
		if (!o->touched || o->sequence.length == 0)
			continue;
		assert_false(seen[u].tombstone);
		assert_int_equal(update_decode((struct slice){ seen[u].value.data, seen[u].value.length }, &floats,
					       &update, &err),
				 STATUS_OK);
		assert_int_equal(update.offset, o->newest_offset);
		assert_int_equal(update_decode_scores(&update, &scores, &err), STATUS_OK);
		assert_int_equal(scores.count, TASKS);
		seen[u].least = INT64_MAX;
		for (size_t t = 0; t < TASKS; t++) {
			expect_score(t, &scores.items[t], &o->sequence);
			if (scores.items[t].version < seen[u].least)
				seen[u].least = scores.items[t].version;
		}
		buffer_clear(&floats);
	}
	update_scores_free(&scores);
	buffer_free(&floats);
}

static int begin(void **state)
{
	return lf_begin(state);
}

static int end(void **state)
{
	for (size_t u = 0; u < LANE_USERS; u++)
		buffer_free(&seen[u].value);
	memset(seen, 0, sizeof seen);
	return lf_end(state);
}

static void scores_are_exact_through_swaps_and_failures(void **state)
{
	lf_configure("updates: {topic: sc-1}\nkafka:\n");
	lf_create_topics();
	lf_stream(500);
	start();
	lf_await_end();
	for (size_t i = 0; i < 12; i++) {
		lf_stream(100);
		swap(i % (TASKS + 1));
		if (i == 5)
			lf_inject(API_TXN_OFFSET_COMMIT, 1, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION);
		(void)usleep(30000);
	}
	lf_await_end();
	lf_stop();
	expect_scores();
	start(); /* users come back from the store */
	lf_stream(400);
	lf_await_end();
	lf_stop();
	expect_scores();
	lf_expect_store();
}

static void await_refreshed(uint64_t count)
{
	int64_t start_us = clock_monotonic_us();
	while (lf_metric(METRIC_USERS_REFRESHED) < count) {
		assert_true(clock_monotonic_us() - start_us < LANE_WAIT_US);
		(void)usleep(10000);
	}
}

static void a_swap_reaches_those_who_do_nothing(void **state)
{
	lf_configure("updates: {topic: sc-2}\nscores: {refresh: on_patch, refresh_ms: 7200000}\nkafka:\n");
	lf_create_topics();
	lf_stream(600);
	start();
	lf_await_end();
	(void)usleep(200000);
	assert_int_equal(lf_metric(METRIC_USERS_REFRESHED), 0);
	swap(TASKS);
	size_t living = 0;
	for (size_t u = 0; u < LANE_USERS; u++)
		living += lf.users[u].sequence.length > 0;
	await_refreshed(living);
	(void)usleep(200000);
	assert_int_equal(lf_metric(METRIC_USERS_REFRESHED), living); /* each once */
	lf_stop();
	expect_scores();
	for (size_t u = 0; u < LANE_USERS; u++)
		assert_true(lf.users[u].sequence.length == 0 || seen[u].least == (int64_t)newest);
}

static void held_back_they_arrive_after_the_interval(void **state)
{
	lf_configure("updates: {topic: sc-3, min_interval_ms: 1500}\nscores: {refresh: on_patch, refresh_ms: "
		     "7200000}\nkafka:\n");
	lf_create_topics();
	lf_stream(300);
	start();
	lf_await_end();
	swap(TASKS);
	swap(0);
	int64_t start_us = clock_monotonic_us();
	while (clock_monotonic_us() - start_us < 4000000)
		(void)usleep(50000);
	assert_int_equal(lf_metric(METRIC_UPDATES_OWED), 0);
	lf_stop();
	expect_scores();
	for (size_t u = 0; u < LANE_USERS; u++)
		assert_true(lf.users[u].sequence.length == 0 || seen[u].least >= (int64_t)newest - 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(scores_are_exact_through_swaps_and_failures),
		TEST(a_swap_reaches_those_who_do_nothing),
		TEST(held_back_they_arrive_after_the_interval),
	};
	return cmocka_run_group_tests(tests, begin_group, end_group);
}
