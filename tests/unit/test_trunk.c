/* daemon/trunk: what it reads for cached users equals a full pass over their windows, whatever the arrivals were. */
#include "daemon/shard.h"
#include "daemon/trunk.h"
#include "model_fixture.h"

#include <string.h>

#define USERS 150 /* more than two passes of the trunk */

struct world {
	struct backbone *backbone;
	struct backbone_workspace *reference;
	struct user_cache cache;
	struct thinning thinning;
	struct shard *shard;
	struct trunk *trunk;
	uint32_t keep;
	uint32_t levels[8]; /* [levels_count]: those kept, 0 among them */
	size_t levels_count;
	uint32_t mean_window;
	uint32_t mean_window_most; /* 0: never any levels */
	uint64_t random;
	int64_t time_ms;
	struct user *users[USERS];
};

static struct user *new_user(struct world *w, int number)
{
	char name[16];
	int length = snprintf(name, sizeof name, "user %d", number);
	struct user *u = user_cache_add(&w->cache, w->shard, (struct slice){ (const uint8_t *)name, (size_t)length });
	assert_non_null(u);
	u->stale = true;
	return u;
}

static void world_open(struct world *w, const struct random_backbone *shape, uint32_t keep_more)
{
	struct error err;
	*w = (struct world){ .random = shape->seed, .time_ms = 1000000 };
	w->backbone = fixture_backbone(shape);
	w->reference = fixture_workspace(w->backbone);
	w->keep = backbone_window(w->backbone) + keep_more;
	w->cache = (struct user_cache){ .budget_bytes = SIZE_MAX, .state_bytes = trunk_state_bytes(w->backbone) };
	w->shard = shard_new(0, &w->thinning);
	assert_non_null(w->shard);
	assert_int_equal(trunk_new(w->backbone, &w->cache, &w->trunk, &err), STATUS_OK);
	for (int i = 0; i < USERS; i++)
		w->users[i] = new_user(w, i);
}

static void world_close(struct world *w)
{
	trunk_free(w->trunk);
	shard_free(w->shard, &w->cache);
	assert_int_equal(w->cache.bytes, 0);
	backbone_workspace_free(w->reference);
	backbone_free(w->backbone);
}

static uint64_t pick(struct world *w, uint64_t below)
{
	return fixture_random(&w->random) % below;
}

/* As a shard places an event; some of them before the newest, some of items that nobody knows. */
static void place(struct world *w, struct user *u, bool in_order)
{
	struct error err;
	char item[16];
	enum sequence_place where;
	int length = snprintf(item, sizeof item, "item %d", (int)pick(w, FIXTURE_ITEMS + 5));
	w->time_ms += 10;
	int64_t time_ms = in_order ? w->time_ms : w->time_ms - (int64_t)pick(w, 3000);
	struct event event = { hash_item(item, (size_t)length), time_ms };
	assert_int_equal(sequence_insert(&u->sequence, w->keep, event, &where, &err), STATUS_OK);
	if (where == SEQUENCE_LATE)
		return;
	u->stale = u->stale || where == SEQUENCE_INSERTED;
	u->fresh++;
	user_cache_resize(&w->cache, u);
}

/* Evicted and read back from the store: the sequence is all that is left. */
static void evict(struct world *w, int number)
{
	struct user *old = w->users[number];
	struct sequence kept = old->sequence;
	memset(&old->sequence, 0, sizeof old->sequence);
	user_cache_drop(&w->cache, old);
	w->users[number] = new_user(w, number);
	w->users[number]->sequence = kept;
	user_cache_resize(&w->cache, w->users[number]);
}

static void expect_embedding(struct world *w, const struct user *u, const float *got)
{
	uint32_t d = backbone_dim(w->backbone);
	uint32_t window = backbone_window(w->backbone);
	uint32_t length = u->sequence.length < window ? u->sequence.length : window;
	size_t offsets[2] = { 0, length };
	uint32_t *items = calloc(length + 1, sizeof *items);
	float *expected = calloc(d, sizeof *expected);
	assert_true(items && expected);
	for (uint32_t i = 0; i < length; i++)
		items[i] = backbone_item(w->backbone, u->sequence.events[u->sequence.length - length + i].item);
	backbone_embed(w->backbone, w->reference, 1, offsets, items, NULL, expected);
	double scale = 0;
	for (uint32_t i = 0; i < d; i++)
		scale = fmax(scale, fabs((double)expected[i]));
	assert_true(scale > 0);
	double difference = fixture_difference(got, expected, d);
	if (!(difference <= 0)) /* to the bit */
		fail_msg("%.*s with %u events: differs by %g of %g", (int)u->id_length, u->id, u->sequence.length,
			 difference, scale);
	free(items);
	free(expected);
}

