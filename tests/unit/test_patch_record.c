/* Records of the patches topic against Avro C with the shipped schema, and the topic's keys. */
#include "io/patch_record.h"

#include "io/schema.h"
#include "patch_record_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>

struct peer { /* Avro C's view of one record */
	avro_value_iface_t *class;
	avro_value_t value;
};

static void peer_open(struct peer *p)
{
	avro_schema_t schema;
	const char *json = schema_json("PatchRecord");
	assert_non_null(json);
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &schema), 0);
	p->class = avro_generic_class_from_schema(schema);
	assert_int_equal(avro_generic_value_new(p->class, &p->value), 0);
	avro_schema_decref(schema);
}

static void peer_close(struct peer *p)
{
	avro_value_decref(&p->value);
	avro_value_iface_decref(p->class);
}

/* Every byte must be used. */
static void peer_read(struct peer *p, const struct buffer *b)
{
	char rest;
	avro_reader_t reader = avro_reader_memory((const char *)b->data, (int64_t)b->length);
	assert_int_equal(avro_value_read(reader, &p->value), 0);
	assert_int_not_equal(avro_read(reader, &rest, 1), 0);
	avro_reader_free(reader);
}

static void peer_write(struct peer *p, struct buffer *b)
{
	size_t size;
	assert_int_equal(avro_value_sizeof(&p->value, &size), 0);
	buffer_clear(b);
	uint8_t *at = buffer_extend(b, size);
	assert_non_null(at);
	avro_writer_t writer = avro_writer_memory((const char *)at, (int64_t)size);
	assert_int_equal(avro_value_write(writer, &p->value), 0);
	avro_writer_free(writer);
}

/* A field of a record, through a union to what it holds. */
static avro_value_t get(const avro_value_t *record, const char *name)
{
	avro_value_t field, ret;
	assert_int_equal(avro_value_get_by_name(record, name, &field, NULL), 0);
	if (avro_value_get_type(&field) != AVRO_UNION)
		return field;
	assert_int_equal(avro_value_get_current_branch(&field, &ret), 0);
	return ret;
}

static int64_t get_long(const avro_value_t *record, const char *name)
{
	avro_value_t field = get(record, name);
	int64_t ret = -1;
	int32_t narrow;
	if (avro_value_get_type(&field) == AVRO_INT32) {
		assert_int_equal(avro_value_get_int(&field, &narrow), 0);
		return narrow;
	}
	assert_int_equal(avro_value_get_long(&field, &ret), 0);
	return ret;
}

static double get_double(const avro_value_t *record, const char *name)
{
	avro_value_t field = get(record, name);
	double ret = 0;
	assert_int_equal(avro_value_get_double(&field, &ret), 0);
	return ret;
}

static void expect_text(const avro_value_t *record, const char *name, const char *expected)
{
	avro_value_t field = get(record, name);
	const char *got;
	size_t size;
	assert_int_equal(avro_value_get_string(&field, &got, &size), 0);
	assert_string_equal(got, expected);
}

static void expect_double(double got, double expected)
{
	assert_memory_equal(&got, &expected, sizeof got);
}

