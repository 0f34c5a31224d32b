/* Scores of cached users against a full recomputation of each from its sequence alone. */
#include "daemon/scorer.h"
#include "daemon/shard.h"
#include "model/tuner.h"
#include "serving_fixture.h"

enum { USERS = 70, KEEP = 24, D = 8, CLASSES_AT_MOST = 40 };

static const char kinds[] = "  - {name: age, type: classification, labels: [a, b, c], mean_window: 5}\n"
			    "  - {name: bare, type: classification, labels: [x, y], blocks: []}\n"
			    "  - {name: films, type: ranking, scores_k: 4, mean_window: 5, bottleneck: 3}\n"
			    "  - {name: first, type: regression, mean_window: 9, blocks: [0, 1]}\n"
			    "  - {name: headserial, type: ranking, scores_k: 1000, insertion: serial, blocks: []}\n"
			    "  - {name: inner, type: ranking, scores_k: 2, insertion: serial, bottleneck: 5}\n"
			    "  - {name: norms, type: classification, labels: [m, n], insertion: serial, blocks: [1], "
			    "adapters: 1, norms: true}\n"
			    "  - {name: spend, type: regression, insertion: parallel, bottleneck: 2}\n";

static struct serving s;
static struct user_cache cache;
static struct thinning thinning;
static struct shard *shard;
static struct trunk *trunk;
static struct scorer *scorer;
static struct user *users[USERS];
static uint64_t randoms;
static int64_t time_ms;

static const char *films[CLASSES_AT_MOST];

static void name_films(void)
{
	static char names[CLASSES_AT_MOST][16];
	for (int i = 0; i < CLASSES_AT_MOST; i++) {
		(void)snprintf(names[i], sizeof names[i], "film %d", i);
		films[i] = names[i];
	}
}

static void begin(bool causal)
{
	struct error err;
	name_films();
	serving_open(&s, causal, kinds);
	randoms = 5;
	time_ms = 1000000;
	cache = (struct user_cache){ .budget_bytes = SIZE_MAX, .state_bytes = trunk_state_bytes(s.backbone) };
	shard = shard_new(0, &thinning);
	assert_non_null(shard);
	assert_int_equal(trunk_new(s.backbone, &cache, &trunk, &err), STATUS_OK);
	assert_int_equal(scorer_new(s.backbone, s.net, trunk, &scorer, &err), STATUS_OK);
	for (int i = 0; i < USERS; i++) {
		char name[16];
		int length = snprintf(name, sizeof name, "user %d", i);
		users[i] = user_cache_add(&cache, shard, (struct slice){ (const uint8_t *)name, (size_t)length });
		assert_non_null(users[i]);
	}
}

static void finish(void)
{
	scorer_free(scorer);
	trunk_free(trunk);
	shard_free(shard, &cache);
	assert_int_equal(cache.bytes, 0);
	serving_close(&s);
}

static void place(struct user *u)
{
	struct error err;
	char item[16];
	enum sequence_place where;
	int length = snprintf(item, sizeof item, "item %d", (int)(fixture_random(&randoms) % (FIXTURE_ITEMS + 3)));
	time_ms += 10;
	int64_t at_ms = fixture_random(&randoms) % 5 ? time_ms : time_ms - (int64_t)(fixture_random(&randoms) % 3000);
	struct event event = { hash_item(item, (size_t)length), at_ms };
	assert_int_equal(sequence_insert(&u->sequence, KEEP, event, &where, &err), STATUS_OK);
	if (where == SEQUENCE_LATE)
		return;
	u->stale = u->stale || where == SEQUENCE_INSERTED;
	u->fresh++;
	user_cache_resize(&cache, u);
}

/* Some events of everybody: one user has one, the last ones more than are kept. */
static void stretch(size_t most)
{
	for (size_t i = 0; i < USERS; i++)
		for (size_t n = 1 + i * most / USERS; n > 0; n--)
			place(users[i]);
}

