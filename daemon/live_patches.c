#include "daemon/live_patches.h"

#include "base/log.h"
#include "daemon/learner_setup.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct live { /* of one lineage */
	struct served_task *task;
	struct served_patch *patch; /* NULL: none can be served */
	bool identity;
	char refused[HASH_HEX_LENGTH + 1]; /* the version that was last refused */
};

struct live_patches {
	const struct config *config;
	const struct backbone *backbone;
	struct network *net;
	struct live *lives; /* [count], in the order of the tasks */
	size_t count;
	bool chosen; /* once at least */
	_Atomic uint64_t swaps;
};

enum status live_patches_new(const struct config *config, const struct backbone *backbone, struct network *net,
			     struct live_patches **ret, struct error *err)
{
	struct live_patches *l = calloc(1, sizeof *l);
	if (!l)
		return error_set_memory(err);
	*l = (struct live_patches){ .config = config, .backbone = backbone, .net = net };
	*ret = l;
	return STATUS_OK;
}

static void release(struct live *lives, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		served_task_release(lives[i].task);
		served_patch_release(lives[i].patch);
	}
	free(lives);
}

void live_patches_free(struct live_patches *l)
{
	if (!l)
		return;
	release(l->lives, l->count);
	free(l);
}

uint64_t live_patches_swaps(const struct live_patches *l)
{
	return atomic_load_explicit(&l->swaps, memory_order_relaxed);
}

static void put(struct live *live, struct served_patch *patch, bool identity)
{
	served_patch_release(live->patch);
	live->patch = patch;
	live->identity = identity;
}

/* Serves the version that the lineage begins with, where nothing of it is served yet. Errors: STATUS_MEMORY. */
static enum status begin(const struct live_patches *l, struct live *live, bool *ret_changed, struct error *err)
{
	struct patch *patch = NULL;
	struct served_patch *served = NULL;
	struct learner_setup setup = learner_setup(live->task, l->config, l->backbone, l->net);
	enum status status = learner_setup_identity(&setup, &patch, err);
	if (status == STATUS_OK)
		status = served_patch_new(patch, 1, &served, err);
	if (status == STATUS_MEMORY)
		return status;
	if (status != STATUS_OK && live->refused[0] == '\0') {
		log_warning("task %s: has no scores: %s", live->task->definition.name, err->text);
		live->refused[0] = '-'; /* said */
	}
	*ret_changed = *ret_changed || served;
	if (served)
		put(live, served, true);
	return STATUS_OK;
}

static bool same_labels(const struct config_list *labels, const struct patch *p)
{
	if (labels->count != p->classes)
		return false;
	for (size_t i = 0; i < labels->count; i++)
		if (strcmp(labels->items[i], p->labels[i]) != 0)
			return false;
	return true;
}

/* Whether the bytes of a version are what record and definition say. Errors: STATUS_DATA. */
static enum status check(const struct served_task *task, const struct patch_record *record, const struct patch *p,
			 struct error *err)
{
	const struct patch_spec *is = &p->spec, *due = &task->spec;
	const struct config_list *labels = &task->definition.labels;
	if (strcmp(p->hash, record->patch) != 0)
		return error_set(err, STATUS_DATA, "the bytes' hash is %.12s", p->hash);
	if (strcmp(p->task, task->definition.name) != 0)
		return error_set(err, STATUS_DATA, "it is of the task %s", p->task);
	if (is->type != due->type || is->insertion != due->insertion || is->bottleneck != due->bottleneck ||
	    is->mean_window != due->mean_window || is->first != due->first || is->second != due->second ||
	    is->norms != due->norms || memcmp(is->blocks, due->blocks, sizeof due->blocks) != 0)
		return error_set(err, STATUS_DATA, "it is not of the shape that the definition asks for");
	if (labels->count > 0 && !same_labels(labels, p))
		return error_set(err, STATUS_DATA, "its labels are not the definition's");
	return STATUS_OK;
}

static enum status load(const struct live_patches *l, const struct served_task *task, const struct patch_entry *entry,
			const struct patch_slot *slot, struct served_patch **ret, struct error *err)
{
	const struct patch_record *newest = patch_entry_newest(entry);
	struct buffer bytes = { 0 };
	struct patch *patch = NULL;
	bool unnamed;
	enum status status = patch_entry_bytes(entry, slot, &bytes, err);
	if (status == STATUS_OK)
		status = patch_load_memory(l->config->patches_topic, bytes.data, bytes.length, l->net,
					   backbone_hash(l->backbone), &patch, &unnamed, err);
	buffer_free(&bytes);
	if (status == STATUS_OK)
		status = check(task, newest, patch, err);
	if (status != STATUS_OK) {
		patch_free(patch);
		return status;
	}
	return served_patch_new(patch, newest->version, ret, err);
}

