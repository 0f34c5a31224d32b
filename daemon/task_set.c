#include "daemon/task_set.h"

#include "model/side.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct task_board {
	pthread_mutex_t lock;
	struct task_set *set;
	_Atomic uint64_t version;
};

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_entries(const void *a, const void *b)
{
	const struct served_task *one = a, *other = b;
	return strcmp(one->definition.name, other->definition.name);
}

static bool sort_labels(struct served_task *e)
{
	const struct config_list *labels = &e->definition.labels;
	if (labels->count == 0)
		return true;
	e->labels = calloc(labels->count, sizeof *e->labels);
	if (!e->labels)
		return false;
	for (size_t i = 0; i < labels->count; i++)
		e->labels[i] = labels->items[i];
	e->labels_count = labels->count;
	qsort(e->labels, e->labels_count, sizeof *e->labels, compare_texts);
	return true;
}

/* Of a definition that fits the backbone. */
static void choose_blocks(struct served_task *e, uint32_t blocks)
{
	const struct config_task *d = &e->definition;
	struct patch_spec *spec = &e->spec;
	const bool side = spec->insertion == PATCH_SIDE, given = d->given & 1u << TASK_KEY_blocks;
	for (size_t i = 0; given && i < d->blocks.count; i++)
		spec->blocks[d->blocks.items[i]] = true;
	if (!given)
		patch_default_blocks(spec->insertion, blocks, spec->blocks);
	const bool any = !given || d->blocks.count > 0;
	spec->bottleneck = (uint32_t)d->bottleneck;
	spec->mean_window = side ? (uint32_t)d->mean_window : 0;
	spec->first = any && !side && d->adapters == 2;
	spec->second = any && !side;
	spec->norms = any && !side && d->norms;
}

static bool choose_levels(struct served_task *e, uint32_t blocks)
{
	if (e->spec.insertion != PATCH_SIDE)
		return true;
	e->levels = calloc((size_t)blocks + 1, sizeof *e->levels);
	if (!e->levels)
		return false;
	e->levels_count = side_levels(&e->spec, blocks, e->levels);
	return true;
}

static bool fill(struct served_task *e, uint32_t blocks)
{
	struct error err;
	if (config_task_hash(&e->definition, e->hash, &err) != STATUS_OK ||
	    !patch_type_parse(e->definition.type, &e->spec.type) ||
	    !patch_insertion_parse(e->definition.insertion, &e->spec.insertion) || !sort_labels(e))
		return false;
	choose_blocks(e, blocks);
	return choose_levels(e, blocks);
}

enum status task_set_new(struct config_task definitions[], size_t count, uint32_t blocks, struct task_set **ret,
			 struct error *err)
{
	struct task_set *set = calloc(1, sizeof *set);
	struct served_task *entries = calloc(count ? count : 1, sizeof *entries);
	bool done = set && entries;
	for (size_t i = 0; i < count; i++) {
		if (done)
			entries[i].definition = definitions[i];
		else
			config_task_clear(&definitions[i]);
		definitions[i] = (struct config_task){ 0 };
	}
	if (!done) {
		free(set);
		free(entries);
		return error_set_memory(err);
	}
	*set = (struct task_set){ .holders = 1, .entries = entries, .count = count };
	for (size_t i = 0; i < count && done; i++)
		done = fill(&entries[i], blocks);
	if (!done) {
		task_set_release(set);
		return error_set_memory(err);
	}
	qsort(set->entries, set->count, sizeof *set->entries, compare_entries);
	*ret = set;
	return STATUS_OK;
}

struct task_set *task_set_hold(struct task_set *set)
{
	atomic_fetch_add(&set->holders, 1);
	return set;
}

void task_set_release(struct task_set *set)
{
	if (!set || atomic_fetch_sub(&set->holders, 1) > 1)
		return;
	for (size_t i = 0; i < set->count; i++) {
		config_task_clear(&set->entries[i].definition);
		free(set->entries[i].levels);
		free(set->entries[i].labels);
	}
	free(set->entries);
	free(set);
}

static int compare_slice(struct slice a, const char *b)
{
	size_t length = strlen(b);
	int order = memcmp(a.data, b, a.length < length ? a.length : length);
	return order ? order : (a.length > length) - (a.length < length);
}

const struct served_task *task_set_find(const struct task_set *set, struct slice name)
{
	for (size_t i = 0; i < set->count; i++)
		if (compare_slice(name, set->entries[i].definition.name) == 0)
			return &set->entries[i];
	return NULL;
}

static int compare_label(const void *key, const void *element)
{
	return compare_slice(*(const struct slice *)key, *(const char *const *)element);
}

bool served_task_takes(const struct served_task *task, struct slice label)
{
	return task->labels_count == 0 ||
	       bsearch(&label, task->labels, task->labels_count, sizeof *task->labels, compare_label) != NULL;
}

struct task_board *task_board_new(void)
{
	struct error err;
	struct task_board *board = calloc(1, sizeof *board);
	if (!board || task_set_new(NULL, 0, 0, &board->set, &err) != STATUS_OK) {
		free(board);
		return NULL;
	}
	pthread_mutex_init(&board->lock, NULL);
	return board;
}

void task_board_free(struct task_board *board)
{
	if (!board)
		return;
	task_set_release(board->set);
	pthread_mutex_destroy(&board->lock);
	free(board);
}

void task_board_put(struct task_board *board, struct task_set *set)
{
	pthread_mutex_lock(&board->lock);
	struct task_set *old = board->set;
	board->set = set;
	atomic_fetch_add(&board->version, 1);
	pthread_mutex_unlock(&board->lock);
	task_set_release(old);
}

struct task_set *task_board_get(struct task_board *board)
{
	pthread_mutex_lock(&board->lock);
	struct task_set *set = task_set_hold(board->set);
	pthread_mutex_unlock(&board->lock);
	return set;
}

uint64_t task_board_version(const struct task_board *board)
{
	return atomic_load(&board->version);
}
