#include "tools/ctl.h"

#include "base/clock.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void print_help(const struct ctl_usage *usage)
{
	printf("Usage: peterctl %s%s%s%s\n\n%s", usage->name, usage->count ? " [OPTION]..." : "",
	       *usage->operands ? " " : "", usage->operands, usage->description);
	printf("\nOptions:\n");
	for (size_t i = 0; i < usage->count; i++) {
		const struct ctl_option *option = &usage->options[i];
		char left[64];
		(void)snprintf(left, sizeof left, "--%s%s%s", option->name, option->argument ? " " : "",
			       option->argument ? option->argument : "");
		printf("  %-24s %s%s\n", left, option->text, option->required ? " (required)" : "");
	}
	printf("  %-24s %s\n", "--help", "print this and exit");
}

static enum status take_whole(const struct ctl_option *option, const char *value, struct error *err)
{
	char *end;
	errno = 0;
	long long number = strtoll(value, &end, 10);
	if (errno || end == value || *end || number < option->low || number > option->high)
		return error_set(err, STATUS_USAGE, "--%s: %s is not a whole number from %lld to %lld", option->name,
				 value, (long long)option->low, (long long)option->high);
	*(int64_t *)option->target = number;
	return STATUS_OK;
}

static enum status take_real(const struct ctl_option *option, const char *value, struct error *err)
{
	char *end;
	double number = strtod(value, &end);
	if (end == value || *end || !isfinite(number) || !(number > 0))
		return error_set(err, STATUS_USAGE, "--%s: %s is not a number above 0", option->name, value);
	*(double *)option->target = number;
	return STATUS_OK;
}

static enum status take_share(const struct ctl_option *option, const char *value, struct error *err)
{
	char *end;
	double number = strtod(value, &end);
	bool good = end != value && !*end && isfinite(number) && number >= 0;
	if (option->low > 0 && !(good && number <= (double)option->low))
		return error_set(err, STATUS_USAGE, "--%s: %s is not a number from 0 to %lld", option->name, value,
				 (long long)option->low);
	if (!good)
		return error_set(err, STATUS_USAGE, "--%s: %s is not a number from 0 on", option->name, value);
	*(double *)option->target = number;
	return STATUS_OK;
}

static enum status take(const struct ctl_option *option, const char *value, struct error *err)
{
	struct ctl_texts *many;
	switch (option->kind) {
	case CTL_TEXT:
		*(const char **)option->target = value;
		return STATUS_OK;
	case CTL_FLAG:
		*(bool *)option->target = true;
		return STATUS_OK;
	case CTL_WHOLE:
		return take_whole(option, value, err);
	case CTL_REAL:
		return take_real(option, value, err);
	case CTL_SHARE:
		return take_share(option, value, err);
	case CTL_MANY:
		many = option->target;
		if (many->count == CTL_COUNT(many->items))
			return error_set(err, STATUS_USAGE, "--%s: given more than %zu times", option->name,
					 many->count);
		many->items[many->count++] = value;
		return STATUS_OK;
	}
	return error_set(err, STATUS_BUG, "option table");
}

enum { OPTIONS_MAX = 40, OPTION_HELP = 1, OPTION_FIRST = 256 };

static enum status bad_option(int code, char **argv, const struct ctl_option *options, struct error *err)
{
	if (code == ':' && optopt >= OPTION_FIRST)
		return error_set(err, STATUS_USAGE, "--%s: a value is missing", options[optopt - OPTION_FIRST].name);
	return error_set(err, STATUS_USAGE, "%s: unknown option or stray value; see --help", argv[optind - 1]);
}

enum status ctl_parse(int argc, char **argv, const struct ctl_usage *usage, int *ret_operands, bool *ret_help,
		      struct error *err)
{
	struct option rows[OPTIONS_MAX + 2] = { { 0 } };
	bool given[OPTIONS_MAX] = { false };
	for (size_t i = 0; i < usage->count; i++)
		rows[i] = (struct option){ usage->options[i].name,
					   usage->options[i].kind == CTL_FLAG ? no_argument : required_argument, NULL,
					   OPTION_FIRST + (int)i };
	rows[usage->count] = (struct option){ "help", no_argument, NULL, OPTION_HELP };
	*ret_help = false;
	optind = 0;
	opterr = 0;
	for (int code; (code = getopt_long(argc, argv, ":", rows, NULL)) != -1;) {
		if (code == OPTION_HELP) {
			print_help(usage);
			*ret_help = true;
			return STATUS_OK;
		}
		if (code < OPTION_FIRST)
			return bad_option(code, argv, usage->options, err);
		const struct ctl_option *option = &usage->options[code - OPTION_FIRST];
		given[code - OPTION_FIRST] = true;
		enum status status = take(option, optarg, err);
		if (status)
			return status;
	}
	for (size_t i = 0; i < usage->count; i++)
		if (usage->options[i].required && !given[i])
			return error_set(err, STATUS_USAGE, "--%s is missing; see --help", usage->options[i].name);
	if ((size_t)(argc - optind) > usage->operands_max)
		return error_set(err, STATUS_USAGE, "%s: more operands than expected; see --help",
				 argv[optind + (int)usage->operands_max]);
	*ret_operands = optind;
	return STATUS_OK;
}