static void avro_reads_what_is_written(void **state)
{
	struct peer p;
	struct buffer out = { 0 };
	const struct patch_record r = record_full();
	avro_value_t item, field;
	size_t size;
	int flag;
	patch_record_encode(&r, &out);
	peer_open(&p);
	peer_read(&p, &out);
	expect_text(&p.value, "task", "films");
	assert_int_equal(get_long(&p.value, "number"), 1234);
	assert_int_equal(get_long(&p.value, "version"), 17);
	expect_text(&p.value, "patch", r.patch);
	expect_text(&p.value, "parent", r.parent);
	expect_text(&p.value, "predecessor", r.predecessor);
	expect_text(&p.value, "backbone", r.backbone);
	expect_text(&p.value, "definition", r.definition);
	expect_text(&p.value, "decision", "promoted");
	assert_int_equal(get_long(&p.value, "labels_trained"), 5000);
	assert_int_equal(get_long(&p.value, "labels_dropped"), 3);
	field = get(&p.value, "metrics");
	assert_int_equal(avro_value_get_size(&field, &size), 0);
	assert_int_equal(size, 2);
	expect_double(get_double(&field, "caf\xc3\xa9"), -1e300);
	assert_int_equal(get_long(&p.value, "timestamp"), 1700000000123);
	field = get(&p.value, "examples");
	assert_int_equal(get_long(&field, "partition"), 5);
	assert_int_equal(get_long(&field, "first"), 70);
	assert_int_equal(get_long(&field, "next"), 9000000001);
	field = get(&p.value, "cuts");
	assert_int_equal(avro_value_get_size(&field, &size), 0);
	assert_int_equal(size, 2);
	assert_int_equal(avro_value_get_by_index(&field, 0, &item, NULL), 0);
	assert_int_equal(get_long(&item, "offset"), 70);
	assert_int_equal(get_long(&item, "count"), 64);
	assert_int_equal(get_long(&item, "steps"), 12);
	field = get(&p.value, "gate");
	expect_text(&field, "reason", "not_worse");
	assert_int_equal(get_long(&field, "parent"), 16);
	item = get(&field, "anew");
	assert_int_equal(avro_value_get_boolean(&item, &flag), 0);
	assert_true(flag);
	assert_int_equal(get_long(&field, "onset"), 41);
	assert_int_equal(get_long(&field, "until"), 99);
	assert_int_equal(get_long(&field, "count"), 640);
	expect_double(get_double(&field, "gain"), 0.5);
	expect_double(get_double(&field, "width"), 0.125);
	expect_double(get_double(&field, "over"), 2.0);
	expect_double(get_double(&field, "over_log"), -3.0);
	expect_double(get_double(&field, "level"), 7.5);
	field = get(&p.value, "weights");
	assert_int_equal(get_long(&field, "slot"), 2);
	assert_int_equal(get_long(&field, "chunks"), 3);
	assert_int_equal(get_long(&field, "bytes"), 1200000);
	expect_text(&field, "sha256", r.patch);
	peer_close(&p);
	buffer_free(&out);
}

/* Through our decoder and encoder again: the same bytes, and Avro C's from the same value. */
static void expect_same(const struct patch_record *r)
{
	struct buffer out = { 0 }, again = { 0 }, theirs = { 0 };
	struct patch_record back;
	struct error err = { 0 };
	struct peer p;
	patch_record_encode(r, &out);
	if (patch_record_decode(slice_of_buffer(&out), &back, &err))
		fail_msg("%s", err.text);
	patch_record_encode(&back, &again);
	assert_int_equal(again.length, out.length);
	assert_memory_equal(again.data, out.data, out.length);
	assert_int_equal(back.decision, r->decision);
	assert_int_equal(back.has_gate, r->has_gate);
	if (r->has_gate) {
		assert_int_equal(back.gate.reason, r->gate.reason);
		assert_int_equal(back.gate.anew, r->gate.anew);
		expect_double(back.gate.over, r->gate.over);
	}
	assert_int_equal(back.metric_count, r->metric_count);
	assert_int_equal(back.cut_count, r->cut_count);
	patch_record_clear(&back);
	peer_open(&p);
	peer_read(&p, &out);
	peer_write(&p, &theirs);
	if (patch_record_decode(slice_of_buffer(&theirs), &back, &err))
		fail_msg("%s", err.text);
	buffer_clear(&again);
	patch_record_encode(&back, &again);
	assert_int_equal(again.length, out.length);
	assert_memory_equal(again.data, out.data, out.length);
	patch_record_clear(&back);
	peer_close(&p);
	buffer_free(&out);
	buffer_free(&again);
	buffer_free(&theirs);
}