static bool serves(const struct live *live, const struct patch_record *record)
{
	return live->patch && live->patch->version == record->version && strcmp(live->patch->hash, record->patch) == 0;
}

/* Takes the version that the lineage's newest decision names. Errors: STATUS_MEMORY. */
static enum status follow(struct live_patches *l, struct live *live, const struct patch_entry *entry, bool *ret_changed,
			  struct error *err)
{
	const struct patch_record *newest = patch_entry_newest(entry);
	const struct patch_slot *slot = patch_entry_live(entry);
	struct served_patch *served = NULL;
	if (!slot || serves(live, newest) || strcmp(newest->patch, live->refused) == 0)
		return STATUS_OK;
	enum status status = load(l, live->task, entry, slot, &served, err);
	if (status == STATUS_MEMORY)
		return status;
	if (status != STATUS_OK) {
		log_warning("task %s: version %" PRIu64 " (%.12s) is refused, the one before it goes on: %s",
			    live->task->definition.name, newest->version, newest->patch, err->text);
		memcpy(live->refused, newest->patch, sizeof live->refused);
		return STATUS_OK;
	}
	log_debug("task %s: version %" PRIu64 " (%.12s) serves", live->task->definition.name, newest->version,
		  newest->patch);
	l->swaps += live->patch != NULL;
	put(live, served, false);
	*ret_changed = true;
	return STATUS_OK;
}

static enum status choose(struct live_patches *l, struct live *live, const struct patch_table *table, bool *ret_changed,
			  struct error *err)
{
	const struct patch_entry *entry = patch_table_find(table, live->task->definition.name);
	const struct patch_record *newest = entry ? patch_entry_newest(entry) : NULL;
	bool ours = newest && strcmp(newest->definition, live->task->hash) == 0 &&
		    strcmp(newest->backbone, backbone_hash(l->backbone)) == 0;
	enum status status = ours ? follow(l, live, entry, ret_changed, err) : STATUS_OK;
	if (status == STATUS_OK && ours && !live->patch && live->refused[0] == '\0')
		log_warning("task %s: topic %s does not have the bytes of version %" PRIu64
			    " (%.12s): the identity patch serves",
			    live->task->definition.name, l->config->patches_topic, newest->version, newest->patch);
	if (status == STATUS_OK && (!live->patch || (!ours && !live->identity)))
		status = begin(l, live, ret_changed, err);
	return status;
}

/* The lineage of a task among those that were there before; NULL: it is new. */
static const struct live *find(const struct live_patches *l, const struct served_task *task)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->lives[i].task->definition.name, task->definition.name) == 0 &&
		    strcmp(l->lives[i].task->hash, task->hash) == 0)
			return &l->lives[i];
	return NULL;
}

static bool same_tasks(const struct live_patches *l, const struct task_set *tasks)
{
	bool same = l->chosen && l->count == tasks->count;
	for (size_t i = 0; i < l->count && same; i++)
		same = l->lives[i].task == tasks->entries[i].task;
	return same;
}

/* Another set of tasks: what a lineage that stays has served, it serves on. */
static enum status take_tasks(struct live_patches *l, const struct task_set *tasks, struct error *err)
{
	struct live *lives = calloc(tasks->count + 1, sizeof *lives);
	if (!lives)
		return error_set_memory(err);
	for (size_t i = 0; i < tasks->count; i++) {
		const struct live *old = find(l, tasks->entries[i].task);
		if (old)
			lives[i] = *old;
		lives[i].task = served_task_hold(tasks->entries[i].task);
		(void)served_patch_hold(lives[i].patch);
	}
	release(l->lives, l->count);
	l->lives = lives;
	l->count = tasks->count;
	l->chosen = false;
	return STATUS_OK;
}

static enum status compose(const struct live_patches *l, struct task_set **ret, struct error *err)
{
	struct served *entries = calloc(l->count + 1, sizeof *entries);
	if (!entries)
		return error_set_memory(err);
	for (size_t i = 0; i < l->count; i++)
		entries[i] = (struct served){ l->lives[i].task, l->lives[i].patch };
	enum status status = task_set_new(entries, l->count, ret, err);
	free(entries);
	return status;
}

enum status live_patches_choose(struct live_patches *l, const struct task_set *tasks, const struct patch_table *table,
				struct task_set **ret, struct error *err)
{
	enum status status = same_tasks(l, tasks) ? STATUS_OK : take_tasks(l, tasks, err);
	bool changed = !l->chosen;
	for (size_t i = 0; i < l->count && status == STATUS_OK; i++)
		status = choose(l, &l->lives[i], table, &changed, err);
	struct task_set *set = NULL;
	if (status == STATUS_OK && changed)
		status = compose(l, &set, err);
	if (status != STATUS_OK) {
		l->chosen = false; /* what has changed so far is in the set of the next call */
		return status;
	}
	l->chosen = true;
	*ret = set;
	return STATUS_OK;
}
