/* Files of interactions and labels: columns, limits of ids, timestamps, and errors that name file and line. */
#include "io/events_file.h"

#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct expected_event {
	const char *user;
	const char *item;
	const char *type; /* NULL: none */
	int64_t timestamp_ms;
};

static void expect_text(struct slice got, const char *expected)
{
	assert_int_equal(got.data != NULL, expected != NULL);
	if (!expected)
		return;
	assert_int_equal(got.length, strlen(expected));
	assert_memory_equal(got.data, expected, got.length);
}

static void expect_events(const char *text, const struct expected_event *expected, size_t count)
{
	char path[256];
	struct events_file *file;
	struct events_row row;
	struct error err;
	bool found;
	text_file_make(".csv", text, strlen(text), path);
	assert_int_equal(events_file_open(path, &file, &err), STATUS_OK);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(events_file_next(file, &row, &found, &err), STATUS_OK);
		assert_true(found);
		expect_text(row.user_id, expected[i].user);
		expect_text(row.item_id, expected[i].item);
		expect_text(row.event_type, expected[i].type);
		assert_int_equal(row.timestamp_ms, expected[i].timestamp_ms);
	}
	assert_int_equal(events_file_next(file, &row, &found, &err), STATUS_OK);
	assert_false(found);
	events_file_close(file);
	(void)unlink(path);
}

static void events_with_all_columns(void **state)
{
	const struct expected_event expected[] = { { "u1", "i1", "view", 1000 },
						   { "caf\xc3\xa9", "i,2", NULL, 0 },
						   { "u1", "i3", "buy", INT64_MAX } };
	expect_events("event_type,timestamp,extra,item_id,user_id\n"
		      "view,1000,x,i1,u1\n,0,,\"i,2\",caf\xc3\xa9\nbuy,9223372036854775807,,i3,u1\n",
		      expected, 3);
}

static void events_without_timestamps_are_numbered(void **state)
{
	const struct expected_event expected[] = { { "u", "a", NULL, 1 },
						   { "u", "b", NULL, 2 },
						   { "v", "a", NULL, 3 } };
	expect_events("user_id,item_id\nu,a\n\nu,b\nv,a\n", expected, 3);
}

static void recbole_columns(void **state)
{
	const struct expected_event expected[] = { { "196", "242", NULL, 881250949 },
						   { "186", "302", NULL, 891717742 } };
	expect_events("user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
		      "196\t242\t3\t881250949\n186\t302\t3\t891717742.0\n",
		      expected, 2);
}

/* The error of a file, without the path in front. */
static void expect_fault(const char *text, size_t length, const char *expected)
{
	char path[256];
	struct events_file *file = NULL;
	struct events_row row;
	struct error err;
	bool found = true;
	text_file_make(".csv", text, length, path);
	enum status status = events_file_open(path, &file, &err);
	while (!status && found)
		status = events_file_next(file, &row, &found, &err);
	assert_int_equal(status, STATUS_DATA);
	assert_memory_equal(err.text, path, strlen(path));
	assert_string_equal(err.text + strlen(path), expected);
	events_file_close(file);
	(void)unlink(path);
}

static void expect_text_fault(const char *text, const char *expected)
{
	expect_fault(text, strlen(text), expected);
}

static void bad_rows(void **state)
{
	expect_text_fault("user,item_id\n", ": line 1: the header has no column user_id");
	expect_text_fault("user_id,item\n", ": line 1: the header has no column item_id");
	expect_text_fault("user_id,item_id\nu,i\n,i\n", ": line 3: user_id is empty");
	expect_text_fault("user_id,item_id\nu,\n", ": line 2: item_id is empty");
	expect_text_fault("user_id,item_id\nu\xff,i\n", ": line 2: user_id is not UTF-8");
	expect_fault("user_id,item_id\nu,i\0j\n", 22, ": line 2: item_id holds a NUL");
	static const char *const bad_times[] = {
		"-1", "x", "", "1e3", "1.5x", " 1", "9223372036854775808", "0x10", "."
	};
	for (size_t i = 0; i < sizeof bad_times / sizeof *bad_times; i++) {
		char text[128];
		char expected[128];
		(void)snprintf(text, sizeof text, "user_id,item_id,timestamp\nu,i,%s\n", bad_times[i]);
		(void)snprintf(expected, sizeof expected,
			       ": line 2: timestamp %s is not a whole number of milliseconds from 0", bad_times[i]);
		expect_text_fault(text, expected);
	}
}

