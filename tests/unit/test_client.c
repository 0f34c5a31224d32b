/* io/client: which properties pass, which are refused and how, and that handles come up against a mock cluster. */
#include "io/client.h"

#include "base/clock.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char bootstrap[] = "bootstrap.servers";
static char nowhere[] = "127.0.0.1:9";

static struct config config_of(struct config_property *properties, size_t count)
{
	static char group[] = "g";
	static char instance[] = "i";
	static char path[] = "p.yaml";
	return (struct config){
		.group = group, .instance = instance, .path = path, .kafka = properties, .kafka_count = count
	};
}

static enum status check(const char *name, const char *value, struct error *err)
{
	char key[64];
	char text[64];
	(void)strncpy(key, name, sizeof key - 1);
	(void)strncpy(text, value, sizeof text - 1);
	key[sizeof key - 1] = text[sizeof text - 1] = '\0';
	struct config_property properties[] = { { bootstrap, nowhere, 1 }, { key, text, 7 } };
	struct config config = config_of(properties, 2);
	memset(err, 0, sizeof *err);
	return client_check(&config, err);
}

static void properties_of_every_kind_pass(void **state)
{
	static const char *const good[][2] = {
		{ "linger.ms", "0" },
		{ "session.timeout.ms", "4000" },
		{ "compression.type", "lz4" },
		{ "message.max.bytes", "2000000" },
		{ "fetch.wait.max.ms", "1" },
		{ "transaction.timeout.ms", "70000" },
		{ "isolation.level", "read_committed" },
		{ "statistics.interval.ms", "1000" },
		{ "security.protocol", "sasl_plaintext" },
		{ "client.id", "mine" },
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct error err;
		enum status status = check(good[i][0], good[i][1], &err);
		if (status != STATUS_OK)
			print_error("%s: %s\n", good[i][0], err.text);
		assert_int_equal(status, STATUS_OK);
	}
}

