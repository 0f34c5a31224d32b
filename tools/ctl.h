/* What the commands of peterctl share: option tables, the command table, progress for people.
 *
 * A command is one file, ctl_<name>.c, with one `enum status ctl_<name>(argc, argv, err)`; argv[0] is its own name. Its
 * options are rows of a table, from which both the parser and --help are made. A command returns its error; main prints
 * it as one line. Main thread. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_kind {
	CTL_TEXT,  /* target: const char *, borrowed from argv */
	CTL_FLAG,  /* target: bool */
	CTL_WHOLE, /* target: int64_t, low..high */
	CTL_REAL,  /* target: double, above 0 */
	CTL_SHARE, /* target: double, from 0 up to low, or without bound where low is 0 */
	CTL_MANY,  /* target: struct ctl_texts; may be given again */
};

struct ctl_texts {
	const char *items[64];
	size_t count;
};

struct ctl_option {
	const char *name; /* long, without the dashes */
	enum ctl_kind kind;
	bool required;
	void *target;
	const char *argument; /* what --help calls its value */
	const char *text;
	int64_t low;  /* CTL_WHOLE, CTL_SHARE */
	int64_t high; /* CTL_WHOLE */
};

/* Options that several commands have: their rows, given where the value goes. */
#define CTL_OPTION_CONFIG(target)                                                                                      \
	{                                                                                                              \
		"config", CTL_TEXT, true, target, "FILE", "the daemon's configuration", 0, 0                           \
	}
#define CTL_OPTION_TIMEOUT(target)                                                                                     \
	{                                                                                                              \
		"timeout-ms", CTL_WHOLE, false, target, "MS", "give up after this; default 30000", 100, 3600000        \
	}

struct ctl_usage {
	const char *name;        /* "embed", "topics create" */
	const char *operands;    /* "FILE", "" for none */
	const char *description; /* what it does, lines of at most 100 columns, newline at the end */
	const struct ctl_option *options;
	size_t count;
	size_t operands_max;
};

/* Parses argv after argv[0]. *ret_operands receives the index of the first operand (getopt order: operands may stand
 * anywhere); *ret_help is true where --help was asked for and printed: the command is done. Errors: STATUS_USAGE. */
enum status ctl_parse(int argc, char **argv, const struct ctl_usage *usage, int *ret_operands, bool *ret_help,
		      struct error *err) MUST_CHECK;

#define CTL_COUNT(array) (sizeof(array) / sizeof *(array))

/* The name of `names` nearest to `word` by edit distance, NULL where none is near. */
const char *ctl_nearest(const char *word, const char *const names[], size_t count);

/* A line of progress, with the time that remains where the total is known: redrawn in place on a terminal, a plain
 * line every five seconds elsewhere. On stderr. */
struct ctl_progress {
	const char *what;
	int64_t total; /* 0: unknown */
	double share; /* of the whole that is done, where `total` is unknown and the caller knows this; below 0: neither */
	int64_t before; /* what was done when it started: that took no time of ours */
	int64_t started_us;
	int64_t shown_us;
	bool terminal;
	bool drawn;
	char note[96]; /* shown behind the numbers */
};
void ctl_progress_start(struct ctl_progress *p, const char *what, int64_t total);
void ctl_progress_note(struct ctl_progress *p, const char *format, ...) PRINTF_LIKE(2, 3);
void ctl_progress_show(struct ctl_progress *p, int64_t done); /* cheap: looks at the clock, prints now and then */
void ctl_progress_end(struct ctl_progress *p, int64_t done);  /* clears the bar on a terminal */

/* The first SIGINT, SIGTERM or SIGHUP from now on sets a flag and interrupts blocking calls; one that comes half a
 * second later or more ends the program at once, whatever it is at. */
void ctl_stop_on_signals(void);
bool ctl_stopping(void);
void ctl_forget_stop(void); /* the next signal is a first one again */

/* Ends the program by the signal that came, as if it had not been caught: for a shell, status 130 after SIGINT.
 * Standard output is flushed. */
_Noreturn void ctl_end_by_signal(void);

enum status ctl_broker(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_topics(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_replay(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_watch(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_pretrain(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_finetune(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_score(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_embed(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_evaluate(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_inspect(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_schema(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_patch(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_task(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_deadletter(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_demo(int argc, char **argv, struct error *err) MUST_CHECK;
enum status ctl_bench(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