/* A set with versions of these seeds, in the order of the names; 0: the task has no patch. */
static struct task_set *set_of(const uint64_t seeds[8], uint32_t classes)
{
	struct served entries[8];
	struct task_set *set = NULL;
	struct error err;
	assert_int_equal(s.tasks->count, 8);
	for (size_t i = 0; i < 8; i++) {
		struct served_task *task = s.tasks->entries[i].task;
		bool grows = task->spec.type == PATCH_RANKING;
		entries[i] = (struct served){ task, NULL };
		if (seeds[i])
			entries[i].patch = serving_version(
				&s, serving_patch(&s, task, seeds[i], grows ? films : NULL, grows ? classes : 0),
				seeds[i]);
	}
	assert_int_equal(task_set_new(entries, 8, &set, &err), STATUS_OK);
	for (size_t i = 0; i < 8; i++)
		served_patch_release(entries[i].patch);
	return set;
}

static void use(struct task_set *set)
{
	struct error err;
	assert_int_equal(scorer_use(scorer, set, &err), STATUS_OK);
	task_set_release(set);
}

/* The task's scores of all classes, by the trainable network from the events alone. */
static void recompute(const struct served *entry, const struct user *u, float *out)
{
	struct tuner *tuner = NULL;
	struct error err;
	uint32_t items[KEEP];
	for (uint32_t i = 0; i < u->sequence.length; i++)
		items[i] = backbone_item(s.backbone, u->sequence.events[i].item);
	const struct tuner_example example = { .items = items, .length = u->sequence.length, .weight = 1 };
	const struct tuner_batch batch = { &example, NULL, 1 };
	assert_int_equal(tuner_new(entry->patch->patch, s.net, NULL, &parallel_none, 1, &tuner, &err), STATUS_OK);
	tuner_scores(tuner, &batch, out);
	tuner_free(tuner);
}

static void expect_close(float got, float expected, float scale)
{
	if (!(fabsf(got - expected) <= 1e-5F * (1 + scale)))
		fail_msg("%.9g instead of %.9g", (double)got, (double)expected);
}

static void expect_score(const struct served *entry, const struct update_score *score, const struct user *u)
{
	float full[CLASSES_AT_MOST];
	const struct patch *p = entry->patch->patch;
	float scale = 0;
	const char *name = entry->task->definition.name;
	assert_int_equal(score->task.length, strlen(name));
	assert_memory_equal(score->task.data, name, score->task.length);
	assert_int_equal(score->version, entry->patch->version);
	assert_memory_equal(score->patch.data, entry->patch->hash, HASH_HEX_LENGTH);
	recompute(entry, u, full);
	for (uint32_t i = 0; i < p->classes; i++)
		scale = fmaxf(scale, fabsf(full[i]));
	const size_t k = (size_t)entry->task->definition.scores_k;
	const bool ranking = p->spec.type == PATCH_RANKING;
	assert_int_equal(score->count, ranking && k < p->classes ? k : p->classes);
	for (size_t i = 0; i < score->count; i++) {
		const uint32_t row = ranking ? score->rows[i] : (uint32_t)i;
		const char *label = p->labels ? p->labels[row] : "";
		assert_true(row < p->classes);
		assert_int_equal(score->labels[row].length, strlen(label));
		assert_memory_equal(score->labels[row].data, label, strlen(label));
		expect_close(score->values[i], full[row], scale);
		if (ranking && i > 0)
			assert_true(score->values[i] <= score->values[i - 1]);
	}
	for (uint32_t row = 0; ranking && row < p->classes && score->count > 0; row++) { /* none left out is better */
		bool there = false;
		for (size_t i = 0; i < score->count; i++)
			there = there || score->rows[i] == row;
		if (!there)
			assert_true(full[row] <= score->values[score->count - 1] + 1e-5F * (1 + scale));
	}
}

