/* One lane against librdkafka's mock cluster, a seeded stream of interactions, and the oracle that says what it must end
 * in. The mock keeps no promise of transactions (docs of io/broker.h): aborted records stay visible, transactional offsets
 * are dropped, so positions come from store and changelog alone. What needs the promises is in tests/broker. */
#ifndef TESTS_UNIT_LANE_FIXTURE_H
#define TESTS_UNIT_LANE_FIXTURE_H

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "daemon/lane.h"
#include "io/deadletter.h"
#include "io/record.h"
#include "io/update.h"
#include "model_fixture.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <string.h>

enum {
	LANE_USERS = 40,
	LANE_PARTITIONS = 2,
	LANE_KEEP = 8,
	LANE_RECORDS = 20000, /* of one test */
	LANE_WAIT_US = 90000000,
	/* Kafka's numbers of requests */
	API_PRODUCE = 0,
	API_HEARTBEAT = 12,
	API_ADD_PARTITIONS = 24,
	API_ADD_OFFSETS = 25,
	API_END_TXN = 26,
	API_TXN_OFFSET_COMMIT = 28,
};

struct oracle_user {
	struct sequence sequence;
	int64_t newest_offset;
	bool touched;
};

static struct lane_fixture {
	rd_kafka_t *host; /* of the mock cluster, and producer of its records */
	rd_kafka_mock_cluster_t *cluster;
	struct backbone *backbone;
	struct network *net; /* NULL: no test needs it */
	struct interaction_decoder *decoder;
	char root[64];
	int tests; /* topics are named after them */

	struct config *config;
	uv_loop_t loop;
	uv_async_t exited;
	struct lane_context ctx;
	struct lane *lane;

	uint64_t random;
	int64_t time_ms;
	int64_t end[LANE_PARTITIONS]; /* offsets */
	struct oracle_user users[LANE_USERS];
	bool bad[LANE_PARTITIONS][LANE_RECORDS];
	size_t bad_count;
} lf;

/* ---- the cluster ---- */

