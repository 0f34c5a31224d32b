#include "model/backbone.h"

#include "model/backbone_private.h"
#include "model/nextitnet.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "peterd.backbone.v1"

static const struct backbone_ops *const architectures[] = { &nextitnet_ops };

enum status backbone_text(const struct safetensors *st, const char *key, const char *fallback, const char **ret,
			  struct error *err)
{
	const char *value = safetensors_metadata(st, key);
	if (value == NULL)
		value = fallback;
	if (value == NULL)
		return error_set(err, STATUS_DATA, "metadata: %s is missing", key);
	*ret = value;
	return STATUS_OK;
}

enum status backbone_number(const struct safetensors *st, const char *key, const char *fallback, uint32_t min,
			    uint32_t max, uint32_t *ret, struct error *err)
{
	const char *text = NULL;
	if (backbone_text(st, key, fallback, &text, err) != STATUS_OK)
		return err->status;
	char *end = NULL;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	bool digits = text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
	if (!digits || value < min || value > max)
		return error_set(err, STATUS_DATA,
				 "metadata: %s is '%.64s', expected a whole number from %" PRIu32 " to %" PRIu32, key,
				 text, min, max);
	*ret = (uint32_t)value;
	return STATUS_OK;
}

static enum status find_architecture(const struct safetensors *st, const struct backbone_ops **ret, struct error *err)
{
	const char *format = NULL;
	const char *arch = NULL;
	if (backbone_text(st, "format", NULL, &format, err) != STATUS_OK)
		return err->status;
	if (strcmp(format, FORMAT) != 0)
		return error_set(err, STATUS_DATA, "metadata: format is '%.64s', expected " FORMAT, format);
	if (backbone_text(st, "arch", NULL, &arch, err) != STATUS_OK)
		return err->status;
	for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
		if (strcmp(architectures[i]->arch, arch) == 0) {
			*ret = architectures[i];
			return STATUS_OK;
		}
	}
	return error_set(err, STATUS_DATA, "metadata: arch '%.64s' is not known", arch);
}

static enum status check_special_indices(const struct safetensors *st, struct error *err)
{
	uint32_t index = 0;
	enum status status = backbone_number(st, "pad_index", "0", BACKBONE_PAD, BACKBONE_PAD, &index, err);
	if (status == STATUS_OK)
		status = backbone_number(st, "tcl_index", "1", BACKBONE_TCL, BACKBONE_TCL, &index, err);
	if (status == STATUS_OK)
		status = backbone_number(st, "oov_index", "2", BACKBONE_OOV, BACKBONE_OOV, &index, err);
	return status;
}

static enum status check_output_layer(const struct safetensors *st, const struct backbone *b, struct error *err)
{
	const char *next_item = NULL;
	if (backbone_text(st, "next_item", "last", &next_item, err) != STATUS_OK)
		return err->status;
	if (strcmp(next_item, "last") != 0 && strcmp(next_item, "tcl") != 0)
		return error_set(err, STATUS_DATA, "metadata: next_item is '%.64s', expected last or tcl", next_item);
	if (safetensors_find(st, "output.weight") == NULL && safetensors_find(st, "output.bias") == NULL)
		return STATUS_OK;
	const uint64_t shape[] = { b->items, b->dim };
	const struct safetensors_tensor *weight = NULL;
	const struct safetensors_tensor *bias = NULL;
	enum status status = safetensors_expect(st, "output.weight", 2, shape, &weight, err);
	if (status == STATUS_OK)
		status = safetensors_check_floats(weight, err);
	if (status == STATUS_OK)
		status = safetensors_expect(st, "output.bias", 1, shape, &bias, err);
	if (status == STATUS_OK)
		status = safetensors_check_floats(bias, err);
	return status;
}

static enum status load(const struct safetensors *st, struct backbone *b, struct error *err)
{
	enum status status = find_architecture(st, &b->ops, err);
	if (status == STATUS_OK)
		status = check_special_indices(st, err);
	if (status == STATUS_OK)
		status = vocabulary_load(st, &b->vocabulary, err);
	if (status == STATUS_OK) {
		b->items = vocabulary_size(b->vocabulary) + BACKBONE_FIRST_ITEM;
		memcpy(b->hash, safetensors_hash(st), sizeof b->hash);
		status = b->ops->load(st, b, err);
	}
	if (status == STATUS_OK)
		status = check_output_layer(st, b, err);
	return status;
}

