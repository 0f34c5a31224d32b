/* io/record: keys, round trips, and that no damaged byte passes. */
#include "io/record.h"
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static struct slice bytes(const void *data, size_t length)
{
	return (struct slice){ data, length };
}

static struct slice whole(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

static void keys_are_told_apart(void **state)
{
	char longest[USER_ID_MAX_BYTES + 1];
	memset(longest, 'x', sizeof longest);
	struct buffer key = { 0 };
	struct slice id = { NULL, 0 };
	assert_int_equal(record_key_parse(bytes("ann", 3), &id), RECORD_USER);
	assert_int_equal(id.length, 3);
	assert_memory_equal(id.data, "ann", 3);
	assert_int_equal(record_key_parse(bytes(longest, USER_ID_MAX_BYTES), &id), RECORD_USER);
	assert_int_equal(record_key_parse(bytes(longest, USER_ID_MAX_BYTES + 1), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("a\0b", 3), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("", 0), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes(NULL, 0), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("\0positio", 8), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("\0positions", 10), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("\0owed\0", 6), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("\0owed\0a\0", 8), &id), RECORD_UNKNOWN);
	assert_int_equal(record_key_parse(bytes("\0label\0\0\0\0\0\0\0\0", 14), &id), RECORD_UNKNOWN);
	record_key_label(INT64_C(0x0102030405060708), &key);
	assert_int_equal(key.length, 15);
	assert_memory_equal(key.data, "\0label\0\1\2\3\4\5\6\7\10", 15);
	assert_int_equal(record_key_parse(whole(&key), &id), RECORD_LABEL);
	buffer_clear(&key);
	record_key_position(&key);
	assert_int_equal(key.length, 9);
	assert_memory_equal(key.data, "\0position", 9);
	assert_int_equal(record_key_parse(whole(&key), &id), RECORD_POSITION);
	buffer_clear(&key);
	record_key_owed(bytes("position", 8), &key);
	assert_memory_equal(key.data, "\0owed\0position", 14);
	assert_int_equal(record_key_parse(whole(&key), &id), RECORD_OWED);
	assert_int_equal(id.length, 8);
	assert_memory_equal(id.data, "position", 8);
	buffer_free(&key);
}

static void fill(struct sequence *s, int n)
{
	struct error err;
	enum sequence_place place;
	for (int i = 0; i < n; i++)
		assert_int_equal(sequence_insert(s, 64,
						 (struct event){ (uint64_t)i * 0x9e3779b97f4a7c15u, 1000 + i * i },
						 &place, &err),
				 STATUS_OK);
}

static void users_round_trip(void **state)
{
	static const int64_t offsets[] = { 0, 1, 127, 1000000, INT64_MAX };
	for (int n = 0; n < 5; n++) {
		struct sequence s = { 0 };
		struct sequence back = { 0 };
		struct buffer out = { 0 };
		struct error err;
		int64_t offset = -1;
		fill(&s, 10 * n);
		buffer_append(&out, "before", 6); /* the checksum is of the record alone */
		record_user_encode(&s, offsets[n], &out);
		assert_false(out.failed);
		assert_int_equal(record_user_decode(bytes(out.data + 6, out.length - 6), &back, &offset, &err),
				 STATUS_OK);
		assert_int_equal(offset, offsets[n]);
		assert_int_equal(back.length, s.length);
		for (uint32_t i = 0; i < s.length; i++)
			assert_memory_equal(&back.events[i], &s.events[i], sizeof s.events[i]);
		buffer_free(&out);
		sequence_free(&s);
		sequence_free(&back);
	}
}

static void positions_round_trip(void **state)
{
	static const struct position all[] = {
		{ 0, -1, -1, -1 }, { 5, 6, 7, 8 }, { INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX }, { -1, -1, -1, 0 }
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct buffer out = { 0 };
		struct position back;
		struct error err;
		record_position_encode(&all[i], &out);
		assert_int_equal(record_position_decode(whole(&out), &back, &err), STATUS_OK);
		assert_memory_equal(&back, &all[i], sizeof back);
		buffer_free(&out);
	}
}

static bool same(struct slice a, struct slice b)
{
	return a.length == b.length && !a.data == !b.data && (a.length == 0 || !memcmp(a.data, b.data, a.length));
}

static void labels_round_trip_and_no_damage_passes(void **state)
{
	const struct record_label all[] = {
		{ 0, 0, 0, -1, { NULL, 0 }, bytes("v", 1), bytes("", 0) },
		{ 70000, 1700000000000, 1700000000001, 1699999999999, bytes("user", 4), bytes("a\0b", 3),
		  bytes("hh", 2) },
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct buffer out = { 0 };
		struct record_label back;
		struct error err;
		record_label_encode(&all[i], &out);
		assert_int_equal(record_label_decode(whole(&out), &back, &err), STATUS_OK);
		assert_int_equal(back.offset, all[i].offset);
		assert_int_equal(back.until_ms, all[i].until_ms);
		assert_int_equal(back.deadline_ms, all[i].deadline_ms);
		assert_int_equal(back.appended_ms, all[i].appended_ms);
		assert_true(same(back.key, all[i].key) && same(back.value, all[i].value));
		assert_true(same(back.headers, all[i].headers));
		for (size_t bit = 0; bit < out.length * 8; bit++) {
			out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(record_label_decode(whole(&out), &back, &err), STATUS_DATA);
			out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t cut = 0; cut < out.length; cut++)
			assert_int_equal(record_label_decode(bytes(out.data, cut), &back, &err), STATUS_DATA);
		buffer_free(&out);
	}
}

/* Every bit flipped, every cut, a byte too many: refused. */
static void no_damage_passes(void **state)
{
	struct sequence s = { 0 };
	struct sequence back = { 0 };
	struct buffer user = { 0 };
	struct buffer position = { 0 };
	struct position p = { 1000, 2000, 1700000000000, 3000 };
	struct error err;
	int64_t offset;
	fill(&s, 12);
	record_user_encode(&s, 77, &user);
	record_position_encode(&p, &position);
	for (size_t bit = 0; bit < user.length * 8; bit++) {
		user.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(record_user_decode(whole(&user), &back, &offset, &err), STATUS_DATA);
		user.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < position.length * 8; bit++) {
		position.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(record_position_decode(whole(&position), &p, &err), STATUS_DATA);
		position.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t cut = 0; cut < user.length; cut++)
		assert_int_equal(record_user_decode(bytes(user.data, cut), &back, &offset, &err), STATUS_DATA);
	for (size_t cut = 0; cut < position.length; cut++)
		assert_int_equal(record_position_decode(bytes(position.data, cut), &p, &err), STATUS_DATA);
	assert_int_equal(record_user_decode(bytes(NULL, 0), &back, &offset, &err), STATUS_DATA);
	buffer_append_byte(&user, 0);
	assert_int_equal(record_user_decode(whole(&user), &back, &offset, &err), STATUS_DATA);
	buffer_free(&user);
	buffer_free(&position);
	sequence_free(&s);
	sequence_free(&back);
}

static void seal(struct buffer *b)
{
	uint32_t sum = hash_checksum(b->data, b->length);
	for (int i = 0; i < 4; i++)
		buffer_append_byte(b, (uint8_t)(sum >> 8 * i));
}

/* What a right checksum covers is still not believed. */
static void checksummed_nonsense_is_refused(void **state)
{
	struct sequence s = { 0 };
	struct position p;
	struct error err;
	int64_t offset;
	struct record_label label;
	struct buffer b = { 0 };
	buffer_append_byte(&b, 2); /* a version to come */
	buffer_append_varint(&b, 0);
	buffer_append_varint(&b, 0);
	seal(&b);
	assert_int_equal(record_user_decode(whole(&b), &s, &offset, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "version 2"));
	buffer_clear(&b);
	buffer_append_byte(&b, 1);
	buffer_append_varint(&b, -1); /* an offset before the first */
	buffer_append_varint(&b, 0);
	seal(&b);
	assert_int_equal(record_user_decode(whole(&b), &s, &offset, &err), STATUS_DATA);
	buffer_clear(&b);
	buffer_append_byte(&b, 1);
	buffer_append_varint(&b, 1);
	buffer_append_varint(&b, 0);
	buffer_append_byte(&b, 0); /* left over */
	seal(&b);
	assert_int_equal(record_user_decode(whole(&b), &s, &offset, &err), STATUS_DATA);
	buffer_clear(&b);
	buffer_append_byte(&b, 1);
	buffer_append_varint(&b, 1);
	buffer_append_varint(&b, -2);
	buffer_append_varint(&b, 1);
	buffer_append_varint(&b, 1);
	seal(&b);
	assert_int_equal(record_position_decode(whole(&b), &p, &err), STATUS_DATA);
	buffer_clear(&b);
	buffer_append_byte(&b, 1);
	for (int i = 0; i < 4; i++)
		buffer_append_varint(&b, 1);
	buffer_append_varint(&b, 1 << 30); /* a key beyond the end */
	buffer_append_varint(&b, -1);
	buffer_append_varint(&b, -1);
	seal(&b);
	assert_int_equal(record_label_decode(whole(&b), &label, &err), STATUS_DATA);
	buffer_free(&b);
	sequence_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_told_apart),  cmocka_unit_test(users_round_trip),
		cmocka_unit_test(positions_round_trip), cmocka_unit_test(labels_round_trip_and_no_damage_passes),
		cmocka_unit_test(no_damage_passes),     cmocka_unit_test(checksummed_nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