static void records_come_back(void **state)
{
	struct patch_record r = record_full();
	expect_same(&r);
	for (int i = 0; i < PATCH_REASONS; i++) {
		r.gate.reason = (enum patch_reason)i;
		r.gate.anew = i & 1;
		expect_same(&r);
	}
	r.gate.over = __builtin_nan("");
	r.gate.over_log = -__builtin_inf();
	expect_same(&r);
	r = record_full();
	r.decision = PATCH_CHECKPOINT;
	r.weights.slot = PATCH_VERSION_SLOTS;
	hash_sha256_hex("state", 5, r.weights.sha256); /* not that of the patch */
	expect_same(&r);
	for (int i = 0; i < PATCH_DECISION_KINDS; i++) {
		r = record_of("a", 0, (enum patch_decision)i, NULL);
		expect_same(&r);
	}
	r.number = r.version = r.labels_trained = INT64_MAX;
	r.timestamp_ms = INT64_MIN;
	expect_same(&r);
}

static void a_manifest_has_no_cuts(void **state)
{
	struct buffer out = { 0 };
	struct patch_record back;
	struct error err;
	const struct patch_record r = record_full();
	patch_record_encode_manifest(&r, &out);
	assert_int_equal(patch_record_decode(slice_of_buffer(&out), &back, &err), STATUS_OK);
	assert_int_equal(back.cut_count, 0);
	assert_int_equal(back.metric_count, 2);
	assert_int_equal(back.examples.next, 9000000001);
	assert_string_equal(back.weights.sha256, r.patch);
	patch_record_clear(&back);
	buffer_free(&out);
}

static void damage_is_refused(void **state)
{
	struct buffer out = { 0 };
	struct patch_record back;
	struct error err = { 0 };
	const struct patch_record r = record_full();
	patch_record_encode(&r, &out);
	for (size_t length = 0; length < out.length; length++)
		assert_int_equal(patch_record_decode((struct slice){ out.data, length }, &back, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "weights: cut or damaged"));
	assert_int_equal(patch_record_decode((struct slice){ NULL, 0 }, &back, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "task: cut or damaged at byte 0 of 0"));
	buffer_append_byte(&out, 0);
	assert_int_equal(patch_record_decode(slice_of_buffer(&out), &back, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "1 bytes are left over"));
	buffer_free(&out);
}

static void expect_refused(const struct patch_record *r, const char *field)
{
	struct buffer out = { 0 };
	struct patch_record back;
	struct error err = { 0 };
	patch_record_encode(r, &out);
	assert_int_equal(patch_record_decode(slice_of_buffer(&out), &back, &err), STATUS_DATA);
	if (strncmp(err.text, field, strlen(field)) != 0)
		fail_msg("%s", err.text);
	buffer_free(&out);
}

static void what_makes_no_sense_is_refused(void **state)
{
	static char broken[] = "\xff";
	struct patch_metric metric = { broken, 1 };
	struct patch_record r = record_full();
	(void)snprintf(r.task, sizeof r.task, "a/b");
	expect_refused(&r, "task: makes no sense");
	r.task[0] = '\0';
	expect_refused(&r, "task: makes no sense");
	r = record_full();
	r.patch[0] = '\0';
	expect_refused(&r, "patch: makes no sense");
	r = record_full();
	r.parent[63] = 'F';
	expect_refused(&r, "parent: makes no sense");
	r = record_full();
	r.number = UINT64_MAX;
	expect_refused(&r, "number: cut or damaged");
	r = record_full();
	r.metrics = &metric;
	r.metric_count = 1;
	expect_refused(&r, "metrics: makes no sense");
	r = record_full();
	r.examples.next = 69;
	expect_refused(&r, "examples: makes no sense");
	r = record_full();
	r.weights.slot = PATCH_SLOTS;
	expect_refused(&r, "weights: makes no sense");
	r.weights.slot = PATCH_VERSION_SLOTS; /* of checkpoints */
	expect_refused(&r, "weights: makes no sense");
	r.weights.slot = 0;
	r.weights.chunks = 0;
	expect_refused(&r, "weights: makes no sense");
	r.weights.chunks = PATCH_CHUNKS_AT_MOST + 1;
	expect_refused(&r, "weights: makes no sense");
	r.weights.chunks = 1;
	r.weights.sha256[0] = r.weights.sha256[0] == 'a' ? 'b' : 'a';
	expect_refused(&r, "weights: makes no sense");
}

