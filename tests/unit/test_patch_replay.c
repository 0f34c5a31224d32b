/* peterctl patch verify on topics that are tables in memory: what a lineage has written comes out again, from its beginning or
 * from a checkpoint where examples or records are gone, and what was tampered with does not. */
#define LINEAGE_REPLAY "40" /* those of a checkpoint are soon gone */

#include "io/patch_topic.h"
#include "io/task_topic.h"
#include "lineage_fixture.h"
#include "tools/ctl.h"
#include "tools/patch_replay.h"
#include "tools/scan.h"

#include <librdkafka/rdkafka.h>

static char backbone_path[] = "/tmp/peterd-replay-XXXXXX";
static int removed; /* as many examples of the beginning are gone */
static int hidden;  /* so is this one, -1: none */

/* ---- the topics ---- */

static struct task_table *tasks;

enum status patch_topic_open(const struct config *config, bool checkpoints, int timeout_ms, struct patch_topic **ret,
			     struct error *err)
{
	assert_true(checkpoints);
	*ret = NULL;
	return STATUS_OK;
}

enum status patch_topic_catch_up(struct patch_topic *t, int timeout_ms, struct error *err)
{
	return STATUS_OK;
}

enum status patch_topic_poll(struct patch_topic *t, int wait_ms, bool *ret_got, struct patch_change *ret,
			     struct error *err)
{
	*ret_got = false;
	return STATUS_OK;
}

const struct patch_table *patch_topic_table(const struct patch_topic *t)
{
	return fx.table;
}

void patch_topic_close(struct patch_topic *t)
{
}

enum status task_topic_open(const struct config *config, const struct task_judge *judge, int timeout_ms,
			    struct task_topic **ret, struct error *err)
{
	*ret = NULL;
	return task_table_new(judge, &tasks, err); /* empty: the configuration's tasks count */
}

enum status task_topic_catch_up(struct task_topic *t, int timeout_ms, struct error *err)
{
	return STATUS_OK;
}

const struct task_table *task_topic_table(const struct task_topic *t)
{
	return tasks;
}

void task_topic_close(struct task_topic *t)
{
	task_table_free(tasks);
	tasks = NULL;
}

static int reading; /* index of the next example */
static rd_kafka_message_t message;

enum status scan_open(const struct config *config, const char *topic, enum scan_from from, bool bounded,
		      struct scan **ret, struct error *err)
{
	*ret = NULL;
	reading = removed;
	return STATUS_OK;
}

void scan_close(struct scan *s)
{
}

int32_t scan_partitions(const struct scan *s)
{
	return PARTITION + 1;
}

int64_t scan_start(const struct scan *s, int32_t partition)
{
	return fx.examples[removed].offset;
}

bool scan_ended(const struct scan *s)
{
	return reading == EXAMPLES;
}

enum status scan_next(struct scan *s, int wait_ms, rd_kafka_message_t **ret, struct error *err)
{
	reading += reading == hidden;
	*ret = NULL;
	if (reading == EXAMPLES)
		return STATUS_OK;
	static char key[] = "hue";
	const struct recorded *e = &fx.examples[reading++];
	message = (rd_kafka_message_t){ .partition = PARTITION,
					.offset = e->offset,
					.key = key,
					.key_len = sizeof key - 1,
					.payload = e->bytes.data,
					.len = e->bytes.length };
	*ret = &message;
	return STATUS_OK;
}

void rd_kafka_message_destroy(rd_kafka_message_t *m)
{
	assert_ptr_equal(m, &message);
}

/* ---- a lineage ---- */

static void work(struct lineage *l, int from, int end)
{
	struct error err;
	for (int i = from; i < end; i += 20) {
		for (int k = i; k < i + 20; k++)
			hand(l, k);
		if (lineage_work(l, fx.examples[i + 19].offset + 1, &err))
			fail_msg("%s", err.text);
		if (lineage_has_writes(l))
			assert_int_equal(lineage_write(l, NULL, &err), STATUS_OK);
	}
}

