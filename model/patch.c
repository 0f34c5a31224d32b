#include "model/patch.h"

#include "model/patch_private.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_DEVIATION 0.01F /* small beside a state, so that a fresh head says little */

static const char *const type_names[] = { "classification", "ranking", "regression" };
static const char *const insertion_names[] = { "serial", "parallel", "side" };

const char *patch_type_name(enum patch_type type)
{
	return type_names[type];
}

const char *patch_insertion_name(enum patch_insertion insertion)
{
	return insertion_names[insertion];
}

bool patch_type_parse(const char *name, enum patch_type *ret)
{
	for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++) {
		if (strcmp(type_names[i], name) == 0) {
			*ret = (enum patch_type)i;
			return true;
		}
	}
	return false;
}

bool patch_insertion_parse(const char *name, enum patch_insertion *ret)
{
	for (size_t i = 0; i < sizeof insertion_names / sizeof insertion_names[0]; i++) {
		if (strcmp(insertion_names[i], name) == 0) {
			*ret = (enum patch_insertion)i;
			return true;
		}
	}
	return false;
}

void patch_default_blocks(enum patch_insertion insertion, uint32_t count, bool blocks[])
{
	if (insertion == PATCH_SIDE) {
		blocks[0] = blocks[count] = true;
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		blocks[i] = true;
}

bool patch_head_only(const struct patch *p)
{
	for (uint32_t i = 0; i <= NETWORK_BLOCKS_AT_MOST; i++) {
		if (p->spec.blocks[i])
			return false;
	}
	return true;
}

static enum status check_spec(const struct patch_spec *spec, const struct network_shape *shape, struct error *err)
{
	const bool side = spec->insertion == PATCH_SIDE;
	bool any = false;
	for (uint32_t i = 0; i <= NETWORK_BLOCKS_AT_MOST; i++) {
		any = any || spec->blocks[i];
		if (spec->blocks[i] && i >= shape->blocks + (side ? 1 : 0))
			return error_set(err, STATUS_DATA,
					 "blocks: there is no %s %" PRIu32 ", the backbone has %" PRIu32 " blocks",
					 side ? "level" : "block", i, shape->blocks);
	}
	if (side && (spec->norms || spec->first || spec->second))
		return error_set(err, STATUS_DATA, "insertion: a side patch has no adapters or norms inside the trunk");
	if (!side && any && !spec->first && !spec->second && !spec->norms)
		return error_set(err, STATUS_DATA, "blocks: patched, but without adapters and norms");
	const bool narrow = any && (side || spec->first || spec->second);
	if (narrow && (spec->bottleneck < 1 || spec->bottleneck > PATCH_BOTTLENECK_AT_MOST))
		return error_set(err, STATUS_DATA, "bottleneck: %" PRIu32 ", expected 1 to %d", spec->bottleneck,
				 PATCH_BOTTLENECK_AT_MOST);
	if (side && (spec->mean_window < 1 || spec->mean_window > PATCH_MEAN_WINDOW_AT_MOST))
		return error_set(err, STATUS_DATA, "mean_window: %" PRIu32 ", expected 1 to %d", spec->mean_window,
				 PATCH_MEAN_WINDOW_AT_MOST);
	return STATUS_OK;
}

bool patch_task_is_name(const char *task)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const size_t length = strspn(task, legal);
	return length > 0 && length <= PATCH_TASK_AT_MOST && task[length] == '\0';
}

enum status patch_begin(const struct patch_spec *spec, const struct network *net, const char *task, struct patch **ret,
			struct error *err)
{
	if (check_spec(spec, &net->shape, err) != STATUS_OK)
		return err->status;
	if (!patch_task_is_name(task))
		return error_set(err, STATUS_DATA, "task: must be 1 to %d of a-z A-Z 0-9 . _ -", PATCH_TASK_AT_MOST);
	struct patch *p = calloc(1, sizeof *p);
	if (p == NULL)
		return error_set_memory(err);
	p->spec = *spec;
	p->channels = net->shape.channels;
	p->trunk_blocks = net->shape.blocks;
	p->task = strdup(task);
	if (p->task == NULL) {
		patch_free(p);
		return error_set_memory(err);
	}
	*ret = p;
	return STATUS_OK;
}

