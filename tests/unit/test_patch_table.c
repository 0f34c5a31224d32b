/* What the records of the patches topic say, by task; and where a writer's next record goes. */
#include "io/patch_plan.h"
#include "io/patch_table.h"

#include "base/random.h"
#include "patch_record_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* A topic's log in memory: one partition. */
struct log_record {
	char key[PATCH_KEY_SIZE];
	struct buffer value;
	bool tombstone;
};
struct log {
	struct log_record *records;
	size_t count;
};

static void log_add(struct log *log, const struct patch_key *key, struct slice value)
{
	log->records = realloc(log->records, (log->count + 1) * sizeof *log->records);
	struct log_record *r = &log->records[log->count++];
	*r = (struct log_record){ .tombstone = !value.data };
	(void)patch_key_format(key, r->key);
	buffer_append(&r->value, value.data, value.length);
	(void)buffer_extend(&r->value, 1); /* data is not NULL */
	r->value.length--;
}

static void log_free(struct log *log)
{
	for (size_t i = 0; i < log->count; i++)
		buffer_free(&log->records[i].value);
	free(log->records);
	*log = (struct log){ 0 };
}

static struct patch_table *new_table(bool checkpoints)
{
	struct patch_table *t = NULL;
	struct error err;
	assert_int_equal(patch_table_new(checkpoints, &t, &err), STATUS_OK);
	return t;
}

static struct patch_change apply_in(struct patch_table *t, int32_t partition, const char *key, struct slice value,
				    int64_t offset)
{
	struct patch_change change = { 0 };
	struct error err;
	assert_int_equal(patch_table_apply(t, slice_of(key), value, partition, offset, &change, &err), STATUS_OK);
	return change;
}

static struct patch_change apply(struct patch_table *t, const char *key, struct slice value, int64_t offset)
{
	return apply_in(t, 0, key, value, offset);
}

static struct patch_change apply_at(struct patch_table *t, const struct log *log, size_t i)
{
	const struct log_record *r = &log->records[i];
	return apply(t, r->key, r->tombstone ? (struct slice){ NULL, 0 } : slice_of_buffer(&r->value), (int64_t)i);
}

static struct patch_table *read_log(const struct log *log, bool checkpoints)
{
	struct patch_table *t = new_table(checkpoints);
	for (size_t i = 0; i < log->count; i++)
		(void)apply_at(t, log, i);
	return t;
}

/* As a writer does it: chunks of `width` bytes, tombstones, manifest, decision. */
static void write_record(struct log *log, struct patch_plan *plan, struct patch_record *r, const char *bytes,
			 size_t width)
{
	struct buffer value = { 0 };
	struct patch_key key = { .kind = PATCH_KEY_CHUNK, .task = slice_of(r->task) };
	if (bytes) {
		const size_t length = strlen(bytes);
		r->has_weights = true;
		key.slot = r->weights.slot = patch_plan_slot(plan, r);
		assert_true(key.slot < PATCH_SLOTS);
		r->weights.bytes = length;
		r->weights.chunks = (uint32_t)((length + width - 1) / width);
		hash_sha256_hex(bytes, length, r->weights.sha256);
		for (size_t at = 0; at < length; at += width, key.number++)
			log_add(log, &key,
				(struct slice){ (const uint8_t *)bytes + at,
						length - at < width ? length - at : width });
		for (; key.number < plan->slots[key.slot].chunks; key.number++)
			log_add(log, &key, (struct slice){ NULL, 0 });
		patch_record_encode_manifest(r, &value);
		key.kind = PATCH_KEY_MANIFEST;
		log_add(log, &key, slice_of_buffer(&value));
	}
	buffer_clear(&value);
	patch_record_encode(r, &value);
	key.kind = PATCH_KEY_DECISION;
	key.number = (uint32_t)(r->number % PATCH_DECISIONS);
	log_add(log, &key, slice_of_buffer(&value));
	patch_plan_note(plan, r);
	buffer_free(&value);
}

static void decide(struct log *log, struct patch_plan *plan, enum patch_decision decision, const char *live,
		   const char *predecessor, bool bytes)
{
	struct patch_record r = record_of("a", plan->number, decision, live);
	if (predecessor)
		hash_sha256_hex(predecessor, strlen(predecessor), r.predecessor);
	write_record(log, plan, &r, bytes ? live : NULL, 3);
}