static void wrong_properties_are_named(void **state)
{
	static const struct {
		const char *name;
		const char *value;
		const char *says;
	} bad[] = {
		{ "no.such.thing", "1", "no.such.thing" },
		{ "linger.ms", "soon", "linger.ms" },
		{ "session.timeout.ms", "0", "session.timeout.ms" },
		{ "isolation.level", "read_uncommitted", "read_committed" },
		{ "enable.auto.commit", "true", "exactly once" },
		{ "group.id", "other", "the key group" },
		{ "group.instance.id", "other", "the key instance" },
		{ "transactional.id", "other", "group and instance" },
		{ "partitioner", "random", "murmur2_random" },
		/* refused only together with the others: librdkafka says so when a handle is made */
		{ "max.in.flight", "100", "max.in.flight" },
		{ "acks", "1", "acks" },
		{ "max.poll.interval.ms", "5000", "max.poll.interval.ms" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct error err;
		enum status status = check(bad[i].name, bad[i].value, &err);
		if (status != STATUS_CONFIG || !strstr(err.text, bad[i].says) || !strstr(err.text, "p.yaml"))
			print_error("%s: %d: %s\n", bad[i].name, status, err.text);
		assert_int_equal(status, STATUS_CONFIG);
		assert_non_null(strstr(err.text, bad[i].says));
		assert_non_null(strstr(err.text, "p.yaml"));
	}
}

static void a_missing_certificate_is_named(void **state)
{
	char protocol[] = "security.protocol";
	char ssl[] = "ssl";
	char ca[] = "ssl.ca.location";
	char file[] = "/nonexistent/ca.pem";
	struct config_property properties[] = { { protocol, ssl, 3 }, { ca, file, 4 } };
	struct config config = config_of(properties, 2);
	struct error err = { 0 };
	assert_int_equal(client_check(&config, &err), STATUS_CONFIG);
	assert_non_null(strstr(err.text, "ssl.ca.location"));
}

static void identities_must_fit(void **state)
{
	char longest[600];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	struct config config = config_of(NULL, 0);
	config.instance = longest;
	rd_kafka_t *rk = NULL;
	struct error err = { 0 };
	assert_int_equal(client_lane_consumer(&config, 0, &rk, &err), STATUS_CONFIG);
	assert_int_equal(client_lane_producer(&config, 0, 0, &rk, &err), STATUS_CONFIG);
	assert_null(rk);
}

static void the_last_error_is_kept_until_a_success(void **state)
{
	char text[256];
	client_note_success();
	client_last_error(text, sizeof text);
	assert_string_equal(text, "");
	client_note_error(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down");
	client_last_error(text, sizeof text);
	assert_non_null(strstr(text, "1/1 brokers are down"));
	char cut[8];
	client_last_error(cut, sizeof cut);
	assert_int_equal(strlen(cut), sizeof cut - 1);
	client_note_success();
	client_last_error(text, sizeof text);
	assert_string_equal(text, "");
}

static rd_kafka_mock_cluster_t *cluster_of(rd_kafka_t **ret_host)
{
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	(void)rd_kafka_conf_set(conf, "socket.nagle.disable", "true", why, sizeof why);
	(void)rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
	*ret_host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	assert_non_null(*ret_host);
	rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(*ret_host, 1);
	assert_non_null(cluster);
	return cluster;
}

static rd_kafka_event_t *wait_for(rd_kafka_queue_t *queue, rd_kafka_event_type_t type)
{
	for (int i = 0; i < 1000; i++) {
		rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 20);
		if (event && rd_kafka_event_type(event) == type)
			return event;
		if (event)
			rd_kafka_event_destroy(event);
	}
	fail_msg("no %s event", "such");
	return NULL;
}

static void handles_work_against_a_cluster(void **state)
{
	rd_kafka_t *host;
	rd_kafka_mock_cluster_t *cluster = cluster_of(&host);
	assert_int_equal(rd_kafka_mock_topic_create(cluster, "t", 1, 1), 0);
	char brokers[128];
	(void)strncpy(brokers, rd_kafka_mock_cluster_bootstraps(cluster), sizeof brokers - 1);
	brokers[sizeof brokers - 1] = '\0';
	char session[] = "session.timeout.ms";
	char session_ms[] = "4000";
	struct config_property properties[] = { { bootstrap, brokers, 1 }, { session, session_ms, 2 } };
	struct config config = config_of(properties, 2);
	struct error err = { 0 };
	rd_kafka_t *producer;
	rd_kafka_t *consumer;
	assert_int_equal(client_lane_producer(&config, 0, 5000, &producer, &err), STATUS_OK);
	assert_int_equal(client_lane_consumer(&config, 0, &consumer, &err), STATUS_OK);
	char batch[16];
	size_t batch_size = sizeof batch;
	assert_int_equal(rd_kafka_conf_get(rd_kafka_conf(producer), "batch.size", batch, &batch_size),
			 RD_KAFKA_CONF_OK);
	assert_string_equal(batch, "5000");

	/* a successful delivery report, with its offset, is an event of the main queue */
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer);
	assert_null(rd_kafka_init_transactions(producer, 10000));
	assert_null(rd_kafka_begin_transaction(producer));
	char value[] = "v";
	assert_int_equal(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_PARTITION(0),
					   RD_KAFKA_V_VALUE(value, 1), RD_KAFKA_V_END),
			 RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_event_t *event = wait_for(reports, RD_KAFKA_EVENT_DR);
	const rd_kafka_message_t *message = rd_kafka_event_message_next(event);
	assert_non_null(message);
	assert_int_equal(message->err, RD_KAFKA_RESP_ERR_NO_ERROR);
	assert_int_equal(message->offset, 0);
	rd_kafka_event_destroy(event);
	assert_null(rd_kafka_commit_transaction(producer, 10000));

	/* a rebalance is an event of the consumer queue */
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(topics, "t", RD_KAFKA_PARTITION_UA);
	assert_int_equal(rd_kafka_subscribe(consumer, topics), RD_KAFKA_RESP_ERR_NO_ERROR);
	rd_kafka_topic_partition_list_destroy(topics);
	rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
	event = wait_for(queue, RD_KAFKA_EVENT_REBALANCE);
	assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS);
	assert_string_equal(rd_kafka_rebalance_protocol(consumer), "COOPERATIVE");
	rd_kafka_error_t *error = rd_kafka_incremental_assign(consumer, rd_kafka_event_topic_partition_list(event));
	assert_null(error);
	rd_kafka_event_destroy(event);

	/* with auto.offset.reset error, "no offset committed" is an error and never a silent start somewhere */
	event = wait_for(queue, RD_KAFKA_EVENT_ERROR);
	assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET);
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_queue_destroy(reports);
	rd_kafka_destroy(consumer);
	rd_kafka_destroy(producer);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(host);
}

static int64_t setting_of(rd_kafka_t *rk, const char *name)
{
	char value[32];
	size_t size = sizeof value;
	assert_int_equal(rd_kafka_conf_get(rd_kafka_conf(rk), name, value, &size), RD_KAFKA_CONF_OK);
	return strtoll(value, NULL, 10);
}