/* A count is believed only as far as there are bytes for its items. */
static void counts_do_not_take_memory(void **state)
{
	struct buffer whole = { 0 }, bad = { 0 };
	struct patch_record r = record_of("a", 1, PATCH_CHECKPOINT, NULL), back;
	struct error err = { 0 };
	patch_record_encode(&r, &whole);
	/* the record ends: metrics, timestamp, examples (3), cuts, gate, weights */
	buffer_append(&bad, whole.data, whole.length - 8);
	buffer_append_varint(&bad, INT64_C(1) << 60);
	assert_int_equal(patch_record_decode(slice_of_buffer(&bad), &back, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "metrics: cut or damaged"));
	buffer_clear(&bad);
	buffer_append(&bad, whole.data, whole.length - 3);
	buffer_append_varint(&bad, INT64_C(1) << 60);
	assert_int_equal(patch_record_decode(slice_of_buffer(&bad), &back, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "cuts: cut or damaged"));
	buffer_free(&whole);
	buffer_free(&bad);
}

/* ---- keys ---- */

static void keys_come_back(void **state)
{
	static const char *const keys[] = { "a/0/0",          "films/3/17",          "films/5/4095",
					    "a/0/manifest",   "a.b_-C9/2/manifest",  "a/decision/0",
					    "a/decision/999", "decision/decision/1", "3/3/3" };
	struct patch_key key;
	char text[PATCH_KEY_SIZE], name[PATCH_NAME_AT_MOST + 2];
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		assert_true(patch_key_parse(slice_of(keys[i]), &key));
		assert_int_equal(patch_key_format(&key, text), strlen(keys[i]));
		assert_string_equal(text, keys[i]);
	}
	memset(name, 'x', sizeof name);
	key = (struct patch_key){ PATCH_KEY_MANIFEST, { (const uint8_t *)name, PATCH_NAME_AT_MOST }, 5, 0 };
	assert_true(patch_key_format(&key, text) < PATCH_KEY_SIZE);
	assert_true(patch_key_parse(slice_of(text), &key));
	assert_int_equal(key.kind, PATCH_KEY_MANIFEST);
	assert_int_equal(key.slot, 5);
	assert_int_equal(key.task.length, PATCH_NAME_AT_MOST);
	assert_false(patch_key_is_task((struct slice){ (const uint8_t *)name, PATCH_NAME_AT_MOST + 1 }));
}

static void other_keys_are_not_ours(void **state)
{
	static const char *const keys[] = { "",
					    "a",
					    "a/",
					    "a/0",
					    "a/0/",
					    "/0/0",
					    "a/6/0",
					    "a/00/0",
					    "a/0/01",
					    "a/0/4096",
					    "a/-1/0",
					    "a/0/+1",
					    "a/0/0/",
					    "a/0/0/0",
					    "a/manifest/0",
					    "a/0/Manifest",
					    "a/decision/",
					    "a/decision/1000",
					    "a/decision/manifest",
					    "a/0/manifest/",
					    "a b/0/0",
					    "a/0/99999999999999999999",
					    "//",
					    "a//0" };
	struct patch_key key;
	assert_false(patch_key_parse((struct slice){ NULL, 0 }, &key));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (patch_key_parse(slice_of(keys[i]), &key))
			fail_msg("%s", keys[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(avro_reads_what_is_written),
		cmocka_unit_test(records_come_back),
		cmocka_unit_test(a_manifest_has_no_cuts),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(counts_do_not_take_memory),
		cmocka_unit_test(keys_come_back),
		cmocka_unit_test(other_keys_are_not_ours),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