static void expect_scores(const struct task_set *set, size_t first, size_t n)
{
	float embeddings[SCORER_ROWS * D];
	struct error err;
	assert_int_equal(trunk_embed(trunk, users + first, n, embeddings, &err), STATUS_OK);
	assert_int_equal(scorer_run(scorer, users + first, n, embeddings, &err), STATUS_OK);
	for (size_t i = 0; i < n; i++) {
		size_t count = 0, at = 0;
		const struct update_score *scores = scorer_of(scorer, i, &count);
		for (size_t t = 0; t < set->count; t++)
			if (set->entries[t].patch)
				expect_score(&set->entries[t], &scores[at++], users[first + i]);
		assert_int_equal(at, count);
	}
}

static const uint64_t all[8] = { 11, 12, 13, 14, 15, 16, 17, 18 };

static void every_kind(bool causal)
{
	begin(causal);
	struct task_set *set = task_set_hold(set_of(all, CLASSES_AT_MOST));
	assert_false(scorer_has_work(scorer));
	use(set);
	assert_true(scorer_has_work(scorer));
	for (int round = 0; round < 3; round++) { /* built at once, then column by column, with events between */
		stretch(round == 0 ? KEEP + 10 : 3);
		expect_scores(set, 0, SCORER_ROWS);
		expect_scores(set, SCORER_ROWS, USERS - SCORER_ROWS);
		expect_scores(set, 7, 1);
	}
	task_set_release(set);
	finish();
}

static void streams_score_as_windows_do(void **state)
{
	every_kind(true);
}

static void so_do_windows_where_nothing_streams(void **state)
{
	every_kind(false);
}

/* Swaps, growth, tasks without a patch, and back to nothing; what is held of an old set goes with its last holder. */
static void sets_change(void **state)
{
	static const uint64_t swapped[8] = { 11, 22, 23, 14, 15, 26, 17, 28 }, fewer[8] = { 0, 22, 0, 34, 0, 0, 0, 0 },
			      inside[8] = { 0, 0, 0, 0, 0, 0, 17, 0 }, none[8] = { 0 };
	static const uint64_t *const seeds[] = { all, swapped, swapped, fewer, inside, none, all };
	static const uint32_t classes[] = { 3, 3, CLASSES_AT_MOST, 7, 7, 7, 0 };
	begin(true);
	for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
		struct task_set *set = task_set_hold(set_of(seeds[i], classes[i]));
		use(set);
		assert_int_equal(scorer_has_work(scorer), seeds[i] != none);
		stretch(5);
		expect_scores(set, 0, 40);
		task_set_release(set);
	}
	finish();
}

/* What stays of a swap is the other patches' memory, not their scores: those follow their own patch. */
static void a_patch_that_stays_keeps_its_memory(void **state)
{
	begin(true);
	struct task_set *first = task_set_hold(set_of(all, 9)), *second = NULL;
	struct served entries[8];
	struct error err;
	use(first);
	stretch(5);
	expect_scores(first, 0, 10);
	memcpy(entries, first->entries, sizeof entries);
	entries[0].patch = serving_version(&s, serving_patch(&s, entries[0].task, 99, NULL, 0), 99);
	assert_int_equal(task_set_new(entries, 8, &second, &err), STATUS_OK);
	served_patch_release(entries[0].patch);
	size_t count;
	const struct slice *labels = scorer_of(scorer, 0, &count)[2].labels;
	use(task_set_hold(second));
	assert_ptr_equal(scorer_of(scorer, 0, &count)[2].labels, labels);
	expect_scores(second, 3, 20);
	task_set_release(first);
	expect_scores(second, 3, 20);
	task_set_release(second);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_score_as_windows_do),
		cmocka_unit_test(so_do_windows_where_nothing_streams),
		cmocka_unit_test(sets_change),
		cmocka_unit_test(a_patch_that_stays_keeps_its_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
