/* States at levels out of the frozen backbone: a window against the trainable network's, a stream against a window. */
#include "model_fixture.h"
#include "model/mean.h"
#include "model/side.h"

#include <string.h>

#define NETWORK_BOUND 1e-5 /* relative to a level's largest value */
#define USERS 70           /* more than a chunk of the stream */

static const struct random_backbone shapes[] = {
	{ 8, 3, "1,4,1,4", true, 0, 1 },   { 16, 2, "1,3,5", true, 0, 2 },   { 64, 3, "1,4,1,4,1,4,1,4", true, 0, 3 },
	{ 33, 4, "7,2", true, 0, 4 },      { 20, 5, "3", true, 0, 5 },       { 7, 1, "1,1", true, 0, 6 },
	{ 8, 3, "1,4,1,4", false, 40, 7 }, { 33, 2, "3,1,2", false, 30, 8 }, { 20, 5, "1,5", false, 25, 9 },
};
#define SHAPES (sizeof shapes / sizeof shapes[0])
static const uint32_t mean_windows[] = { 1, 7, 29 };
#define MEAN_WINDOWS (sizeof mean_windows / sizeof mean_windows[0])

struct world {
	struct backbone *b;
	struct network *net;
	struct backbone_workspace *ws;
	uint32_t levels[16]; /* all, the last one first */
	size_t count;
	size_t dim;
	uint64_t random;
};