/* Checkpoints come after the examples 400 and 800. */
static void learn(void)
{
	record_examples("hue");
	struct lineage *l = open_lineage("hue");
	work(l, 0, 400);
	l->checkpoint_us -= INT64_C(1000000000); /* it is time for one */
	work(l, 400, 800);
	l->checkpoint_us -= INT64_C(1000000000);
	work(l, 800, EXAMPLES);
	lineage_close(l);
}

static const struct patch_entry *entry(void)
{
	return patch_table_find(fx.table, "hue");
}

/* A record of the topic as anybody may write it; data NULL: a tombstone. Returns what the table has to say against it. */
static const char *write_record(const struct patch_key *key, const uint8_t *data, size_t length)
{
	struct error err;
	struct patch_change change;
	char key_text[PATCH_KEY_SIZE];
	const struct slice k = { (const uint8_t *)key_text, patch_key_format(key, key_text) };
	assert_int_equal(
		patch_table_apply(fx.table, k, (struct slice){ data, length }, 0, fx.topic_offset++, &change, &err),
		STATUS_OK);
	return change.refusal;
}

static void take_record(uint64_t number)
{
	const struct patch_key key = { .kind = PATCH_KEY_DECISION,
				       .task = text("hue"),
				       .number = (uint32_t)(number % PATCH_DECISIONS) };
	assert_null(write_record(&key, NULL, 0));
}

static struct patch_replay verified(void)
{
	struct patch_replay r = { 0 };
	struct error err;
	if (patch_replay_run(fx.config, "hue", 1000, &r, &err))
		fail_msg("%s", err.text);
	assert_int_equal(r.labels, EXAMPLES - EXAMPLES / 50);
	assert_true(r.newest == patch_entry_newest(entry())->version && r.slots > 0);
	return r;
}

static void assert_finds(const char *words)
{
	struct patch_replay r = { 0 };
	struct error err = { 0 };
	assert_int_equal(patch_replay_run(fx.config, "hue", 1000, &r, &err), STATUS_DATA);
	if (!strstr(err.text, words))
		fail_msg("%s is not in: %s", words, err.text);
}

/* ---- the proof ---- */

static void from_its_beginning(void **state)
{
	learn();
	const struct patch_replay r = verified();
	assert_false(r.from_checkpoint);
	assert_int_equal(r.examples, EXAMPLES);
	assert_int_equal(r.records, entry()->decision_count);
	assert_true(r.versions > 10 && r.versions == r.newest);
}

/* The older checkpoint while its reservoir can be read again, then the newer one, then nothing: retention goes on. */
static void from_a_checkpoint_where_examples_are_gone(void **state)
{
	bool newer = false;
	learn();
	const uint64_t all = verified().versions;
	for (removed = 1; removed < EXAMPLES; removed += 10) {
		struct patch_replay r;
		struct error err;
		const enum status status = patch_replay_run(fx.config, "hue", 1000, &r, &err);
		if (status) {
			assert_int_equal(status, STATUS_DATA);
			assert_non_null(strstr(err.text, "neither its beginning nor a checkpoint is there any more"));
			break;
		}
		assert_true(r.from_checkpoint && r.versions > 0 && r.versions < all);
		assert_true(r.examples == EXAMPLES - 420 || r.examples == EXAMPLES - 820);
		assert_true(removed > 1 || r.examples == EXAMPLES - 420);
		assert_false(newer && r.examples == EXAMPLES - 420);
		newer = newer || r.examples == EXAMPLES - 820;
	}
	assert_true(newer && removed > 500 && removed < 820);
}

/* Compaction, or the thousandth record after it, has taken the creation. */
static void from_a_checkpoint_where_records_are_gone(void **state)
{
	learn();
	take_record(1);
	const struct patch_replay r = verified();
	assert_true(r.from_checkpoint && r.examples == EXAMPLES - 420);
}