static const struct patch_entry *entry_of(const struct patch_table *t)
{
	const struct patch_entry *e = patch_table_find(t, "a");
	assert_non_null(e);
	return e;
}

static void expect_bytes(const struct patch_entry *e, const struct patch_slot *slot, const char *bytes)
{
	struct buffer out = { 0 };
	struct error err = { 0 };
	assert_non_null(slot);
	if (patch_entry_bytes(e, slot, &out, &err))
		fail_msg("%s", err.text);
	assert_int_equal(out.length, strlen(bytes));
	assert_memory_equal(out.data, bytes, out.length);
	buffer_free(&out);
}

static void versions_go_live(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	assert_int_equal(plan.partition, -1);
	decide(&log, &plan, PATCH_CREATED, "first", NULL, true);
	decide(&log, &plan, PATCH_PROMOTED, "the second", "first", true);
	decide(&log, &plan, PATCH_REJECTED, "the second", "first", false);
	struct patch_table *t = read_log(&log, true);
	const struct patch_entry *e = entry_of(t);
	assert_int_equal(e->decision_count, 3);
	assert_int_equal(e->decisions[0]->decision, PATCH_CREATED);
	assert_int_equal(patch_entry_newest(e)->decision, PATCH_REJECTED);
	expect_bytes(e, patch_entry_live(e), "the second");
	assert_int_equal(patch_entry_live(e)->record.number, 2);
	expect_bytes(e, patch_entry_predecessor(e), "first");
	assert_null(patch_entry_checkpoint(e));
	patch_table_free(t);
	decide(&log, &plan, PATCH_ROLLED_BACK, "first", NULL, false);
	t = read_log(&log, true);
	e = entry_of(t);
	expect_bytes(e, patch_entry_live(e), "first");
	assert_null(patch_entry_predecessor(e));
	patch_table_free(t);
	patch_table_free(NULL);
	log_free(&log);
}

/* The same plan, from the topic as from what was written. */
static void expect_plan(const struct patch_plan *plan, const struct patch_entry *e)
{
	struct patch_plan read;
	patch_plan_begin(e, &read);
	assert_int_equal(read.number, plan->number);
	assert_string_equal(read.live, plan->live);
	assert_string_equal(read.predecessor, plan->predecessor);
	for (size_t s = 0; s < PATCH_SLOTS; s++) {
		assert_string_equal(read.slots[s].sha256, plan->slots[s].sha256);
		assert_int_equal(read.slots[s].chunks, plan->slots[s].chunks);
	}
	for (int i = 0; i < PATCH_DECISION_KINDS; i++) {
		const struct patch_record r = record_of("a", 1, (enum patch_decision)i, NULL);
		assert_int_equal(patch_plan_slot(&read, &r), patch_plan_slot(plan, &r));
	}
}

/* Random decisions of a life: after each record live and predecessor are whole, and no slot of theirs was touched. */
static void slots_in_use_are_never_touched(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	struct random_stream random = random_from(7, 0);
	char texts[400][24], state_text[32];
	const char *live = "identity", *predecessor = NULL, *checkpoint = NULL;
	bool checkpointed = false;
	struct patch_table *t = new_table(true);
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, live, NULL, true);
	for (int n = 0, read = 0; n < 400; n++) {
		for (; read < (int)log.count; read++) {
			const struct patch_change change = apply_at(t, &log, (size_t)read);
			assert_null(change.refusal);
			/* also between the records of a transaction */
			const struct patch_entry *e = change.entry;
			if (read > 10 && patch_entry_newest(e))
				assert_non_null(patch_entry_live(e));
			if (read > 10 && *patch_entry_newest(e)->predecessor)
				assert_non_null(patch_entry_predecessor(e));
			if (checkpointed)
				assert_non_null(patch_entry_checkpoint(e));
		}
		const struct patch_entry *e = entry_of(t);
		expect_bytes(e, patch_entry_live(e), live);
		if (predecessor)
			expect_bytes(e, patch_entry_predecessor(e), predecessor);
		checkpointed = checkpoint != NULL;
		if (checkpoint)
			expect_bytes(e, patch_entry_checkpoint(e), checkpoint);
		expect_plan(&plan, e);
		const uint32_t dice = random_below(&random, 10);
		if (dice < 5) { /* the old live one becomes the predecessor, or does not */
			(void)snprintf(texts[n], sizeof texts[n], "v%d%.*s", n, (int)random_below(&random, 16),
				       "................");
			predecessor = dice < 3 || !predecessor ? live : predecessor;
			live = texts[n];
			decide(&log, &plan, PATCH_PROMOTED, live, predecessor, true);
		} else if (dice < 6 && predecessor) {
			live = predecessor;
			predecessor = NULL;
			decide(&log, &plan, PATCH_ROLLED_BACK, live, NULL, false);
		} else if (dice < 8) {
			decide(&log, &plan, PATCH_REJECTED, live, predecessor, false);
		} else {
			struct patch_record r = record_of("a", plan.number, PATCH_CHECKPOINT, live);
			if (predecessor)
				hash_sha256_hex(predecessor, strlen(predecessor), r.predecessor);
			(void)snprintf(state_text, sizeof state_text, "state %d", n);
			checkpoint = state_text;
			write_record(&log, &plan, &r, state_text, 4);
		}
	}
	patch_table_free(t);
	log_free(&log);
}