enum status backbone_read_file(const struct safetensors *st, struct backbone **ret, struct error *err)
{
	struct backbone *b = calloc(1, sizeof *b);
	enum status status = b == NULL ? error_set_memory(err) : load(st, b, err);
	if (status == STATUS_OK) {
		*ret = b;
	} else {
		(void)safetensors_blame(safetensors_path(st), err);
		backbone_free(b);
	}
	return status;
}

/* Takes `st`. */
static enum status load_open(struct safetensors *st, struct backbone **ret, struct error *err)
{
	enum status status = backbone_read_file(st, ret, err);
	safetensors_close(st);
	return status;
}

enum status backbone_load(const char *path, struct backbone **ret, struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open(path, &st, err);
	return status == STATUS_OK ? load_open(st, ret, err) : status;
}

enum status backbone_load_memory(const char *name, const void *bytes, size_t length, struct backbone **ret,
				 struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open_memory(name, bytes, length, &st, err);
	return status == STATUS_OK ? load_open(st, ret, err) : status;
}

void backbone_free(struct backbone *b)
{
	if (b == NULL)
		return;
	if (b->impl != NULL)
		b->ops->close(b);
	vocabulary_free(b->vocabulary);
	free(b);
}

const char *backbone_hash(const struct backbone *b)
{
	return b->hash;
}

const char *backbone_arch(const struct backbone *b)
{
	return b->ops->arch;
}

uint32_t backbone_dim(const struct backbone *b)
{
	return b->dim;
}

uint32_t backbone_window(const struct backbone *b)
{
	return b->window;
}

uint32_t backbone_items(const struct backbone *b)
{
	return b->items;
}

uint32_t backbone_blocks(const struct backbone *b)
{
	return b->blocks;
}

bool backbone_causal(const struct backbone *b)
{
	return b->causal;
}

uint32_t backbone_item(const struct backbone *b, uint64_t item_hash)
{
	return vocabulary_index(b->vocabulary, item_hash);
}

const float *backbone_vector(const struct backbone *b, uint32_t item)
{
	return b->ops->vector(b, item);
}

size_t backbone_state_bytes(const struct backbone *b)
{
	return b->state_bytes;
}

void backbone_state_reset(const struct backbone *b, void *state)
{
	assert(b->state_bytes > 0);
	b->ops->state_reset(b, state);
}

enum status backbone_workspace_new(const struct backbone *b, struct backbone_workspace **ret, struct error *err)
{
	return b->ops->workspace_new(b, ret, err);
}

void backbone_workspace_free(struct backbone_workspace *ws)
{
	if (ws != NULL)
		ws->ops->workspace_free(ws);
}

enum status backbone_workspace_reserve(const struct backbone *b, struct backbone_workspace *ws, uint32_t newest,
				       struct error *err)
{
	return b->ops->workspace_reserve(b, ws, newest, err);
}

void backbone_push(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
		   const uint32_t items[])
{
	assert(b->state_bytes > 0);
	b->ops->step(b, ws, n, states, items, NULL, NULL);
}

void backbone_read(const struct backbone *b, struct backbone_workspace *ws, size_t n, const void *const states[],
		   float *out)
{
	assert(b->state_bytes > 0);
	b->ops->step(b, ws, n, (void *const *)states, NULL, out, NULL);
}

void backbone_push_read(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
			const uint32_t items[], float *out)
{
	assert(b->state_bytes > 0);
	b->ops->step(b, ws, n, states, items, out, NULL);
}

void backbone_embed(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		    const uint32_t items[], void *const states[], float *out)
{
	assert(states == NULL || b->state_bytes > 0);
	b->ops->embed(b, ws, n, offsets, items, states, out, NULL);
}

void backbone_step_levels(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
			  const uint32_t items[], float *out, const struct backbone_levels *levels)
{
	assert(b->state_bytes > 0);
	b->ops->step(b, ws, n, states, items, out, levels);
}

void backbone_embed_levels(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			   const uint32_t items[], void *const states[], float *out,
			   const struct backbone_levels *levels)
{
	assert(b->state_bytes > 0);
	b->ops->embed(b, ws, n, offsets, items, states, out, levels);
}

void backbone_side_states(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			  const uint32_t items[], uint32_t mean_window, const uint32_t levels[], size_t count,
			  float *out)
{
	b->ops->side_states(b, ws, n, offsets, items, mean_window, levels, count, out);
}
