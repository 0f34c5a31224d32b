/* The command line's tables: options, operands, what is near a wrong name. */
#include "tools/ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct got {
	const char *text;
	bool flag;
	int64_t whole;
	double real;
	double share;
	double measure;
	struct ctl_texts many;
	int operands;
	bool help;
};

/* argv[0] and `words`, NULL-terminated. */
static enum status parse(struct got *got, const char *const words[], struct error *err)
{
	static char copies[16][32];
	char *argv[17];
	int argc = 0;
	*got = (struct got){ .whole = 7, .share = 7 };
	(void)snprintf(copies[argc], sizeof copies[0], "test");
	argv[argc] = copies[argc];
	for (argc = 1; words[argc - 1]; argc++) {
		(void)snprintf(copies[argc], sizeof copies[0], "%s", words[argc - 1]);
		argv[argc] = copies[argc];
	}
	argv[argc] = NULL;
	const struct ctl_option options[] = {
		{ "text", CTL_TEXT, true, &got->text, "T", "", 0, 0 },
		{ "flag", CTL_FLAG, false, &got->flag, NULL, "", 0, 0 },
		{ "whole", CTL_WHOLE, false, &got->whole, "N", "", -2, 10 },
		{ "real", CTL_REAL, false, &got->real, "R", "", 0, 0 },
		{ "share", CTL_SHARE, false, &got->share, "S", "", 1, 0 },
		{ "measure", CTL_SHARE, false, &got->measure, "M", "", 0, 0 },
		{ "many", CTL_MANY, false, &got->many, "M", "", 0, 0 },
	};
	const struct ctl_usage usage = { "test", "[FILE]", "Text.\n", options, CTL_COUNT(options), 1 };
	return ctl_parse(argc, argv, &usage, &got->operands, &got->help, err);
}

static void options_and_operands(void **state)
{
	struct got got;
	struct error err;
	const char *const words[] = { "--whole=-2", "file",   "--text", "-",         "--many",        "a", "--flag",
				      "--many=b",   "--real", "0.5",    "--share=0", "--measure=2.5", NULL };
	assert_int_equal(parse(&got, words, &err), STATUS_OK);
	assert_string_equal(got.text, "-");
	assert_true(got.flag);
	assert_int_equal(got.whole, -2);
	assert_true(got.real == 0.5);
	assert_true(got.share == 0 && got.measure == 2.5);
	assert_int_equal(got.many.count, 2);
	assert_string_equal(got.many.items[1], "b");
	assert_int_equal(got.operands, 12); /* argc is 13 */
	assert_false(got.help);
}

static void faults(void **state)
{
	static const struct {
		const char *words[5];
		const char *expected;
	} cases[] = {
		{ { "--flag" }, "--text is missing; see --help" },
		{ { "--text" }, "--text: a value is missing" },
		{ { "--text", "a", "--nothing" }, "--nothing: unknown option or stray value; see --help" },
		{ { "--text", "a", "-x" }, "-x: unknown option or stray value; see --help" },
		{ { "--text", "a", "--flag=1" }, "--flag=1: unknown option or stray value; see --help" },
		{ { "--text", "a", "--whole", "11" }, "--whole: 11 is not a whole number from -2 to 10" },
		{ { "--text", "a", "--whole", "1x" }, "--whole: 1x is not a whole number from -2 to 10" },
		{ { "--text", "a", "--whole", "" }, "--whole:  is not a whole number from -2 to 10" },
		{ { "--text", "a", "--real", "0" }, "--real: 0 is not a number above 0" },
		{ { "--text", "a", "--real", "nan" }, "--real: nan is not a number above 0" },
		{ { "--text", "a", "--share", "1.5" }, "--share: 1.5 is not a number from 0 to 1" },
		{ { "--text", "a", "--share", "nan" }, "--share: nan is not a number from 0 to 1" },
		{ { "--text", "a", "--measure", "-1" }, "--measure: -1 is not a number from 0 on" },
		{ { "--text", "a", "b", "c" }, "c: more operands than expected; see --help" },
	};
	for (size_t i = 0; i < CTL_COUNT(cases); i++) {
		struct got got;
		struct error err = { 0 };
		assert_int_equal(parse(&got, cases[i].words, &err), STATUS_USAGE);
		assert_string_equal(err.text, cases[i].expected);
	}
}

static void near_names(void **state)
{
	static const char *const names[] = { "demo", "broker", "watch", "embed", "deadletter" };
	assert_string_equal(ctl_nearest("embd", names, 5), "embed");
	assert_string_equal(ctl_nearest("wathc", names, 5), "watch");
	assert_string_equal(ctl_nearest("deadleter", names, 5), "deadletter");
	assert_null(ctl_nearest("xyzxyz", names, 5));
	assert_null(ctl_nearest("finetune", names, 5));
}

/* The signal that ended a child which does nothing but wait, after so many SIGTERMs, `gap_ms` apart; 0: none did. */
static int ended_by(int signals, int gap_ms)
{
	int ready[2];
	int result = 0;
	char byte = 0;
	assert_int_equal(pipe(ready), 0);
	const pid_t child = fork();
	if (child == 0) {
		ctl_stop_on_signals();
		(void)!write(ready[1], "r", 1);
		for (int i = 0; i < 1200; i++)
			(void)poll(NULL, 0, 1);
		_exit(ctl_stopping() ? 0 : 1);
	}
	assert_true(child > 0 && read(ready[0], &byte, 1) == 1);
	for (int i = 0; i < signals; i++) {
		(void)poll(NULL, 0, i ? gap_ms : 0);
		assert_int_equal(kill(child, SIGTERM), 0);
	}
	assert_int_equal(waitpid(child, &result, 0), child);
	(void)close(ready[0]);
	(void)close(ready[1]);
	assert_true(WIFSIGNALED(result) || WEXITSTATUS(result) == 0);
	return WIFSIGNALED(result) ? WTERMSIG(result) : 0;
}

/* What hears the first signal only between two steps is still ended by the second. */
static void signals(void **state)
{
	assert_int_equal(ended_by(1, 0), 0);
	assert_int_equal(ended_by(2, 10), 0); /* as timeout(1) sends them */
	assert_int_equal(ended_by(2, 600), SIGTERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_operands),
		cmocka_unit_test(faults),
		cmocka_unit_test(near_names),
		cmocka_unit_test(signals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