/* What is live, what a rollback brings back and what the record itself names are kept however old they are. */
static void the_oldest_slots_may_be_in_use(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, "zero", NULL, true);
	decide(&log, &plan, PATCH_PROMOTED, "one", "zero", true);
	decide(&log, &plan, PATCH_PROMOTED, "two", "zero", true);
	decide(&log, &plan, PATCH_PROMOTED, "three", "zero", true);
	decide(&log, &plan, PATCH_ROLLED_BACK, "zero", NULL, false);
	struct patch_record r = record_of("a", plan.number, PATCH_PROMOTED, "four");
	assert_int_equal(patch_plan_slot(&plan, &r), 1); /* not 0, which is live */
	hash_sha256_hex("one", 3, r.predecessor);
	assert_int_equal(patch_plan_slot(&plan, &r), 2);
	decide(&log, &plan, PATCH_ROLLED_BACK, "zero", "two", false);
	assert_int_equal(patch_plan_slot(&plan, &r), 3);
	struct patch_table *t = read_log(&log, true);
	expect_plan(&plan, entry_of(t));
	(void)apply(t, "a/3/0", slice_of("x"), 100); /* a broken one is not the predecessor */
	patch_plan_begin(entry_of(t), &plan);
	r.predecessor[0] = '\0';
	assert_int_equal(patch_plan_slot(&plan, &r), 3);
	patch_table_free(t);
	log_free(&log);
}

/* ---- compaction ---- */

static void expect_equal(const struct patch_entry *a, const struct patch_entry *b)
{
	struct error err;
	assert_int_equal(a->decision_count, b->decision_count);
	for (size_t i = 0; i < a->decision_count; i++) {
		assert_int_equal(a->decisions[i]->number, b->decisions[i]->number);
		assert_string_equal(a->decisions[i]->patch, b->decisions[i]->patch);
		assert_true(i == 0 || a->decisions[i]->number > a->decisions[i - 1]->number);
	}
	for (size_t s = 0; s < PATCH_SLOTS; s++) {
		struct buffer x = { 0 }, y = { 0 };
		assert_int_equal(a->slots[s].state, b->slots[s].state);
		assert_int_equal(a->slots[s].chunks, b->slots[s].chunks);
		if (a->slots[s].state == PATCH_SLOT_WHOLE) {
			assert_int_equal(a->slots[s].offset, b->slots[s].offset);
			assert_int_equal(patch_entry_bytes(a, &a->slots[s], &x, &err), STATUS_OK);
			assert_int_equal(patch_entry_bytes(b, &b->slots[s], &y, &err), STATUS_OK);
			assert_int_equal(x.length, y.length);
			assert_memory_equal(x.data, y.data, x.length);
		}
		buffer_free(&x);
		buffer_free(&y);
	}
}

static void add_noise(struct log *log, struct random_stream *random)
{
	struct patch_key key = { (enum patch_key_kind)random_below(random, 3), slice_of("a"),
				 (uint32_t)random_below(random, PATCH_SLOTS), (uint32_t)random_below(random, 5) };
	log_add(log, &key, random_below(random, 2) ? slice_of("x") : (struct slice){ NULL, 0 });
}

