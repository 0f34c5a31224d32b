#include "tools/simulation.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GENRES = 20, FAVOURITES = SIMULATION_OFFERS / SIMULATION_SEGMENTS };

#define YOUNGEST 18.0
#define OLDEST 70.0

struct trait {
	uint32_t segment;
	double age; /* years */
	bool answers;
};

struct simulation {
	struct random_stream random;
	struct random_stream answers; /* of its own: asking does not change what users do */
	uint32_t users;
	uint32_t items;
	uint32_t drifted;     /* times */
	struct trait *traits; /* [users] */
	uint32_t *at;         /* [users]: the item that each looked at last */
	char **ids;           /* [items] */
};

static double unit(struct random_stream *r)
{
	return (double)(random_next(r) >> 11) * 0x1p-53;
}

static void draw_traits(struct simulation *s, uint64_t seed)
{
	struct random_stream r = random_from(seed, 1);
	for (uint32_t i = 0; i < s->users; i++)
		s->traits[i] = (struct trait){ .segment = random_below(&r, SIMULATION_SEGMENTS),
					       .age = YOUNGEST + unit(&r) * (OLDEST - YOUNGEST),
					       .answers = random_below(&r, 5) > 0 };
}

struct simulation *simulation_new(uint64_t seed, uint32_t users, uint32_t items)
{
	struct simulation *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	*s = (struct simulation){ .random = { seed }, .answers = random_from(seed, 2), .users = users, .items = items };
	s->traits = calloc(users, sizeof *s->traits);
	s->at = calloc(users, sizeof *s->at);
	s->ids = calloc(items, sizeof *s->ids);
	if (s->traits)
		draw_traits(s, seed);
	for (uint32_t i = 0; s->at && i < users; i++)
		s->at[i] = (uint32_t)(random_next(&s->random) % items);
	bool complete = s->traits && s->at && s->ids;
	for (uint32_t i = 0; complete && i < items; i++)
		complete = asprintf(&s->ids[i], "item-%05u", i) > 0;
	if (complete)
		return s;
	simulation_free(s);
	return NULL;
}

void simulation_free(struct simulation *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; s->ids && i < s->items; i++)
		free(s->ids[i]);
	free(s->ids);
	free(s->traits);
	free(s->at);
	free(s);
}

uint32_t simulation_users(const struct simulation *s)
{
	return s->users;
}

uint32_t simulation_items(const struct simulation *s)
{
	return s->items;
}

const char *const *simulation_item_ids(const struct simulation *s)
{
	return (const char *const *)s->ids;
}

/* Another genre: mostly one of the segment's, near the age's place among them. */
static uint32_t wander(struct simulation *s, const struct trait *t, uint32_t genre)
{
	const uint32_t own = GENRES / SIMULATION_SEGMENTS;
	if (s->items < GENRES || unit(&s->random) < 0.25)
		return (uint32_t)(random_next(&s->random) % s->items);
	double place = (t->age - YOUNGEST) / (OLDEST - YOUNGEST) * own + 1.6 * unit(&s->random) - 0.8;
	uint32_t which = place < 0 ? 0 : place < own ? (uint32_t)place : own - 1;
	return (t->segment + SIMULATION_SEGMENTS * which) * genre + random_below(&s->random, genre);
}

void simulation_next(struct simulation *s, uint32_t *ret_user, uint32_t *ret_item)
{
	double u = unit(&s->random);
	uint32_t user = (uint32_t)(u * u * (double)s->users); /* the first hundredth are a tenth of the traffic */
	uint32_t genre = s->items / GENRES ? s->items / GENRES : 1;
	uint32_t item = s->at[user];
	if (unit(&s->random) < 0.8) /* a near one of the same genre */
		item = item / genre * genre + (item % genre + 1 + (uint32_t)(random_next(&s->random) % 5)) % genre;
	else
		item = wander(s, &s->traits[user], genre);
	if (item >= s->items)
		item = s->items - 1;
	s->at[user] = item;
	*ret_user = user;
	*ret_item = item;
}

bool simulation_answers(const struct simulation *s, uint32_t user)
{
	return s->traits[user].answers;
}

static const char *segment_name(uint32_t segment)
{
	static const char *const names[SIMULATION_SEGMENTS] = { "explorer", "fan", "gamer", "reader" };
	return names[segment % SIMULATION_SEGMENTS];
}

static const char *offer_name(uint32_t offer)
{
	static const char names[SIMULATION_OFFERS][10] = {
		"offer-01", "offer-02", "offer-03", "offer-04", "offer-05", "offer-06", "offer-07", "offer-08",
		"offer-09", "offer-10", "offer-11", "offer-12", "offer-13", "offer-14", "offer-15", "offer-16",
		"offer-17", "offer-18", "offer-19", "offer-20", "offer-21", "offer-22", "offer-23", "offer-24",
	};
	return names[offer % SIMULATION_OFFERS];
}

/* The offer in that place of a segment's list, where place 0 is taken most. */
static uint32_t nth_offer(uint32_t segment, uint32_t place)
{
	return segment * FAVOURITES + place;
}

/* Half of the answers are the favourite: P(place >= n) is 1 / (n + 1). */
static uint32_t draw_place(struct random_stream *r)
{
	double place = 1 / (1 - unit(r)) - 1;
	return place < SIMULATION_OFFERS ? (uint32_t)place : random_below(r, SIMULATION_OFFERS);
}

/* The segment and the age as answers go now. */
static struct trait told(const struct simulation *s, uint32_t user)
{
	struct trait t = s->traits[user];
	t.segment = (t.segment + s->drifted) % SIMULATION_SEGMENTS;
	if (s->drifted % 2)
		t.age = YOUNGEST + OLDEST - t.age;
	return t;
}

struct simulation_answer simulation_truth(const struct simulation *s, uint32_t user, enum simulation_question question)
{
	const struct trait t = told(s, user);
	switch (question) {
	case SIMULATION_SEGMENT:
		return (struct simulation_answer){ .text = segment_name(t.segment) };
	case SIMULATION_OFFER:
		return (struct simulation_answer){ .text = offer_name(nth_offer(t.segment, 0)) };
	default:
		return (struct simulation_answer){ .number = t.age };
	}
}

struct simulation_answer simulation_ask(struct simulation *s, uint32_t user, enum simulation_question question)
{
	struct random_stream *r = &s->answers;
	struct simulation_answer answer = simulation_truth(s, user, question);
	if (question == SIMULATION_SEGMENT && random_below(r, 20) == 0)
		answer.text = segment_name(random_below(r, SIMULATION_SEGMENTS));
	else if (question == SIMULATION_OFFER)
		answer.text = offer_name(nth_offer(told(s, user).segment, draw_place(r)));
	else if (question == SIMULATION_AGE)
		answer.number += 2 * (double)random_normal(r);
	return answer;
}

void simulation_drift(struct simulation *s)
{
	s->drifted++;
}

struct slice simulation_user_id(uint32_t user, char text[SIMULATION_ID_BYTES])
{
	int length = snprintf(text, SIMULATION_ID_BYTES, "user-%06u", user);
	return (struct slice){ (const uint8_t *)text, (size_t)length };
}

bool simulation_user_parse(struct slice id, uint32_t *ret_user)
{
	char text[SIMULATION_ID_BYTES];
	char *end;
	if (id.length < 6 || id.length >= sizeof text || memcmp(id.data, "user-", 5))
		return false;
	memcpy(text, id.data, id.length);
	text[id.length] = '\0';
	*ret_user = (uint32_t)strtoul(text + 5, &end, 10);
	return *end == '\0';
}
