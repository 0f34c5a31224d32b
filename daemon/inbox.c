#include "daemon/inbox.h"

#include <stdlib.h>
#include <string.h>

/* A record may hold a whole response to a fetch in memory, of some hundred kilobytes. */
enum { RECORDS_AT_MOST = 256, BYTES_AT_MOST = 4 << 20, SHARE_LEFT = 4 };

static const struct inbox_record *first(const struct inbox_queue *q)
{
	return q->count > 0 ? &q->records[q->first] : NULL;
}

static void take_first(struct inbox_queue *q, struct inbox_record *ret)
{
	*ret = q->records[q->first];
	q->first = (q->first + 1) % q->capacity;
	q->count--;
	q->bytes -= ret->message->len;
}

void inbox_clear(struct inbox *inbox)
{
	struct inbox_record record;
	for (size_t i = 0; i < INBOX_INPUTS; i++) {
		struct inbox_queue *q = &inbox->queues[i];
		while (q->count > 0) {
			take_first(q, &record);
			rd_kafka_event_destroy(record.event);
		}
		free(q->records);
		*q = (struct inbox_queue){ 0 };
	}
}

static bool make_room(struct inbox_queue *q)
{
	if (q->count < q->capacity)
		return true;
	size_t capacity = q->capacity ? 2 * q->capacity : 16;
	struct inbox_record *larger = reallocarray(NULL, capacity, sizeof *larger);
	if (!larger)
		return false;
	for (size_t i = 0; i < q->count; i++)
		larger[i] = q->records[(q->first + i) % q->capacity];
	free(q->records);
	q->records = larger;
	q->capacity = capacity;
	q->first = 0;
	return true;
}

bool inbox_put(struct inbox *inbox, enum inbox_input input, const struct inbox_record *record)
{
	struct inbox_queue *q = &inbox->queues[input];
	if (!make_room(q))
		return false;
	q->records[(q->first + q->count++) % q->capacity] = *record;
	q->bytes += record->message->len;
	if (input == INBOX_INTERACTIONS)
		q->ended = false;
	return true;
}

void inbox_end(struct inbox *inbox, enum inbox_input input)
{
	inbox->queues[input].ended = true;
}

static bool waited(const struct inbox *inbox, const struct inbox_record *label, int64_t now_us, int64_t grace_us)
{
	return inbox->queues[INBOX_INTERACTIONS].ended && now_us - label->read_us >= grace_us;
}

bool inbox_take(struct inbox *inbox, int64_t now_us, int64_t grace_us, enum inbox_input *ret_input,
		struct inbox_record *ret)
{
	struct inbox_queue *interactions = &inbox->queues[INBOX_INTERACTIONS];
	struct inbox_queue *labels = &inbox->queues[INBOX_LABELS];
	const struct inbox_record *interaction = first(interactions);
	const struct inbox_record *label = first(labels);
	bool label_next;
	if (interaction && !label && now_us - interaction->read_us >= INBOX_PATIENCE_US)
		labels->ended = true;
	if (label && label->time_ms == INBOX_NO_TIME)
		label_next = true;
	else if (interaction && interaction->time_ms == INBOX_NO_TIME)
		label_next = false;
	else if (label && interaction)
		label_next = label->time_ms < interaction->time_ms;
	else if (label && waited(inbox, label, now_us, grace_us))
		label_next = true;
	else if (interaction && labels->ended)
		label_next = false;
	else
		return false;
	*ret_input = label_next ? INBOX_LABELS : INBOX_INTERACTIONS;
	take_first(label_next ? labels : interactions, ret);
	return true;
}

bool inbox_passes(struct inbox *inbox)
{
	inbox->queues[INBOX_INTERACTIONS].ended = false;
	return inbox->queues[INBOX_INTERACTIONS].count == 0 && inbox->queues[INBOX_LABELS].count == 0 &&
	       inbox->queues[INBOX_LABELS].ended;
}

bool inbox_full(const struct inbox *inbox, enum inbox_input input)
{
	const struct inbox_queue *q = &inbox->queues[input];
	return q->count >= RECORDS_AT_MOST || q->bytes >= BYTES_AT_MOST;
}

bool inbox_low(const struct inbox *inbox, enum inbox_input input)
{
	const struct inbox_queue *q = &inbox->queues[input];
	return q->count <= RECORDS_AT_MOST / SHARE_LEFT && q->bytes <= BYTES_AT_MOST / SHARE_LEFT;
}
