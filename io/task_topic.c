#include "io/task_topic.h"

#include "base/clock.h"
#include "io/follower.h"

#include <stdlib.h>

enum { STEP_MS = 50 };

struct task_topic {
	struct follower *follower;
	struct task_judge judge; /* without a function: none */
	struct task_table *table;
};

enum status task_topic_open(const struct config *config, const struct task_judge *judge, int timeout_ms,
			    struct task_topic **ret, struct error *err)
{
	struct task_topic *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	if (judge)
		t->judge = *judge;
	enum status status = task_table_new(&t->judge, &t->table, err);
	if (!status)
		status = follower_open(config, config->tasks_topic, timeout_ms, &t->follower, err);
	if (status) {
		task_topic_close(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void task_topic_close(struct task_topic *t)
{
	if (!t)
		return;
	follower_close(t->follower);
	task_table_free(t->table);
	free(t);
}

enum status task_topic_restart(struct task_topic *t, int timeout_ms, struct error *err)
{
	struct task_table *table;
	enum status status = task_table_new(&t->judge, &table, err);
	if (status)
		return status;
	task_table_free(t->table);
	t->table = table;
	return follower_restart(t->follower, timeout_ms, err);
}

enum status task_topic_poll(struct task_topic *t, int wait_ms, const struct task_entry **ret, struct error *err)
{
	rd_kafka_message_t *message;
	rd_kafka_timestamp_type_t type;
	*ret = NULL;
	enum status status = follower_poll(t->follower, wait_ms, &message, err);
	if (status || !message)
		return status;
	const struct slice key = { message->key, message->key_len };
	const struct slice value = { message->payload, message->len };
	const struct task_place place = { message->partition, message->offset,
					  rd_kafka_message_timestamp(message, &type) };
	status = task_table_apply(t->table, key, value, &place, ret, err);
	rd_kafka_message_destroy(message);
	return status;
}

bool task_topic_caught_up(const struct task_topic *t)
{
	return follower_caught_up(t->follower);
}

enum status task_topic_catch_up(struct task_topic *t, int timeout_ms, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
	while (!task_topic_caught_up(t)) {
		const struct task_entry *ignored;
		enum status status = task_topic_poll(t, STEP_MS, &ignored, err);
		if (status)
			return status;
		if (clock_monotonic_us() > deadline_us && !task_topic_caught_up(t))
			return follower_too_slow(t->follower, err);
	}
	return STATUS_OK;
}

const struct task_table *task_topic_table(const struct task_topic *t)
{
	return t->table;
}