/* Levenshtein distance of two short words. */
static size_t edit_distance(const char *a, const char *b)
{
	enum { LONGEST = 32 };
	size_t row[LONGEST + 1];
	size_t columns = strlen(b);
	if (columns > LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= columns; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= columns; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			best = row[j] + 1 < best ? row[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[columns];
}

const char *ctl_nearest(const char *word, const char *const names[], size_t count)
{
	const char *nearest = NULL;
	size_t least = strlen(word) / 2 + 2;
	for (size_t i = 0; i < count; i++) {
		size_t distance = edit_distance(word, names[i]);
		if (distance < least) {
			least = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

void ctl_progress_start(struct ctl_progress *p, const char *what, int64_t total)
{
	*p = (struct ctl_progress){ .what = what, .total = total, .share = -1, .started_us = clock_monotonic_us() };
	p->shown_us = p->started_us;
	p->terminal = isatty(STDERR_FILENO);
}

void ctl_progress_note(struct ctl_progress *p, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(p->note, sizeof p->note, format, args);
	va_end(args);
}

/* What is behind the number that is done: rate, note, and the time that remains. */
static void print_rest(const struct ctl_progress *p, int64_t done, double seconds, char *out, size_t size)
{
	double rate = seconds > 0 ? (double)(done - p->before) / seconds : 0;
	int length = snprintf(out, size, "(%.0f/s)%s%s", rate, *p->note ? " " : "", p->note);
	if (p->total <= 0 || rate <= 0 || length < 0 || (size_t)length >= size)
		return;
	double left = (double)(p->total - done) / rate;
	long long minutes = left < 0 ? 0 : left > 6e7 ? 999999 : (long long)(left / 60);
	(void)snprintf(out + length, size - (size_t)length, " %lld:%02d left", minutes,
		       left < 0 ? 0 : (int)fmod(left, 60));
}

void ctl_progress_show(struct ctl_progress *p, int64_t done)
{
	enum { BAR = 30 };
	char bar[BAR + 1] = "";
	char rest[192];
	int64_t now_us = clock_monotonic_us();
	if (now_us - p->shown_us < (p->terminal ? 200000 : 5000000))
		return;
	p->shown_us = now_us;
	print_rest(p, done, (double)(now_us - p->started_us) / 1e6, rest, sizeof rest);
	if (!p->terminal) {
		(void)fprintf(stderr, "%s: %lld %s\n", p->what, (long long)done, rest);
		return;
	}
	double share = p->total > 0 ? (double)done / (double)p->total : p->share;
	if (share >= 0) {
		memset(bar, '.', BAR);
		memset(bar, '#', share < 1 ? (size_t)(share * BAR) : BAR);
	}
	(void)fprintf(stderr, "\r%s %s %lld %s\033[K", p->what, bar, (long long)done, rest);
	p->drawn = true;
}

void ctl_progress_end(struct ctl_progress *p, int64_t done)
{
	(void)done;
	if (p->drawn)
		(void)fputs("\r\033[K", stderr);
	p->drawn = false;
}

static volatile sig_atomic_t stopping;

static _Atomic int64_t stopped_ms;

static int64_t now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* timeout(1) and terminals that close send one signal twice at once. */
static void note_signal(int number)
{
	enum { ONE_MS = 500 };
	if (stopping && now_ms() - stopped_ms > ONE_MS) {
		(void)signal(number, SIG_DFL);
		(void)raise(number);
		return;
	}
	if (!stopping)
		stopped_ms = now_ms();
	stopping = number;
}

void ctl_stop_on_signals(void)
{
	struct sigaction action = { .sa_handler = note_signal };
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
}

bool ctl_stopping(void)
{
	return stopping != 0;
}

void ctl_forget_stop(void)
{
	stopping = 0;
}

_Noreturn void ctl_end_by_signal(void)
{
	int number = stopping;
	(void)fflush(stdout);
	(void)signal(number, SIG_DFL);
	(void)raise(number);
	_exit(128 + number);
}