static void fetches_of_readers_do_not_wait(void **state)
{
	char wait[] = "fetch.wait.max.ms";
	char wait_ms[] = "4000";
	char least[] = "fetch.min.bytes";
	char least_bytes[] = "100000";
	char queued[] = "queued.max.messages.kbytes";
	char queued_kbytes[] = "16384";
	struct config_property properties[] = {
		{ bootstrap, nowhere, 1 }, { wait, wait_ms, 2 }, { least, least_bytes, 3 }, { queued, queued_kbytes, 4 }
	};
	struct config config = config_of(properties, 4);
	struct error err = { 0 };
	bool gone = false;
	rd_kafka_t *rk;
	assert_int_equal(client_reader(&config, &rk, &err), STATUS_OK);
	assert_int_equal(setting_of(rk, wait), 10);
	assert_int_equal(setting_of(rk, least), 1);
	assert_int_equal(setting_of(rk, queued), 16384);
	rd_kafka_destroy(rk);
	assert_int_equal(client_follower(&config, &gone, &rk, &err), STATUS_OK);
	assert_int_equal(setting_of(rk, wait), 100);
	assert_int_equal(setting_of(rk, least), 1);
	rd_kafka_destroy(rk);
	assert_int_equal(client_lane_consumer(&config, 0, &rk, &err), STATUS_OK);
	assert_int_equal(setting_of(rk, wait), 4000);
	assert_int_equal(setting_of(rk, least), 100000);
	rd_kafka_destroy(rk);
}

static void a_producer_sends_less_where_it_is_told(void **state)
{
	char limit[] = "message.max.bytes";
	struct config_property properties[] = { { bootstrap, nowhere, 1 } };
	struct config config = config_of(properties, 1);
	struct error err = { 0 };
	rd_kafka_t *rk;
	assert_int_equal(client_learner_producer(&config, 0, &rk, &err), STATUS_OK);
	assert_int_equal(setting_of(rk, limit), 1000000);
	rd_kafka_destroy(rk);
	assert_int_equal(client_learner_producer(&config, 4000, &rk, &err), STATUS_OK);
	assert_int_equal(setting_of(rk, limit), 4000);
	rd_kafka_destroy(rk);
}

/* ---- closing a producer ---- */

enum { API_PRODUCE = 0, ANSWER_MS = 200, LATE_MS = 600, LINGER_US = 1000000 };

static struct {
	_Atomic(rd_kafka_t *) rk; /* whose main thread takes long to end, while its brokers' threads still run */
	_Atomic int held;         /* messages that the handle had then */
	bool wanted;              /* by the next handle */
} lingering;

static rd_kafka_resp_err_t on_thread_exit(rd_kafka_t *rk, rd_kafka_thread_type_t type, const char *name, void *opaque)
{
	if (type == RD_KAFKA_THREAD_MAIN && rk == atomic_load(&lingering.rk)) {
		atomic_store(&lingering.held, rd_kafka_outq_len(rk));
		(void)usleep(LINGER_US);
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *why, size_t n)
{
	return rd_kafka_interceptor_add_on_thread_exit(rk, "linger", on_thread_exit, NULL);
}

/* librdkafka's, with the interceptor where one is wanted. */
rd_kafka_t *rd_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *why, size_t n)
{
	rd_kafka_t *(*real)(rd_kafka_type_t, rd_kafka_conf_t *, char *, size_t);
	*(void **)&real = dlsym(RTLD_NEXT, "rd_kafka_new");
	if (lingering.wanted)
		(void)rd_kafka_conf_interceptor_add_on_new(conf, "linger", on_new, NULL);
	lingering.wanted = false;
	return real(type, conf, why, n);
}

/* A lane's producer in a transaction. */
static rd_kafka_t *producer_of(rd_kafka_mock_cluster_t *cluster)
{
	char brokers[128];
	(void)snprintf(brokers, sizeof brokers, "%s", rd_kafka_mock_cluster_bootstraps(cluster));
	struct config_property properties[] = { { bootstrap, brokers, 1 } };
	struct config config = config_of(properties, 1);
	struct error err;
	rd_kafka_t *producer;
	assert_int_equal(client_lane_producer(&config, 0, 0, &producer, &err), STATUS_OK);
	assert_null(rd_kafka_init_transactions(producer, 10000));
	assert_null(rd_kafka_begin_transaction(producer));
	return producer;
}

