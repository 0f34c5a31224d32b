/* A lineage in the learner lane over a topic that is a table in memory: what it is after being opened again, from any point,
 * and what it does with examples that are gone, foreign, or too many. */
#include "config/config.h"
#include "daemon/lineage.h"
#include "daemon/task_set.h"
#include "io/sequence.h"
#include "model_fixture.h"
#include "network_fixture.h"

static const char yaml[] = "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\npatch: {max_age_ms: 1}\ntasks:\n"
			   "  - {name: hue, type: classification, bottleneck: 4, mean_window: 7, replay: 200}\n"
			   "  - {name: size, type: regression, insertion: serial, bottleneck: 2, max_age_ms: 1}\n";

enum { EXAMPLES = 1200, PARTITION = 3, FIRST = 1000 /* offset */, PAST = 9 };

struct recorded { /* an example on its topic */
	struct buffer bytes;
	int64_t offset;
};

static struct {
	struct config *config;
	struct backbone *backbone;
	struct network *net;
	struct task_set *tasks;
	struct example_input *input;
	struct lineage_context ctx;
	struct patch_table *table; /* the patches topic */
	int64_t topic_offset;
	struct recorded examples[EXAMPLES];
} fx;

/* ---- the topic ---- */

static void put(const struct patch_key *key, const void *value, size_t length)
{
	struct error err;
	struct patch_change change;
	char text[PATCH_KEY_SIZE];
	const struct slice k = { (const uint8_t *)text, patch_key_format(key, text) };
	assert_int_equal(
		patch_table_apply(fx.table, k, (struct slice){ value, length }, 0, fx.topic_offset++, &change, &err),
		STATUS_OK);
	assert_null(change.refusal);
}

/* What io/patch_topic.c does on a producer. */
enum status patch_writer_write(struct patch_writer *w, struct patch_plan *plan, struct patch_record *record,
			       struct slice bytes, struct error *err)
{
	struct buffer value = { 0 };
	struct patch_key key = { .task = { (const uint8_t *)record->task, strlen(record->task) } };
	record->has_weights = bytes.data != NULL;
	if (bytes.data) {
		record->weights.slot = key.slot = patch_plan_slot(plan, record);
		record->weights.chunks = 1;
		record->weights.bytes = bytes.length;
		hash_sha256_hex(bytes.data, bytes.length, record->weights.sha256);
		if (record->decision != PATCH_CHECKPOINT)
			assert_string_equal(record->weights.sha256, record->patch);
		key.kind = PATCH_KEY_CHUNK;
		put(&key, bytes.data, bytes.length);
		patch_record_encode_manifest(record, &value);
		key.kind = PATCH_KEY_MANIFEST;
		put(&key, value.data, value.length);
		buffer_clear(&value);
	}
	patch_record_encode(record, &value);
	key.kind = PATCH_KEY_DECISION;
	key.number = (uint32_t)(record->number % PATCH_DECISIONS);
	put(&key, value.data, value.length);
	buffer_free(&value);
	patch_plan_note(plan, record);
	return STATUS_OK;
}

/* ---- examples ---- */

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static struct served_task *task_of(const char *name)
{
	return task_set_entry(fx.tasks, text(name))->task;
}

/* The label follows the states' first float; events are there for patches that need them. */
static void record_example(int i, const struct served_task *task, uint64_t *random)
{
	struct buffer events = { 0 };
	struct sequence past = { 0 };
	struct error err;
	char user[16];
	float states[256];
	const size_t floats = task->levels_count * 2 * backbone_dim(fx.backbone);
	assert_true(floats <= 256);
	for (size_t k = 0; k < floats; k++)
		states[k] = (float)(fixture_random(random) % 2000) / 1000 - 1;
	for (int k = 0; k < PAST; k++) {
		enum sequence_place place;
		struct event e = { hash_item("item 1", 6) + (uint64_t)(i + k) % 3, k };
		assert_int_equal(sequence_insert(&past, PAST, e, &place, &err), STATUS_OK);
	}
	sequence_encode(&past, &events);
	sequence_free(&past);
	(void)snprintf(user, sizeof user, "u%d", i % 100);
	struct example e = { .task = text(task->definition.name),
			     .definition = text(task->hash),
			     .backbone = text(backbone_hash(fx.backbone)),
			     .user_id = text(user),
			     .text = floats > 0 ? text(states[0] > 0 ? "red" : "blue") : (struct slice){ NULL, 0 },
			     .number = i % 7,
			     .weight = 1,
			     .events = { events.data, events.length },
			     .states = { (const uint8_t *)states, floats * sizeof *states } };
	if (i % 50 == 49)
		e.forget = true;
	example_encode(&e, &fx.examples[i].bytes);
	fx.examples[i].offset = FIRST + 2 * i; /* other tasks' lie between */
	buffer_free(&events);
}

