#include "daemon/example_input.h"

#include "base/hash.h"
#include "io/sequence.h"
#include "model/side.h"

#include <stdlib.h>
#include <string.h>

struct example_input {
	const struct backbone *backbone;
	struct backbone_workspace *workspace;
	struct sequence past; /* scratch */
	uint32_t *items;      /* scratch, [capacity] */
	size_t capacity;
};

enum status example_input_new(const struct backbone *backbone, struct example_input **ret, struct error *err)
{
	struct example_input *in = calloc(1, sizeof *in);
	if (!in)
		return error_set_memory(err);
	in->backbone = backbone;
	enum status status = backbone_workspace_new(backbone, &in->workspace, err);
	if (status != STATUS_OK) {
		free(in);
		return status;
	}
	*ret = in;
	return STATUS_OK;
}

void example_input_free(struct example_input *in)
{
	if (!in)
		return;
	backbone_workspace_free(in->workspace);
	sequence_free(&in->past);
	free(in->items);
	free(in);
}

static bool is_text(struct slice s, const char *text)
{
	return s.length == strlen(text) && memcmp(s.data, text, s.length) == 0;
}

bool example_input_fits(const struct served_task *task, const struct learner_setup *setup,
			const struct example *example)
{
	switch (example->kind) {
	case EXAMPLE_TEXT:
		return task->spec.type != PATCH_REGRESSION;
	case EXAMPLE_NUMBER:
		return task->spec.type == PATCH_REGRESSION;
	case EXAMPLE_ROLLBACK:
		return is_text(example->definition, task->hash) && is_text(example->backbone, setup->lineage.backbone);
	default:
		return true;
	}
}

/* The events' vocabulary indices to in->items. */
static enum status read_items(struct example_input *in, struct slice events, struct error *err)
{
	const uint8_t *at = events.data;
	in->past.length = 0;
	if (events.length == 0)
		return STATUS_OK;
	enum status status = sequence_decode(&in->past, &at, events.data + events.length, err);
	if (status != STATUS_OK)
		return status;
	if (in->past.length > in->capacity) {
		uint32_t *larger = reallocarray(in->items, in->past.length, sizeof *larger);
		if (!larger)
			return error_set_memory(err);
		in->items = larger;
		in->capacity = in->past.length;
	}
	for (uint32_t i = 0; i < in->past.length; i++)
		in->items[i] = backbone_item(in->backbone, in->past.events[i].item);
	return STATUS_OK;
}

/* A row of states from in->items. */
static enum status make_states(struct example_input *in, const struct served_task *task, float *out, struct error *err)
{
	const size_t offsets[] = { 0, in->past.length };
	const uint32_t window = task->spec.mean_window;
	enum status status = backbone_workspace_reserve(in->backbone, in->workspace, window, err);
	if (status == STATUS_OK)
		backbone_side_states(in->backbone, in->workspace, 1, offsets, in->items, window, task->levels,
				     task->levels_count, out);
	return status;
}

/* Floats of a row; 0: the learner takes items. */
static size_t row_floats(const struct example_input *in, const struct learner_setup *setup,
			 const struct served_task *task)
{
	return setup->lineage.net ? 0 : task->levels_count * 2 * backbone_dim(in->backbone);
}

static enum status fill(struct example_input *in, const struct served_task *task, const struct learner_setup *setup,
			const struct example *example, void *memory, struct error *err)
{
	const size_t bytes = row_floats(in, setup, task) * sizeof(float);
	if (setup->lineage.net) {
		memcpy(memory, in->items, in->past.length * sizeof *in->items);
		return STATUS_OK;
	}
	if (example->states.length == bytes && is_text(example->definition, task->hash) &&
	    is_text(example->backbone, setup->lineage.backbone)) {
		memcpy(memory, example->states.data, bytes);
		return STATUS_OK;
	}
	enum status status = read_items(in, example->events, err);
	return status == STATUS_OK ? make_states(in, task, memory, err) : status;
}

enum status example_input_take(struct example_input *in, const struct served_task *task,
			       const struct learner_setup *setup, const struct example *example, uint64_t offset,
			       struct taken_example *ret, struct error *err)
{
	const bool label = example->kind == EXAMPLE_TEXT || example->kind == EXAMPLE_NUMBER;
	const bool inside = setup->lineage.net != NULL;
	const size_t text_bytes = example->kind == EXAMPLE_TEXT ? example->text.length : 0;
	enum status status = inside && label ? read_items(in, example->events, err) : STATUS_OK;
	if (status != STATUS_OK)
		return status;
	const size_t past = !label   ? 0
			    : inside ? in->past.length * sizeof *in->items
				     : row_floats(in, setup, task) * sizeof(float);
	char *memory = calloc(1, past + text_bytes + 1);
	if (!memory)
		return error_set_memory(err);
	if (label)
		status = fill(in, task, setup, example, memory, err);
	if (status != STATUS_OK) {
		free(memory);
		return status;
	}
	if (text_bytes > 0)
		memcpy(memory + past, example->text.data, text_bytes);
	ret->rollback = example->kind == EXAMPLE_ROLLBACK;
	ret->memory = memory;
	ret->example = (struct learner_example){
		.kind = label ? LEARNER_LABEL : LEARNER_FORGET,
		.offset = offset,
		.user = hash_item(example->user_id.data, example->user_id.length),
		.label = memory + past,
		.value = example->number,
		.weight = example->weight,
		.state = inside ? NULL : (const float *)(void *)memory,
		.items = inside ? (const uint32_t *)(void *)memory : NULL,
		.length = inside && label ? in->past.length : 0,
	};
	return STATUS_OK;
}
