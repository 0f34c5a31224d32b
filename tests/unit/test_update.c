/* UserUpdate records: both ways against Avro C with the shipped schema, other block structures, damage. */
#include "io/update.h"

#include "io/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>

static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static struct update sample(const float *embedding, uint32_t dim)
{
	return (struct update){ .user_id = text("caf\xc3\xa9"),
				.event_time_ms = INT64_C(1700000000123),
				.sequence_length = 256,
				.partition = 5,
				.offset = INT64_C(1) << 40,
				.backbone = text(hash),
				.embedding = embedding,
				.dim = dim };
}

static void assert_same(const struct update *a, const struct update *b)
{
	assert_int_equal(a->user_id.length, b->user_id.length);
	assert_memory_equal(a->user_id.data, b->user_id.data, a->user_id.length);
	assert_int_equal(a->event_time_ms, b->event_time_ms);
	assert_int_equal(a->sequence_length, b->sequence_length);
	assert_int_equal(a->partition, b->partition);
	assert_int_equal(a->offset, b->offset);
	assert_int_equal(a->backbone.length, b->backbone.length);
	assert_memory_equal(a->backbone.data, b->backbone.data, a->backbone.length);
	assert_int_equal(a->dim, b->dim);
	if (a->dim > 0)
		assert_memory_equal(a->embedding, b->embedding, a->dim * sizeof(float));
}

static void test_round_trip(void **state)
{
	static const float floats[] = { 0.0f, -0.0f, 1.5f, -3e38f, 1e-45f };
	struct buffer kept = { 0 };
	(void)state;
	for (uint32_t dim = 0; dim <= 5; dim++) {
		struct update in = sample(floats, dim);
		struct update out;
		struct buffer b = { 0 };
		struct error err;
		update_encode(&in, &b);
		assert_int_equal(update_decode((struct slice){ b.data, b.length }, &kept, &out, &err), STATUS_OK);
		assert_same(&out, &in);
		buffer_free(&b);
	}
	assert_int_equal(kept.length, (1 + 2 + 3 + 4 + 5) * sizeof(float)); /* appended, one after the other */
	buffer_free(&kept);
}

/* ---- Avro C ---- */

struct peer {
	avro_schema_t schema;
	avro_value_iface_t *class;
	avro_value_t value;
};

static void peer_open(struct peer *p)
{
	const char *json = schema_json("UserUpdate");
	assert_non_null(json);
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &p->schema), 0);
	p->class = avro_generic_class_from_schema(p->schema);
	assert_int_equal(avro_generic_value_new(p->class, &p->value), 0);
}

static void peer_close(struct peer *p)
{
	avro_value_decref(&p->value);
	avro_value_iface_decref(p->class);
	avro_schema_decref(p->schema);
}

static avro_value_t field(avro_value_t *record, const char *name)
{
	avro_value_t ret;
	assert_int_equal(avro_value_get_by_name(record, name, &ret, NULL), 0);
	return ret;
}

static int64_t whole(avro_value_t *record, const char *name)
{
	avro_value_t value = field(record, name);
	int64_t ret = 0;
	int32_t narrow = 0;
	if (avro_value_get_type(&value) == AVRO_INT32) {
		assert_int_equal(avro_value_get_int(&value, &narrow), 0);
		return narrow;
	}
	assert_int_equal(avro_value_get_long(&value, &ret), 0);
	return ret;
}

static void assert_text(avro_value_t *record, const char *name, struct slice expected)
{
	avro_value_t value = field(record, name);
	const char *found;
	size_t size;
	assert_int_equal(avro_value_get_string(&value, &found, &size), 0);
	assert_int_equal(size, expected.length + 1);
	assert_memory_equal(found, expected.data, expected.length);
}

static void test_avro_reads_ours(void **state)
{
	float floats[64];
	struct peer p;
	struct buffer b = { 0 };
	size_t count;
	(void)state;
	for (size_t i = 0; i < 64; i++)
		floats[i] = (float)i - 31.5f;
	struct update in = sample(floats, 64);
	update_encode(&in, &b);
	peer_open(&p);
	avro_reader_t reader = avro_reader_memory((const char *)b.data, (int64_t)b.length);
	assert_int_equal(avro_value_read(reader, &p.value), 0);
	assert_text(&p.value, "user_id", in.user_id);
	assert_int_equal(whole(&p.value, "event_time"), in.event_time_ms);
	assert_int_equal(whole(&p.value, "sequence_length"), in.sequence_length);
	assert_int_equal(whole(&p.value, "partition"), in.partition);
	assert_int_equal(whole(&p.value, "offset"), in.offset);
	assert_text(&p.value, "backbone", in.backbone);
	avro_value_t embedding = field(&p.value, "embedding");
	assert_int_equal(avro_value_get_size(&embedding, &count), 0);
	assert_int_equal(count, 64);
	for (size_t i = 0; i < count; i++) {
		avro_value_t item;
		float found;
		assert_int_equal(avro_value_get_by_index(&embedding, i, &item, NULL), 0);
		assert_int_equal(avro_value_get_float(&item, &found), 0);
		assert_memory_equal(&found, &floats[i], sizeof found);
	}
	avro_value_t scores = field(&p.value, "scores");
	assert_int_equal(avro_value_get_size(&scores, &count), 0);
	assert_int_equal(count, 0);
	char byte;
	assert_int_not_equal(avro_read(reader, &byte, 1), 0); /* all of it was the datum */
	avro_reader_free(reader);
	peer_close(&p);
	buffer_free(&b);
}