static void expect_embeddings(struct world *w, struct user *const users[], size_t n)
{
	struct error err;
	uint32_t d = backbone_dim(w->backbone);
	float *out = malloc((n * d + 1) * sizeof *out);
	assert_non_null(out);
	for (size_t i = 0; i < n * d; i++)
		out[i] = (float)NAN;
	assert_int_equal(trunk_embed(w->trunk, users, n, out, &err), STATUS_OK);
	for (size_t i = 0; i < n; i++) {
		expect_embedding(w, users[i], out + i * d);
		if (w->cache.state_bytes > 0) {
			assert_int_equal(users[i]->fresh, 0);
			assert_false(users[i]->stale);
		}
	}
	free(out);
}

static size_t burst(struct world *w)
{
	switch (pick(w, 12)) {
	case 0:
		return 9 + pick(w, 10); /* more than columns are worth */
	case 1:
		return 2 * w->keep; /* the whole sequence anew, and more fresh events than it holds */
	default:
		return 1 + pick(w, pick(w, 3) ? 3 : 8);
	}
}

static void expect_states(struct world *w, const struct user *u, const uint32_t levels[], size_t count,
			  uint32_t mean_window, const float *got)
{
	struct error err;
	const size_t floats = count * 2 * backbone_dim(w->backbone);
	const size_t offsets[2] = { 0, u->sequence.length };
	uint32_t *items = calloc(u->sequence.length + (size_t)1, sizeof *items);
	float *expected = calloc(floats, sizeof *expected);
	assert_true(items && expected);
	for (uint32_t i = 0; i < u->sequence.length; i++)
		items[i] = backbone_item(w->backbone, u->sequence.events[i].item);
	assert_int_equal(backbone_workspace_reserve(w->backbone, w->reference, mean_window, &err), STATUS_OK);
	backbone_side_states(w->backbone, w->reference, 1, offsets, items, mean_window, levels, count, expected);
	double difference = fixture_difference(got, expected, floats);
	if (!(difference <= 5e-6)) /* the means' last bit: sums of the ring are in double */
		fail_msg("%.*s with %u events, mean of %u: differs by %g", (int)u->id_length, u->id, u->sequence.length,
			 mean_window, difference);
	free(items);
	free(expected);
}

/* Some of the levels that are kept, from any of them on around, and a mean of fewer events too. */
static void expect_side_states(struct world *w, struct user *const users[], size_t n)
{
	struct error err;
	uint32_t levels[8];
	if (w->levels_count == 0)
		return;
	const size_t count = 1 + pick(w, w->levels_count);
	const size_t from = pick(w, w->levels_count);
	const uint32_t mean_window = pick(w, 2) ? w->mean_window : 1 + (uint32_t)pick(w, w->mean_window);
	for (size_t i = 0; i < count; i++)
		levels[i] = w->levels[(from + i) % w->levels_count];
	const size_t floats = count * 2 * backbone_dim(w->backbone);
	float *out = malloc((n * floats + 1) * sizeof *out);
	assert_non_null(out);
	for (size_t i = 0; i < n * floats; i++)
		out[i] = (float)NAN;
	assert_int_equal(trunk_side_states(w->trunk, users, n, levels, count, mean_window, out, &err), STATUS_OK);
	for (size_t i = 0; i < n; i++)
		expect_states(w, users[i], levels, count, mean_window, out + i * floats);
	free(out);
}

/* Tasks come and go. */
static void keep_levels(struct world *w)
{
	struct error err;
	w->levels_count = 0;
	w->mean_window = 0;
	if (pick(w, 5) != 0) {
		w->mean_window = pick(w, 2) ? w->mean_window_most : 1 + (uint32_t)pick(w, w->mean_window_most);
		for (uint32_t level = backbone_blocks(w->backbone) + 1; level-- > 0;) {
			if (pick(w, 3) != 0)
				w->levels[w->levels_count++] = level;
		}
	}
	assert_int_equal(trunk_keep_levels(w->trunk, w->levels, w->levels_count, w->mean_window, &err), STATUS_OK);
}

