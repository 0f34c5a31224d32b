/* A simulated audience: users with tastes, some far more active than others, walking through a catalogue, and what may be
 * asked of them. The same seed gives the same audience on every machine. One thread.
 *
 * Every user has two hidden traits: a segment, which draws them back to a quarter of the genres, and an age, which draws them to
 * some of these. What they answer follows from the traits, so that it can be learnt from what they take, and
 * from nothing else. */
#ifndef TOOLS_SIMULATION_H
#define TOOLS_SIMULATION_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum { SIMULATION_SEGMENTS = 4, SIMULATION_OFFERS = 24 };

enum simulation_question {
	SIMULATION_SEGMENT, /* which of the segments; one answer in twenty is any */
	SIMULATION_OFFER,   /* which of the offers they take: each segment has favourites of its own */
	SIMULATION_AGE,     /* a number of years, give or take two */
	SIMULATION_QUESTIONS
};

struct simulation;

struct simulation *simulation_new(uint64_t seed, uint32_t users, uint32_t items); /* NULL: out of memory */
void simulation_free(struct simulation *s);                                       /* NULL is fine */

uint32_t simulation_users(const struct simulation *s);
uint32_t simulation_items(const struct simulation *s);
const char *const *simulation_item_ids(const struct simulation *s); /* [items], until simulation_free */

/* The next event: who, and which item. */
void simulation_next(struct simulation *s, uint32_t *ret_user, uint32_t *ret_item);

/* Whether the user ever answers: four in five do. */
bool simulation_answers(const struct simulation *s, uint32_t user);

struct simulation_answer {
	const char *text; /* a segment or an offer, static; NULL: `number` */
	double number;
};

/* What the user says, with the noise that the questions name. */
struct simulation_answer simulation_ask(struct simulation *s, uint32_t user, enum simulation_question question);

/* What is true of the user, without noise. Of offers the segment's first favourite. */
struct simulation_answer simulation_truth(const struct simulation *s, uint32_t user, enum simulation_question question);

/* From now on the same traits have other answers: segments and their favourites change names, the young are old. Events go
 * on as before. */
void simulation_drift(struct simulation *s);

enum { SIMULATION_ID_BYTES = 24 };
struct slice simulation_user_id(uint32_t user, char text[SIMULATION_ID_BYTES]); /* "user-000042", in `text` */
bool simulation_user_parse(struct slice id, uint32_t *ret_user);

#endif
