#include "tools/tracker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LATENCIES_MS = 60000 }; /* longer ones count as this long */

struct second {
	int64_t number; /* since 1970 */
	int64_t count;
	uint32_t *latencies; /* [LATENCIES_MS + 1]: its updates by ms from event to update */
};

struct place {
	int32_t partition;
	int64_t offset; /* -1: none */
};

struct user {
	int64_t events; /* sent */
	int64_t newest_ms;
	struct place interaction; /* newest in the topic */
	struct place update;      /* newest that an update reflects */
	int64_t update_length;
	uint32_t *items;  /* [window], a ring: event n stands at n mod window */
	float *embedding; /* [dim], of the last update */
};

struct tracker {
	const struct backbone *backbone;
	uint32_t dim;
	uint32_t window;
	uint32_t keep;
	uint32_t users_count;
	struct user *users; /* [users_count] */
	int32_t partitions;
	int64_t *read;      /* [partitions]: interactions seen in the topic */
	int64_t *reflected; /* [partitions]: newest interaction in any update */
	struct second seconds[TRACKER_WINDOW_S];
	int64_t newest_s; /* of an update */
	struct tracker_totals totals;
};

struct tracker *tracker_new(const struct backbone *backbone, uint32_t users, uint32_t keep, int32_t partitions)
{
	struct tracker *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->backbone = backbone;
	t->dim = backbone_dim(backbone);
	t->window = backbone_window(backbone);
	t->keep = keep;
	t->users_count = users;
	t->partitions = partitions;
	t->users = calloc(users, sizeof *t->users);
	t->read = calloc((size_t)partitions, sizeof *t->read);
	t->reflected = calloc((size_t)partitions, sizeof *t->reflected);
	bool complete = t->users && t->read && t->reflected;
	for (size_t i = 0; complete && i < TRACKER_WINDOW_S; i++) {
		t->seconds[i].latencies = calloc(LATENCIES_MS + 1, sizeof *t->seconds[i].latencies);
		complete = t->seconds[i].latencies;
	}
	for (uint32_t i = 0; complete && i < users; i++) {
		struct user *u = &t->users[i];
		u->interaction.offset = u->update.offset = -1;
		u->items = calloc(t->window, sizeof *u->items);
		u->embedding = calloc(t->dim, sizeof *u->embedding);
		complete = u->items && u->embedding;
	}
	for (int32_t i = 0; complete && i < partitions; i++)
		t->read[i] = t->reflected[i] = -1;
	if (complete)
		return t;
	tracker_free(t);
	return NULL;
}

void tracker_free(struct tracker *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; t->users && i < t->users_count; i++) {
		free(t->users[i].items);
		free(t->users[i].embedding);
	}
	free(t->users);
	free(t->read);
	free(t->reflected);
	for (size_t i = 0; i < TRACKER_WINDOW_S; i++)
		free(t->seconds[i].latencies);
	free(t);
}

void tracker_sent(struct tracker *t, uint32_t user, uint32_t item, int64_t time_ms)
{
	struct user *u = &t->users[user];
	u->items[u->events % t->window] = item;
	t->totals.active += u->events == 0;
	u->events++;
	u->newest_ms = time_ms;
	t->totals.sent++;
}

void tracker_interaction(struct tracker *t, uint32_t user, int32_t partition, int64_t offset)
{
	if (user >= t->users_count || partition < 0 || partition >= t->partitions)
		return;
	t->users[user].interaction = (struct place){ partition, offset };
	t->read[partition] = offset;
}

static void note_latency(struct tracker *t, int64_t latency_ms, int64_t now_ms)
{
	int64_t number = now_ms / 1000;
	struct second *s = &t->seconds[number % TRACKER_WINDOW_S];
	if (s->number != number) {
		memset(s->latencies, 0, (LATENCIES_MS + 1) * sizeof *s->latencies);
		s->number = number;
		s->count = 0;
	}
	s->latencies[latency_ms < 0 ? 0 : latency_ms > LATENCIES_MS ? LATENCIES_MS : latency_ms]++;
	s->count++;
	t->newest_s = number;
}

void tracker_update(struct tracker *t, uint32_t user, const struct update *update, int64_t now_ms)
{
	if (user >= t->users_count || update->partition < 0 || update->partition >= t->partitions ||
	    update->dim != t->dim)
		return;
	struct user *u = &t->users[user];
	t->totals.updates++;
	t->totals.backwards += update->offset < u->update.offset;
	u->update = (struct place){ update->partition, update->offset };
	u->update_length = update->sequence_length;
	memcpy(u->embedding, update->embedding, t->dim * sizeof *u->embedding);
	if (update->offset > t->reflected[update->partition])
		t->reflected[update->partition] = update->offset;
	note_latency(t, now_ms - update->event_time_ms, now_ms);
}