/* One micro-batch: some users get events, a few are evicted before, part of the work is done ahead. */
static void micro_batch(struct world *w)
{
	struct error err;
	struct user *touched[USERS];
	size_t n = 0;
	bool crowded = pick(w, 4) == 0;
	for (int i = 0; i < USERS; i++) {
		if (pick(w, 10) == 0)
			evict(w, i);
		if (pick(w, crowded ? 2 : 20) != 0)
			continue;
		struct user *u = w->users[i];
		size_t events = burst(w);
		bool late = pick(w, 5) == 0;
		for (size_t e = 0; e < events; e++)
			place(w, u, !late || pick(w, 3) != 0);
		if (u->sequence.length > 0)
			touched[n++] = u;
	}
	size_t ahead = n ? pick(w, n + 1) : 0;
	assert_int_equal(trunk_advance(w->trunk, touched, ahead, pick(w, 2) == 0, &err), STATUS_OK);
	for (size_t i = 0; i < ahead; i++) {
		if (pick(w, 3) == 0)
			place(w, touched[i], pick(w, 4) != 0);
	}
	if (pick(w, 2) == 0)
		expect_side_states(w, touched, n);
	expect_embeddings(w, touched, n);
	expect_side_states(w, touched, n);
}

/* mean_window: 0, or levels are kept, now these and now those, of so many events at most. */
static void run_world_with(const struct random_backbone *shape, uint32_t keep_more, uint32_t mean_window, int batches)
{
	struct world w;
	world_open(&w, shape, keep_more + mean_window);
	w.mean_window_most = mean_window;
	for (int i = 0; i < batches; i++) {
		if (mean_window > 0 && i % 8 == 1)
			keep_levels(&w);
		micro_batch(&w);
	}
	struct user *all[USERS];
	size_t n = 0;
	for (int i = 0; i < USERS; i++)
		if (w.users[i]->sequence.length > 0)
			all[n++] = w.users[i];
	assert_true(n > 64);
	expect_embeddings(&w, all, n);
	expect_embeddings(&w, all, n); /* nothing new: the same again */
	expect_side_states(&w, all, n);
	world_close(&w);
}

static void run_world(const struct random_backbone *shape, uint32_t keep_more, int batches)
{
	run_world_with(shape, keep_more, 0, batches);
}

static void a_causal_backbone_streams(void **state)
{
	run_world(
		&(struct random_backbone){
			.channels = 16, .kernel_size = 3, .dilations = "1,4", .causal = true, .seed = 1 },
		0, 60);
}

static void odd_shapes_stream(void **state)
{
	run_world(
		&(struct random_backbone){
			.channels = 9, .kernel_size = 2, .dilations = "3,1,2", .causal = true, .seed = 2 },
		5, 40);
	run_world(
		&(struct random_backbone){
			.channels = 24, .kernel_size = 5, .dilations = "1", .causal = true, .seed = 3 },
		1, 40);
}

static void a_deep_field_streams(void **state)
{
	run_world(
		&(struct random_backbone){
			.channels = 8, .kernel_size = 3, .dilations = "1,4,1,4", .causal = true, .seed = 4 },
		40, 30);
}

static void a_backbone_that_is_not_causal_reads_windows(void **state)
{
	run_world(&(struct random_backbone){ .channels = 12,
					     .kernel_size = 3,
					     .dilations = "1,2",
					     .causal = false,
					     .window = 20,
					     .seed = 5 },
		  3, 30);
}

static void levels_stream(void **state)
{
	run_world_with(&(struct random_backbone){ 16, 3, "1,4", true, 0, 11 }, 0, 12, 100);
	run_world_with(&(struct random_backbone){ 9, 2, "3,1,2", true, 0, 12 }, 5, 1, 60);
	run_world_with(&(struct random_backbone){ 24, 5, "1", true, 0, 13 }, 1, 30, 60);
	run_world_with(&(struct random_backbone){ 8, 3, "1,4,1,4", true, 0, 14 }, 0, 128, 40);
	run_world_with(&(struct random_backbone){ 8, 2, "1", true, 0, 17 }, 0, 9,
		       100); /* bursts drop what the ring has */
}

