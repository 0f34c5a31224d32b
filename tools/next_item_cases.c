#include "tools/next_item_cases.h"

#include "base/hash.h"
#include "base/random.h"
#include "io/audience.h"
#include "model/backbone.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct next_item_cases *cases, const uint32_t *history, size_t events, uint32_t target)
{
	cases->list[cases->count++] = (struct next_item_case){ history, events, target };
	cases->unknown += target < BACKBONE_FIRST_ITEM;
	cases->empty += events == 0;
}

static enum status from_audience(const struct audience *a, const struct vocabulary *vocabulary,
				 struct next_item_cases *cases, struct error *err)
{
	cases->users = audience_users(a);
	cases->items = calloc(audience_events(a) + 1, sizeof *cases->items);
	cases->list = calloc(cases->users + 1, sizeof *cases->list);
	if (!cases->items || !cases->list)
		return error_set_memory(err);
	uint32_t *at = cases->items;
	for (size_t user = 0; user < cases->users; user++) {
		size_t length;
		const struct event *events = audience_sequence(a, user, &length);
		for (size_t i = 0; i < length; i++)
			at[i] = vocabulary_index(vocabulary, events[i].item);
		if (length > 1)
			add(cases, at, length - 1, at[length - 1]);
		at += length;
	}
	return STATUS_OK;
}

enum status next_item_cases_events(const char *path, const struct vocabulary *vocabulary, struct next_item_cases *ret,
				   struct error *err)
{
	struct next_item_cases cases = { 0 };
	struct audience *audience = NULL;
	enum status status = audience_load(path, &audience, err);
	if (!status)
		status = from_audience(audience, vocabulary, &cases, err);
	if (!status && cases.count == 0)
		status = error_set(err, STATUS_DATA, "%s: no user has two events or more", path);
	audience_free(audience);
	if (status)
		next_item_cases_free(&cases);
	else
		*ret = cases;
	return status;
}

/* A file of lines of items. */
struct lines {
	const char *path;
	FILE *file;
	char *text;
	size_t capacity;
	int64_t line;
};

static enum status open_lines(const char *path, struct lines *l, struct error *err)
{
	*l = (struct lines){ .path = path };
	l->file = strcmp(path, "-") ? fopen(path, "re") : stdin;
	return l->file ? STATUS_OK : error_set_errno(err, "%s", path);
}

static void close_lines(struct lines *l)
{
	free(l->text);
	if (l->file && l->file != stdin)
		(void)fclose(l->file);
}

/* The next line, NUL-terminated; NULL at the end. */
static enum status next_line(struct lines *l, char **ret, struct error *err)
{
	errno = 0;
	ssize_t length = getline(&l->text, &l->capacity, l->file);
	if (length < 0 && (ferror(l->file) || !feof(l->file))) {
		errno = errno ? errno : EIO;
		return error_set_errno(err, "%s", l->path);
	}
	*ret = length < 0 ? NULL : l->text;
	l->line += length >= 0;
	if (length >= 0 && strlen(l->text) != (size_t)length)
		return error_set(err, STATUS_DATA, "%s: line %" PRId64 ": holds a NUL", l->path, l->line);
	return STATUS_OK;
}

/* Cuts the next item off a line; NULL where there is none. */
static char *next_item(char **at)
{
	static const char between[] = " ,\t\r\n";
	char *item = *at + strspn(*at, between);
	size_t length = strcspn(item, between);
	*at = item + length + (item[length] != '\0');
	item[length] = '\0';
	return length ? item : NULL;
}

static uint32_t index_of(const struct vocabulary *vocabulary, const char *item)
{
	return vocabulary_index(vocabulary, hash_item(item, strlen(item)));
}

/* Lists that grow while files are read: `lengths` and `targets` by line, histories end to end. */
struct growing {
	struct next_item_cases *cases;
	size_t items;
	size_t items_capacity;
	size_t list_capacity;
};

static enum status add_item(struct growing *g, uint32_t item, struct error *err)
{
	if (g->items == g->items_capacity) {
		size_t capacity = g->items_capacity ? 2 * g->items_capacity : 65536;
		uint32_t *items = reallocarray(g->cases->items, capacity, sizeof *items);
		if (!items)
			return error_set_memory(err);
		g->cases->items = items;
		g->items_capacity = capacity;
	}
	g->cases->items[g->items++] = item;
	return STATUS_OK;
}

