/* NextItNet against the NumPy reference, and its three programs against each other. */
#include "model_fixture.h"
#include "model/safetensors.h"

#include <string.h>

#define STREAM_BOUND 0    /* one order of additions: to the bit */
#define GOLDEN_BOUND 1e-4 /* relative */
#define MAX_DIM 256

/* The same table is in tests/golden/nextitnet.py. */
static const struct random_backbone cases[] = {
	{ 8, 3, "1,4,1,4", true, 0, 1 }, { 16, 2, "1,3,5", true, 0, 2 },    { 64, 3, "1,4,1,4,1,4,1,4", true, 0, 3 },
	{ 256, 5, "3,1", true, 0, 4 },   { 64, 4, "7,2", true, 0, 5 },      { 20, 3, "2,5", true, 0, 6 },
	{ 8, 1, "1", true, 0, 7 },       { 8, 3, "1,4,1,4", false, 40, 8 }, { 64, 2, "3,1,2", false, 30, 9 },
	{ 16, 4, "1,5", false, 25, 10 }, { 256, 5, "1,3", false, 20, 11 },
};
#define CASES (sizeof cases / sizeof cases[0])

static void check_golden(const struct safetensors *golden, size_t number)
{
	struct error err;
	struct backbone *b = fixture_backbone(&cases[number]);
	struct backbone_workspace *ws = fixture_workspace(b);
	const uint32_t d = cases[number].channels;
	const size_t longest = backbone_window(b) + (size_t)1;
	const size_t lengths[] = { 0, 1, longest - 1, longest, longest + 50 };
	const uint64_t shape[] = { 5, d };
	float expected[5 * MAX_DIM];
	float out[MAX_DIM];
	char name[8];
	uint64_t seed = 1000 + number;
	uint32_t *items = calloc(longest + 50, sizeof *items);
	for (size_t i = 0; i < longest + 50; i++)
		items[i] = fixture_item(&seed);
	(void)snprintf(name, sizeof name, "%zu", number);
	if (safetensors_read_floats(golden, name, 2, shape, expected, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < 5; i++) {
		const size_t offsets[] = { 0, lengths[i] };
		double scale = 0;
		for (size_t k = 0; k < d; k++)
			scale = fmax(scale, fabs((double)expected[i * d + k]));
		backbone_embed(b, ws, 1, offsets, items, NULL, out);
		double difference = fixture_difference(out, expected + i * d, d);
		if (!(difference <= GOLDEN_BOUND * scale))
			fail_msg("case %zu, %zu events: off by %g of %g", number, lengths[i], difference, scale);
	}
	free(items);
	backbone_workspace_free(ws);
	backbone_free(b);
}

static void test_golden(void **unused)
{
	struct error err;
	struct safetensors *golden = NULL;
	if (safetensors_open("tests/golden/golden.safetensors", &golden, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < CASES; i++)
		check_golden(golden, i);
	safetensors_close(golden);
}

#define USERS 70 /* more than one chunk */
#define EVENTS 200

struct audience {
	struct backbone *b;
	struct backbone_workspace *ws;
	void *states[USERS];
	uint32_t items[USERS][EVENTS];
	size_t counts[USERS];
};

static void open_audience(struct audience *a, const struct random_backbone *r)
{
	memset(a, 0, sizeof *a);
	a->b = fixture_backbone(r);
	a->ws = fixture_workspace(a->b);
	for (size_t u = 0; r->causal && u < USERS; u++)
		a->states[u] = fixture_state(a->b);
}

static void close_audience(struct audience *a)
{
	for (size_t u = 0; u < USERS; u++)
		free(a->states[u]);
	backbone_workspace_free(a->ws);
	backbone_free(a->b);
}

/* The embedding over everything that the user did, computed anew. */
static void recompute(struct audience *a, size_t user, float *out)
{
	const size_t offsets[] = { 0, a->counts[user] };
	backbone_embed(a->b, a->ws, 1, offsets, a->items[user], NULL, out);
}

static void check_user(struct audience *a, size_t user, const float *streamed)
{
	float expected[MAX_DIM];
	recompute(a, user, expected);
	double difference = fixture_difference(streamed, expected, backbone_dim(a->b));
	if (!(difference <= STREAM_BOUND))
		fail_msg("user %zu after %zu events: off by %g", user, a->counts[user], difference);
}

/* A random set of users, each once, gets an event; in one call or two, and now and then rebuilt from the window. */
static void random_step(struct audience *a, uint64_t *seed)
{
	void *states[USERS];
	uint32_t items[USERS];
	size_t users[USERS];
	float out[USERS * MAX_DIM];
	size_t n = 0;
	uint64_t among = fixture_random(seed) % 3 == 0 ? 1 : 20;
	for (size_t u = 0; u < USERS; u++) {
		if (fixture_random(seed) % among != 0 || a->counts[u] == EVENTS)
			continue;
		if (fixture_random(seed) % 16 == 0) {
			const size_t offsets[] = { 0, a->counts[u] };
			backbone_embed(a->b, a->ws, 1, offsets, a->items[u], &a->states[u], NULL);
		}
		users[n] = u;
		states[n] = a->states[u];
		items[n] = a->items[u][a->counts[u]++] = fixture_item(seed);
		n++;
	}
	if (fixture_random(seed) % 2 == 0) {
		backbone_push_read(a->b, a->ws, n, states, items, out);
	} else {
		backbone_push(a->b, a->ws, n, states, items);
		backbone_read(a->b, a->ws, n, (const void *const *)states, out);
	}
	for (size_t i = 0; i < n; i++)
		check_user(a, users[i], out + i * backbone_dim(a->b));
}

static void test_streaming_equals_batch(void **unused)
{
	struct audience *a = malloc(sizeof *a);
	for (size_t number = 0; number < CASES; number++) {
		if (!cases[number].causal)
			continue;
		uint64_t seed = number;
		open_audience(a, &cases[number]);
		for (size_t step = 0; step < (cases[number].channels > 64 ? 20 : 100); step++)
			random_step(a, &seed);
		close_audience(a);
	}
	free(a);
}

/* A state rebuilt from the last R - 1 of many events, then far more pushes than any ring is long. */
static void test_truncated_window_stays_exact(void **unused)
{
	for (size_t number = 0; number < CASES; number++) {
		const struct random_backbone *r = &cases[number];
		if (!r->causal || r->channels > 64)
			continue;
		struct backbone *b = fixture_backbone(r);
		struct backbone_workspace *ws = fixture_workspace(b);
		const size_t window = backbone_window(b);
		const size_t count = 3 * window + 60;
		uint64_t seed = 77;
		uint32_t *items = calloc(count, sizeof *items);
		void *whole = fixture_state(b);
		void *cut = fixture_state(b);
		for (size_t i = 0; i < count; i++)
			items[i] = fixture_item(&seed);
		for (size_t i = 0; i < window + 30; i++)
			backbone_push(b, ws, 1, &whole, &items[i]);
		const size_t offsets[] = { 30, window + 30 };
		backbone_embed(b, ws, 1, offsets, items, &cut, NULL);
		for (size_t i = window + 30; i < count; i++) {
			float expected[MAX_DIM];
			float got[MAX_DIM];
			backbone_push_read(b, ws, 1, &whole, &items[i], expected);
			backbone_push_read(b, ws, 1, &cut, &items[i], got);
			double difference = fixture_difference(got, expected, r->channels);
			if (!(difference <= STREAM_BOUND))
				fail_msg("case %zu, %zu pushes later: off by %g", number, i - window - 30, difference);
		}
		free(whole);
		free(cut);
		free(items);
		backbone_workspace_free(ws);
		backbone_free(b);
	}
}

/* A user's result has the same bits alone, in company, and in a workspace where others were before. */
static void test_batches_do_not_mix(void **unused)
{
	struct audience *a = malloc(sizeof *a);
	float *together = malloc(USERS * MAX_DIM * sizeof *together);
	uint32_t *items = malloc(sizeof a->items);
	for (size_t number = 0; number < CASES; number++) {
		size_t offsets[USERS + 1] = { 0 };
		uint64_t seed = number;
		float alone[MAX_DIM];
		open_audience(a, &cases[number]);
		for (size_t u = 0; u < USERS; u++) {
			a->counts[u] = fixture_random(&seed) % (EVENTS / 2);
			for (size_t i = 0; i < a->counts[u]; i++)
				a->items[u][i] = fixture_item(&seed);
			memcpy(items + offsets[u], a->items[u], a->counts[u] * sizeof *items);
			offsets[u + 1] = offsets[u] + a->counts[u];
		}
		backbone_embed(a->b, a->ws, USERS, offsets, items, NULL, together);
		for (size_t u = USERS; u-- > 0;) {
			recompute(a, u, alone);
			assert_memory_equal(alone, together + u * cases[number].channels,
					    cases[number].channels * sizeof *alone);
		}
		close_audience(a);
	}
	free(items);
	free(together);
	free(a);
}

static void test_items_matter(void **unused)
{
	struct audience *a = malloc(sizeof *a);
	float first[MAX_DIM];
	float second[MAX_DIM];
	open_audience(a, &cases[2]);
	a->counts[0] = 5;
	for (uint32_t i = 0; i < 5; i++)
		a->items[0][i] = BACKBONE_FIRST_ITEM + i;
	recompute(a, 0, first);
	a->items[0][0]++;
	recompute(a, 0, second);
	assert_true(fixture_difference(first, second, 64) > 1e-3);
	close_audience(a);
	free(a);
}

static void test_state_is_plain_memory(void **unused)
{
	struct audience *a = malloc(sizeof *a);
	float first[MAX_DIM];
	float second[MAX_DIM];
	uint64_t seed = 5;
	open_audience(a, &cases[2]);
	for (int i = 0; i < 33; i++) {
		uint32_t item = fixture_item(&seed);
		backbone_push(a->b, a->ws, 1, a->states, &item);
	}
	memcpy(a->states[1], a->states[0], backbone_state_bytes(a->b));
	backbone_read(a->b, a->ws, 1, (const void *const *)a->states, first);
	assert_memory_equal(a->states[0], a->states[1], backbone_state_bytes(a->b)); /* reading changes nothing */
	backbone_read(a->b, a->ws, 1, (const void *const *)a->states + 1, second);
	assert_memory_equal(first, second, 64 * sizeof(float));
	close_audience(a);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_streaming_equals_batch),
		cmocka_unit_test(test_truncated_window_stays_exact),
		cmocka_unit_test(test_batches_do_not_mix),
		cmocka_unit_test(test_items_matter),
		cmocka_unit_test(test_state_is_plain_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
