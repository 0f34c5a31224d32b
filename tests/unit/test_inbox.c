/* The order in which a shard takes interactions and labels: against a naive merge, and what waits for what. */
#include "daemon/inbox.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GRACE_US = 1000, RECORDS = 500 };

static rd_kafka_message_t message = { .len = 10 };
static int destroyed;

void rd_kafka_event_destroy(rd_kafka_event_t *event)
{
	destroyed++;
}

static void put(struct inbox *inbox, enum inbox_input input, int64_t time_ms, int64_t read_us)
{
	struct inbox_record record = { .message = &message, .time_ms = time_ms, .read_us = read_us };
	assert_true(inbox_put(inbox, input, &record));
}

static void assert_next(struct inbox *inbox, int64_t now_us, enum inbox_input input, int64_t time_ms)
{
	enum inbox_input got;
	struct inbox_record record;
	assert_true(inbox_take(inbox, now_us, GRACE_US, &got, &record));
	assert_int_equal(got, input);
	assert_int_equal(record.time_ms, time_ms);
}

static void assert_waits(struct inbox *inbox, int64_t now_us)
{
	enum inbox_input got;
	struct inbox_record record;
	assert_false(inbox_take(inbox, now_us, GRACE_US, &got, &record));
}

static void the_lowest_timestamp_is_next(void **state)
{
	struct inbox inbox = { 0 };
	put(&inbox, INBOX_INTERACTIONS, 10, 0);
	put(&inbox, INBOX_INTERACTIONS, 30, 0);
	put(&inbox, INBOX_LABELS, 20, 0);
	put(&inbox, INBOX_LABELS, 30, 0);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, 10);
	assert_next(&inbox, 0, INBOX_LABELS, 20);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, 30); /* before the label of the same moment */
	assert_waits(&inbox, INT64_MAX);                /* the label: interactions may still be on their way */
	put(&inbox, INBOX_INTERACTIONS, 30, 0);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, 30);
	put(&inbox, INBOX_INTERACTIONS, 31, 0);
	assert_next(&inbox, 0, INBOX_LABELS, 30);
	inbox_clear(&inbox);
}

static void interactions_wait_for_the_labels_first_end_only(void **state)
{
	struct inbox inbox = { 0 };
	assert_false(inbox_passes(&inbox));
	put(&inbox, INBOX_INTERACTIONS, 10, 0);
	assert_waits(&inbox, INBOX_PATIENCE_US - 1);
	inbox_end(&inbox, INBOX_LABELS);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, 10);
	assert_true(inbox_passes(&inbox));
	put(&inbox, INBOX_LABELS, 50, 0);
	assert_false(inbox_passes(&inbox)); /* it may be older than the label, or newer */
	put(&inbox, INBOX_INTERACTIONS, 60, 0);
	assert_next(&inbox, 0, INBOX_LABELS, 50);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, 60);
	assert_true(inbox_passes(&inbox));
	inbox_clear(&inbox);
	assert_false(inbox_passes(&inbox)); /* as after a rewind */
}

/* An end that was told before a rewind need not be told again. */
static void interactions_do_not_wait_for_ever(void **state)
{
	struct inbox inbox = { 0 };
	put(&inbox, INBOX_INTERACTIONS, 10, 7);
	assert_waits(&inbox, 7 + INBOX_PATIENCE_US - 1);
	assert_next(&inbox, 7 + INBOX_PATIENCE_US, INBOX_INTERACTIONS, 10);
	assert_true(inbox_passes(&inbox));
	inbox_clear(&inbox);
}

static void labels_wait_for_interactions_under_way(void **state)
{
	struct inbox inbox = { 0 };
	put(&inbox, INBOX_LABELS, 50, 100);
	assert_waits(&inbox, INT64_MAX);
	inbox_end(&inbox, INBOX_INTERACTIONS);
	assert_waits(&inbox, 100 + GRACE_US - 1);
	assert_next(&inbox, 100 + GRACE_US, INBOX_LABELS, 50);
	put(&inbox, INBOX_LABELS, 51, 200);
	assert_false(inbox_passes(&inbox)); /* an interaction has come: the end lies farther on */
	assert_waits(&inbox, INT64_MAX);
	inbox_clear(&inbox);
}

