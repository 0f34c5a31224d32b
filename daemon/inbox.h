/* The inbox of a shard: what has been read of its two inputs and waits for the other one, so that both are taken in the
 * order of their timestamps.
 *
 * The record with the lowest timestamp is next; of equal ones the interaction (an example leaves it out all the same). A
 * record without a timestamp (it could not be decoded) is next as soon as it is first of its kind. Where one kind has
 * nothing waiting, the other may go on only when that kind's end is known:
 *
 * - an interaction, once the labels' end is known since the shard went live, or it has waited for INBOX_PATIENCE_US (an end
 *   need not be told twice): from then on labels come late at worst, and are joined with what is kept;
 * - a label, when the interactions are at their end, and it has waited for `grace_us`: those that are under way may come
 *   before it.
 *
 * So what is taken, and in which order, depends on the two logs alone while a shard catches up and brokers answer. One thread. */
#ifndef DAEMON_INBOX_H
#define DAEMON_INBOX_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inbox_record {
	rd_kafka_event_t *event; /* holds the message */
	const rd_kafka_message_t *message;
	int64_t time_ms; /* INBOX_NO_TIME: not decodable */
	int64_t read_us; /* monotonic */
};

#define INBOX_NO_TIME INT64_MIN
#define INBOX_PATIENCE_US 5000000

enum inbox_input { INBOX_INTERACTIONS, INBOX_LABELS, INBOX_INPUTS };

struct inbox_queue {                  /* first in, first out */
	struct inbox_record *records; /* [capacity], a ring */
	size_t first, count, capacity;
	size_t bytes; /* of the messages */
	bool ended; /* interactions: nothing lies behind what was read; labels: this has been so, or been waited for */
};

struct inbox {
	struct inbox_queue queues[INBOX_INPUTS];
};

void inbox_clear(struct inbox *inbox); /* destroys what waits, and no end is known any more; memory is freed */

/* Takes the record, event and all. False: out of memory, nothing taken. Interactions are at their end no more. */
bool inbox_put(struct inbox *inbox, enum inbox_input input, const struct inbox_record *record);

/* Nothing lies behind what was read of the input. */
void inbox_end(struct inbox *inbox, enum inbox_input input);

/* Removes the record that is next, which becomes the caller's. False: none may be taken yet. */
bool inbox_take(struct inbox *inbox, int64_t now_us, int64_t grace_us, enum inbox_input *ret_input,
		struct inbox_record *ret);

/* An interaction has been read. True: nothing waits that it would have to, and it need not go through the inbox. */
bool inbox_passes(struct inbox *inbox);

/* Whether so much of the input waits that no more should be read; and whether little enough is left to read on. */
bool inbox_full(const struct inbox *inbox, enum inbox_input input);
bool inbox_low(const struct inbox *inbox, enum inbox_input input);

#endif