static void levels_of_a_backbone_that_is_not_causal_are_windows(void **state)
{
	run_world_with(&(struct random_backbone){ 12, 3, "1,2", false, 20, 15 }, 3, 7, 40);
	run_world_with(&(struct random_backbone){ 9, 4, "1", false, 20, 16 }, 0, 30, 40);
}

static void place_events(struct world *w, uint32_t events)
{
	for (int i = 0; i < 3; i++) {
		for (uint32_t e = 0; e < events; e++)
			place(w, w->users[i], true);
	}
}

/* Whether the three users' states count as so many bytes each beside their sequences. */
static void expect_state_bytes(struct world *w, size_t bytes)
{
	size_t counted = 0;
	for (int i = 0; i < 3; i++)
		counted += w->users[i]->bytes - sizeof(struct user) - w->users[i]->id_length -
			   w->users[i]->sequence.capacity * sizeof(struct event);
	assert_int_equal(counted, 3 * bytes);
}

static void levels_are_kept_as_long_as_they_are_wanted(void **state)
{
	struct world w;
	struct error err;
	const uint32_t levels[] = { 2, 0, 1, 2 };
	const uint32_t reordered[] = { 1, 2 };
	const uint32_t embeddings[] = { 0 };
	world_open(&w, &(struct random_backbone){ 8, 3, "1,2", true, 0, 21 }, 10);
	const size_t plain = w.cache.state_bytes;
	const size_t column = 2 * 8 * sizeof(float);
	const size_t head = (plain + 7) / 8 * 8 + sizeof(double); /* with the ring's place */
	const size_t sum = 8 * sizeof(double);
	place_events(&w, 20);
	assert_int_equal(trunk_keep_levels(w.trunk, embeddings, 1, 10, &err), STATUS_OK); /* costs nothing */
	assert_int_equal(w.cache.layout, 0);
	expect_embeddings(&w, w.users, 3);
	expect_state_bytes(&w, plain);
	assert_int_equal(trunk_keep_levels(w.trunk, levels, 4, 10, &err), STATUS_OK);
	expect_state_bytes(&w, plain); /* nobody is rebuilt before its time */
	expect_embeddings(&w, w.users, 3);
	expect_state_bytes(&w, head + 3 * sum + 11 * column);
	const uint32_t layout = w.cache.layout;
	assert_int_equal(trunk_keep_levels(w.trunk, reordered, 2, 10, &err), STATUS_OK); /* the same */
	assert_int_equal(w.cache.layout, layout);
	assert_int_equal(trunk_keep_levels(w.trunk, reordered + 1, 1, 10, &err), STATUS_OK);
	expect_embeddings(&w, w.users, 3);
	expect_state_bytes(&w, head + 2 * sum + 11 * column / 2);
	assert_int_equal(trunk_keep_levels(w.trunk, NULL, 0, 0, &err), STATUS_OK);
	place_events(&w, 1);
	expect_embeddings(&w, w.users, 3);
	expect_state_bytes(&w, plain);
	world_close(&w);
}

static void states_count_against_the_budget(void **state)
{
	struct world w;
	struct error err;
	world_open(&w, &(struct random_backbone){ 8, 3, "1", true, 0, 6 }, 0);
	size_t before = w.cache.bytes;
	for (int i = 0; i < 3; i++)
		place(&w, w.users[i], true);
	size_t events = w.cache.bytes;
	assert_true(events > before);
	assert_int_equal(trunk_advance(w.trunk, w.users, 3, true, &err), STATUS_OK);
	assert_int_equal(w.cache.bytes, events + 3 * w.cache.state_bytes);
	assert_int_equal(trunk_advance(w.trunk, w.users, 0, true, &err), STATUS_OK);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_causal_backbone_streams),
		cmocka_unit_test(odd_shapes_stream),
		cmocka_unit_test(a_deep_field_streams),
		cmocka_unit_test(a_backbone_that_is_not_causal_reads_windows),
		cmocka_unit_test(levels_stream),
		cmocka_unit_test(levels_of_a_backbone_that_is_not_causal_are_windows),
		cmocka_unit_test(levels_are_kept_as_long_as_they_are_wanted),
		cmocka_unit_test(states_count_against_the_budget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