static void produce_one(rd_kafka_t *producer, int32_t partition)
{
	static char value[] = "v"; /* librdkafka takes no copy */
	assert_int_equal(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_PARTITION(partition),
					   RD_KAFKA_V_VALUE(value, 1), RD_KAFKA_V_END),
			 RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* One produce request is answered that the producer is fenced, and it is closed. The other's answer, the same, comes
 * when librdkafka has let go of its transaction's state already and a broker's thread still reads. */
static void a_fenced_producer_is_closed_with_requests_in_flight(void **state)
{
	rd_kafka_t *host;
	char why[256];
	rd_kafka_mock_cluster_t *cluster = cluster_of(&host);
	assert_int_equal(rd_kafka_mock_topic_create(cluster, "t", 2, 1), 0);
	lingering.wanted = true;
	rd_kafka_t *producer = producer_of(cluster);
	atomic_store(&lingering.rk, producer);
	atomic_store(&lingering.held, -1);
	rd_kafka_mock_broker_push_request_error_rtts(cluster, 1, API_PRODUCE, 2,
						     RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, ANSWER_MS,
						     RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, LATE_MS);
	produce_one(producer, 0);
	produce_one(producer, 1);
	for (int i = 0; i < 10000 && !rd_kafka_fatal_error(producer, why, sizeof why); i++)
		(void)usleep(1000);
	assert_int_equal(rd_kafka_fatal_error(producer, why, sizeof why), RD_KAFKA_RESP_ERR__FENCED);
	client_close_producer(producer);
	atomic_store(&lingering.rk, NULL);
	assert_int_equal(atomic_load(&lingering.held), 0);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(host);
}

static void a_producer_without_brokers_is_closed_at_once(void **state)
{
	rd_kafka_t *host;
	rd_kafka_mock_cluster_t *cluster = cluster_of(&host);
	assert_int_equal(rd_kafka_mock_topic_create(cluster, "t", 2, 1), 0);
	rd_kafka_t *producer = producer_of(cluster);
	rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer);
	produce_one(producer, 0);
	rd_kafka_event_destroy(wait_for(reports, RD_KAFKA_EVENT_DR));
	rd_kafka_queue_destroy(reports);
	assert_int_equal(rd_kafka_mock_broker_set_down(cluster, 1), 0);
	produce_one(producer, 0);
	produce_one(producer, 1);
	int64_t begin_us = clock_monotonic_us();
	client_close_producer(producer);
	assert_true(clock_monotonic_us() - begin_us < 5000000);
	client_close_producer(NULL);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(host);
}

/* ---- closing a member ---- */

static _Atomic bool close_hangs;

/* librdkafka's, or one that never returns. */
rd_kafka_resp_err_t rd_kafka_consumer_close(rd_kafka_t *rk)
{
	rd_kafka_resp_err_t (*real)(rd_kafka_t *);
	while (atomic_load(&close_hangs))
		(void)usleep(10000);
	*(void **)&real = dlsym(RTLD_NEXT, "rd_kafka_consumer_close");
	return real(rk);
}

static void a_close_that_never_ends_is_left_behind(void **state)
{
	struct config_property properties[] = { { bootstrap, nowhere, 1 } };
	struct config config = config_of(properties, 1);
	struct error err;
	rd_kafka_t *consumer;
	assert_int_equal(client_lane_consumer(&config, 0, &consumer, &err), STATUS_OK);
	atomic_store(&close_hangs, true);
	(void)alarm(30);
	int64_t begin_us = clock_monotonic_us();
	client_close_member(consumer);
	assert_true(clock_monotonic_us() - begin_us < 10000000);
	(void)alarm(0);
	atomic_store(&close_hangs, false);
	assert_int_equal(client_lane_consumer(&config, 0, &consumer, &err), STATUS_OK);
	client_close_member(consumer);
	client_close_member(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(properties_of_every_kind_pass),
		cmocka_unit_test(wrong_properties_are_named),
		cmocka_unit_test(a_missing_certificate_is_named),
		cmocka_unit_test(identities_must_fit),
		cmocka_unit_test(the_last_error_is_kept_until_a_success),
		cmocka_unit_test(handles_work_against_a_cluster),
		cmocka_unit_test(fetches_of_readers_do_not_wait),
		cmocka_unit_test(a_producer_sends_less_where_it_is_told),
		cmocka_unit_test(a_fenced_producer_is_closed_with_requests_in_flight),
		cmocka_unit_test(a_producer_without_brokers_is_closed_at_once),
		cmocka_unit_test(a_close_that_never_ends_is_left_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
