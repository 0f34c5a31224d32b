#include "tools/simulation.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GENRES = 20 };

struct simulation {
	struct random_stream random;
	uint32_t users;
	uint32_t items;
	uint32_t *at; /* [users]: the item that each looked at last */
	char **ids;   /* [items] */
};

static double next_unit(struct simulation *s)
{
	return (double)(random_next(&s->random) >> 11) * 0x1p-53;
}

struct simulation *simulation_new(uint64_t seed, uint32_t users, uint32_t items)
{
	struct simulation *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	*s = (struct simulation){ .random = { seed }, .users = users, .items = items };
	s->at = calloc(users, sizeof *s->at);
	s->ids = calloc(items, sizeof *s->ids);
	for (uint32_t i = 0; s->at && i < users; i++)
		s->at[i] = (uint32_t)(random_next(&s->random) % items);
	bool complete = s->at && s->ids;
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

void simulation_next(struct simulation *s, uint32_t *ret_user, uint32_t *ret_item)
{
	double u = next_unit(s);
	uint32_t user = (uint32_t)(u * u * (double)s->users); /* the first hundredth are a tenth of the traffic */
	uint32_t genre = s->items / GENRES ? s->items / GENRES : 1;
	uint32_t item = s->at[user];
	if (next_unit(s) < 0.8) /* a near one of the same genre, one in five anything */
		item = item / genre * genre + (item % genre + 1 + (uint32_t)(random_next(&s->random) % 5)) % genre;
	else
		item = (uint32_t)(random_next(&s->random) % s->items);
	if (item >= s->items)
		item = s->items - 1;
	s->at[user] = item;
	*ret_user = user;
	*ret_item = item;
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