static void record_examples(const char *name)
{
	uint64_t random = 5;
	for (int i = 0; i < EXAMPLES; i++) {
		buffer_clear(&fx.examples[i].bytes);
		record_example(i, task_of(name), &random);
	}
}

static void hand(struct lineage *l, int i)
{
	struct error err;
	struct example e;
	const struct buffer *b = &fx.examples[i].bytes;
	assert_int_equal(example_decode((struct slice){ b->data, b->length }, &e, &err), STATUS_OK);
	assert_int_equal(lineage_take(l, fx.examples[i].offset, &e, &err), STATUS_OK);
}

/* ---- a life ---- */

static struct lineage *open_lineage(const char *name)
{
	struct error err;
	struct lineage *l = NULL;
	const struct patch_entry *entry = patch_table_find(fx.table, name);
	if (lineage_open(&fx.ctx, task_of(name), entry, PARTITION, FIRST, FIRST + 2 * EXAMPLES, &l, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_false(l->failed);
	return l;
}

/* One round: works, and writes. */
static void work(struct lineage *l, int64_t position)
{
	struct error err;
	if (lineage_work(l, position, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	if (lineage_has_writes(l))
		assert_int_equal(lineage_write(l, NULL, &err), STATUS_OK);
}

/* Hands over the examples [from, end) in cuts, as they come. */
static void live(struct lineage *l, int from, int end, int cut)
{
	for (int i = from; i < end; i += cut) {
		int last = i + cut < end ? i + cut : end;
		for (int k = i; k < last; k++)
			hand(l, k);
		work(l, fx.examples[last - 1].offset + 1);
	}
}

/* Reads again from where it asks for, up to `end`, and decides nothing of its own. */
static void catch_up(struct lineage *l, int end)
{
	struct learner_options never = l->setup.options;
	never.min_age_ms = never.max_age_ms = INT64_MAX / 2;
	learner_set_cadence(l->learner, &never);
	for (int i = 0; i < end; i++) {
		hand(l, i);
		if (lineage_is_full(l) || i % 100 == 0)
			work(l, fx.examples[i].offset + 1);
	}
	work(l, fx.examples[end - 1].offset + 1);
	assert_int_equal(l->repeat_count, 0);
	learner_set_cadence(l->learner, &l->setup.options);
}

static void expect_same(const struct lineage *a, const struct lineage *b)
{
	struct error err;
	struct buffer one = { 0 }, other = { 0 };
	const struct patch *x = learner_live(a->learner), *y = learner_live(b->learner);
	assert_string_equal(x->hash, y->hash);
	assert_true(learner_counts(a->learner)->labels == learner_counts(b->learner)->labels);
	assert_int_equal(learner_save(a->learner, true, &one, &err), STATUS_OK);
	assert_int_equal(learner_save(b->learner, true, &other, &err), STATUS_OK);
	assert_int_equal(one.length, other.length);
	assert_memory_equal(one.data, other.data, one.length);
	buffer_free(&one);
	buffer_free(&other);
}

static void again_from_creation_it_is_the_same(const char *name)
{
	record_examples(name);
	struct lineage *first = open_lineage(name);
	live(first, 0, 333, 17);
	assert_true(learner_live(first->learner)->version > 3);
	struct lineage *second = open_lineage(name);
	assert_int_equal(second->read_offset, FIRST);
	catch_up(second, 333);
	expect_same(first, second);
	lineage_close(first);
	lineage_close(second);
}

static void side_patches_are_the_same_again(void **state)
{
	again_from_creation_it_is_the_same("hue");
}

static void serial_patches_are_the_same_again(void **state)
{
	again_from_creation_it_is_the_same("size");
}

static void from_a_checkpoint_it_is_the_same(void **state)
{
	record_examples("hue");
	struct lineage *first = open_lineage("hue");
	live(first, 0, 700, 23);
	first->checkpoint_us -= INT64_C(1000000000); /* it is time for one */
	live(first, 700, 723, 23);
	live(first, 723, 1000, 19);
	struct lineage *second = open_lineage("hue");
	assert_true(second->next_offset >= fx.examples[722].offset);
	assert_true(second->read_offset > FIRST); /* no older than the reservoir needs */
	assert_true(second->read_offset < second->next_offset);
	assert_false(second->filled);
	catch_up(second, 1000);
	expect_same(first, second);
	live(second, 1000, 1200, 40); /* goes on, and so does a third */
	struct lineage *third = open_lineage("hue");
	catch_up(third, 1200);
	expect_same(second, third);
	const struct patch_entry *entry = patch_table_find(fx.table, "hue");
	assert_string_equal(patch_entry_newest(entry)->patch, learner_live(third->learner)->hash);
	assert_int_equal(patch_entry_newest(entry)->labels_trained, EXAMPLES - EXAMPLES / 50);
	lineage_close(first);
	lineage_close(second);
	lineage_close(third);
}

/* Every example is in exactly one cut of the records. */
static void records_name_each_example_once(void **state)
{
	record_examples("hue");
	struct lineage *l = open_lineage("hue");
	live(l, 0, 600, 31);
	const struct patch_entry *entry = patch_table_find(fx.table, "hue");
	int64_t next = FIRST;
	uint64_t examples = 0;
	for (size_t i = 0; i < entry->decision_count; i++) {
		const struct patch_record *r = entry->decisions[i];
		assert_int_equal(r->number, i + 1);
		assert_int_equal(r->examples.first, next);
		for (size_t k = 0; k < r->cut_count; k++) {
			assert_int_equal(r->cuts[k].offset, fx.examples[examples].offset);
			examples += r->cuts[k].count;
		}
		next = r->examples.next;
	}
	assert_int_equal(examples, 600);
	assert_int_equal(next, fx.examples[599].offset + 1);
	lineage_close(l);
}

static void where_examples_are_gone_it_begins_anew(void **state)
{
	record_examples("hue");
	struct lineage *l = open_lineage("hue");
	live(l, 0, 300, 20);
	lineage_close(l);
	l = open_lineage("hue");
	for (int i = 100; i < 300; i++) /* retention has taken the others */
		hand(l, i);
	work(l, fx.examples[299].offset + 1);
	assert_true(l->rewind);
	assert_int_equal(l->read_offset, FIRST);
	assert_int_equal(learner_live(l->learner)->version, 1);
	l->rewind = false;
	for (int i = 100; i < 300; i++)
		hand(l, i);
	work(l, fx.examples[299].offset + 1);
	assert_int_equal(learner_counts(l->learner)->labels, 200 - 4);
	lineage_close(l);
}

/* Examples of another backbone come with states that mean nothing here. */
static void foreign_states_are_made_anew(void **state)
{
	struct error err;
	struct taken_example taken;
	struct example e;
	const struct served_task *task = task_of("hue");
	const struct learner_setup setup = learner_setup(task, fx.config, fx.backbone, fx.net);
	const size_t floats = task->levels_count * 2 * backbone_dim(fx.backbone);
	record_examples("hue");
	const struct buffer *b = &fx.examples[0].bytes;
	assert_int_equal(example_decode((struct slice){ b->data, b->length }, &e, &err), STATUS_OK);
	assert_int_equal(example_input_take(fx.input, task, &setup, &e, 7, &taken, &err), STATUS_OK);
	assert_memory_equal(taken.example.state, e.states.data, e.states.length);
	assert_string_equal(taken.example.label[0] == 'r' ? "red" : "blue", taken.example.label);
	free(taken.memory);

	e.backbone = text("another");
	assert_int_equal(example_input_take(fx.input, task, &setup, &e, 7, &taken, &err), STATUS_OK);
	float expected[256];
	uint32_t items[PAST];
	struct sequence past = { 0 };
	const uint8_t *at = e.events.data;
	assert_int_equal(sequence_decode(&past, &at, e.events.data + e.events.length, &err), STATUS_OK);
	for (int i = 0; i < PAST; i++)
		items[i] = backbone_item(fx.backbone, past.events[i].item);
	sequence_free(&past);
	struct backbone_workspace *ws = fixture_workspace(fx.backbone);
	assert_int_equal(backbone_workspace_reserve(fx.backbone, ws, 7, &err), STATUS_OK);
	backbone_side_states(fx.backbone, ws, 1, (const size_t[]){ 0, PAST }, items, 7, task->levels,
			     task->levels_count, expected);
	assert_memory_equal(taken.example.state, expected, floats * sizeof *expected);
	backbone_workspace_free(ws);
	free(taken.memory);
}

static void labels_of_another_kind_are_passed_over(void **state)
{
	record_examples("size"); /* numbers */
	struct lineage *l = open_lineage("hue");
	live(l, 0, 49, 10);
	assert_int_equal(learner_counts(l->learner)->labels, 0);
	lineage_close(l);
}

static void too_many_are_trained_on_less(void **state)
{
	record_examples("size");
	struct lineage *l = open_lineage("size");
	for (int i = 0; !lineage_is_full(l); i++)
		hand(l, i);
	assert_true(lineage_busy(l));
	struct error err;
	assert_int_equal(lineage_work(l, l->read_offset, &err), STATUS_OK);
	assert_true(l->counts.shed > 0);
	assert_int_equal(l->counts.steps, 1);
	lineage_close(l);
}

static void a_definition_that_changes_begins_anew(void **state)
{
	record_examples("hue");
	struct lineage *l = open_lineage("hue");
	live(l, 0, 100, 20);
	const uint64_t number = l->plan.number;
	lineage_close(l);
	char *hash = task_of("hue")->hash;
	hash[0] = hash[0] == 'a' ? 'b' : 'a';
	l = open_lineage("hue");
	work(l, FIRST);
	assert_int_equal(learner_live(l->learner)->version, 1);
	assert_int_equal(l->read_offset, FIRST);
	const struct patch_record *newest = patch_entry_newest(patch_table_find(fx.table, "hue"));
	assert_int_equal(newest->number, number);
	assert_int_equal(newest->decision, PATCH_CREATED);
	lineage_close(l);
}

/* ---- */

static int set_up(void **state)
{
	struct error err;
	const struct random_backbone r = {
		.channels = 16, .kernel_size = 3, .dilations = "1,2", .causal = true, .seed = 3
	};
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, &r);
	assert_int_equal(backbone_load(path, &fx.backbone, &err), STATUS_OK);
	assert_int_equal(network_load(path, &fx.net, &err), STATUS_OK);
	(void)unlink(path);
	if (config_parse("test.yaml", yaml, sizeof yaml - 1, &fx.config, &err))
		fail_msg("%s", err.text);
	assert_int_equal(example_input_new(fx.backbone, &fx.input, &err), STATUS_OK);
	fx.ctx = (struct lineage_context){ fx.config, fx.backbone, fx.net, fx.input };
	return 0;
}

static int tear_down(void **state)
{
	for (int i = 0; i < EXAMPLES; i++)
		buffer_free(&fx.examples[i].bytes);
	example_input_free(fx.input);
	config_free(fx.config);
	network_free(fx.net);
	backbone_free(fx.backbone);
	return 0;
}

static int begin(void **state)
{
	struct error err;
	struct config *c = NULL;
	fx.topic_offset = 0;
	assert_int_equal(config_parse("test.yaml", yaml, sizeof yaml - 1, &c, &err), STATUS_OK);
	assert_int_equal(task_set_of(c->tasks, c->tasks_count, 2, &fx.tasks, &err), STATUS_OK);
	config_free(c);
	assert_int_equal(patch_table_new(true, &fx.table, &err), STATUS_OK);
	return 0;
}

static int end(void **state)
{
	patch_table_free(fx.table);
	task_set_release(fx.tasks);
	return 0;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(side_patches_are_the_same_again),        TEST(serial_patches_are_the_same_again),
		TEST(from_a_checkpoint_it_is_the_same),       TEST(records_name_each_example_once),
		TEST(where_examples_are_gone_it_begins_anew), TEST(foreign_states_are_made_anew),
		TEST(labels_of_another_kind_are_passed_over), TEST(too_many_are_trained_on_less),
		TEST(a_definition_that_changes_begins_anew),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
