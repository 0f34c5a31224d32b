/* Whole files by user: order of first appearance, stable order of events, and .npy as NumPy reads it. */
#include "io/audience.h"

#include "base/hash.h"
#include "io/npy.h"
#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t item(const char *id)
{
	return hash_item(id, strlen(id));
}

static void users_and_events_in_order(void **state)
{
	static const char text[] = "user_id,item_id,timestamp\n"
				   "v,a,50\nu,b,30\nv,c,10\nu,d,20\nv,e,50\nu,f,20\nv,g,10\nw,h,1\n";
	char path[256];
	struct audience *a;
	struct error err;
	size_t length;
	text_file_make(".csv", text, sizeof text - 1, path);
	assert_int_equal(audience_load(path, &a, &err), STATUS_OK);
	assert_int_equal(audience_users(a), 3);
	assert_int_equal(audience_events(a), 8);
	assert_memory_equal(audience_user(a, 0).data, "v", 1);
	assert_memory_equal(audience_user(a, 1).data, "u", 1);
	assert_memory_equal(audience_user(a, 2).data, "w", 1);
	size_t user_found = 9;
	assert_true(audience_find(a, (struct slice){ (const uint8_t *)"w", 1 }, &user_found));
	assert_int_equal(user_found, 2);
	assert_true(audience_find(a, (struct slice){ (const uint8_t *)"v", 1 }, &user_found));
	assert_int_equal(user_found, 0);
	assert_false(audience_find(a, (struct slice){ (const uint8_t *)"vu", 2 }, &user_found));
	static const char *const items[3][4] = { { "c", "g", "a", "e" }, { "d", "f", "b" }, { "h" } };
	static const size_t lengths[] = { 4, 3, 1 };
	for (size_t user = 0; user < 3; user++) {
		const struct event *events = audience_sequence(a, user, &length);
		assert_int_equal(length, lengths[user]);
		for (size_t i = 0; i < length; i++)
			assert_true(events[i].item == item(items[user][i]));
	}
	audience_free(a);
	(void)unlink(path);
}

/* Random times with many ties: the merge is stable and loses nothing. */
static void long_sequences_are_sorted(void **state)
{
	enum { EVENTS = 5000 };
	char *text = malloc(EVENTS * 32);
	char path[256];
	struct audience *a;
	struct error err;
	size_t length;
	size_t used = 0;
	uint32_t random = 1;
	assert_non_null(text);
	used += (size_t)sprintf(text, "user_id,item_id,timestamp\n");
	for (int i = 0; i < EVENTS; i++) {
		random = random * 1664525 + 1013904223;
		used += (size_t)sprintf(text + used, "u,%04d,%u\n", i, random >> 26);
	}
	text_file_make(".csv", text, used, path);
	assert_int_equal(audience_load(path, &a, &err), STATUS_OK);
	const struct event *events = audience_sequence(a, 0, &length);
	assert_int_equal(length, EVENTS);
	int *line = calloc(EVENTS, sizeof *line);
	assert_non_null(line);
	for (size_t i = 0; i < EVENTS; i++)
		for (int id = 0; id < EVENTS && !line[i]; id++) {
			char name[8];
			(void)snprintf(name, sizeof name, "%04d", id);
			line[i] = item(name) == events[i].item ? id + 1 : 0;
		}
	for (size_t i = 1; i < EVENTS; i++) {
		assert_true(events[i - 1].time_ms <= events[i].time_ms);
		if (events[i - 1].time_ms == events[i].time_ms)
			assert_true(line[i - 1] < line[i]);
	}
	free(line);
	audience_free(a);
	(void)unlink(path);
	free(text);
}

static void a_file_without_events(void **state)
{
	char path[256];
	struct audience *a;
	struct error err;
	text_file_make(".csv", "user_id,item_id\n", 16, path);
	assert_int_equal(audience_load(path, &a, &err), STATUS_OK);
	assert_int_equal(audience_users(a), 0);
	audience_free(a);
	(void)unlink(path);
	assert_int_equal(audience_load("/nonexistent", &a, &err), STATUS_NO_INPUT);
	audience_free(NULL);
}

static void npy_as_numpy_reads_it(void **state)
{
	static const float values[] = { 1, -2.5F, 3, 4, 5, 6 };
	char path[256];
	char bytes[512];
	struct error err;
	text_file_make(".npy", "old", 3, path);
	assert_int_equal(npy_write(path, values, 2, 3, &err), STATUS_OK);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	size_t length = fread(bytes, 1, sizeof bytes, file);
	(void)fclose(file);
	assert_memory_equal(bytes, "\x93NUMPY\x01\x00", 8);
	size_t header = (size_t)(uint8_t)bytes[8] | (size_t)(uint8_t)bytes[9] << 8;
	assert_int_equal((10 + header) % 64, 0);
	assert_int_equal(length, 10 + header + sizeof values);
	static const char expected[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
	assert_memory_equal(bytes + 10, expected, sizeof expected - 1);
	assert_int_equal(bytes[10 + header - 1], '\n');
	assert_memory_equal(bytes + 10 + header, values, sizeof values);
	(void)unlink(path);
	assert_int_equal(npy_write("/nonexistent/x.npy", values, 2, 3, &err), STATUS_IO);
	assert_string_equal(err.text, "/nonexistent/x.npy: cannot be written: No such file or directory");
	assert_int_equal(npy_write("/dev/full", values, 2, 3, &err), STATUS_IO);
	assert_string_equal(err.text, "/dev/full: cannot be written: No space left on device");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_and_events_in_order),
		cmocka_unit_test(long_sequences_are_sorted),
		cmocka_unit_test(a_file_without_events),
		cmocka_unit_test(npy_as_numpy_reads_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
