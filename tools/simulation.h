/* A simulated audience: users with tastes, some far more active than others, walking through a catalogue. The same seed
 * gives the same audience on every machine. One thread. */
#ifndef TOOLS_SIMULATION_H
#define TOOLS_SIMULATION_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stdint.h>

struct simulation;

struct simulation *simulation_new(uint64_t seed, uint32_t users, uint32_t items); /* NULL: out of memory */
void simulation_free(struct simulation *s);                                       /* NULL is fine */

uint32_t simulation_users(const struct simulation *s);
uint32_t simulation_items(const struct simulation *s);
const char *const *simulation_item_ids(const struct simulation *s); /* [items], until simulation_free */

/* The next event: who, and which item. */
void simulation_next(struct simulation *s, uint32_t *ret_user, uint32_t *ret_item);

enum { SIMULATION_ID_BYTES = 24 };
struct slice simulation_user_id(uint32_t user, char text[SIMULATION_ID_BYTES]); /* "user-000042", in `text` */
bool simulation_user_parse(struct slice id, uint32_t *ret_user);

#endif
