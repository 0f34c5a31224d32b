/* A lineage in the learner lane over a topic that is a table in memory: what it is after being opened again, from any point,
 * and what it does with examples that are gone, foreign, or too many. */
#include "base/clock.h"
#include "lineage_fixture.h"
#include "log_fixture.h"

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

static void break_slot(uint32_t slot)
{
	struct error err;
	struct patch_change change;
	char key_text[PATCH_KEY_SIZE];
	const struct patch_key key = { .kind = PATCH_KEY_CHUNK, .task = text("hue"), .slot = slot };
	const struct slice k = { (const uint8_t *)key_text, patch_key_format(&key, key_text) };
	assert_int_equal(patch_table_apply(fx.table, k, text("x"), 0, fx.topic_offset++, &change, &err), STATUS_OK);
}

/* A checkpoint that cannot be read is told of; what is older does. */
static void without_its_checkpoint_it_says_so_and_is_the_same(void **state)
{
	char said[1024];
	record_examples("hue");
	struct lineage *first = open_lineage("hue");
	live(first, 0, 200, 20);
	first->checkpoint_us -= INT64_C(1000000000);
	live(first, 200, 300, 20);
	break_slot(PATCH_VERSION_SLOTS);
	log_begin();
	struct lineage *second = open_lineage("hue");
	assert_non_null(strstr(log_end(said, sizeof said),
			       "warning: task hue: a checkpoint on topic peterd.patches is damaged: slot 4: "));
	assert_int_equal(second->read_offset, FIRST);
	log_begin();
	catch_up(second, 300);
	assert_string_equal(log_end(said, sizeof said), "");
	expect_same(first, second);
	lineage_close(first);
	lineage_close(second);
}

/* On another kind of processor: said once a lineage, and the recorded names stay. */
static void what_comes_out_different_is_said_once(void **state)
{
	char said[4096];
	record_examples("hue");
	struct lineage *first = open_lineage("hue");
	live(first, 0, 333, 17);
	const struct patch_entry *entry = patch_table_find(fx.table, "hue");
	for (size_t i = 1; i < entry->decision_count; i++) {
		struct patch_record *r = entry->decisions[i];
		r->patch[0] = r->patch[0] == 'a' ? 'b' : 'a';
		r->weights.sha256[0] = r->patch[0];
	}
	struct lineage *second = open_lineage("hue");
	log_begin();
	catch_up(second, 333);
	const char *warning = strstr(log_end(said, sizeof said), ", done again, is ");
	assert_non_null(warning);
	assert_null(strstr(warning + 1, ", done again, is "));
	assert_string_equal(learner_live(second->learner)->hash, patch_entry_newest(entry)->patch);
	lineage_close(first);
	lineage_close(second);
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

static void ask_for_rollback(struct lineage *l, int64_t offset)
{
	struct error err;
	const struct example request = { .kind = EXAMPLE_ROLLBACK,
					 .task = text("hue"),
					 .definition = text(task_of("hue")->hash),
					 .backbone = text(backbone_hash(fx.backbone)),
					 .timestamp_ms = clock_wall_ms() + 1 };
	assert_int_equal(lineage_take(l, offset, &request, &err), STATUS_OK);
}

static void a_person_rolls_back(void **state)
{
	record_examples("hue");
	struct lineage *first = open_lineage("hue");
	live(first, 0, 200, 20);
	const uint64_t before = learner_predecessor(first->learner)->version;
	const struct example elsewhere = { .kind = EXAMPLE_ROLLBACK,
					   .task = text("hue"),
					   .definition = text(task_of("hue")->hash),
					   .backbone = text("another"),
					   .timestamp_ms = clock_wall_ms() + 1 };
	struct error err;
	assert_int_equal(lineage_take(first, fx.examples[199].offset + 1, &elsewhere, &err), STATUS_OK);
	assert_int_equal(first->waiting_count, 0); /* it means another lineage */
	hand(first, 200);
	ask_for_rollback(first, fx.examples[200].offset + 1);
	hand(first, 201);
	char said[4096];
	log_begin();
	for (int i = 0; i < 3; i++)
		work(first, fx.examples[201].offset + 1);
	assert_non_null(strstr(log_end(said, sizeof said), "is taken back"));
	const struct patch_entry *entry = patch_table_find(fx.table, "hue");
	const struct patch_record *r = NULL;
	for (size_t i = 0; i < entry->decision_count; i++)
		if (entry->decisions[i]->decision == PATCH_ROLLED_BACK &&
		    entry->decisions[i]->gate.reason == PATCH_ASKED)
			r = entry->decisions[i];
	assert_non_null(r);
	assert_true(r->version >= before);
	assert_int_equal(r->examples.next, fx.examples[200].offset + 2);
	live(first, 202, 300, 20);
	struct lineage *second = open_lineage("hue");
	for (int i = 0; i < 300; i++) {
		hand(second, i);
		if (i == 200)
			ask_for_rollback(second, fx.examples[200].offset + 1);
	}
	struct learner_options never = second->setup.options;
	never.min_age_ms = never.max_age_ms = INT64_MAX / 2;
	learner_set_cadence(second->learner, &never);
	work(second, fx.examples[299].offset + 1);
	learner_set_cadence(second->learner, &second->setup.options);
	expect_same(first, second);
	lineage_close(first);
	lineage_close(second);
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
	live(l, 0, 100, 50);
	uint64_t before = l->counts.steps;
	for (int i = 100; !lineage_is_full(l); i++)
		hand(l, i);
	assert_true(lineage_busy(l));
	struct error err;
	assert_int_equal(lineage_work(l, l->read_offset, &err), STATUS_OK);
	assert_int_equal(l->counts.shed, 0); /* a burst is worked off */
	assert_true(l->counts.steps > before + 1);
	before = l->counts.steps;
	assert_true(l->behind_us > 0);
	l->behind_us -= INT64_C(10000000);
	assert_int_equal(lineage_work(l, l->read_offset, &err), STATUS_OK);
	assert_true(l->counts.shed > 0);
	assert_int_equal(l->counts.steps, before + 1);
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

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(side_patches_are_the_same_again),
		TEST(serial_patches_are_the_same_again),
		TEST(from_a_checkpoint_it_is_the_same),
		TEST(without_its_checkpoint_it_says_so_and_is_the_same),
		TEST(what_comes_out_different_is_said_once),
		TEST(records_name_each_example_once),
		TEST(where_examples_are_gone_it_begins_anew),
		TEST(foreign_states_are_made_anew),
		TEST(a_person_rolls_back),
		TEST(labels_of_another_kind_are_passed_over),
		TEST(too_many_are_trained_on_less),
		TEST(a_definition_that_changes_begins_anew),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