static void what_has_no_time_waits_for_nothing(void **state)
{
	struct inbox inbox = { 0 };
	put(&inbox, INBOX_INTERACTIONS, 10, 0);
	put(&inbox, INBOX_LABELS, INBOX_NO_TIME, 0);
	assert_next(&inbox, 0, INBOX_LABELS, INBOX_NO_TIME);
	assert_waits(&inbox, 0);
	put(&inbox, INBOX_LABELS, 5, 0);
	assert_next(&inbox, 0, INBOX_LABELS, 5);
	inbox_clear(&inbox);
	put(&inbox, INBOX_INTERACTIONS, INBOX_NO_TIME, 0);
	assert_next(&inbox, 0, INBOX_INTERACTIONS, INBOX_NO_TIME);
	inbox_clear(&inbox);
}

/* Two logs in any arrival give the order that their heads give when both lie there from the start. */
static void arrival_changes_nothing(void **state)
{
	struct random_stream random;
	int64_t times[INBOX_INPUTS][RECORDS], expected[2 * RECORDS];
	random = random_from(7, 0);
	for (size_t i = 0; i < INBOX_INPUTS; i++)
		for (size_t j = 0; j < RECORDS; j++)
			times[i][j] = (int64_t)j * 3 + (int64_t)random_below(&random, 20); /* not always rising */
	for (size_t i = 0, j = 0, n = 0; n < 2 * RECORDS; n++) {
		bool label = i == RECORDS || (j < RECORDS && times[INBOX_LABELS][j] < times[INBOX_INTERACTIONS][i]);
		expected[n] = label ? times[INBOX_LABELS][j++] : times[INBOX_INTERACTIONS][i++];
	}
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct inbox inbox = { 0 };
		size_t put_count[INBOX_INPUTS] = { 0 }, n = 0;
		struct inbox_record record;
		enum inbox_input input;
		random = random_from(seed, 1);
		while (n < 2 * RECORDS) {
			size_t which = random_below(&random, 2);
			for (size_t k = random_below(&random, 9); k > 0 && put_count[which] < RECORDS; k--)
				put(&inbox, (enum inbox_input)which, times[which][put_count[which]++], 0);
			if (put_count[which] == RECORDS)
				inbox_end(&inbox, (enum inbox_input)which);
			while (inbox_take(&inbox, GRACE_US, GRACE_US, &input, &record))
				assert_int_equal(record.time_ms, expected[n++]);
		}
		inbox_clear(&inbox);
	}
}

static void is_full_and_low(void **state)
{
	struct inbox inbox = { 0 };
	int count = 0;
	assert_true(inbox_low(&inbox, INBOX_LABELS));
	for (; !inbox_full(&inbox, INBOX_LABELS); count++)
		put(&inbox, INBOX_LABELS, count, 0);
	assert_false(inbox_low(&inbox, INBOX_LABELS));
	assert_false(inbox_full(&inbox, INBOX_INTERACTIONS));
	destroyed = 0;
	inbox_clear(&inbox);
	assert_int_equal(destroyed, count);
	message.len = 5 << 20;
	put(&inbox, INBOX_INTERACTIONS, 1, 0);
	assert_true(inbox_full(&inbox, INBOX_INTERACTIONS));
	message.len = 10;
	inbox_clear(&inbox);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_lowest_timestamp_is_next),
		cmocka_unit_test(interactions_wait_for_the_labels_first_end_only),
		cmocka_unit_test(interactions_do_not_wait_for_ever),
		cmocka_unit_test(labels_wait_for_interactions_under_way),
		cmocka_unit_test(what_has_no_time_waits_for_nothing),
		cmocka_unit_test(arrival_changes_nothing),
		cmocka_unit_test(is_full_and_low),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
