#include "model/backbone_write.h"

#include "base/buffer.h"
#include "model/backbone.h"
#include "model/vocabulary_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER = 32, METADATA = 14 };

struct texts { /* the metadata's numbers */
	char channels[NUMBER];
	char kernel_size[NUMBER];
	char window[NUMBER];
	char eps[NUMBER];
	char pad[NUMBER], tcl[NUMBER], oov[NUMBER];
	struct buffer dilations; /* NUL-terminated */
};

/* The shortest text that reads back as this float. */
static void print_float(float value, char out[NUMBER])
{
	for (int digits = 1; digits <= 9; digits++) {
		(void)snprintf(out, NUMBER, "%.*g", digits, (double)value);
		if (strtof(out, NULL) == value)
			return;
	}
}

static void print_numbers(const struct network_shape *shape, struct texts *t)
{
	char number[NUMBER];
	(void)snprintf(t->channels, NUMBER, "%" PRIu32, shape->channels);
	(void)snprintf(t->kernel_size, NUMBER, "%" PRIu32, shape->kernel_size);
	(void)snprintf(t->window, NUMBER, "%" PRIu32, shape->window);
	(void)snprintf(t->pad, NUMBER, "%d", BACKBONE_PAD);
	(void)snprintf(t->tcl, NUMBER, "%d", BACKBONE_TCL);
	(void)snprintf(t->oov, NUMBER, "%d", BACKBONE_OOV);
	print_float(shape->eps, t->eps);
	for (uint32_t i = 0; i < shape->blocks; i++) {
		int length = snprintf(number, NUMBER, "%s%" PRIu32, i ? "," : "", shape->dilations[i]);
		buffer_append(&t->dilations, number, (size_t)length);
	}
	buffer_append_byte(&t->dilations, '\0');
}

static enum status check_finite(const struct network *net, struct error *err)
{
	for (size_t i = 0; i < net->table.count; i++) {
		const struct parameter *p = &net->table.list[i];
		for (size_t j = 0; j < p->count; j++)
			if (!isfinite(net->weights[p->offset + j]))
				return error_set(err, STATUS_DATA, "%s: holds a value that is not finite", p->name);
	}
	return STATUS_OK;
}

static enum status write_file(const char *path, const struct network *net, const struct texts *t,
			      const struct vocabulary_form *vocabulary, const struct safetensors_tensor tensors[],
			      size_t tensor_count, bool task, struct error *err)
{
	struct safetensors_string metadata[METADATA] = {
		{ "format", "peterd.backbone.v1" },
		{ "arch", "nextitnet" },
		{ "causal", net->shape.causal ? "true" : "false" },
		{ "channels", t->channels },
		{ "kernel_size", t->kernel_size },
		{ "dilations", (const char *)t->dilations.data },
		{ "layer_norm_eps", t->eps },
		{ "pad_index", t->pad },
		{ "tcl_index", t->tcl },
		{ "oov_index", t->oov },
	};
	size_t count = 10;
	if (net->shape.output)
		metadata[count++] = (struct safetensors_string){ "next_item", task ? "tcl" : "last" };
	if (!net->shape.causal)
		metadata[count++] = (struct safetensors_string){ "window", t->window };
	if (vocabulary->text)
		metadata[count++] = (struct safetensors_string){ "vocabulary", vocabulary->text };
	return safetensors_write(path, tensors, tensor_count, metadata, count, err);
}

enum status backbone_write(const char *path, const struct network *net, const char *const ids[], bool task,
			   struct error *err)
{
	struct texts texts = { .pad = "" };
	struct vocabulary_form vocabulary = { 0 };
	float *scratch = NULL;
	size_t count = net->table.count;
	struct safetensors_tensor *tensors = calloc(count + VOCABULARY_TENSORS, sizeof *tensors);
	print_numbers(&net->shape, &texts);
	enum status status = tensors && !texts.dilations.failed ? check_finite(net, err) : error_set_memory(err);
	if (!status)
		status = vocabulary_form_make(ids, net->shape.items - BACKBONE_FIRST_ITEM, &vocabulary, err);
	if (!status)
		status = parameters_tensors(&net->table, net->weights, tensors, &scratch, err);
	if (status) {
		(void)error_prefix(err, "%s", path);
	} else {
		memcpy(tensors + count, vocabulary.tensors, vocabulary.tensor_count * sizeof *tensors);
		status =
			write_file(path, net, &texts, &vocabulary, tensors, count + vocabulary.tensor_count, task, err);
	}
	vocabulary_form_free(&vocabulary);
	buffer_free(&texts.dilations);
	free(tensors);
	free(scratch);
	return status;
}