/* Its reservoir wants an example that lies in the middle of what is there. */
static void a_gap_before_a_checkpoint_is_found(void **state)
{
	learn();
	take_record(1);
	hidden = 415; /* the newest ones of the checkpoint are there for sure */
	assert_finds("the example at offset 1830, which was trained on again, is not there any more");
}

static void a_missing_example_is_found(void **state)
{
	learn();
	hidden = 700;
	assert_finds("a cut's examples are not there");
	hidden = 701; /* in the middle of a cut: the ones behind it move up */
	assert_finds("");
}

static void another_label_is_found(void **state)
{
	struct error err;
	struct example e;
	struct buffer *b = &fx.examples[700].bytes, other = { 0 };
	learn();
	assert_int_equal(example_decode((struct slice){ b->data, b->length }, &e, &err), STATUS_OK);
	e.text = text(e.text.length == 3 ? "blue" : "red");
	example_encode(&e, &other);
	buffer_free(b);
	*b = other;
	assert_finds("other bytes come out");
}

static void another_record_is_found(void **state)
{
	learn();
	struct patch_record *r = entry()->decisions[entry()->decision_count / 2];
	r->labels_trained++;
	assert_finds("another number of labels was trained on or dropped");
	r->labels_trained--;
	r->cuts[0].steps++;
	assert_finds("");
	r->cuts[0].steps--;
	(void)verified();
	take_record(entry()->decisions[entry()->decision_count / 2]->number);
	assert_finds("the record before it is missing");
}

/* A version's bytes on the topic, with a manifest that says that they are right. */
static void another_versions_bytes_are_found(void **state)
{
	learn();
	const struct patch_slot *live = patch_entry_live(entry());
	struct error err;
	struct buffer bytes = { 0 }, manifest = { 0 };
	struct patch_record r = live->record;
	struct patch_key key = { .kind = PATCH_KEY_CHUNK, .task = text("hue"), .slot = r.weights.slot };
	assert_int_equal(patch_entry_bytes(entry(), live, &bytes, &err), STATUS_OK);
	bytes.data[bytes.length - 1] ^= 1;
	hash_sha256_hex(bytes.data, bytes.length, r.weights.sha256);
	memcpy(r.patch, r.weights.sha256, sizeof r.patch);
	patch_record_encode_manifest(&r, &manifest);
	assert_null(write_record(&key, bytes.data, bytes.length));
	assert_finds("chunk 0 is newer than the manifest");
	key.kind = PATCH_KEY_MANIFEST;
	assert_null(write_record(&key, manifest.data, manifest.length));
	buffer_free(&bytes);
	buffer_free(&manifest);
	assert_finds("the bytes of task hue's live version are not there");
}

/* ---- set up ---- */

static int set_up_file(void **state)
{
	const struct random_backbone r = {
		.channels = 16, .kernel_size = 3, .dilations = "1,2", .causal = true, .seed = 3
	};
	const int fd = mkstemp(backbone_path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(backbone_path, &r);
	assert_int_equal(set_up(state), 0);
	free(fx.config->backbone);
	fx.config->backbone = strdup(backbone_path);
	return fx.config->backbone ? 0 : -1;
}

static int tear_down_file(void **state)
{
	(void)unlink(backbone_path);
	return tear_down(state);
}

static int begin_all(void **state)
{
	removed = 0;
	hidden = -1;
	return begin(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin_all, end)
	const struct CMUnitTest tests[] = {
		TEST(from_its_beginning),
		TEST(from_a_checkpoint_where_examples_are_gone),
		TEST(from_a_checkpoint_where_records_are_gone),
		TEST(a_gap_before_a_checkpoint_is_found),
		TEST(a_missing_example_is_found),
		TEST(another_label_is_found),
		TEST(another_record_is_found),
		TEST(another_versions_bytes_are_found),
	};
	return cmocka_run_group_tests(tests, set_up_file, tear_down_file);
}