static void put_score(avro_value_t *scores)
{
	avro_value_t score;
	avro_value_t item;
	assert_int_equal(avro_value_append(scores, &score, NULL), 0);
	avro_value_t member = field(&score, "task");
	assert_int_equal(avro_value_set_string(&member, "gender"), 0);
	member = field(&score, "patch_version");
	assert_int_equal(avro_value_set_long(&member, 12), 0);
	member = field(&score, "patch");
	assert_int_equal(avro_value_set_string(&member, hash), 0);
	avro_value_t values = field(&score, "values");
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(avro_value_append(&values, &item, NULL), 0);
		member = field(&item, "label");
		assert_int_equal(avro_value_set_string(&member, i ? "F" : "M"), 0);
		member = field(&item, "score");
		assert_int_equal(avro_value_set_float(&member, 0.5f), 0);
	}
}

/* The datum of `u` with two scores, written by Avro C. */
static struct slice peer_write(const struct update *u, uint8_t bytes[2048])
{
	struct peer p;
	peer_open(&p);
	avro_value_t member = field(&p.value, "user_id");
	assert_int_equal(avro_value_set_string_len(&member, (const char *)u->user_id.data, u->user_id.length + 1), 0);
	member = field(&p.value, "event_time");
	assert_int_equal(avro_value_set_long(&member, u->event_time_ms), 0);
	member = field(&p.value, "sequence_length");
	assert_int_equal(avro_value_set_long(&member, u->sequence_length), 0);
	member = field(&p.value, "partition");
	assert_int_equal(avro_value_set_int(&member, u->partition), 0);
	member = field(&p.value, "offset");
	assert_int_equal(avro_value_set_long(&member, u->offset), 0);
	member = field(&p.value, "backbone");
	assert_int_equal(avro_value_set_string(&member, hash), 0);
	avro_value_t embedding = field(&p.value, "embedding");
	for (uint32_t i = 0; i < u->dim; i++) {
		assert_int_equal(avro_value_append(&embedding, &member, NULL), 0);
		assert_int_equal(avro_value_set_float(&member, u->embedding[i]), 0);
	}
	avro_value_t scores = field(&p.value, "scores");
	put_score(&scores);
	put_score(&scores);
	avro_writer_t writer = avro_writer_memory((char *)bytes, 2048);
	assert_int_equal(avro_value_write(writer, &p.value), 0);
	struct slice ret = { bytes, (size_t)avro_writer_tell(writer) };
	avro_writer_free(writer);
	peer_close(&p);
	return ret;
}

static void test_we_read_avros(void **state)
{
	static const float floats[] = { 1.0f, 2.0f, -3.0f };
	struct update in = sample(floats, 3);
	struct update out;
	struct buffer kept = { 0 };
	struct error err;
	uint8_t bytes[2048];
	(void)state;
	struct slice written = peer_write(&in, bytes);
	assert_int_equal(update_decode(written, &kept, &out, &err), STATUS_OK);
	assert_same(&out, &in);
	struct update_scores scores = { 0 };
	assert_int_equal(update_decode_scores(&out, &scores, &err), STATUS_OK);
	assert_int_equal(scores.count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(scores.items[i].version, 12);
		assert_int_equal(scores.items[i].count, 2);
		assert_int_equal(scores.items[i].labels[1].length, 1);
		assert_int_equal(scores.items[i].labels[1].data[0], 'F');
		assert_true(scores.items[i].values[0] == 0.5f);
	}
	in.scores = scores.items;
	in.scores_count = scores.count;
	struct buffer again = { 0 };
	update_encode(&in, &again);
	assert_int_equal(again.length, written.length); /* Avro C writes the same blocks */
	assert_memory_equal(again.data, written.data, written.length);
	update_scores_free(&scores);
	buffer_free(&again);
	buffer_free(&kept);
}

/* ---- what only other writers write, and damage ---- */

static void assert_slice(struct slice a, struct slice b)
{
	assert_int_equal(a.length, b.length);
	assert_memory_equal(a.data, b.data, a.length);
}

static void decoded_scores(const struct buffer *b, struct update_scores *ret)
{
	static struct buffer kept;
	struct update u;
	struct error err;
	buffer_clear(&kept);
	assert_int_equal(update_decode((struct slice){ b->data, b->length }, &kept, &u, &err), STATUS_OK);
	assert_null(u.scores);
	assert_int_equal(update_decode_scores(&u, ret, &err), STATUS_OK);
	buffer_free(&kept);
}

