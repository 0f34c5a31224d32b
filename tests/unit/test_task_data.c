/* Labels joined to users: what counts as known at a label's time, the order of classes, and what is left out. */
#include "tools/task_data.h"

#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char events[] = "user_id,item_id,timestamp\nu,a,10\nu,b,20\nv,c,15\nu,d,20\nu,e,30\n";

static struct audience *audience(void)
{
	char path[256];
	struct error err;
	struct audience *a = NULL;
	text_file_make(".csv", events, sizeof events - 1, path);
	assert_int_equal(audience_load(path, &a, &err), STATUS_OK);
	(void)unlink(path);
	return a;
}

static enum status load(const char *text, enum patch_type type, const struct task_labels *known, struct task_data *ret,
			struct error *err)
{
	char path[256];
	struct audience *a = audience();
	text_file_make(".csv", text, strlen(text), path);
	enum status status = task_data_load(path, "t", type, known, a, ret, err);
	(void)unlink(path);
	audience_free(a);
	return status;
}

static void strictly_earlier_events(void **state)
{
	struct error err;
	struct task_data d;
	static const size_t expected[] = { 3, 1, 0, 4, 4 };
	assert_int_equal(load("user_id,label,timestamp\nu,x,30\nu,y,20\nu,y,10\nu,x,31\nu,y,\nw,x,5\nv,x,15\n",
			      PATCH_CLASSIFICATION, NULL, &d, &err),
			 STATUS_OK);
	assert_int_equal(d.rows, 7);
	assert_int_equal(d.unknown, 1);
	assert_int_equal(d.early, 2);
	assert_int_equal(d.count, 4);
	assert_int_equal(d.users, 1);
	for (size_t i = 0, row = 0; i < d.count; i++, row++) {
		row += expected[row] == 0;
		assert_int_equal(d.examples[i].user, 0);
		assert_int_equal(d.examples[i].events, expected[row]);
	}
	task_data_free(&d);
}

static void classes_in_order(void **state)
{
	struct error err;
	struct task_data d;
	static const char *const expected[] = { "-1", "2", "10", "B", "a" };
	static const uint32_t targets[] = { 4, 2, 1, 3, 0 };
	assert_int_equal(load("user_id,label,timestamp\nu,a,31\nu,10,32\nu,2,33\nu,B,34\nu,-1,35\n",
			      PATCH_CLASSIFICATION, NULL, &d, &err),
			 STATUS_OK);
	assert_int_equal(d.classes, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(d.labels[i], expected[i]);
		assert_int_equal(d.examples[i].target, targets[i]);
	}
	task_data_free(&d);
}

static void declared_classes(void **state)
{
	struct error err;
	struct task_data d;
	static const char *const list[] = { "x", "a", "unused" };
	const struct task_labels known = { list, 3 };
	assert_int_equal(load("user_id,label\nu,a\nv,x\n", PATCH_CLASSIFICATION, &known, &d, &err), STATUS_OK);
	assert_int_equal(d.classes, 3);
	assert_string_equal(d.labels[2], "unused");
	assert_int_equal(d.examples[0].target, 1);
	assert_int_equal(d.examples[1].target, 0);
	task_data_free(&d);
	assert_int_equal(load("user_id,label\nu,a\nv,z\n", PATCH_CLASSIFICATION, &known, &d, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, ": line 3: label z is none of the 3 known"));
}

static void repeated_rows(void **state)
{
	struct error err;
	struct task_data d;
	static const char text[] = "user_id,label,timestamp\nu,1,31\nv,1,31\nu,2,31\nu,1,31\nu,1,\n";
	assert_int_equal(load(text, PATCH_CLASSIFICATION, NULL, &d, &err), STATUS_OK);
	assert_int_equal(d.count, 3);
	assert_int_equal(d.duplicates, 2);
	assert_int_equal(d.users, 2);
	assert_int_equal(d.examples[0].user, 1);
	assert_int_equal(d.examples[1].target, 0);
	task_data_free(&d);
	assert_int_equal(load(text, PATCH_RANKING, NULL, &d, &err), STATUS_OK);
	assert_int_equal(d.count, 4);
	assert_int_equal(d.duplicates, 1);
	task_data_free(&d);
	assert_int_equal(load(text, PATCH_REGRESSION, NULL, &d, &err), STATUS_OK);
	assert_int_equal(d.count, 3);
	assert_true(d.examples[1].value == 1);
	assert_int_equal(d.classes, 1);
	assert_null(d.labels);
	task_data_free(&d);
}

static void bad_rows(void **state)
{
	static const struct {
		enum patch_type type;
		const char *text;
		const char *why;
	} cases[] = {
		{ PATCH_REGRESSION, "user_id,label\nu,1\nu,many\n", ": line 3: label many is not a finite number" },
		{ PATCH_REGRESSION, "user_id,label\nu,nan\n", ": line 2: label nan is not a finite number" },
		{ PATCH_REGRESSION, "user_id,label\nu,inf\n", ": line 2: label inf is not a finite number" },
		{ PATCH_REGRESSION, "user_id,label\nu,0x1p4\n", ": line 2: label 0x1p4 is not a decimal number" },
		{ PATCH_REGRESSION, "user_id,label\nu,1e300\n", ": line 2: label 1e+300 is too large" },
		{ PATCH_RANKING, "user_id,label\n,a\n", ": line 2: user_id is empty" },
		{ PATCH_RANKING, "user_id,label\nu,\n", ": line 2: label is empty" },
		{ PATCH_RANKING, "user_id,item\nu,a\n", "the header has no column label" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct error err = { 0 };
		struct task_data d;
		assert_int_equal(load(cases[i].text, cases[i].type, NULL, &d, &err), STATUS_DATA);
		if (!strstr(err.text, cases[i].why))
			fail_msg("'%s' does not say '%s'", err.text, cases[i].why);
	}
}

static void nothing_to_learn_from(void **state)
{
	struct error err;
	struct task_data d;
	assert_int_equal(load("task,user_id,label\nother,u,a\n", PATCH_CLASSIFICATION, NULL, &d, &err), STATUS_OK);
	assert_int_equal(d.rows, 0);
	assert_int_equal(d.count, 0);
	assert_int_equal(d.classes, 0);
	assert_int_equal(task_data_check(&d, "age", &err), STATUS_DATA);
	assert_string_equal(err.text, "no row is of task age");
	task_data_free(&d);
	assert_int_equal(load("user_id,label\nnobody,a\n", PATCH_CLASSIFICATION, NULL, &d, &err), STATUS_OK);
	assert_int_equal(task_data_check(&d, "age", &err), STATUS_DATA);
	assert_string_equal(err.text, "task age: no label of a user with earlier events (1 rows, 1 of unknown users)");
	task_data_free(&d);
}

/* Hexadecimal digits are a text like any other, behind the numbers. */
static void numbers_are_decimal(void **state)
{
	struct error err;
	struct task_data d;
	assert_int_equal(load("user_id,label\nu,0x2\nv,10\nu,9\n", PATCH_CLASSIFICATION, NULL, &d, &err), STATUS_OK);
	assert_int_equal(d.classes, 3);
	assert_string_equal(d.labels[0], "9");
	assert_string_equal(d.labels[1], "10");
	assert_string_equal(d.labels[2], "0x2");
	task_data_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strictly_earlier_events),
		cmocka_unit_test(classes_in_order),
		cmocka_unit_test(declared_classes),
		cmocka_unit_test(repeated_rows),
		cmocka_unit_test(bad_rows),
		cmocka_unit_test(nothing_to_learn_from),
		cmocka_unit_test(numbers_are_decimal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
