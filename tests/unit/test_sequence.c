/* io/sequence against a naive twin, and its bytes. */
#include "io/sequence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 512 };

/* The twin: a plain array, a stable insertion, then the newest `keep`. */
struct twin {
	struct event events[MOST + 1];
	uint32_t length;
};

static enum sequence_place twin_insert(struct twin *t, uint32_t keep, struct event event)
{
	uint32_t at = t->length;
	while (at > 0 && t->events[at - 1].time_ms > event.time_ms)
		at--;
	if (at == 0 && t->length >= keep)
		return SEQUENCE_LATE;
	enum sequence_place place = at == t->length ? SEQUENCE_APPENDED : SEQUENCE_INSERTED;
	memmove(t->events + at + 1, t->events + at, (t->length - at) * sizeof *t->events);
	t->events[at] = event;
	if (++t->length > keep) {
		memmove(t->events, t->events + 1, (t->length - 1) * sizeof *t->events);
		t->length--;
	}
	return place;
}

static void expect_same(const struct sequence *s, const struct twin *t)
{
	assert_int_equal(s->length, t->length);
	for (uint32_t i = 0; i < s->length; i++) {
		assert_int_equal(s->events[i].item, t->events[i].item);
		assert_int_equal(s->events[i].time_ms, t->events[i].time_ms);
	}
}

static enum sequence_place insert(struct sequence *s, uint32_t keep, uint64_t item, int64_t time_ms)
{
	enum sequence_place place;
	struct error err;
	assert_int_equal(sequence_insert(s, keep, (struct event){ item, time_ms }, &place, &err), STATUS_OK);
	return place;
}