/* All classes, the best rows, one number without a label, a head without rows. */
static void test_scores(void **state)
{
	static const float values[] = { 0.25f, 0.75f, 0.0f }, best[] = { 3.5f, -1.0f };
	static const uint32_t rows[] = { 2, 0 };
	const struct slice labels[] = { text("F"), text("M"), text("caf\xc3\xa9") },
			   nameless = { (const uint8_t *)"", 0 };
	const struct update_score scores[] = {
		{ text("age"), 1, text(hash), labels, NULL, values, 3 },
		{ text("next"), INT64_C(1) << 40, text(hash), labels, rows, best, 2 },
		{ text("spend"), 2, text(hash), &nameless, NULL, values, 1 },
		{ text("new"), 3, text(hash), labels, NULL, values, 0 },
	};
	struct update_scores found = { 0 };
	(void)state;
	for (size_t n = 4; n <= 4; n--) { /* more, then fewer, in the same memory */
		struct update in = sample(values, 2);
		struct buffer b = { 0 };
		in.scores = scores;
		in.scores_count = n;
		update_encode(&in, &b);
		decoded_scores(&b, &found);
		assert_int_equal(found.count, n);
		for (size_t i = 0; i < n; i++) {
			const struct update_score *s = &found.items[i];
			assert_slice(s->task, scores[i].task);
			assert_slice(s->patch, text(hash));
			assert_int_equal(s->version, scores[i].version);
			assert_int_equal(s->count, scores[i].count);
			assert_null(s->rows);
			for (size_t j = 0; j < s->count; j++) {
				assert_slice(s->labels[j], scores[i].labels[i == 1 ? rows[j] : j]);
				assert_memory_equal(&s->values[j], &scores[i].values[j], sizeof(float));
			}
		}
		buffer_free(&b);
	}
	update_scores_free(&found);
}

static void test_blocks(void **state)
{
	static const float floats[] = { 1.0f, 2.0f, -3.0f };
	struct update in = sample(floats, 3);
	struct update out;
	struct buffer b = { 0 };
	struct buffer kept = { 0 };
	struct error err;
	(void)state;
	in.dim = 0;
	update_encode(&in, &b);
	b.length -= 2; /* the ends of both arrays */
	buffer_append_varint(&b, -1);
	buffer_append_varint(&b, 4);
	buffer_append(&b, &floats[0], 4);
	buffer_append_varint(&b, 2);
	buffer_append(&b, &floats[1], 8);
	buffer_append(&b, "\0\0", 2);
	in.dim = 3;
	assert_int_equal(update_decode((struct slice){ b.data, b.length }, &kept, &out, &err), STATUS_OK);
	assert_same(&out, &in);
	buffer_free(&b);
	buffer_free(&kept);
}

static void test_damage(void **state)
{
	static const float floats[] = { 1.0f, 2.0f, -3.0f };
	struct update in = sample(floats, 3);
	struct update out;
	struct buffer kept = { 0 };
	struct error err;
	uint8_t bytes[2048];
	(void)state;
	struct slice written = peer_write(&in, bytes);
	for (size_t cut = 0; cut < written.length; cut++) {
		uint8_t *copy = malloc(cut + 1);
		memcpy(copy + 1, bytes, cut);
		assert_int_equal(update_decode((struct slice){ copy + 1, cut }, &kept, &out, &err), STATUS_DATA);
		assert_non_null(strstr(err.text, "cut or damaged at byte"));
		free(copy);
	}
	assert_int_equal(update_decode((struct slice){ bytes, written.length + 1 }, &kept, &out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "1 bytes are left over"));
	for (size_t bit = 0; bit < 8 * written.length; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		buffer_clear(&kept);
		enum status status = update_decode(written, &kept, &out, &err); /* sanitizers see overreads */
		assert_true(status == STATUS_OK || status == STATUS_DATA);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	buffer_free(&kept);
}

static void test_absurd_counts(void **state)
{
	static const int64_t absurd[] = { INT64_MAX, INT64_MIN, INT64_MIN + 1, INT64_MAX / 4 + 1, 1000 };
	struct update in = sample(NULL, 0);
	struct update out;
	struct buffer kept = { 0 };
	struct error err;
	(void)state;
	for (size_t i = 0; i < 10; i++) {
		struct buffer b = { 0 };
		update_encode(&in, &b);
		b.length -= i < 5 ? 2 : 1; /* the embedding's count, then the scores' */
		buffer_append_varint(&b, absurd[i % 5]);
		buffer_append(&b, "12345678", 8);
		assert_int_equal(update_decode((struct slice){ b.data, b.length }, &kept, &out, &err), STATUS_DATA);
		buffer_free(&b);
	}
	assert_int_equal(update_decode((struct slice){ NULL, 0 }, &kept, &out, &err), STATUS_DATA);
	buffer_free(&kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_avro_reads_ours),
		cmocka_unit_test(test_we_read_avros), cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_damage),        cmocka_unit_test(test_absurd_counts),
		cmocka_unit_test(test_scores),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