static enum status reserve_case(struct growing *g, struct error *err)
{
	if (g->cases->count < g->list_capacity)
		return STATUS_OK;
	size_t capacity = g->list_capacity ? 2 * g->list_capacity : 1024;
	struct next_item_case *list = reallocarray(g->cases->list, capacity, sizeof *list);
	if (!list)
		return error_set_memory(err);
	g->cases->list = list;
	g->list_capacity = capacity;
	return STATUS_OK;
}

static enum status read_target(const struct lines *l, char *text, const struct vocabulary *vocabulary, uint32_t *ret,
			       struct error *err)
{
	char *item = next_item(&text);
	if (!item || next_item(&text))
		return error_set(err, STATUS_DATA, "%s: line %" PRId64 ": expected one item", l->path, l->line);
	*ret = index_of(vocabulary, item);
	return STATUS_OK;
}

/* Histories get their addresses when `items` has stopped moving. */
static void set_histories(struct next_item_cases *cases)
{
	const uint32_t *at = cases->items;
	for (size_t i = 0; i < cases->count; at += cases->list[i++].events)
		cases->list[i].history = at;
}

static enum status read_both(struct lines *sequences, struct lines *targets, const struct vocabulary *vocabulary,
			     struct next_item_cases *cases, struct error *err)
{
	struct growing g = { .cases = cases };
	for (;;) {
		char *sequence = NULL, *target_text = NULL;
		uint32_t target = 0;
		enum status status = next_line(sequences, &sequence, err);
		if (!status)
			status = next_line(targets, &target_text, err);
		if (status)
			return status;
		if (!sequence || !target_text)
			return !sequence == !target_text
				       ? STATUS_OK
				       : error_set(err, STATUS_DATA, "%s: ends after line %" PRId64 ", %s does not",
						   (sequence ? targets : sequences)->path,
						   (sequence ? targets : sequences)->line,
						   (sequence ? sequences : targets)->path);
		size_t before = g.items;
		for (char *item; !status && (item = next_item(&sequence)) != NULL;)
			status = add_item(&g, index_of(vocabulary, item), err);
		if (!status)
			status = read_target(targets, target_text, vocabulary, &target, err);
		if (!status)
			status = reserve_case(&g, err);
		if (status)
			return status;
		add(cases, NULL, g.items - before, target);
	}
}

enum status next_item_cases_lines(const char *sequences, const char *targets, const struct vocabulary *vocabulary,
				  struct next_item_cases *ret, struct error *err)
{
	struct next_item_cases cases = { 0 };
	struct lines from = { 0 }, to = { 0 };
	enum status status = open_lines(sequences, &from, err);
	if (!status)
		status = open_lines(targets, &to, err);
	if (!status)
		status = read_both(&from, &to, vocabulary, &cases, err);
	if (!status && cases.count == 0)
		status = error_set(err, STATUS_DATA, "%s: no lines", sequences);
	close_lines(&from);
	close_lines(&to);
	if (status) {
		next_item_cases_free(&cases);
		return status;
	}
	cases.users = cases.count;
	set_histories(&cases);
	*ret = cases;
	return STATUS_OK;
}

void next_item_cases_thin(struct next_item_cases *cases, size_t most, uint64_t seed)
{
	struct random_stream random = random_from(seed, UINT64_MAX);
	if (most >= cases->count)
		return;
	cases->unknown = cases->empty = 0;
	for (size_t i = 0; i < most; i++) { /* the first steps of a shuffle */
		size_t other = i + random_below(&random, (uint32_t)(cases->count - i));
		struct next_item_case chosen = cases->list[other];
		cases->list[other] = cases->list[i];
		cases->list[i] = chosen;
		cases->unknown += chosen.target < BACKBONE_FIRST_ITEM;
		cases->empty += chosen.events == 0;
	}
	cases->count = most;
}

void next_item_cases_free(struct next_item_cases *cases)
{
	free(cases->items);
	free(cases->list);
	*cases = (struct next_item_cases){ 0 };
}