static void order_is_by_time_and_then_by_arrival(void **state)
{
	static const uint64_t order[] = { 4, 1, 3, 5, 2 };
	struct sequence s = { 0 };
	assert_int_equal(insert(&s, 9, 1, 20), SEQUENCE_APPENDED);
	assert_int_equal(insert(&s, 9, 2, 30), SEQUENCE_APPENDED);
	assert_int_equal(insert(&s, 9, 3, 20), SEQUENCE_INSERTED);
	assert_int_equal(insert(&s, 9, 4, 10), SEQUENCE_INSERTED);
	assert_int_equal(insert(&s, 9, 5, 20), SEQUENCE_INSERTED);
	assert_int_equal(s.length, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(s.events[i].item, order[i]);
	assert_int_equal(insert(&s, 9, 6, 30), SEQUENCE_APPENDED);
	sequence_free(&s);
	assert_null(s.events);
	sequence_free(&s);
}

static void a_full_sequence_drops_the_oldest(void **state)
{
	struct sequence s = { 0 };
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(insert(&s, 3, i, 10), SEQUENCE_APPENDED);
	assert_int_equal(insert(&s, 3, 4, 9), SEQUENCE_LATE);
	assert_int_equal(s.length, 3);
	assert_int_equal(s.events[0].item, 1);
	assert_int_equal(insert(&s, 3, 5, 10), SEQUENCE_APPENDED); /* as old as the oldest: after it, and it goes */
	assert_int_equal(s.events[0].item, 2);
	assert_int_equal(s.events[2].item, 5);
	assert_int_equal(insert(&s, 3, 6, 20), SEQUENCE_APPENDED);
	assert_int_equal(insert(&s, 3, 7, 10), SEQUENCE_INSERTED);
	assert_int_equal(s.events[0].item, 5);
	assert_int_equal(s.events[1].item, 7);
	assert_int_equal(s.events[2].item, 6);
	/* keep 1 */
	struct sequence one = { 0 };
	assert_int_equal(insert(&one, 1, 1, 5), SEQUENCE_APPENDED);
	assert_int_equal(insert(&one, 1, 2, 4), SEQUENCE_LATE);
	assert_int_equal(insert(&one, 1, 3, 5), SEQUENCE_APPENDED);
	assert_int_equal(one.length, 1);
	assert_int_equal(one.events[0].item, 3);
	sequence_free(&one);
	sequence_free(&s);
}

static void a_smaller_keep_applies_from_the_next_event_on(void **state)
{
	struct sequence s = { 0 };
	for (uint64_t i = 0; i < 10; i++)
		(void)insert(&s, 10, i, (int64_t)i);
	assert_int_equal(insert(&s, 4, 99, 5), SEQUENCE_LATE); /* older than the newest four */
	assert_int_equal(s.length, 10);
	assert_int_equal(insert(&s, 4, 98, 6), SEQUENCE_INSERTED);
	assert_int_equal(s.length, 4);
	assert_int_equal(s.events[0].item, 98);
	assert_int_equal(s.events[3].item, 9);
	assert_int_equal(insert(&s, 2, 97, 100), SEQUENCE_APPENDED);
	assert_int_equal(s.length, 2);
	assert_int_equal(s.events[0].item, 9);
	sequence_free(&s);
}

static void random_insertions_agree_with_the_twin(void **state)
{
	static const uint32_t keeps[] = { 1, 2, 3, 5, 8, 64, 256 };
	for (size_t k = 0; k < sizeof keeps / sizeof *keeps; k++) {
		for (unsigned style = 0; style < 3; style++) {
			struct sequence s = { 0 };
			struct twin t = { 0 };
			unsigned seed = (unsigned)k * 3 + style + 1;
			for (int64_t i = 0; i < 3000; i++) {
				int64_t time_ms = style == 0   ? i
						  : style == 1 ? i - rand_r(&seed) % 20 + 20
							       : rand_r(&seed) % 50;
				struct event e = { (uint64_t)i, time_ms };
				assert_int_equal(insert(&s, keeps[k], e.item, e.time_ms), twin_insert(&t, keeps[k], e));
				if (i % 7 == 0)
					expect_same(&s, &t);
				assert_true(s.capacity <= keeps[k] + keeps[k] / 4 + 4);
			}
			expect_same(&s, &t);
			sequence_free(&s);
		}
	}
}

static void bytes_round_trip(void **state)
{
	unsigned seed = 5;
	struct sequence s = { 0 };
	struct sequence back = { 0 };
	struct error err;
	for (int n = 0; n < 400; n++) {
		struct buffer out = { 0 };
		buffer_append_byte(&out, 77);
		sequence_encode(&s, &out);
		size_t length = out.length;
		buffer_append_byte(&out, 78);
		assert_false(out.failed);
		const uint8_t *at = out.data + 1;
		assert_int_equal(sequence_decode(&back, &at, out.data + out.length, &err), STATUS_OK);
		assert_ptr_equal(at, out.data + length);
		assert_int_equal(back.length, s.length);
		for (uint32_t i = 0; i < s.length; i++) {
			assert_int_equal(back.events[i].item, s.events[i].item);
			assert_int_equal(back.events[i].time_ms, s.events[i].time_ms);
		}
		/* a decoded sequence goes on */
		assert_int_equal(insert(&back, 256, 1, INT64_MAX), SEQUENCE_APPENDED);
		/* cut anywhere it is refused */
		for (size_t cut = 1; cut < length; cut += 1 + length / 50) {
			at = out.data + 1;
			assert_int_equal(sequence_decode(&back, &at, out.data + cut, &err), STATUS_DATA);
		}
		buffer_free(&out);
		(void)insert(&s, 256, (uint64_t)rand_r(&seed) << 33 ^ (uint64_t)rand_r(&seed), n * (int64_t)86400000);
	}
	sequence_free(&back);
	sequence_free(&s);
}

static void bytes_are_as_documented(void **state)
{
	static const uint8_t good[] = { 4, 20, 6, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x80 };
	struct sequence s = { 0 };
	struct buffer out = { 0 };
	(void)insert(&s, 4, 1, 10);
	(void)insert(&s, 4, 0x8000000000000002u, 13);
	sequence_encode(&s, &out);
	assert_int_equal(out.length, sizeof good);
	assert_memory_equal(out.data, good, sizeof good);
	buffer_free(&out);
	sequence_free(&s);
}

static void absurd_bytes_are_refused(void **state)
{
	static const struct {
		uint8_t bytes[32];
		size_t length;
	} bad[] = {
		{ { 0 }, 0 },                                                              /* nothing */
		{ { 1 }, 1 },                                                              /* -1 events */
		{ { 0xfe, 0xff, 0xff, 0xff, 0x0f, 0 }, 6 },                                /* 2^31 - 1 events */
		{ { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0 }, 11 }, /* 2^63 - 1 */
		{ { 4, 20, 5, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0 }, 19 },      /* backwards */
		{ { 2, 1, 1, 0, 0, 0, 0, 0, 0, 0 }, 10 },                                  /* before 1970 */
		{ { 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0 }, 14 }, /* no varint */
	};
	struct error err;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sequence s = { 0 };
		const uint8_t *at = bad[i].bytes;
		assert_int_equal(sequence_decode(&s, &at, bad[i].bytes + bad[i].length, &err), STATUS_DATA);
		assert_true(s.length == 0);
		sequence_free(&s);
	}
	/* times that add up to more than 2^63 - 1 */
	struct buffer out = { 0 };
	struct sequence s = { 0 };
	buffer_append_varint(&out, 2);
	buffer_append_varint(&out, INT64_MAX);
	buffer_append_varint(&out, 1);
	(void)memset(buffer_extend(&out, 16), 0, 16);
	const uint8_t *at = out.data;
	assert_int_equal(sequence_decode(&s, &at, out.data + out.length, &err), STATUS_DATA);
	sequence_free(&s);
	buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_is_by_time_and_then_by_arrival),
		cmocka_unit_test(a_full_sequence_drops_the_oldest),
		cmocka_unit_test(a_smaller_keep_applies_from_the_next_event_on),
		cmocka_unit_test(random_insertions_agree_with_the_twin),
		cmocka_unit_test(bytes_round_trip),
		cmocka_unit_test(bytes_are_as_documented),
		cmocka_unit_test(absurd_bytes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
