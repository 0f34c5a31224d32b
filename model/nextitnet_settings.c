#include "model/nextitnet_settings.h"

#include "model/backbone_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status read_eps(const struct safetensors *st, float *ret, struct error *err)
{
	const char *text = NULL;
	if (backbone_text(st, "layer_norm_eps", "1e-8", &text, err) != STATUS_OK)
		return err->status;
	char *end = NULL;
	float eps = strtof(text, &end);
	if (end == text || *end != '\0' || !isfinite(eps) || !(eps > 0))
		return error_set(err, STATUS_DATA, "metadata: layer_norm_eps is '%.64s', expected a number above 0",
				 text);
	*ret = eps;
	return STATUS_OK;
}

static enum status read_causal(const struct safetensors *st, bool *ret, struct error *err)
{
	const char *text = NULL;
	if (backbone_text(st, "causal", NULL, &text, err) != STATUS_OK)
		return err->status;
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return error_set(err, STATUS_DATA, "metadata: causal is '%.64s', expected true or false", text);
	*ret = strcmp(text, "true") == 0;
	return STATUS_OK;
}

static enum status read_dilations(const struct safetensors *st, struct nextitnet_settings *s, struct error *err)
{
	const char *text = NULL;
	if (backbone_text(st, "dilations", NULL, &text, err) != STATUS_OK)
		return err->status;
	const char *at = text;
	for (;;) {
		char *end = NULL;
		at += strspn(at, " ");
		unsigned long value = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
		if (value < 1 || value >= NEXTITNET_MAX_FIELD)
			return error_set(
				err, STATUS_DATA,
				"metadata: dilations is '%.64s', expected a comma list of numbers from 1 to %d", text,
				NEXTITNET_MAX_FIELD - 1);
		if (s->blocks == NEXTITNET_MAX_BLOCKS)
			return error_set(err, STATUS_DATA, "metadata: dilations has more than %d entries",
					 NEXTITNET_MAX_BLOCKS);
		s->dilations[s->blocks++] = (uint32_t)value;
		at = end + strspn(end, " ");
		if (*at == '\0')
			return STATUS_OK;
		if (*at++ != ',')
			return error_set(err, STATUS_DATA, "metadata: dilations is '%.64s', expected a comma list",
					 text);
	}
}

uint64_t nextitnet_field(const struct nextitnet_settings *s)
{
	uint64_t field = 1;
	for (uint32_t i = 0; i < s->blocks; i++)
		field += (uint64_t)(s->taps - 1) * (s->dilations[i] + 2 * (uint64_t)s->dilations[i]);
	return field;
}

enum status nextitnet_settings_read(const struct safetensors *st, struct nextitnet_settings *s, struct error *err)
{
	enum status status = backbone_number(st, "channels", NULL, 1, 65536, &s->channels, err);
	if (status == STATUS_OK)
		status = backbone_number(st, "kernel_size", NULL, 1, NEXTITNET_MAX_FIELD, &s->taps, err);
	if (status == STATUS_OK)
		status = backbone_number(st, "window", "512", 1, NEXTITNET_MAX_FIELD, &s->window, err);
	if (status == STATUS_OK)
		status = read_eps(st, &s->eps, err);
	if (status == STATUS_OK)
		status = read_causal(st, &s->causal, err);
	if (status == STATUS_OK)
		status = read_dilations(st, s, err);
	if (status == STATUS_OK && nextitnet_field(s) > NEXTITNET_MAX_FIELD)
		status = error_set(err, STATUS_DATA,
				   "metadata: the receptive field is %" PRIu64 ", at most %d is possible",
				   nextitnet_field(s), NEXTITNET_MAX_FIELD);
	return status;
}

const char *nextitnet_tensor(char name[64], uint32_t convolution, const char *layer, const char *what)
{
	(void)snprintf(name, 64, "blocks.%" PRIu32 ".%s%" PRIu32 ".%s", convolution / 2, layer, convolution % 2 + 1,
		       what);
	return name;
}

/* All shapes, before anything of their size is allocated. */
enum status nextitnet_settings_check(const struct safetensors *st, const struct nextitnet_settings *s, uint32_t items,
				     struct error *err)
{
	static const char *const vectors[][2] = { { "conv", "bias" }, { "norm", "weight" }, { "norm", "bias" } };
	const uint64_t table[] = { items, s->channels };
	const uint64_t matrix[] = { s->channels, s->channels, s->taps };
	const struct safetensors_tensor *t = NULL;
	char name[64];
	enum status status = safetensors_expect(st, "item_embedding.weight", 2, table, &t, err);
	for (uint32_t i = 0; status == STATUS_OK && i < 2 * s->blocks; i++) {
		status = safetensors_expect(st, nextitnet_tensor(name, i, "conv", "weight"), 3, matrix, &t, err);
		for (size_t v = 0; status == STATUS_OK && v < 3; v++)
			status = safetensors_expect(st, nextitnet_tensor(name, i, vectors[v][0], vectors[v][1]), 1,
						    matrix, &t, err);
	}
	for (size_t i = 0; status == STATUS_OK && i < safetensors_count(st); i++) {
		const char *other = safetensors_at(st, i)->name;
		uint32_t block = 0;
		if (sscanf(other, "blocks.%9" SCNu32 ".", &block) == 1 && block >= s->blocks)
			status = error_set(err, STATUS_DATA, "%.128s: dilations has only %" PRIu32 " entries", other,
					   s->blocks);
	}
	return status;
}
