/* The simulated audience: what it takes gives its traits away, and its answers follow them. */
#include "tools/simulation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 200, ITEMS = 2000, EVENTS = 60000, GENRE = ITEMS / 20 };

/* Which quarter of the genres a user took most of, guessed from events alone. */
static uint32_t guess(const uint32_t counts[SIMULATION_SEGMENTS])
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < SIMULATION_SEGMENTS; i++)
		best = counts[i] > counts[best] ? i : best;
	return best;
}

static void events_tell_the_segment(void **state)
{
	static uint32_t counts[USERS][SIMULATION_SEGMENTS];
	const char *names[SIMULATION_SEGMENTS] = { NULL };
	struct simulation *s = simulation_new(3, USERS, ITEMS);
	int right = 0;
	for (int i = 0; i < EVENTS; i++) {
		uint32_t user, item;
		simulation_next(s, &user, &item);
		assert_true(user < USERS && item < ITEMS);
		counts[user][item / GENRE % SIMULATION_SEGMENTS]++;
	}
	for (uint32_t user = 0; user < USERS; user++) {
		const char *truth = simulation_truth(s, user, SIMULATION_SEGMENT).text;
		const uint32_t segment = guess(counts[user]);
		names[segment] = names[segment] ? names[segment] : truth;
		right += names[segment] == truth;
	}
	assert_true(right > USERS * 9 / 10);
	simulation_free(s);
}

static void answers_follow_the_truth(void **state)
{
	struct simulation *s = simulation_new(4, USERS, ITEMS);
	int answering = 0, right = 0, favourites = 0;
	for (uint32_t user = 0; user < USERS; user++) {
		const struct simulation_answer segment = simulation_ask(s, user, SIMULATION_SEGMENT);
		const struct simulation_answer offer = simulation_ask(s, user, SIMULATION_OFFER);
		const double age = simulation_ask(s, user, SIMULATION_AGE).number;
		const double error = age - simulation_truth(s, user, SIMULATION_AGE).number;
		assert_true(segment.text && offer.text && error > -12.1 && error < 12.1);
		right += segment.text == simulation_truth(s, user, SIMULATION_SEGMENT).text;
		favourites += offer.text == simulation_truth(s, user, SIMULATION_OFFER).text;
		answering += simulation_answers(s, user);
	}
	assert_in_range(right, USERS * 85 / 100, USERS);
	assert_in_range(favourites, USERS * 35 / 100, USERS * 65 / 100);
	assert_in_range(answering, USERS * 70 / 100, USERS * 90 / 100);
	simulation_free(s);
}

static void drift_changes_answers_and_no_events(void **state)
{
	struct simulation *a = simulation_new(5, USERS, ITEMS);
	struct simulation *b = simulation_new(5, USERS, ITEMS);
	for (uint32_t user = 0; user < USERS; user++)
		(void)simulation_ask(b, user, SIMULATION_OFFER);
	simulation_drift(b);
	for (int i = 0; i < 1000; i++) {
		uint32_t users[2], items[2];
		simulation_next(a, &users[0], &items[0]);
		simulation_next(b, &users[1], &items[1]);
		assert_int_equal(users[0], users[1]);
		assert_int_equal(items[0], items[1]);
	}
	for (uint32_t user = 0; user < USERS; user++) {
		const double before = simulation_truth(a, user, SIMULATION_AGE).number;
		assert_string_not_equal(simulation_truth(a, user, SIMULATION_SEGMENT).text,
					simulation_truth(b, user, SIMULATION_SEGMENT).text);
		assert_true(simulation_truth(b, user, SIMULATION_AGE).number + before > 87.9);
	}
	simulation_free(a);
	simulation_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_tell_the_segment),
		cmocka_unit_test(answers_follow_the_truth),
		cmocka_unit_test(drift_changes_answers_and_no_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