static bool is_newest(const struct log *log, size_t i)
{
	for (size_t k = i + 1; k < log->count; k++)
		if (!strcmp(log->records[i].key, log->records[k].key))
			return false;
	return true;
}

/* The log with none or some of the records that newer ones of their keys follow; without the former, tombstones go too. */
static struct patch_table *read_compacted(const struct log *log, bool all, struct random_stream *random)
{
	struct patch_table *t = new_table(true);
	for (size_t i = 0; i < log->count; i++) {
		const bool coin = random_below(random, 2);
		if (is_newest(log, i) ? !(all && log->records[i].tombstone && coin) : !all && coin)
			(void)apply_at(t, log, i);
	}
	return t;
}

static void compaction_changes_nothing(void **state)
{
	struct random_stream random = random_from(11, 0);
	size_t whole_slots = 0;
	for (int round = 0; round < 40; round++) {
		struct log log = { 0 };
		struct patch_plan plan;
		char texts[30][40];
		patch_plan_begin(NULL, &plan);
		for (int n = 0; n < 30; n++) {
			(void)snprintf(texts[n], sizeof texts[n], "version %d%.*s", n, (int)random_below(&random, 12),
				       "............");
			if (random_below(&random, 3) == 0)
				add_noise(&log, &random);
			decide(&log, &plan, n % 4 == 3 ? PATCH_CHECKPOINT : PATCH_PROMOTED, texts[n],
			       n ? texts[n - 1] : NULL, true);
		}
		struct patch_table *whole = read_log(&log, true);
		struct patch_table *compacted = read_compacted(&log, round % 2, &random);
		expect_equal(entry_of(whole), entry_of(compacted));
		for (size_t s = 0; s < PATCH_SLOTS; s++)
			whole_slots += entry_of(whole)->slots[s].state == PATCH_SLOT_WHOLE;
		patch_table_free(whole);
		patch_table_free(compacted);
		log_free(&log);
	}
	assert_true(whole_slots > 100);
}

/* ---- damage ---- */

/* One version in a log: records 0 .. 2 its chunks, 3 the manifest, 4 the decision. */
static void one_version(struct log *log)
{
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	decide(log, &plan, PATCH_CREATED, "abcdefgh", NULL, true);
	assert_int_equal(log->count, 5);
}

static void expect_broken(struct patch_table *t, const char *reason)
{
	struct buffer out = { 0 };
	struct error err = { 0 };
	const struct patch_entry *e = entry_of(t);
	assert_int_equal(e->slots[0].state, PATCH_SLOT_BROKEN);
	if (!strstr(e->slots[0].reason, reason))
		fail_msg("%s", e->slots[0].reason);
	assert_null(patch_entry_live(e));
	assert_int_equal(patch_entry_bytes(e, &e->slots[0], &out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, reason));
	buffer_free(&out);
	patch_table_free(t);
}

static void what_is_not_whole_is_passed_over(void **state)
{
	struct log log = { 0 };
	one_version(&log);
	for (size_t missing = 0; missing < 3; missing++) {
		char reason[40];
		struct patch_table *t = new_table(true);
		(void)snprintf(reason, sizeof reason, "chunk %zu of 3 is not there", missing);
		for (size_t i = 0; i < log.count; i++)
			if (i != missing) {
				const struct patch_change change = apply_at(t, &log, i);
				assert_int_equal(change.refusal != NULL, i == 3);
			}
		expect_broken(t, reason);
	}
	log.records[1].value.data[0] ^= 1;
	expect_broken(read_log(&log, true), "SHA-256");
	log.records[1].value.data[0] ^= 1;
	log.records[1].value.length--;
	expect_broken(read_log(&log, true), "7 bytes, the manifest says 8");
	log.records[1].value.length++;
	log.records[3].value.length--;
	expect_broken(read_log(&log, true), "weights: cut or damaged");
	log.records[3].value.length++;
	struct patch_table *t = read_log(&log, true);
	expect_bytes(entry_of(t), patch_entry_live(entry_of(t)), "abcdefgh");
	(void)apply(t, "a/0/3", slice_of("more"), 5); /* beyond the version: nothing to it */
	expect_bytes(entry_of(t), patch_entry_live(entry_of(t)), "abcdefgh");
	assert_int_equal(entry_of(t)->slots[0].chunks, 4);
	(void)apply(t, "a/0/3", (struct slice){ NULL, 0 }, 6);
	assert_int_equal(entry_of(t)->slots[0].chunks, 3);
	(void)apply(t, "a/0/1", slice_of("def"), 7); /* even the same bytes: the next version begins */
	expect_broken(t, "chunk 1 is newer than the manifest");
	t = read_log(&log, true);
	(void)apply(t, "a/0/manifest", (struct slice){ NULL, 0 }, 5);
	assert_int_equal(entry_of(t)->slots[0].state, PATCH_SLOT_EMPTY);
	assert_null(patch_entry_live(entry_of(t)));
	patch_table_free(t);
	log_free(&log);
}

