/* Lineages over a topic that is a table in memory, and examples for them. */
#ifndef TESTS_UNIT_LINEAGE_FIXTURE_H
#define TESTS_UNIT_LINEAGE_FIXTURE_H

#include "config/config.h"
#include "daemon/lineage.h"
#include "daemon/task_set.h"
#include "io/sequence.h"
#include "model_fixture.h"
#include "network_fixture.h"

#ifndef LINEAGE_REPLAY
#define LINEAGE_REPLAY "200" /* examples that are kept to be trained on again */
#endif

static const char yaml[] =
	"backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\npatch: {max_age_ms: 1}\ntasks:\n"
	"  - {name: hue, type: classification, bottleneck: 4, mean_window: 7, replay: " LINEAGE_REPLAY "}\n"
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
	struct example e = { .kind = floats > 0 ? EXAMPLE_TEXT : EXAMPLE_NUMBER,
			     .task = text(task->definition.name),
			     .definition = text(task->hash),
			     .backbone = text(backbone_hash(fx.backbone)),
			     .user_id = text(user),
			     .text = floats > 0 ? text(states[0] > 0 ? "red" : "blue") : (struct slice){ NULL, 0 },
			     .number = i % 7,
			     .weight = 1,
			     .events = { events.data, events.length },
			     .states = { (const uint8_t *)states, floats * sizeof *states } };
	if (i % 50 == 49)
		e.kind = EXAMPLE_FORGET;
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

/* ---- set up ---- */

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

#endif
