#include "daemon/served_task.h"

#include "model/side.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
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

enum status served_task_new(struct config_task *definition, uint32_t blocks, struct served_task **ret,
			    struct error *err)
{
	struct served_task *task = calloc(1, sizeof *task);
	if (!task) {
		config_task_clear(definition);
		return error_set_memory(err);
	}
	task->holders = 1;
	task->definition = *definition;
	*definition = (struct config_task){ 0 };
	if (!fill(task, blocks)) {
		served_task_release(task);
		return error_set_memory(err);
	}
	*ret = task;
	return STATUS_OK;
}

struct served_task *served_task_hold(struct served_task *task)
{
	atomic_fetch_add(&task->holders, 1);
	return task;
}

void served_task_release(struct served_task *task)
{
	if (!task || atomic_fetch_sub(&task->holders, 1) > 1)
		return;
	config_task_clear(&task->definition);
	free(task->levels);
	free(task->labels);
	free(task);
}

static int compare_label(const void *key, const void *element)
{
	const struct slice *a = key;
	const char *b = *(const char *const *)element;
	size_t length = strlen(b);
	int order = memcmp(a->data, b, a->length < length ? a->length : length);
	return order ? order : (a->length > length) - (a->length < length);
}

bool served_task_takes(const struct served_task *task, struct slice label)
{
	return task->labels_count == 0 ||
	       bsearch(&label, task->labels, task->labels_count, sizeof *task->labels, compare_label) != NULL;
}