static bool is_in_window(const struct tracker *t, const struct second *s)
{
	return s->number > t->newest_s - TRACKER_WINDOW_S && s->number <= t->newest_s;
}

/* The smallest latency that this share of the window's updates did not exceed; -1: there are none. */
static int64_t percentile(const struct tracker *t, double share)
{
	int64_t count = 0;
	int64_t seen = 0;
	for (size_t i = 0; i < TRACKER_WINDOW_S; i++)
		count += is_in_window(t, &t->seconds[i]) ? t->seconds[i].count : 0;
	int64_t rank = (int64_t)ceil(share * (double)count);
	for (int64_t ms = 0; count && ms <= LATENCIES_MS; ms++) {
		for (size_t i = 0; i < TRACKER_WINDOW_S; i++)
			seen += is_in_window(t, &t->seconds[i]) ? t->seconds[i].latencies[ms] : 0;
		if (seen >= rank)
			return ms;
	}
	return -1;
}

void tracker_totals(const struct tracker *t, struct tracker_totals *ret)
{
	*ret = t->totals;
	for (int32_t i = 0; i < t->partitions; i++)
		if (t->read[i] > t->reflected[i])
			ret->behind += t->read[i] - t->reflected[i];
	ret->p50_ms = percentile(t, 0.5);
	ret->p99_ms = percentile(t, 0.99);
	ret->max_ms = percentile(t, 1);
}

static bool is_newest(const struct user *u)
{
	return u->update.offset >= 0 && u->update.partition == u->interaction.partition &&
	       u->update.offset == u->interaction.offset;
}

static int64_t expected_length(const struct tracker *t, const struct user *u)
{
	return u->events < t->keep ? u->events : t->keep;
}

int64_t tracker_waiting(const struct tracker *t)
{
	int64_t waiting = 0;
	for (uint32_t i = 0; i < t->users_count; i++) {
		const struct user *u = &t->users[i];
		waiting += u->events && !(is_newest(u) && u->update_length == expected_length(t, u));
	}
	return waiting;
}

/* The larger of two; a NaN is larger than everything. */
static double worse(double a, double b)
{
	return isnan(a) || a > b ? a : b;
}

/* Recomputes one user's embedding; returns the largest difference, relative where values exceed 1. */
static double difference(const struct tracker *t, struct backbone_workspace *ws, const struct user *u, uint32_t *items,
			 float *embedding)
{
	size_t length = u->events < t->window ? (size_t)u->events : t->window;
	const size_t offsets[] = { 0, length };
	for (size_t i = 0; i < length; i++)
		items[i] = u->items[(size_t)(u->events - (int64_t)length + (int64_t)i) % t->window];
	backbone_embed(t->backbone, ws, 1, offsets, items, NULL, embedding);
	double largest = 1;
	double worst = 0;
	for (uint32_t i = 0; i < t->dim; i++) {
		double diff = fabs((double)embedding[i] - (double)u->embedding[i]);
		largest = fmax(largest, fabs((double)embedding[i]));
		worst = worse(worst, diff);
	}
	return worst / largest;
}

enum status tracker_verify(const struct tracker *t, struct tracker_verdict *ret, struct error *err)
{
	struct backbone_workspace *ws = NULL;
	struct tracker_verdict verdict = { .worst = 0 };
	uint32_t *items = calloc(t->window, sizeof *items);
	float *embedding = calloc(t->dim, sizeof *embedding);
	enum status status = items && embedding ? backbone_workspace_new(t->backbone, &ws, err) : error_set_memory(err);
	for (uint32_t i = 0; i < t->users_count && !status; i++) {
		const struct user *u = &t->users[i];
		if (u->events == 0)
			continue;
		verdict.users++;
		verdict.newest += is_newest(u);
		verdict.lengths += is_newest(u) && u->update_length == expected_length(t, u);
		if (!is_newest(u))
			continue;
		double worst = difference(t, ws, u, items, embedding);
		verdict.embeddings += worst <= 1e-5;
		verdict.worst = worse(verdict.worst, worst);
	}
	backbone_workspace_free(ws);
	free(items);
	free(embedding);
	if (!status)
		*ret = verdict;
	return status;
}
