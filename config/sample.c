#include "config/options.h"

#include <inttypes.h>
#include <string.h>

#define INDENT 4 /* columns a level */

static void print_margin(FILE *out, unsigned depth)
{
	(void)fprintf(out, "%*s", (int)(depth * INDENT), "");
}

/* A text as YAML reads it back: plain where that is safe. */
static void print_text(FILE *out, const char *text)
{
	bool plain = *text && !strpbrk(text, ":#{}[],&*!|>'\"%@`$ ") && *text != '-' && *text != '?';
	(void)fprintf(out, plain ? "%s" : "\"%s\"", text);
}

static unsigned depth_of(const char *key)
{
	unsigned depth = 0;
	for (; *key; key++)
		depth += *key == '.';
	return depth;
}

/* Opens the sections of `key` that `before`, the key printed last, was not in. */
static void print_sections(FILE *out, const char *before, const char *key)
{
	unsigned depth = 0;
	for (const char *dot = strchr(key, '.'); dot; dot = strchr(dot + 1, '.'), depth++) {
		size_t length = (size_t)(dot - key) + 1;
		if (!strncmp(before, key, length))
			continue;
		const char *name = dot;
		while (name > key && name[-1] != '.')
			name--;
		print_margin(out, depth);
		(void)fprintf(out, "%.*s:\n", (int)(dot - name), name);
	}
}

static void print_comment(FILE *out, const struct option *o, unsigned depth)
{
	print_margin(out, depth);
	(void)fprintf(out, "# %s", o->text);
	switch (o->kind) {
	case OPTION_WHOLE:
		(void)fprintf(out, " (%" PRId64 " to %" PRId64 " %s, default %" PRId64 ")\n", o->low, o->high, o->unit,
			      o->whole_default);
		break;
	case OPTION_FLAG:
		(void)fprintf(out, " (true or false, default %s)\n", o->whole_default ? "true" : "false");
		break;
	case OPTION_TEXT:
		(void)fputs(" (text, default ", out);
		print_text(out, o->text_default);
		(void)fputs(")\n", out);
		break;
	case OPTION_REQUIRED:
		(void)fputs(" (text, must be given)\n", out);
		break;
	case OPTION_LIST:
		(void)fputs(" (list of texts, default [])\n", out);
		break;
	case OPTION_SECTION:
		break;
	}
}

static void print_option(FILE *out, const struct option *o)
{
	unsigned depth = depth_of(o->key);
	const char *dot = strrchr(o->key, '.');
	print_comment(out, o, depth);
	print_margin(out, depth);
	(void)fprintf(out, "%s: ", dot ? dot + 1 : o->key);
	if (o->kind == OPTION_WHOLE)
		(void)fprintf(out, "%" PRId64, o->whole_default);
	else if (o->kind == OPTION_FLAG)
		(void)fputs(o->whole_default ? "true" : "false", out);
	else if (o->kind == OPTION_LIST)
		(void)fputs("[]", out);
	else
		print_text(out, o->text_default);
	(void)fputc('\n', out);
}

static void print_scope(FILE *out, enum task_scope scope)
{
	static const char *const names[] = {
		[TASK_ANY] = "",
		[TASK_SIDE] = "; side only",
		[TASK_INSIDE] = "; serial and parallel only",
		[TASK_CLASSES] = "; not for regression",
		[TASK_RANKING] = "; ranking only",
	};
	(void)fputs(names[scope], out);
}

/* What a key takes, in brackets. */
static void print_task_range(FILE *out, const struct task_row *row)
{
	switch (row->kind) {
	case TASK_NAME:
		(void)fputs("text, must be given", out);
		break;
	case TASK_CHOICE:
		for (const char *c = row->choices; *c; c++)
			(void)fputs(*c == '|' ? " or " : (const char[]){ *c, '\0' }, out);
		if (!row->text_default)
			(void)fputs(", must be given", out);
		else if (*row->text_default)
			(void)fprintf(out, ", default %s", row->text_default);
		break;
	case TASK_LIST:
		(void)fputs("list of texts", out);
		break;
	case TASK_BLOCKS:
		(void)fputs("list of numbers", out);
		break;
	case TASK_WHOLE:
		(void)fprintf(out, "%" PRId64 " to %" PRId64 " %s", row->low, row->high, row->unit);
		if (row->whole_default >= 0)
			(void)fprintf(out, ", default %" PRId64, row->whole_default);
		break;
	case TASK_REAL:
		(void)fprintf(out, "%g to %g, default %g", row->least, row->most, row->real_default);
		break;
	case TASK_FLAG:
		(void)fprintf(out, "true or false, default %s", row->whole_default ? "true" : "false");
		break;
	}
	print_scope(out, row->scope);
}

static void print_task_keys(FILE *out)
{
	for (size_t i = 0; i < TASK_KEYS; i++) {
		(void)fprintf(out, "#   %-12s %s (", task_rows[i].name, task_rows[i].text);
		print_task_range(out, &task_rows[i]);
		(void)fputs(")\n", out);
	}
}

void config_print_sample(FILE *out)
{
	const char *before = "";
	(void)fputs("# peterd's configuration: every option with its default. `peterd --config FILE --check` checks a "
		    "file.\n# A nested key may also be written with dots.\n\n",
		    out);
	for (size_t i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		if (o->kind == OPTION_SECTION) {
			(void)fprintf(out, "\n# %s\n", o->text);
			continue;
		}
		print_sections(out, before, o->key);
		print_option(out, o);
		before = o->key;
	}
	(void)fputs(
		"\n# any librdkafka property, passed on as it is, but for those that exactly once rests on\n"
		"kafka:\n"
		"    # brokers to begin with: host:port, host:port (text, must be given)\n"
		"    bootstrap.servers: \"127.0.0.1:9092\"\n"
		"    # security.protocol: sasl_ssl\n"
		"    # compression.type: zstd\n"
		"\n# tasks that exist from the start; the tasks topic, where it has had one, wins (list, default [])\n",
		out);
	print_task_keys(out);
	(void)fputs("# - {name: gender, type: classification, labels: [F, M], insertion: side, bottleneck: 16}\n"
		    "tasks: []\n",
		    out);
}