static void records_under_wrong_keys(void **state)
{
	struct log log = { 0 };
	one_version(&log);
	struct patch_table *t = new_table(true);
	const struct slice manifest = slice_of_buffer(&log.records[3].value);
	const struct slice decision = slice_of_buffer(&log.records[4].value);
	struct patch_change change = apply(t, "a/1/manifest", manifest, 0);
	assert_string_equal(change.refusal, "weights: of another slot, or none");
	change = apply(t, "b/0/manifest", manifest, 1);
	assert_string_equal(change.refusal, "task: a is not the key's");
	change = apply(t, "a/decision/2", decision, 2);
	assert_string_equal(change.refusal, "number: 1 is not at its place");
	assert_int_equal(change.entry->decision_count, 0);
	change = apply(t, "a/decision/1", decision, 3);
	assert_null(change.refusal);
	assert_int_equal(change.entry->decision_count, 1);
	change = apply(t, "a/decision/1", slice_of("?"), 4); /* as if it had been compacted away */
	assert_non_null(strstr(change.refusal, "task: cut or damaged"));
	assert_int_equal(change.entry->decision_count, 0);
	change = apply(t, "?", decision, 5);
	assert_null(change.entry);
	assert_string_equal(change.refusal, "the key is not a patch's");
	patch_table_free(t);
	log_free(&log);
}

static void a_thousand_decisions_wrap(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, "live", NULL, true);
	for (int n = 0; n < PATCH_DECISIONS; n++)
		decide(&log, &plan, PATCH_REJECTED, "live", NULL, false);
	struct patch_table *t = read_log(&log, true);
	const struct patch_entry *e = entry_of(t);
	assert_int_equal(e->decision_count, PATCH_DECISIONS);
	for (size_t i = 0; i < PATCH_DECISIONS; i++)
		assert_int_equal(e->decisions[i]->number, i + 2);
	expect_bytes(e, patch_entry_live(e), "live"); /* its decision is gone, the version is not */
	assert_int_equal(patch_entry_live(e)->record.decision, PATCH_CREATED);
	(void)apply(t, "a/decision/500", (struct slice){ NULL, 0 }, 5000);
	assert_int_equal(e->decision_count, PATCH_DECISIONS - 1);
	patch_table_free(t);
	log_free(&log);
}

/* Cuts gather under one number until something is decided. */
static void the_newest_may_be_written_again(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, "live", NULL, true);
	struct patch_record r = record_of("a", plan.number, PATCH_CHECKPOINT, "live");
	write_record(&log, &plan, &r, NULL, 1);
	r.labels_trained = 9;
	write_record(&log, &plan, &r, NULL, 1);
	assert_int_equal(plan.number, 3);
	struct patch_table *t = read_log(&log, true);
	assert_int_equal(entry_of(t)->decision_count, 2);
	assert_int_equal(patch_entry_newest(entry_of(t))->labels_trained, 9);
	patch_table_free(t);
	log_free(&log);
}

static void checkpoints_need_not_be_kept(void **state)
{
	struct log log = { 0 };
	struct patch_plan plan;
	struct buffer out = { 0 };
	struct error err = { 0 };
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, "live", NULL, true);
	for (int n = 0; n < 3; n++)
		decide(&log, &plan, PATCH_CHECKPOINT, "live", NULL, true);
	struct patch_table *t = read_log(&log, false);
	const struct patch_entry *e = entry_of(t);
	expect_bytes(e, patch_entry_live(e), "live");
	assert_null(patch_entry_checkpoint(e));
	assert_int_equal(e->slots[PATCH_VERSION_SLOTS].state, PATCH_SLOT_UNREAD);
	assert_int_equal(e->slots[PATCH_VERSION_SLOTS + 1].state, PATCH_SLOT_UNREAD);
	assert_int_equal(patch_entry_bytes(e, &e->slots[PATCH_VERSION_SLOTS], &out, &err), STATUS_DATA);
	expect_plan(&plan, e);
	patch_table_free(t);
	buffer_free(&out);
	log_free(&log);
}