static void free_labels(char **labels, uint32_t count)
{
	for (uint32_t i = 0; labels != NULL && i < count; i++)
		free(labels[i]);
	free(labels);
}

void patch_free(struct patch *p)
{
	if (p == NULL)
		return;
	free_labels(p->labels, p->classes);
	parameters_free(&p->table);
	free(p->weights);
	free(p->task);
	free(p);
}

static int compare_labels(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Labels that are empty or stand twice. */
static enum status check_labels(const char *const labels[], uint32_t count, struct error *err)
{
	const char **sorted = calloc((size_t)count + 1, sizeof *sorted);
	if (sorted == NULL)
		return error_set_memory(err);
	for (uint32_t i = 0; i < count; i++)
		sorted[i] = labels[i];
	qsort(sorted, count, sizeof *sorted, compare_labels);
	enum status status = STATUS_OK;
	if (count > 0 && sorted[0][0] == '\0')
		status = error_set(err, STATUS_DATA, "labels: one is empty");
	for (uint32_t i = 1; status == STATUS_OK && i < count; i++) {
		if (strcmp(sorted[i - 1], sorted[i]) == 0)
			status = error_set(err, STATUS_DATA, "labels: '%.64s' stands twice", sorted[i]);
	}
	free(sorted);
	return status;
}

enum status patch_set_labels(struct patch *p, const char *const labels[], uint32_t classes, struct error *err)
{
	if (p->spec.type == PATCH_REGRESSION) {
		p->classes = classes;
		return classes == 1 ? STATUS_OK : error_set(err, STATUS_DATA, "a regression has one output");
	}
	if (check_labels(labels, classes, err) != STATUS_OK)
		return err->status;
	char **copies = calloc((size_t)classes + 1, sizeof *copies);
	for (uint32_t i = 0; copies != NULL && i < classes; i++) {
		copies[i] = strdup(labels[i]);
		if (copies[i] == NULL) {
			free_labels(copies, i);
			copies = NULL;
		}
	}
	if (copies == NULL)
		return error_set_memory(err);
	p->labels = copies;
	p->classes = classes;
	return STATUS_OK;
}

static enum status add(struct patch *p, const char *owner, const char *tensor, uint64_t rows, uint64_t columns,
		       size_t *ret_offset, struct error *err)
{
	const uint64_t shape[] = { rows, columns };
	char name[64];
	(void)snprintf(name, sizeof name, "%s.%s", owner, tensor);
	return parameters_add(&p->table, name, columns > 0 ? 2 : 1, shape, false, ret_offset, err);
}

static enum status add_adapter(struct patch *p, const char *owner, uint64_t inputs, struct patch_side *ret,
			       struct error *err)
{
	const uint64_t b = p->spec.bottleneck;
	enum status status = add(p, owner, "down.weight", b, inputs, &ret->down_weight, err);
	if (status == STATUS_OK)
		status = add(p, owner, "down.bias", b, 0, &ret->down_bias, err);
	if (status == STATUS_OK)
		status = add(p, owner, "up.weight", p->channels, b, &ret->up_weight, err);
	if (status == STATUS_OK)
		status = add(p, owner, "up.bias", p->channels, 0, &ret->up_bias, err);
	return status;
}

static enum status add_level(struct patch *p, uint32_t level, struct error *err)
{
	char owner[32];
	(void)snprintf(owner, sizeof owner, "side.%" PRIu32, level);
	return add_adapter(p, owner, 2 * (uint64_t)p->channels, &p->side[level], err);
}

static enum status add_block(struct patch *p, uint32_t block, struct error *err)
{
	enum status status = STATUS_OK;
	struct patch_side ignored;
	char owner[32];
	for (uint32_t second = 0; status == STATUS_OK && second < 2; second++) {
		(void)snprintf(owner, sizeof owner, "patches.%" PRIu32 ".%" PRIu32, block, second + 1);
		if (second ? p->spec.second : p->spec.first)
			status = add_adapter(p, owner, p->channels, &ignored, err);
	}
	(void)snprintf(owner, sizeof owner, "norms.%" PRIu32 ".2", block);
	if (status == STATUS_OK && p->spec.norms)
		status = add(p, owner, "weight", p->channels, 0, &ignored.up_bias, err);
	if (status == STATUS_OK && p->spec.norms)
		status = add(p, owner, "bias", p->channels, 0, &ignored.up_bias, err);
	return status;
}

enum status patch_lay_out(struct patch *p, struct error *err)
{
	enum status status = STATUS_OK;
	for (uint32_t i = 0; status == STATUS_OK && i <= p->trunk_blocks; i++) {
		if (p->spec.blocks[i])
			status = p->spec.insertion == PATCH_SIDE ? add_level(p, i, err) : add_block(p, i, err);
	}
	if (status == STATUS_OK)
		status = add(p, "head", "weight", p->classes, p->channels, &p->head_weight, err);
	if (status == STATUS_OK)
		status = add(p, "head", "bias", p->classes, 0, &p->head_bias, err);
	return status;
}

static const float *view(const struct patch *p, const char *format, uint32_t block, uint32_t which, const char *tensor)
{
	char name[64];
	(void)snprintf(name, sizeof name, format, block, which, tensor);
	const struct parameter *t = parameters_find(&p->table, name);
	return t == NULL ? NULL : p->weights + t->offset;
}

static void set_views(struct patch *p)
{
	static const char patches[] = "patches.%" PRIu32 ".%" PRIu32 ".%s";
	static const char norms[] = "norms.%" PRIu32 ".%" PRIu32 ".%s";
	struct network_patch *a = &p->adapters;
	a->parallel = p->spec.insertion == PATCH_PARALLEL;
	a->bottleneck = p->spec.bottleneck;
	a->weights = p->weights;
	for (uint32_t i = 0; i < 2 * p->trunk_blocks; i++) {
		a->down_weight[i] = view(p, patches, i / 2, i % 2 + 1, "down.weight");
		a->down_bias[i] = view(p, patches, i / 2, i % 2 + 1, "down.bias");
		a->up_weight[i] = view(p, patches, i / 2, i % 2 + 1, "up.weight");
		a->up_bias[i] = view(p, patches, i / 2, i % 2 + 1, "up.bias");
	}
	for (uint32_t i = 0; i < p->trunk_blocks; i++) {
		a->norm_weight[i] = view(p, norms, i, 2, "weight");
		a->norm_bias[i] = view(p, norms, i, 2, "bias");
	}
}

enum status patch_allocate(struct patch *p, struct error *err)
{
	p->weights = parameters_block_new(&p->table);
	if (p->weights == NULL)
		return error_set_memory(err);
	set_views(p);
	return STATUS_OK;
}

static void fill(float *values, size_t count, float deviation, struct random_stream *random)
{
	for (size_t i = 0; i < count; i++)
		values[i] = deviation * random_normal(random);
}

static void copy_norm(struct patch *p, const struct network *net, const struct parameter *t)
{
	uint32_t block = 0;
	char what[16];
	char name[64];
	int read = sscanf(t->name, "norms.%" SCNu32 ".2.%15s", &block, what);
	assert(read == 2);
	(void)snprintf(name, sizeof name, "blocks.%" PRIu32 ".norm2.%s", block, what);
	const struct parameter *from = parameters_find(&net->table, name);
	assert(from != NULL && from->count == t->count);
	memcpy(p->weights + t->offset, net->weights + from->offset, t->count * sizeof(float));
}

static bool ends_in(const char *text, const char *end)
{
	const size_t length = strlen(text);
	const size_t tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void start(struct patch *p, const struct network *net, struct random_stream *random)
{
	for (size_t i = 0; i < p->table.count; i++) {
		const struct parameter *t = &p->table.list[i];
		if (strncmp(t->name, "norms.", 6) == 0)
			copy_norm(p, net, t);
		else if (ends_in(t->name, ".down.weight"))
			fill(p->weights + t->offset, t->count, 1.0F / sqrtf((float)t->shape[1]), random);
		else if (strcmp(t->name, "head.weight") == 0)
			fill(p->weights + t->offset, t->count, HEAD_DEVIATION, random);
	}
}

enum status patch_new(const struct patch_spec *spec, const struct network *net, const char *task,
		      const char *const labels[], uint32_t classes, struct random_stream *random, struct patch **ret,
		      struct error *err)
{
	struct patch *p = NULL;
	enum status status = patch_begin(spec, net, task, &p, err);
	if (status == STATUS_OK)
		status = patch_set_labels(p, labels, classes, err);
	if (status == STATUS_OK)
		status = patch_lay_out(p, err);
	if (status == STATUS_OK)
		status = patch_allocate(p, err);
	if (status != STATUS_OK) {
		patch_free(p);
		return status;
	}
	start(p, net, random);
	*ret = p;
	return STATUS_OK;
}

void patch_move_block(const struct parameters *from, const struct parameters *to, const float *in, float *out)
{
	assert(from->count == to->count);
	for (size_t i = 0; i < from->count; i++) {
		const struct parameter *a = &from->list[i];
		const struct parameter *b = &to->list[i];
		memcpy(out + b->offset, in + a->offset, (a->count < b->count ? a->count : b->count) * sizeof *out);
	}
}

/* The old and the new labels in one list, borrowed; NULL: out of memory. */
static const char **join_labels(const struct patch *p, const char *const labels[], uint32_t more)
{
	const char **all = calloc((size_t)p->classes + more + 1, sizeof *all);
	for (uint32_t i = 0; all != NULL && i < p->classes; i++)
		all[i] = p->labels[i];
	for (uint32_t i = 0; all != NULL && i < more; i++)
		all[p->classes + i] = labels[i];
	return all;
}

enum status patch_grow(struct patch *p, const char *const labels[], uint32_t more, struct random_stream *random,
		       struct error *err)
{
	assert(p->spec.type != PATCH_REGRESSION);
	struct patch grown = *p;
	const char **all = join_labels(p, labels, more);
	grown.labels = NULL;
	grown.table = (struct parameters){ 0 };
	grown.weights = NULL;
	enum status status =
		all == NULL ? error_set_memory(err) : patch_set_labels(&grown, all, p->classes + more, err);
	free(all);
	if (status == STATUS_OK)
		status = patch_lay_out(&grown, err);
	if (status == STATUS_OK)
		status = patch_allocate(&grown, err);
	struct patch *old = status == STATUS_OK ? p : &grown;
	if (status == STATUS_OK) {
		patch_move_block(&p->table, &grown.table, p->weights, grown.weights);
		fill(grown.weights + grown.head_weight + (size_t)p->classes * p->channels, (size_t)more * p->channels,
		     HEAD_DEVIATION, random);
	}
	free_labels(old->labels, old->classes);
	parameters_free(&old->table);
	free(old->weights);
	if (status == STATUS_OK)
		*p = grown;
	return status;
}

uint32_t patch_label(const struct patch *p, const char *label)
{
	for (uint32_t i = 0; p->labels != NULL && i < p->classes; i++) {
		if (strcmp(p->labels[i], label) == 0)
			return i;
	}
	return UINT32_MAX;
}

void patch_rescale(struct patch *p, float scale, float offset)
{
	assert(p->spec.type == PATCH_REGRESSION);
	for (uint32_t i = 0; i < p->channels; i++)
		p->weights[p->head_weight + i] *= scale;
	p->weights[p->head_bias] = scale * p->weights[p->head_bias] + offset;
}