static void reserve(const struct world *w, uint32_t newest)
{
	struct error err;
	if (backbone_workspace_reserve(w->b, w->ws, newest, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static struct world open_world(const struct random_backbone *r)
{
	struct error err;
	struct world w = { .random = r->seed };
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, r);
	if (backbone_load(path, &w.b, &err) != STATUS_OK || network_load(path, &w.net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
	w.ws = fixture_workspace(w.b);
	w.dim = r->channels;
	w.count = backbone_blocks(w.b) + (size_t)1;
	assert_int_equal(w.count, w.net->shape.blocks + 1);
	for (size_t i = 0; i < w.count; i++)
		w.levels[i] = (uint32_t)(w.count - 1 - i);
	return w;
}

static void close_world(struct world *w)
{
	backbone_workspace_free(w->ws);
	network_free(w->net);
	backbone_free(w->b);
}

static float *new_floats(size_t count)
{
	float *floats = malloc((count + 1) * sizeof *floats);
	assert_non_null(floats);
	for (size_t i = 0; i <= count; i++)
		floats[i] = (float)NAN;
	return floats;
}

static uint32_t *new_items(struct world *w, size_t count)
{
	uint32_t *items = malloc((count + 1) * sizeof *items);
	assert_non_null(items);
	for (size_t i = 0; i < count; i++)
		items[i] = fixture_item(&w->random);
	return items;
}

static void expect_level(const struct world *w, const float *got, const float *expected, size_t events,
			 uint32_t mean_window, uint32_t level)
{
	double scale = 0;
	for (size_t i = 0; i < 2 * w->dim; i++)
		scale = fmax(scale, fabs((double)expected[i]));
	const double difference = fixture_difference(got, expected, 2 * w->dim);
	assert_true(scale > 0);
	if (!(difference <= NETWORK_BOUND * scale))
		fail_msg("d %zu, %zu events, mean of %u, level %u: off by %g of %g", w->dim, events, mean_window, level,
			 difference, scale);
}

/* A patch that reads the levels `step` apart, and so perhaps not the last one but for the head. */
static struct patch reader(const struct world *w, uint32_t mean_window, uint32_t step)
{
	struct patch p = { .channels = (uint32_t)w->dim, .trunk_blocks = w->net->shape.blocks };
	p.spec.mean_window = mean_window;
	for (uint32_t level = 0; level <= p.trunk_blocks; level += step)
		p.spec.blocks[level] = true;
	return p;
}

/* The network is given every event, the backbone perhaps a window of them; both give rows of what the patch reads. */
static void check_network(struct world *w, uint32_t mean_window, uint32_t step)
{
	struct error err;
	const uint32_t field = network_field(&w->net->shape);
	const size_t lengths[] = { 0,
				   1,
				   mean_window - 1,
				   mean_window,
				   mean_window + 1,
				   field - 1,
				   field,
				   0,
				   2,
				   field + mean_window - 2,
				   field + mean_window - 1,
				   field + mean_window + 5,
				   3 * (size_t)(field + mean_window) };
	enum { SEQUENCES = sizeof lengths / sizeof lengths[0] };
	const struct patch patch = reader(w, mean_window, step);
	uint32_t levels[16];
	const size_t count = side_levels(&patch.spec, patch.trunk_blocks, levels);
	const size_t stride = side_state_floats(&patch);
	const size_t at_most = side_events(&w->net->shape, mean_window);
	size_t offsets[SEQUENCES + 1] = { 0 };
	for (size_t i = 0; i < SEQUENCES; i++) {
		const bool cut = !backbone_causal(w->b) && lengths[i] > at_most;
		offsets[i + 1] = offsets[i] + (cut ? at_most : lengths[i]);
	}
	const size_t events = offsets[SEQUENCES];
	uint32_t *items = new_items(w, events);
	float *expected = new_floats(SEQUENCES * stride);
	float *got = new_floats(SEQUENCES * stride);
	struct network_pass *pass = NULL;
	const struct network_batch batch = { .sequences = SEQUENCES, .offsets = offsets, .items = items };
	if (network_pass_new(w->net, 0, events + 2 * (size_t)SEQUENCES, SEQUENCES, NETWORK_KEEP_LEVELS, &pass, &err) !=
	    STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(stride, count * 2 * w->dim);
	side_states(w->net, pass, &batch, &patch, expected);
	reserve(w, mean_window);
	backbone_side_states(w->b, w->ws, SEQUENCES, offsets, items, mean_window, levels, count, got);
	for (size_t s = 0; s < SEQUENCES; s++) {
		for (size_t i = 0; i < count; i++)
			expect_level(w, got + s * stride + i * 2 * w->dim, expected + s * stride + i * 2 * w->dim,
				     offsets[s + 1] - offsets[s], mean_window, levels[i]);
	}
	network_pass_free(pass);
	free(got);
	free(expected);
	free(items);
}

static void windows_equal_the_network(void **state)
{
	for (size_t i = 0; i < SHAPES; i++) {
		struct world w = open_world(&shapes[i]);
		for (size_t m = 0; m < MEAN_WINDOWS; m++)
			check_network(&w, mean_windows[m], 1 + (uint32_t)m);
		close_world(&w);
	}
}

/* A window that is not causal reads no more than it is long, however many events there are. */
static void older_events_than_a_window_reads_do_not_matter(void **state)
{
	for (size_t i = 0; i < SHAPES; i++) {
		struct world w = open_world(&shapes[i]);
		const uint32_t mean_window = 50;
		const size_t reads = side_events(&w.net->shape, mean_window);
		const size_t floats = w.count * 2 * w.dim;
		uint32_t *items = new_items(&w, reads + 9);
		float *some = new_floats(floats);
		float *all = new_floats(floats);
		const size_t last[] = { 9, reads + 9 };
		const size_t every[] = { 0, reads + 9 };
		reserve(&w, mean_window);
		backbone_side_states(w.b, w.ws, 1, last, items, mean_window, w.levels, w.count, some);
		backbone_side_states(w.b, w.ws, 1, every, items, mean_window, w.levels, w.count, all);
		assert_memory_equal(some, all, floats * sizeof *all);
		items[9] = items[9] == BACKBONE_OOV ? BACKBONE_OOV + 1 : BACKBONE_OOV; /* the oldest one matters */
		backbone_side_states(w.b, w.ws, 1, last, items, mean_window, w.levels, w.count, some);
		assert_true(fixture_difference(some, all, floats) > 0);
		free(all);
		free(some);
		free(items);
		close_world(&w);
	}
}

/* A user's states have the same bits alone, in company, in whatever a workspace was before, and whatever else is asked for. */
static void company_changes_nothing(void **state)
{
	for (size_t i = 0; i < SHAPES; i++) {
		struct world w = open_world(&shapes[i]);
		const size_t longest = backbone_window(w.b) + 20;
		const size_t stride = w.count * 2 * w.dim;
		size_t offsets[USERS + 1] = { 0 };
		for (size_t u = 0; u < USERS; u++)
			offsets[u + 1] = offsets[u] + fixture_random(&w.random) % (longest + 1);
		uint32_t *items = new_items(&w, offsets[USERS]);
		float *together = new_floats(USERS * stride);
		float *alone = new_floats(2 * w.dim);
		float *embeddings[2] = { new_floats(USERS * w.dim), new_floats(USERS * w.dim) };
		backbone_embed(w.b, w.ws, USERS, offsets, items, NULL, embeddings[0]);
		reserve(&w, 11);
		backbone_side_states(w.b, w.ws, USERS, offsets, items, 11, w.levels, w.count, together);
		for (size_t u = USERS; u-- > 0;) {
			const size_t k = fixture_random(&w.random) % w.count;
			backbone_side_states(w.b, w.ws, 1, offsets + u, items, 11, w.levels + k, 1, alone);
			assert_memory_equal(alone, together + u * stride + k * 2 * w.dim, 2 * w.dim * sizeof *alone);
			assert_memory_equal(embeddings[0] + u * w.dim, together + u * stride, w.dim * sizeof *alone);
		}
		reserve(&w, 0);
		backbone_embed(w.b, w.ws, USERS, offsets, items, NULL, embeddings[1]);
		assert_memory_equal(embeddings[0], embeddings[1], USERS * w.dim * sizeof *alone);
		free(embeddings[0]);
		free(embeddings[1]);
		free(alone);
		free(together);
		free(items);
		close_world(&w);
	}
}

/* Users whose every column is kept, as the stream gave it. */
struct audience {
	struct world w;
	uint32_t mean_window;
	size_t most;   /* events of a user */
	size_t floats; /* of a column: all levels */
	size_t lengths[USERS];
	void *states[USERS];
	uint32_t *items[USERS];
	float *columns[USERS]; /* [most, count, d] */
	float *tasks[USERS];   /* [count, d]: after the last event */
};

static void open_audience(struct audience *a, const struct random_backbone *r, uint32_t mean_window)
{
	*a = (struct audience){ .w = open_world(r), .mean_window = mean_window };
	a->most = 2 * (size_t)backbone_window(a->w.b) + mean_window + 40;
	a->floats = a->w.count * a->w.dim;
	reserve(&a->w, mean_window);
	for (size_t u = 0; u < USERS; u++) {
		a->states[u] = fixture_state(a->w.b);
		a->items[u] = new_items(&a->w, a->most);
		a->columns[u] = new_floats(a->most * a->floats);
		a->tasks[u] = new_floats(a->floats);
	}
}

static void close_audience(struct audience *a)
{
	for (size_t u = 0; u < USERS; u++) {
		free(a->states[u]);
		free(a->items[u]);
		free(a->columns[u]);
		free(a->tasks[u]);
	}
	close_world(&a->w);
}

/* The states of a user out of what was streamed: the naive twin of a ring. */
static void mean_of_stream(const struct audience *a, size_t user, float *out)
{
	const size_t dim = a->w.dim;
	const size_t length = a->lengths[user];
	const size_t kept = length < a->mean_window ? length : a->mean_window;
	for (size_t i = 0; i < a->w.count; i++, out += 2 * dim) {
		memcpy(out, a->tasks[user] + i * dim, dim * sizeof *out);
		memset(out + dim, 0, dim * sizeof *out);
		for (size_t e = length - kept; e < length; e++)
			mean_add(out + dim, a->columns[user] + e * a->floats + i * dim, dim);
		mean_finish(out + dim, kept, dim);
	}
}

static void expect_window(const struct audience *a, size_t user)
{
	const size_t offsets[] = { 0, a->lengths[user] };
	float *window = new_floats(2 * a->floats);
	float *stream = new_floats(2 * a->floats);
	backbone_side_states(a->w.b, a->w.ws, 1, offsets, a->items[user], a->mean_window, a->w.levels, a->w.count,
			     window);
	mean_of_stream(a, user, stream);
	const double difference = fixture_difference(window, stream, 2 * a->floats);
	if (!(difference <= 0)) /* to the bit */
		fail_msg("user %zu after %zu events: off by %g", user, a->lengths[user], difference);
	free(stream);
	free(window);
}

/* The columns that a rebuild gives are those that the stream gave, as is the state that it leaves. */
static void rebuild(struct audience *a, size_t user)
{
	const size_t offsets[] = { 0, a->lengths[user] };
	const size_t kept = a->lengths[user] < a->mean_window ? a->lengths[user] : a->mean_window;
	float *columns = new_floats(kept * a->floats);
	float *tasks = new_floats(a->floats);
	float *embedding = new_floats(a->w.dim);
	const struct backbone_levels levels = { a->w.levels, a->w.count, a->mean_window, &tasks, &columns };
	backbone_embed_levels(a->w.b, a->w.ws, 1, offsets, a->items[user], &a->states[user], embedding, &levels);
	const float *streamed = a->columns[user] + (a->lengths[user] - kept) * a->floats;
	assert_true(fixture_difference(columns, streamed, kept * a->floats) <= 0);
	assert_true(isnan(columns[kept * a->floats]));
	assert_true(fixture_difference(embedding, tasks, a->w.dim) <= 0); /* the last level is the first asked for */
	if (a->lengths[user] > 0)
		assert_true(fixture_difference(tasks, a->tasks[user], a->floats) <= 0);
	free(embedding);
	free(tasks);
	free(columns);
}

/* Some users, an event each: pushed and read in one call or two. */
static void advance(struct audience *a, const size_t users[], size_t n)
{
	void *states[USERS];
	uint32_t items[USERS];
	float *columns[USERS];
	float *tasks[USERS];
	float *out = new_floats(n * a->w.dim);
	struct backbone_levels levels = { a->w.levels, a->w.count, 0, tasks, columns };
	for (size_t i = 0; i < n; i++) {
		const size_t u = users[i];
		states[i] = a->states[u];
		items[i] = a->items[u][a->lengths[u]];
		columns[i] = a->columns[u] + a->lengths[u]++ * a->floats;
		tasks[i] = a->tasks[u];
	}
	if (fixture_random(&a->w.random) % 2 == 0) {
		backbone_step_levels(a->w.b, a->w.ws, n, states, items, out, &levels);
	} else {
		levels.tasks = NULL;
		backbone_step_levels(a->w.b, a->w.ws, n, states, items, NULL, &levels);
		levels.tasks = tasks;
		levels.columns = NULL;
		backbone_step_levels(a->w.b, a->w.ws, n, states, NULL, out, &levels);
	}
	for (size_t i = 0; i < n; i++)
		assert_true(fixture_difference(out + i * a->w.dim, tasks[i], a->w.dim) <= 0);
	free(out);
}

static void stream(struct audience *a)
{
	for (size_t u = 0; u < USERS; u++)
		rebuild(a, u); /* of no event: as if reset */
	for (size_t step = 0; step < 2 * a->most; step++) {
		size_t users[USERS];
		size_t n = 0;
		const uint64_t among = fixture_random(&a->w.random) % 8 == 0 ? 1 : 30;
		for (size_t u = 0; u < USERS; u++) {
			if (u > 2 && fixture_random(&a->w.random) % among != 0)
				continue;
			if (a->lengths[u] < a->most)
				users[n++] = u;
		}
		advance(a, users, n);
		for (size_t i = 0; i < n; i++) {
			if (fixture_random(&a->w.random) % 16 == 0)
				expect_window(a, users[i]);
			if (fixture_random(&a->w.random) % 16 == 0)
				rebuild(a, users[i]);
		}
	}
	assert_int_equal(a->lengths[0], a->most);
	for (size_t u = 0; u < USERS; u++)
		expect_window(a, u);
}

static void streams_equal_windows(void **state)
{
	struct audience *a = malloc(sizeof *a);
	assert_non_null(a);
	for (size_t i = 0; i < SHAPES; i++) {
		if (!shapes[i].causal)
			continue;
		open_audience(a, &shapes[i], mean_windows[i % MEAN_WINDOWS]);
		stream(a);
		close_audience(a);
	}
	free(a);
}

static void vectors_are_the_level_of_embeddings(void **state)
{
	struct world w = open_world(&shapes[3]);
	const size_t offsets[] = { 0, 1 };
	const uint32_t embeddings = 0;
	float *out = new_floats(2 * w.dim);
	reserve(&w, 1);
	for (uint32_t item = BACKBONE_OOV; item < backbone_items(w.b); item++) {
		backbone_side_states(w.b, w.ws, 1, offsets, &item, 1, &embeddings, 1, out);
		assert_memory_equal(out, backbone_vector(w.b, BACKBONE_TCL), w.dim * sizeof *out);
		assert_memory_equal(out + w.dim, backbone_vector(w.b, item), w.dim * sizeof *out);
	}
	free(out);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_equal_the_network),
		cmocka_unit_test(older_events_than_a_window_reads_do_not_matter),
		cmocka_unit_test(company_changes_nothing),
		cmocka_unit_test(streams_equal_windows),
		cmocka_unit_test(vectors_are_the_level_of_embeddings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