static void tasks_are_in_order_and_apart(void **state)
{
	static const char *const names[] = { "m", "b", "z", "ba", "a" };
	static const char *const sorted[] = { "a", "b", "ba", "m", "z" };
	struct patch_table *t = new_table(true);
	char key[PATCH_KEY_SIZE];
	assert_null(patch_table_next(t, NULL));
	assert_null(patch_table_find(t, "a"));
	for (size_t i = 0; i < 5; i++) {
		(void)snprintf(key, sizeof key, "%s/0/0", names[i]);
		(void)apply(t, key, slice_of("x"), (int64_t)i);
	}
	const struct patch_entry *e = NULL;
	for (size_t i = 0; i < 5; i++) {
		e = patch_table_next(t, e);
		assert_string_equal(e->task, sorted[i]);
		assert_int_equal(e->slots[0].chunks, 1);
	}
	assert_null(patch_table_next(t, e));
	patch_table_free(t);
}

static void the_lowest_partition_counts(void **state)
{
	struct patch_table *t = new_table(true);
	struct buffer value = { 0 };
	const struct patch_record r = record_of("a", 1, PATCH_CREATED, "live");
	patch_record_encode(&r, &value);
	for (int32_t partition = 3; partition > 0; partition--) {
		const struct patch_change change = apply_in(t, partition, "a/decision/1", slice_of_buffer(&value), 0);
		assert_int_equal(change.entry->partition, partition);
		assert_int_equal(entry_of(t)->partition, partition);
	}
	assert_non_null(apply_in(t, 2, "a/decision/1", slice_of_buffer(&value), 0).refusal);
	assert_int_equal(entry_of(t)->partition, 1);
	(void)apply(t, "b/0/0", slice_of("x"), 0);
	const struct patch_entry *e = patch_table_next(t, NULL);
	assert_string_equal(e->task, "a"); /* once, whichever counts */
	assert_string_equal(patch_table_next(t, e)->task, "b");
	patch_table_free(t);
	buffer_free(&value);
}

/* Another partitioner puts a tombstone, or anything but a decision, elsewhere: the task stays where and what it is. */
static void strays_move_nothing(void **state)
{
	static const char *const keys[] = { "a/0/0", "a/0/manifest", "a/decision/1" };
	struct log log = { 0 };
	struct patch_plan plan;
	patch_plan_begin(NULL, &plan);
	decide(&log, &plan, PATCH_CREATED, "live", NULL, true);
	struct patch_table *t = new_table(true);
	for (int32_t partition = 3; partition >= 0; partition--) {
		for (size_t i = 0; i < log.count && partition == 2; i++)
			(void)apply_in(t, 2, log.records[i].key, slice_of_buffer(&log.records[i].value), (int64_t)i);
		for (size_t i = 0; i < 6 && partition != 2; i++) {
			const struct slice value = i < 3 ? (struct slice){ NULL, 0 } : slice_of("x");
			const struct patch_change change = apply_in(t, partition, keys[i % 3], value, (int64_t)i);
			assert_true(partition == 3 || (!change.entry && change.refusal));
		}
	}
	assert_int_equal(entry_of(t)->partition, 2);
	expect_bytes(entry_of(t), patch_entry_live(entry_of(t)), "live");
	patch_table_free(t);
	log_free(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_go_live),
		cmocka_unit_test(slots_in_use_are_never_touched),
		cmocka_unit_test(the_oldest_slots_may_be_in_use),
		cmocka_unit_test(compaction_changes_nothing),
		cmocka_unit_test(what_is_not_whole_is_passed_over),
		cmocka_unit_test(records_under_wrong_keys),
		cmocka_unit_test(a_thousand_decisions_wrap),
		cmocka_unit_test(the_newest_may_be_written_again),
		cmocka_unit_test(checkpoints_need_not_be_kept),
		cmocka_unit_test(tasks_are_in_order_and_apart),
		cmocka_unit_test(the_lowest_partition_counts),
		cmocka_unit_test(strays_move_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
