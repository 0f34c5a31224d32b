/* Delimited text: RFC 4180's corners, delimiters, headers, and errors that name their line. */
#include "io/csv.h"

#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* What csv_next returns, joined: fields by '|', records by '/'; or the error's text after the file's name. */
static void read_all(const char *suffix, const char *text, size_t length, char *out, size_t size)
{
	char path[256];
	struct csv *csv = NULL;
	struct error err = { 0 };
	const struct slice *fields = NULL;
	size_t used = 0;
	text_file_make(suffix, text, length, path);
	enum status status = csv_open(path, &csv, &err);
	size_t columns = 0;
	out[0] = '\0';
	while (!status && !(status = csv_next(csv, &fields, &err)) && fields) {
		if (!columns) /* the tests' headers are a, b, c, ... */
			while (csv_column(csv, (const char[]){ (char)('a' + columns), '\0' }) >= 0)
				columns++;
		for (size_t i = 0; i < columns; i++)
			used += (size_t)snprintf(out + used, size - used, "%s%.*s", i ? "|" : "", (int)fields[i].length,
						 (const char *)fields[i].data);
		used += (size_t)snprintf(out + used, size - used, "/");
	}
	if (status) {
		assert_int_equal(status, STATUS_DATA);
		assert_memory_equal(err.text, path, strlen(path));
		(void)snprintf(out, size, "%s", err.text + strlen(path));
	}
	csv_close(csv);
	(void)unlink(path);
}

static void expect_of(const char *suffix, const char *text, const char *expected)
{
	char got[512];
	read_all(suffix, text, strlen(text), got, sizeof got);
	assert_string_equal(got, expected);
}

static void expect(const char *text, const char *expected)
{
	expect_of(".csv", text, expected);
}

static void plain_records(void **state)
{
	expect("a,b\n1,2\n3,4\n", "1|2/3|4/");
	expect("a,b\n1,2\n3,4", "1|2/3|4/");
	expect("a,b\r\n1,2\r\n3,4\r\n", "1|2/3|4/");
	expect("a,b\r\n1,2\r\n3,4", "1|2/3|4/");
	expect("\xef\xbb\xbf"
	       "a,b\n1,2\n",
	       "1|2/");
	expect("a,b\n\n1,2\n\r\n\n3,4\n\n", "1|2/3|4/");
	expect("a\nx\n", "x/");
	expect("a,b\n", "");
	expect("a,b", "");
	expect("a,b\n,\n1,\n,2\n", "|/1|/|2/");
	expect("a,b\n1, 2\n", "1| 2/"); /* spaces belong to the field */
}

static void quoted_fields(void **state)
{
	expect("a,b\n\"1,5\",2\n", "1,5|2/");
	expect("a,b\n\"say \"\"hi\"\"\",2\n", "say \"hi\"|2/");
	expect("a,b\n1,\"x\ny\"\n3,4\n", "1|x\ny/3|4/");
	expect("a,b\n\"\",\"\"\n", "|/");
	expect("a,b\n1,\"2\"", "1|2/");
	expect("a,b\r\n1,\"2\"\r\n3,4\r\n", "1|2/3|4/");
	expect("\"a\",\"b\"\n1,2\n", "1|2/");
	expect("a,b\n5\" disc,2\n", "5\" disc|2/"); /* a quote inside a bare field is text */
}

static void delimiters(void **state)
{
	expect_of(".tsv", "a\tb\n1,5\t2\n", "1,5|2/");
	expect_of(".csv", "a\tb\n1\t2\n", "1|2/"); /* the header decides */
	expect_of(".tsv", "a,b\n1,2\n", "1|2/");
	expect_of(".inter", "a:token\tb:float_seq\n1,5\t2\n", "1,5|2/"); /* RecBole */
	expect_of(".txt", "a:token,b:float\n1,2\n", "1|2/");
}

static void errors_name_their_line(void **state)
{
	expect("", ": line 1: the header is missing");
	expect("\n", ": line 1: the header is missing");
	expect("\xef\xbb\xbf", ": line 1: the header is missing");
	expect("a,b,a\n", ": line 1: column a stands twice");
	expect("a,b\n1,2\n3\n", ": line 3: 1 field, expected 2");
	expect("a,b\n1,\"x\ny\"\n\n1,2,3\n", ": line 5: 3 fields, expected 2");
	expect("a,b\n1,2\n1,\"x\n\n", ": line 3: a quote does not close");
	expect("a,b\n\"1\"x,2\n", ": line 2: text after a closing quote");
	expect("\"a\n", ": line 1: a quote does not close");
}

static void nul_is_a_byte(void **state)
{
	char path[256];
	struct csv *csv;
	struct error err;
	const struct slice *fields;
	text_file_make(".csv", "a,b\n1\0x,2\n", 10, path);
	assert_int_equal(csv_open(path, &csv, &err), STATUS_OK);
	assert_int_equal(csv_next(csv, &fields, &err), STATUS_OK);
	assert_int_equal(fields[0].length, 3);
	assert_memory_equal(fields[0].data, "1\0x", 3);
	assert_int_equal(csv_line(csv), 2);
	csv_close(csv);
	(void)unlink(path);
}

static void long_fields(void **state)
{
	enum { LENGTH = 100000 };
	char *text = malloc(LENGTH + 16);
	char path[256];
	struct csv *csv;
	struct error err;
	const struct slice *fields;
	assert_non_null(text);
	int header = snprintf(text, 16, "a,b\n");
	memset(text + header, 'x', LENGTH);
	memcpy(text + header + LENGTH, ",y\n", 3);
	text_file_make(".csv", text, (size_t)header + LENGTH + 3, path);
	assert_int_equal(csv_open(path, &csv, &err), STATUS_OK);
	assert_int_equal(csv_next(csv, &fields, &err), STATUS_OK);
	assert_int_equal(fields[0].length, LENGTH);
	assert_int_equal(fields[1].length, 1);
	assert_int_equal(csv_next(csv, &fields, &err), STATUS_OK);
	assert_null(fields);
	csv_close(csv);
	(void)unlink(path);
	free(text);
}

static void absent_files(void **state)
{
	struct csv *csv = NULL;
	struct error err;
	assert_int_equal(csv_open("/nonexistent/x.csv", &csv, &err), STATUS_NO_INPUT);
	assert_int_equal(csv_open("/", &csv, &err), STATUS_IO);
	assert_null(csv);
	csv_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_records), cmocka_unit_test(quoted_fields),
		cmocka_unit_test(delimiters),    cmocka_unit_test(errors_name_their_line),
		cmocka_unit_test(nul_is_a_byte), cmocka_unit_test(long_fields),
		cmocka_unit_test(absent_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