static void ids_have_limits(void **state)
{
	static const struct {
		size_t user;
		size_t item;
		const char *fault; /* NULL: none */
	} cases[] = { { 256, 1024, NULL },
		      { 257, 1, ": line 2: user_id of 257 bytes, at most 256" },
		      { 1, 1025, ": line 2: item_id of 1025 bytes, at most 1024" } };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[2048];
		int used = snprintf(text, sizeof text, "user_id,item_id\n");
		memset(text + used, 'u', cases[i].user);
		text[(size_t)used + cases[i].user] = ',';
		memset(text + (size_t)used + cases[i].user + 1, 'i', cases[i].item);
		size_t length = (size_t)used + cases[i].user + 1 + cases[i].item;
		if (cases[i].fault) {
			expect_fault(text, length, cases[i].fault);
			continue;
		}
		text[length] = '\0';
		char user[257] = "";
		char item[1025] = "";
		memset(user, 'u', 256);
		memset(item, 'i', 1024);
		const struct expected_event expected = { user, item, NULL, 1 };
		expect_events(text, &expected, 1);
	}
}

static struct labels_file *open_labels(const char *text, const char *task, char path[256])
{
	struct labels_file *file = NULL;
	struct error err;
	text_file_make(".csv", text, strlen(text), path);
	assert_int_equal(labels_file_open(path, task, &file, &err), STATUS_OK);
	return file;
}

static void labels_without_a_task_say_what_names_it(void **state)
{
	char path[256];
	struct labels_file *file = NULL;
	struct error err;
	text_file_make(".csv", "user_id,label\n", 14, path);
	assert_int_equal(labels_file_open(path, NULL, &file, &err), STATUS_DATA);
	assert_string_equal(err.text + strlen(path),
			    ": line 1: the header has no column task; --task names the task of all rows");
	(void)unlink(path);
}

static void labels_with_and_without_columns(void **state)
{
	char path[256];
	struct labels_row row;
	struct error err;
	bool found;
	double number;
	struct labels_file *file =
		open_labels("task,user_id,label,timestamp,weight\ngender,u1,F,5,0.5\nage,u2,3.25,,\n", NULL, path);
	assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
	expect_text(row.task, "gender");
	expect_text(row.label, "F");
	assert_int_equal(row.timestamp_ms, 5);
	assert_true(row.weight == 0.5F);
	assert_int_equal(labels_file_number(file, &row, &number, &err), STATUS_DATA);
	assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
	expect_text(row.user_id, "u2");
	assert_int_equal(row.timestamp_ms, -1);
	assert_true(row.weight == 1);
	assert_int_equal(labels_file_number(file, &row, &number, &err), STATUS_OK);
	assert_true(number == 3.25);
	assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
	assert_false(found);
	labels_file_close(file);
	(void)unlink(path);
	file = open_labels("user_id,label\nu1,F\n", "gender", path);
	assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
	expect_text(row.task, "gender");
	assert_int_equal(row.timestamp_ms, -1);
	labels_file_close(file);
	(void)unlink(path);
}

/* Rows of other tasks are passed over, whatever they hold; without the column every row is of the task. */
static void labels_of_one_task(void **state)
{
	static const char *const texts[] = { "task,user_id,label\nage,u1,\ngender,u2,F\ngender2,u3,F\ngender,u4,M\n",
					     "user_id,label\nu2,F\nu4,M\n" };
	for (size_t i = 0; i < 2; i++) {
		char path[256];
		struct labels_row row;
		struct labels_file *file = NULL;
		struct error err;
		bool found;
		text_file_make(".csv", texts[i], strlen(texts[i]), path);
		assert_int_equal(labels_file_open_task(path, "gender", &file, &err), STATUS_OK);
		assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
		expect_text(row.user_id, "u2");
		expect_text(row.task, "gender");
		assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
		expect_text(row.user_id, "u4");
		assert_int_equal(labels_file_fault(file, &err, "%s is %d", "it", 1), STATUS_DATA);
		assert_non_null(strstr(err.text, i == 0 ? ": line 5: it is 1" : ": line 3: it is 1"));
		assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_OK);
		assert_false(found);
		labels_file_close(file);
		(void)unlink(path);
	}
}

static void bad_labels(void **state)
{
	static const char *const bad[] = { "task,user_id,label,weight\nt,u,F,-1\n",
					   "task,user_id,label,weight\nt,u,F,nan\n",
					   "task,user_id,label,weight\nt,u,F,1e300\n", "task,user_id,label\nt,u,\n",
					   "task,user_id,label\n,u,F\n" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char path[256];
		struct labels_row row;
		struct error err;
		bool found;
		struct labels_file *file = open_labels(bad[i], NULL, path);
		assert_int_equal(labels_file_next(file, &row, &found, &err), STATUS_DATA);
		assert_non_null(strstr(err.text, ": line 2: "));
		labels_file_close(file);
		(void)unlink(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_with_all_columns),
		cmocka_unit_test(events_without_timestamps_are_numbered),
		cmocka_unit_test(recbole_columns),
		cmocka_unit_test(bad_rows),
		cmocka_unit_test(ids_have_limits),
		cmocka_unit_test(labels_with_and_without_columns),
		cmocka_unit_test(labels_without_a_task_say_what_names_it),
		cmocka_unit_test(labels_of_one_task),
		cmocka_unit_test(bad_labels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
