/* The demonstration's own check: right updates pass, and every kind of wrong one is noticed. */
#include "tools/tracker.h"

#include "base/hash.h"
#include "model/random_backbone.h"
#include "text_file.h"
#include "tools/simulation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { USERS = 8, ITEMS = 50, EVENTS = 300, KEEP = 40, DIM = 8 };

static struct backbone *backbone;

static int load(void **state)
{
	char path[256];
	struct error err;
	struct simulation *s = simulation_new(1, USERS, ITEMS);
	const struct random_backbone shape = { .channels = DIM, .kernel_size = 3, .dilations = "1,2", .causal = true };
	text_file_make(".safetensors", "", 0, path);
	enum status status =
		s ? random_backbone_write(path, &shape, simulation_item_ids(s), ITEMS, &err) : STATUS_MEMORY;
	if (!status)
		status = backbone_load(path, &backbone, &err);
	(void)unlink(path);
	simulation_free(s);
	return (int)status;
}

static int unload(void **state)
{
	backbone_free(backbone);
	return 0;
}

enum fault { NONE, MISSED, EARLIER, LENGTH, VALUE, NOT_A_NUMBER };

/* Plays EVENTS events whose updates are right but for the last one of user 3. */
static void play(enum fault fault, struct tracker_verdict *verdict, struct tracker_totals *totals)
{
	struct tracker *t = tracker_new(backbone, USERS, KEEP, 2);
	struct backbone_workspace *ws;
	struct error err;
	static uint32_t items[USERS][EVENTS];
	size_t counts[USERS] = { 0 };
	int64_t offsets[2] = { 0 };
	assert_non_null(t);
	assert_int_equal(backbone_workspace_new(backbone, &ws, &err), STATUS_OK);
	for (uint32_t i = 0; i < EVENTS; i++) {
		uint32_t user = i % USERS;
		uint32_t item = BACKBONE_FIRST_ITEM + i * 7 % ITEMS;
		bool spoilt = user == 3 && i + USERS >= EVENTS;
		float embedding[DIM];
		items[user][counts[user]++] = item;
		tracker_sent(t, user, item, i);
		tracker_interaction(t, user, (int32_t)(user % 2), ++offsets[user % 2]);
		const size_t bounds[] = { 0, counts[user] };
		backbone_embed(backbone, ws, 1, bounds, items[user], NULL, embedding);
		struct update update = { .event_time_ms = i,
					 .sequence_length = counts[user] < KEEP ? (int64_t)counts[user] : KEEP,
					 .partition = (int32_t)(user % 2),
					 .offset = offsets[user % 2],
					 .embedding = embedding,
					 .dim = DIM };
		if (spoilt && fault == MISSED)
			continue;
		update.offset -= spoilt && fault == EARLIER ? offsets[user % 2] : 0;
		update.sequence_length -= spoilt && fault == LENGTH;
		embedding[5] += spoilt && fault == VALUE ? 1e-3F : 0;
		embedding[5] = spoilt && fault == NOT_A_NUMBER ? __builtin_nanf("") : embedding[5];
		tracker_update(t, user, &update, i + 20 + (i == 17 ? 500 : 0));
	}
	assert_int_equal(tracker_verify(t, verdict, &err), STATUS_OK);
	assert_int_equal(tracker_waiting(t), fault == MISSED || fault == EARLIER || fault == LENGTH);
	tracker_totals(t, totals);
	backbone_workspace_free(ws);
	tracker_free(t);
}

static void right_updates_pass(void **state)
{
	struct tracker_verdict v;
	struct tracker_totals totals;
	play(NONE, &v, &totals);
	assert_int_equal(v.users, USERS);
	assert_int_equal(v.newest, USERS);
	assert_int_equal(v.lengths, USERS);
	assert_int_equal(v.embeddings, USERS);
	assert_true(v.worst <= 1e-5);
	assert_int_equal(totals.sent, EVENTS);
	assert_int_equal(totals.updates, EVENTS);
	assert_int_equal(totals.active, USERS);
	assert_int_equal(totals.behind, 0);
	assert_int_equal(totals.backwards, 0);
	assert_int_equal(totals.p50_ms, 20);
	assert_int_equal(totals.p99_ms, 20);
	assert_int_equal(totals.max_ms, 520);
}

/* What was slow when all of it started is not what it takes now. */
static void latencies_are_of_the_last_seconds(void **state)
{
	struct tracker *t = tracker_new(backbone, USERS, KEEP, 1);
	struct tracker_totals totals;
	const float embedding[DIM] = { 0 };
	assert_non_null(t);
	tracker_totals(t, &totals);
	assert_int_equal(totals.p50_ms, -1);
	assert_int_equal(totals.max_ms, -1);
	for (int64_t second = 0; second <= TRACKER_WINDOW_S; second++) {
		const struct update update = { .event_time_ms = 1000 * second,
					       .sequence_length = 1,
					       .offset = second,
					       .embedding = embedding,
					       .dim = DIM };
		tracker_update(t, 1, &update, 1000 * second + (second ? 10 + second : 900));
		tracker_totals(t, &totals);
		assert_int_equal(totals.max_ms, second < TRACKER_WINDOW_S ? 900 : 10 + TRACKER_WINDOW_S);
	}
	assert_int_equal(totals.p50_ms, 15);
	tracker_free(t);
}

static void wrong_updates_are_noticed(void **state)
{
	struct tracker_verdict v;
	struct tracker_totals totals;
	play(MISSED, &v, &totals);
	assert_int_equal(v.newest, USERS - 1);
	assert_true(totals.behind > 0);
	play(EARLIER, &v, &totals);
	assert_int_equal(v.newest, USERS - 1);
	assert_int_equal(totals.backwards, 1);
	play(LENGTH, &v, &totals);
	assert_int_equal(v.newest, USERS);
	assert_int_equal(v.lengths, USERS - 1);
	play(VALUE, &v, &totals);
	assert_int_equal(v.lengths, USERS);
	assert_int_equal(v.embeddings, USERS - 1);
	play(NOT_A_NUMBER, &v, &totals);
	assert_int_equal(v.embeddings, USERS - 1);
	bool near = v.worst <= 1e-5; /* it may be no number */
	assert_false(near);
}

static void the_audience_depends_on_its_seed_alone(void **state)
{
	struct simulation *a = simulation_new(5, 100, 70);
	struct simulation *b = simulation_new(5, 100, 70);
	struct simulation *c = simulation_new(6, 100, 70);
	int differences = 0;
	for (int i = 0; i < 1000; i++) {
		uint32_t users[3];
		uint32_t items[3];
		uint32_t parsed;
		char text[SIMULATION_ID_BYTES];
		simulation_next(a, &users[0], &items[0]);
		simulation_next(b, &users[1], &items[1]);
		simulation_next(c, &users[2], &items[2]);
		assert_int_equal(users[0], users[1]);
		assert_int_equal(items[0], items[1]);
		assert_true(users[0] < 100 && items[0] < 70);
		differences += users[0] != users[2];
		assert_true(simulation_user_parse(simulation_user_id(users[0], text), &parsed));
		assert_int_equal(parsed, users[0]);
	}
	assert_true(differences > 900);
	simulation_free(a);
	simulation_free(b);
	simulation_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_updates_pass),
		cmocka_unit_test(latencies_are_of_the_last_seconds),
		cmocka_unit_test(wrong_updates_are_noticed),
		cmocka_unit_test(the_audience_depends_on_its_seed_alone),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
