#include "daemon/batch.h"

#include "daemon/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->rejected_count; i++) {
		if (b->rejected[i].event)
			rd_kafka_event_destroy(b->rejected[i].event);
		free(b->rejected[i].kept);
	}
	for (size_t i = 0; i < b->shards_count; i++)
		store_batch_free(b->shards[i].store);
	task_set_release(b->tasks);
	b->tasks = NULL;
	buffer_clear(&b->example_bytes);
	buffer_clear(&b->wait_bytes);
	b->number = 0;
	b->users_count = b->users_advanced = b->rejected_count = b->shards_count = b->appended_count =
		b->examples_count = b->waits_count = 0;
	b->rejected_bytes = b->records = b->states_work = 0;
	b->interactions = b->late = b->filtered = b->forgotten = b->unknown_items = b->updates = b->refreshed =
		b->labels = 0;
}

void batch_free(struct batch *b)
{
	batch_clear(b);
	free(b->users);
	free(b->rejected);
	free(b->shards);
	free(b->appended_ms);
	free(b->examples);
	free(b->waits);
	buffer_free(&b->wait_bytes);
	buffer_free(&b->example_bytes);
	memset(b, 0, sizeof *b);
}

bool batch_empty(const struct batch *b)
{
	return b->users_count == 0 && b->shards_count == 0;
}

/* The next free element of a growing array; NULL: out of memory. */
static void *grow(void **array, size_t count, size_t *capacity, size_t size)
{
	if (count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 64;
		void *larger = reallocarray(*array, more, size);
		if (!larger)
			return NULL;
		*array = larger;
		*capacity = more;
	}
	return (char *)*array + count * size;
}

bool batch_touch_user(struct batch *b, struct user *u)
{
	if (u->batch == b->number)
		return true;
	struct user **at = grow((void **)&b->users, b->users_count, &b->users_capacity, sizeof *b->users);
	if (!at)
		return false;
	*at = u;
	b->users_count++;
	u->batch = b->number;
	return true;
}

bool batch_touch_shard(struct batch *b, struct shard *shard)
{
	if (shard->batch == b->number)
		return true;
	struct batch_shard *at = grow((void **)&b->shards, b->shards_count, &b->shards_capacity, sizeof *b->shards);
	if (!at)
		return false;
	*at = (struct batch_shard){ .shard = shard };
	shard->batch_index = b->shards_count++;
	shard->batch = b->number;
	return true;
}

static bool add_rejected(struct batch *b, const struct batch_rejected *rejected, size_t bytes, const char *detail)
{
	struct batch_rejected *at =
		grow((void **)&b->rejected, b->rejected_count, &b->rejected_capacity, sizeof *b->rejected);
	if (!at)
		return false;
	*at = *rejected;
	(void)snprintf(at->detail, sizeof at->detail, "%s", detail);
	b->rejected_count++;
	b->rejected_bytes += bytes;
	return true;
}

bool batch_reject(struct batch *b, rd_kafka_event_t *event, const rd_kafka_message_t *message, enum reason reason,
		  const char *detail)
{
	const struct batch_rejected rejected = { .event = event, .message = message, .reason = reason };
	return add_rejected(b, &rejected, message->len + message->key_len, detail);
}

bool batch_reject_kept(struct batch *b, struct waiting_label *label, int32_t partition, enum reason reason,
		       const char *detail)
{
	const struct batch_rejected rejected = { .kept = label, .partition = partition, .reason = reason };
	return add_rejected(b, &rejected, label->length, detail);
}

bool batch_note_wait(struct batch *b, struct shard *shard, int64_t offset, struct slice record)
{
	struct batch_wait *at = grow((void **)&b->waits, b->waits_count, &b->waits_capacity, sizeof *b->waits);
	if (!at)
		return false;
	const size_t begin = b->wait_bytes.length;
	buffer_append(&b->wait_bytes, record.data, record.length);
	if (b->wait_bytes.failed)
		return false;
	*at = (struct batch_wait){ shard, offset, begin, b->wait_bytes.length };
	b->waits_count++;
	return true;
}

bool batch_add_example(struct batch *b, struct task_set *tasks, const struct served_task *task,
		       const struct example *example)
{
	struct batch_example *at =
		grow((void **)&b->examples, b->examples_count, &b->examples_capacity, sizeof *b->examples);
	if (!at)
		return false;
	size_t begin = b->example_bytes.length;
	example_encode_head(example, &b->example_bytes);
	if (b->example_bytes.failed)
		return false;
	size_t end = b->example_bytes.length; /* the events come last */
	*at = (struct batch_example){ task, begin, end, end - example->events.length, end };
	if (!b->tasks)
		b->tasks = task_set_hold(tasks);
	b->examples_count++;
	return true;
}

bool batch_take(struct batch *b, rd_kafka_event_t *event, const rd_kafka_message_t *message, enum reason reason,
		const char *detail)
{
	if (reason == REASON_NONE)
		rd_kafka_event_destroy(event);
	else if (!batch_reject(b, event, message, reason, detail))
		return false;
	b->records++;
	return true;
}

void batch_note_append(struct batch *b, int64_t kafka_timestamp_ms)
{
	int64_t *at = grow((void **)&b->appended_ms, b->appended_count, &b->appended_capacity, sizeof *b->appended_ms);
	if (!at)
		return; /* a sample less */
	*at = kafka_timestamp_ms;
	b->appended_count++;
}
