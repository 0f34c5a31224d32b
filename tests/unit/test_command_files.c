/* Which files of a command line are one, by whatever names, and which outputs cannot be written. */
#include "tools/command_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/peterd-test-XXXXXX";

static int begin(void **state)
{
	if (!mkdtemp(folder) || chdir(folder))
		return 1;
	FILE *file = fopen("events", "w");
	return !file || fclose(file) || symlink("events", "soft") || link("events", "hard") || mkdir("below", 0700) ||
	       symlink("missing", "dangling") || mkfifo("pipe", 0600);
}

static int end(void **state)
{
	char command[64];
	(void)snprintf(command, sizeof command, "rm -r %s", folder);
	return chdir("/") || system(command);
}

static enum status check(const char *in, const char *out, const char *other, struct error *err)
{
	const struct command_file files[] = { { "in", in, COMMAND_READS },
					      { "out", out, COMMAND_MAKES },
					      { "other", other, COMMAND_WRITES } };
	*err = (struct error){ 0 };
	return command_files_check(files, 3, err);
}

static void one_file(void **state)
{
	static const struct {
		const char *in, *out, *other;
		const char *says;
	} cases[] = {
		{ "events", "events", NULL, "--out: events is the file of --in" },
		{ "events", "soft", NULL, "--out: soft is the file of --in" },
		{ "events", "hard", NULL, "--out: hard is the file of --in" },
		{ "soft", "./below/../events", NULL, "--out: ./below/../events is the file of --in" },
		{ "events", "new", "hard", "--other: hard is the file of --in" },
		{ "events", "new", "new", "--other: new is the file of --out" },
		{ "events", "new", "./below/..//new", "--other: ./below/..//new is the file of --out" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct error err;
		assert_int_equal(check(cases[i].in, cases[i].out, cases[i].other, &err), STATUS_USAGE);
		assert_string_equal(err.text, cases[i].says);
	}
}

/* `<events peterctl ... --events - --out events` */
static void standard_input(void **state)
{
	const struct command_file twice[] = { { "in", "-", COMMAND_READS }, { "labels", "-", COMMAND_READS } };
	struct error err = { 0 };
	assert_int_equal(command_files_check(twice, 2, &err), STATUS_USAGE);
	assert_string_equal(err.text, "--in and --labels: both are standard input");
	int kept = dup(STDIN_FILENO);
	assert_non_null(freopen("events", "r", stdin));
	assert_int_equal(check("-", "hard", NULL, &err), STATUS_USAGE);
	assert_int_equal(check("-", "new", NULL, &err), STATUS_OK);
	assert_true(dup2(kept, STDIN_FILENO) >= 0);
	(void)close(kept);
}

static void what_can_be_done(void **state)
{
	struct error err;
	char path[512];
	assert_int_equal(check("events", "new", "below/new", &err), STATUS_OK);
	assert_int_equal(check("events", "dangling", "missing2", &err), STATUS_OK);
	assert_int_equal(check("/dev/null", "new", "/dev/null", &err), STATUS_OK);
	assert_int_equal(check("pipe", "new", "pipe", &err), STATUS_OK);
	assert_int_equal(check("events", NULL, NULL, &err), STATUS_OK);
	assert_int_not_equal(access("new", F_OK), 0); /* nothing is left behind */
	assert_int_not_equal(access("below/new", F_OK), 0);
	(void)snprintf(path, sizeof path, "rmdir below && mkdir below"); /* still empty */
	assert_int_equal(system(path), 0);
}

static void what_cannot_be_written(void **state)
{
	char longest[256];
	memset(longest, 'n', 250);
	longest[250] = '\0';
	const struct {
		const char *out, *other;
		enum status status;
		const char *says;
	} cases[] = {
		{ "/dev/null", NULL, STATUS_USAGE, "--out: /dev/null is no regular file" },
		{ "below", NULL, STATUS_USAGE, "--out: below is no regular file" },
		{ "new", "below", STATUS_IO, "--other: below: cannot be written: Is a directory" },
		{ "none/new", NULL, STATUS_IO, "--out: none/new: cannot be written: No such file or directory" },
		{ "new/", NULL, STATUS_IO, "--out: new/: cannot be written: No such file or directory" },
		{ "", NULL, STATUS_IO, "--out: : cannot be written: No such file or directory" },
		{ longest, NULL, STATUS_IO, "--out: nnnn" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct error err;
		assert_int_equal(check("events", cases[i].out, cases[i].other, &err), cases[i].status);
		if (!strstr(err.text, cases[i].says))
			fail_msg("%s, expected %s", err.text, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_file),
		cmocka_unit_test(standard_input),
		cmocka_unit_test(what_can_be_done),
		cmocka_unit_test(what_cannot_be_written),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