static inline int lf_begin_group(void **state)
{
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	(void)rd_kafka_conf_set(conf, "socket.nagle.disable", "true", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "linger.ms", "5", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
	lf.host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	if (!lf.host)
		return -1;
	lf.cluster = rd_kafka_handle_mock_cluster(lf.host);
	lf.backbone = fixture_backbone(&(struct random_backbone){ 16, 3, "1", true, 0, 1 });
	static const struct interaction_fields fields = { "user_id", "item_id", "timestamp", "event_type" };
	struct error err;
	return interaction_decoder_new(NULL, &fields, &lf.decoder, &err) == STATUS_OK ? 0 : -1;
}

static inline int lf_end_group(void **state)
{
	interaction_decoder_free(lf.decoder);
	backbone_free(lf.backbone);
	rd_kafka_destroy(lf.host);
	return 0;
}

static void lf_exited(uv_async_t *handle)
{
	uv_stop(handle->loop);
}

/* `more`: lines of YAML for this test, with two spaces where they belong under kafka:. */
static inline void lf_configure(const char *more)
{
	char text[2048];
	struct error err;
	int length = snprintf(text, sizeof text,
			      "group: group-%d\ninstance: a\nbackbone: b\nstate_dir: %s/state\n"
			      "interactions: {topic: in-%d}\nsequences: {keep: %d}\n"
			      "topics: {changelog: log-%d, deadletters: dead-%d}\n"
			      "transaction: {interval_ms: 20}\n%s"
			      "  bootstrap.servers: \"%s\"\n  fetch.wait.max.ms: 5\n  session.timeout.ms: 6000\n",
			      lf.tests, lf.root, lf.tests, LANE_KEEP, lf.tests, lf.tests, more,
			      rd_kafka_mock_cluster_bootstraps(lf.cluster));
	assert_true(length > 0 && (size_t)length < sizeof text);
	if (config_parse("test.yaml", text, (size_t)length, &lf.config, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static inline void lf_create_topics(void)
{
	const char *names[] = { lf.config->interactions_topic, lf.config->updates_topic, lf.config->changelog_topic,
				lf.config->deadletters_topic };
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(rd_kafka_mock_topic_create(lf.cluster, names[i], LANE_PARTITIONS, 1), 0);
}

static inline int lf_begin(void **state)
{
	lf.tests++;
	lf.random = (uint64_t)lf.tests;
	lf.time_ms = clock_wall_ms() - 3600000;
	lf.lane = NULL;
	lf.bad_count = 0;
	memset(lf.end, 0, sizeof lf.end);
	memset(lf.bad, 0, sizeof lf.bad);
	memset(lf.users, 0, sizeof lf.users);
	(void)strcpy(lf.root, "/tmp/peterd-lane-XXXXXX");
	if (!mkdtemp(lf.root) || uv_loop_init(&lf.loop) || uv_async_init(&lf.loop, &lf.exited, lf_exited))
		return -1;
	return 0;
}

static inline void lf_close_context(void)
{
	store_gate_free(lf.ctx.gate);
	status_board_free(lf.ctx.board);
	metrics_free(lf.ctx.metrics);
	task_board_free(lf.ctx.tasks);
}

static inline void lf_remove_state(void)
{
	char path[128];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/state/store", lf.root);
	assert_int_equal(file_remove_folder(path, &err), STATUS_OK);
	(void)snprintf(path, sizeof path, "%s/state", lf.root);
	assert_int_equal(file_remove_folder(path, &err), STATUS_OK);
}

static inline int lf_end(void **state)
{
	struct error err;
	if (lf.lane) { /* the test has failed */
		lane_stop(lf.lane);
		lane_join_free(lf.lane);
		lf_close_context();
	}
	for (size_t i = 0; i < LANE_USERS; i++)
		sequence_free(&lf.users[i].sequence);
	config_free(lf.config);
	lf.config = NULL;
	uv_close((uv_handle_t *)&lf.exited, NULL);
	while (uv_run(&lf.loop, UV_RUN_DEFAULT))
		continue;
	lf_remove_state();
	return uv_loop_close(&lf.loop) == 0 && file_remove_folder(lf.root, &err) == STATUS_OK ? 0 : -1;
}

/* ---- the lane ---- */

static inline void lf_open_context(void)
{
	struct error err;
	lf.ctx = (struct lane_context){ .config = lf.config,
					.backbone = lf.backbone,
					.net = lf.net,
					.decoder = lf.decoder,
					.metrics = metrics_new(1),
					.tasks = task_board_new(),
					.exited = &lf.exited };
	assert_non_null(lf.ctx.metrics);
	assert_non_null(lf.ctx.tasks);
	assert_int_equal(status_board_new(1, &lf.ctx.board, &err), STATUS_OK);
	assert_int_equal(store_gate_new(lf.config, &lf.ctx.gate, &err), STATUS_OK);
}

static inline void lf_start(void)
{
	struct error err;
	lf_open_context();
	if (lane_start(&lf.ctx, 0, &lf.lane, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

/* Waits for the lane's end and returns how it ended. */
static inline enum status lf_join(struct error *err)
{
	enum status status = STATUS_OK;
	int64_t start_us = clock_monotonic_us();
	while (!lane_finished(lf.lane, &status, err)) {
		assert_true(clock_monotonic_us() - start_us < LANE_WAIT_US);
		(void)usleep(10000);
	}
	return status;
}

static inline void lf_stop(void)
{
	struct error err;
	lane_stop(lf.lane);
	assert_int_equal(lf_join(&err), STATUS_OK);
	lane_stop(lf.lane); /* too late, and no harm */
	lane_join_free(lf.lane);
	lf.lane = NULL;
	lf_close_context();
}

static inline uint64_t lf_metric(enum metric metric)
{
	return metrics_sum(lf.ctx.metrics, 1, metric);
}

/* Until every partition is live and committed up to its end. */
static inline void lf_await_end(void)
{
	int64_t start_us = clock_monotonic_us();
	for (size_t there = 0; there < LANE_PARTITIONS;) {
		struct lane_status status;
		struct error err;
		there = 0;
		assert_int_equal(status_board_read(lf.ctx.board, 0, &status, &err), STATUS_OK);
		for (size_t i = 0; i < status.count; i++)
			there += status.shards[i].phase == SHARD_LIVE &&
				 status.shards[i].position == lf.end[status.shards[i].partition];
		if (there < LANE_PARTITIONS && clock_monotonic_us() - start_us > LANE_WAIT_US)
			fail_msg("the lane does not get there: %s", status.reason);
		lane_status_clear(&status);
		(void)usleep(10000);
	}
}

/* ---- the stream and its oracle ---- */

static inline uint64_t lf_pick(uint64_t below)
{
	return fixture_random(&lf.random) % below;
}

static inline int32_t lf_partition(size_t user)
{
	return (int32_t)(user % LANE_PARTITIONS);
}

static inline void lf_send(size_t user, const void *value, size_t length)
{
	char key[16];
	int key_length = snprintf(key, sizeof key, "user %zu", user);
	assert_int_equal(rd_kafka_producev(lf.host, RD_KAFKA_V_TOPIC(lf.config->interactions_topic),
					   RD_KAFKA_V_PARTITION(lf_partition(user)),
					   RD_KAFKA_V_KEY(key, (size_t)key_length),
					   RD_KAFKA_V_VALUE((void *)(uintptr_t)value, length),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
			 RD_KAFKA_RESP_ERR_NO_ERROR);
	lf.end[lf_partition(user)]++;
}

static inline void lf_interaction(size_t user)
{
	struct error err;
	struct oracle_user *u = &lf.users[user];
	char id[16];
	char item[16];
	struct buffer value = { 0 };
	enum sequence_place where;
	lf.time_ms += 3;
	struct interaction i = { .timestamp_ms = lf.time_ms - (lf_pick(5) ? 0 : (int64_t)lf_pick(2000)) };
	i.user_id = (struct slice){ (uint8_t *)id, (size_t)snprintf(id, sizeof id, "user %zu", user) };
	i.item_id = (struct slice){ (uint8_t *)item,
				    (size_t)snprintf(item, sizeof item, "item %d", (int)lf_pick(FIXTURE_ITEMS + 4)) };
	interaction_encode(&i, &value);
	struct event event = { hash_item(i.item_id.data, i.item_id.length), i.timestamp_ms };
	assert_int_equal(sequence_insert(&u->sequence, LANE_KEEP, event, &where, &err), STATUS_OK);
	if (where != SEQUENCE_LATE)
		u->newest_offset = lf.end[lf_partition(user)];
	u->touched = true;
	lf_send(user, value.data, value.length);
	buffer_free(&value);
}

static inline void lf_bad(size_t user)
{
	int64_t offset = lf.end[lf_partition(user)];
	assert_true(offset < LANE_RECORDS);
	lf.bad[lf_partition(user)][offset] = true;
	lf.bad_count++;
	lf_send(user, "\x01", 1);
}

static inline void lf_forget(size_t user)
{
	sequence_free(&lf.users[user].sequence);
	lf.users[user].touched = true;
	lf_send(user, NULL, 0);
}

/* A stretch of the stream: interactions, some out of order, some tombstones and bad records between. */
static inline void lf_stream(int records)
{
	for (int i = 0; i < records; i++) {
		size_t user = lf_pick(LANE_USERS);
		uint64_t kind = lf_pick(40);
		if (kind == 0)
			lf_forget(user);
		else if (kind == 1)
			lf_bad(user);
		else
			lf_interaction(user);
	}
	assert_int_equal(rd_kafka_flush(lf.host, 10000), RD_KAFKA_RESP_ERR_NO_ERROR);
}

static inline void lf_inject(int16_t api, size_t n, rd_kafka_resp_err_t code)
{
	rd_kafka_resp_err_t codes[16];
	for (size_t i = 0; i < n; i++)
		codes[i] = code;
	rd_kafka_mock_push_request_errors_array(lf.cluster, api, n, codes);
}

/* ---- what it must end in ---- */

static inline void lf_expect_stored_user(struct store_shard *shard, size_t user)
{
	struct error err;
	const struct oracle_user *u = &lf.users[user];
	char id[16];
	struct slice key = { (uint8_t *)id, (size_t)snprintf(id, sizeof id, "user %zu", user) };
	struct buffer got = { 0 };
	struct buffer expected = { 0 };
	bool found = false;
	assert_int_equal(store_shard_get(shard, key, &got, &found, &err), STATUS_OK);
	assert_int_equal(found, u->sequence.length > 0);
	if (found) {
		record_user_encode(&u->sequence, u->newest_offset, &expected);
		assert_int_equal(got.length, expected.length);
		assert_memory_equal(got.data, expected.data, got.length);
	}
	buffer_free(&got);
	buffer_free(&expected);
}

static enum status lf_nobody(void *arg, struct slice id, struct error *err)
{
	fail_msg("%.*s is owed an update", (int)id.length, (const char *)id.data);
	return STATUS_OK;
}

/* After lf_stop: sequences byte for byte, positions, and nobody owed. */
static inline void lf_expect_store(void)
{
	static const _Atomic bool never = false;
	struct store_gate *gate;
	struct store *store;
	struct error err;
	assert_int_equal(store_gate_new(lf.config, &gate, &err), STATUS_OK);
	assert_int_equal(store_gate_wait(gate, &never, &store, &err), STATUS_OK);
	for (int32_t p = 0; p < LANE_PARTITIONS; p++) {
		struct store_shard *shard;
		struct position position;
		bool found;
		assert_int_equal(store_shard_open(store, p, &shard, &err), STATUS_OK);
		assert_int_equal(store_shard_position(shard, &position, &found, &err), STATUS_OK);
		assert_true(found);
		assert_int_equal(position.interactions, lf.end[p]);
		for (size_t u = 0; u < LANE_USERS; u++)
			if (lf_partition(u) == p)
				lf_expect_stored_user(shard, u);
		assert_int_equal(store_shard_owed(shard, lf_nobody, NULL, &err), STATUS_OK);
		store_shard_close(shard);
	}
	store_gate_free(gate);
}

/* Calls `visit` for every record of a topic, partition by partition. */
static inline void lf_read(const char *topic, void (*visit)(const rd_kafka_message_t *message))
{
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	(void)rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(lf.cluster), why,
				sizeof why);
	(void)rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "enable.partition.eof", "true", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "enable.auto.commit", "false", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "fetch.wait.max.ms", "5", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "auto.offset.reset", "error", why, sizeof why);
	rd_kafka_t *reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
	assert_non_null(reader);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(LANE_PARTITIONS);
	for (int32_t p = 0; p < LANE_PARTITIONS; p++)
		rd_kafka_topic_partition_list_add(list, topic, p)->offset = 0;
	assert_int_equal(rd_kafka_assign(reader, list), 0);
	rd_kafka_topic_partition_list_destroy(list);
	for (int ends = 0; ends < LANE_PARTITIONS;) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(reader, 10000);
		assert_non_null(message);
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			ends++;
		else if (message->err)
			fail_msg("%s", rd_kafka_message_errstr(message));
		else
			visit(message);
		rd_kafka_message_destroy(message);
	}
	rd_kafka_destroy(reader);
}

static struct {
	bool seen;
	bool tombstone;
	int64_t length, time_ms, offset;
	float embedding[64];
	uint32_t dim;
	size_t records;
} lf_updates[LANE_USERS];

static void lf_visit_update(const rd_kafka_message_t *message)
{
	char key[32];
	size_t user = LANE_USERS;
	(void)snprintf(key, sizeof key, "%.*s", (int)message->key_len, (const char *)message->key);
	assert_int_equal(sscanf(key, "user %zu", &user), 1);
	assert_true(user < LANE_USERS);
	assert_int_equal(message->partition, lf_partition(user));
	lf_updates[user].seen = true;
	lf_updates[user].records++;
	lf_updates[user].tombstone = !message->payload;
	if (!message->payload)
		return;
	struct buffer floats = { 0 };
	struct update update;
	struct error err;
	assert_int_equal(update_decode((struct slice){ message->payload, message->len }, &floats, &update, &err),
			 STATUS_OK);
	assert_int_equal(update.partition, lf_partition(user));
	assert_true(update.dim <= 64);
	lf_updates[user].length = update.sequence_length;
	lf_updates[user].time_ms = update.event_time_ms;
	lf_updates[user].offset = update.offset;
	lf_updates[user].dim = update.dim;
	memcpy(lf_updates[user].embedding, update.embedding, update.dim * sizeof(float));
	buffer_free(&floats);
}

static inline void lf_expect_embedding(size_t user, struct backbone_workspace *ws)
{
	const struct sequence *s = &lf.users[user].sequence;
	uint32_t items[LANE_KEEP];
	size_t offsets[2] = { 0, s->length };
	float expected[64];
	double scale = 0;
	for (uint32_t i = 0; i < s->length; i++)
		items[i] = backbone_item(lf.backbone, s->events[i].item);
	backbone_embed(lf.backbone, ws, 1, offsets, items, NULL, expected);
	assert_int_equal(lf_updates[user].dim, backbone_dim(lf.backbone));
	for (uint32_t i = 0; i < backbone_dim(lf.backbone); i++)
		scale = fmax(scale, fabs((double)expected[i]));
	double difference = fixture_difference(lf_updates[user].embedding, expected, backbone_dim(lf.backbone));
	assert_true(difference <= 1e-5 * scale);
}

/* The newest update of every user is that of its last state. */
static inline void lf_expect_updates(void)
{
	struct backbone_workspace *ws = fixture_workspace(lf.backbone);
	memset(lf_updates, 0, sizeof lf_updates);
	lf_read(lf.config->updates_topic, lf_visit_update);
	for (size_t u = 0; u < LANE_USERS; u++) {
		const struct oracle_user *o = &lf.users[u];
		assert_int_equal(lf_updates[u].seen, o->touched);
		if (!o->touched)
			continue;
		assert_int_equal(lf_updates[u].tombstone, o->sequence.length == 0);
		if (o->sequence.length == 0)
			continue;
		assert_int_equal(lf_updates[u].length, o->sequence.length);
		assert_int_equal(lf_updates[u].offset, o->newest_offset);
		assert_int_equal(lf_updates[u].time_ms, o->sequence.events[o->sequence.length - 1].time_ms);
		lf_expect_embedding(u, ws);
	}
	backbone_workspace_free(ws);
}

static size_t lf_letters;
static bool lf_lettered[LANE_PARTITIONS][LANE_RECORDS];

static void lf_visit_letter(const rd_kafka_message_t *message)
{
	struct deadletter_info info;
	struct error err;
	assert_int_equal(deadletter_parse(message, &info, &err), STATUS_OK);
	assert_int_equal(info.topic.length, strlen(lf.config->interactions_topic));
	assert_true(info.partition < LANE_PARTITIONS && info.offset < LANE_RECORDS);
	lf_lettered[info.partition][info.offset] = true;
	lf_letters++;
}

/* Each bad record is there; `once`: no more often than that, which the mock shows only where nothing was aborted. */
static inline void lf_expect_letters(bool once)
{
	lf_letters = 0;
	memset(lf_lettered, 0, sizeof lf_lettered);
	lf_read(lf.config->deadletters_topic, lf_visit_letter);
	assert_memory_equal(lf_lettered, lf.bad, sizeof lf.bad);
	if (once)
		assert_int_equal(lf_letters, lf.bad_count);
}

#endif
