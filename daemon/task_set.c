#include "daemon/task_set.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct task_board {
	pthread_mutex_t lock;
	struct task_set *set;
	_Atomic uint64_t version;
};

static int compare_entries(const void *a, const void *b)
{
	const struct served *one = a, *other = b;
	return strcmp(one->task->definition.name, other->task->definition.name);
}

static void release_entries(struct served *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		served_task_release(entries[i].task);
		served_patch_release(entries[i].patch);
	}
}

enum status task_set_new(const struct served entries[], size_t count, struct task_set **ret, struct error *err)
{
	struct task_set *set = calloc(1, sizeof *set + count * sizeof *entries);
	if (!set)
		return error_set_memory(err);
	set->holders = 1;
	set->count = count;
	for (size_t i = 0; i < count; i++)
		set->entries[i] =
			(struct served){ served_task_hold(entries[i].task), served_patch_hold(entries[i].patch) };
	qsort(set->entries, set->count, sizeof *set->entries, compare_entries);
	*ret = set;
	return STATUS_OK;
}

enum status task_set_of(struct config_task definitions[], size_t count, uint32_t blocks, struct task_set **ret,
			struct error *err)
{
	struct served *entries = calloc(count + 1, sizeof *entries);
	enum status status = entries ? STATUS_OK : error_set_memory(err);
	for (size_t i = 0; i < count; i++) {
		if (status == STATUS_OK)
			status = served_task_new(&definitions[i], blocks, &entries[i].task, err);
		config_task_clear(&definitions[i]);
	}
	if (status == STATUS_OK)
		status = task_set_new(entries, count, ret, err);
	if (entries)
		release_entries(entries, count);
	free(entries);
	return status;
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
	release_entries(set->entries, set->count);
	free(set);
}

const struct served *task_set_entry(const struct task_set *set, struct slice name)
{
	for (size_t i = 0; i < set->count; i++) {
		const char *other = set->entries[i].task->definition.name;
		if (strlen(other) == name.length && memcmp(other, name.data, name.length) == 0)
			return &set->entries[i];
	}
	return NULL;
}

const struct served_task *task_set_find(const struct task_set *set, struct slice name)
{
	const struct served *entry = task_set_entry(set, name);
	return entry ? entry->task : NULL;
}

struct task_board *task_board_new(void)
{
	struct error err;
	struct task_board *board = calloc(1, sizeof *board);
	if (!board || task_set_new(NULL, 0, &board->set, &err) != STATUS_OK) {
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
