/* A patch's file: contract, "Model files". */
#include "model/patch_private.h"

#include "model/backbone_private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "peterd.patch.v1"

static enum status read_choice(const struct safetensors *st, struct patch_spec *spec, struct error *err)
{
	const char *format = NULL;
	const char *type = NULL;
	const char *insertion = NULL;
	enum status status = backbone_text(st, "format", NULL, &format, err);
	if (status == STATUS_OK && strcmp(format, FORMAT) != 0)
		status = error_set(err, STATUS_DATA, "metadata: format is '%.64s', expected " FORMAT, format);
	if (status == STATUS_OK)
		status = backbone_text(st, "type", NULL, &type, err);
	if (status == STATUS_OK && !patch_type_parse(type, &spec->type))
		status = error_set(err, STATUS_DATA,
				   "metadata: type is '%.64s', expected classification, ranking or regression", type);
	if (status == STATUS_OK)
		status = backbone_text(st, "insertion", NULL, &insertion, err);
	if (status == STATUS_OK && !patch_insertion_parse(insertion, &spec->insertion))
		status = error_set(err, STATUS_DATA,
				   "metadata: insertion is '%.64s', expected serial, parallel or side", insertion);
	return status;
}

enum status patch_parse_blocks(const char *text, uint32_t count, bool blocks[], struct error *err)
{
	const char *at = text + strspn(text, " ");
	while (*at != '\0') {
		char *end = NULL;
		const unsigned long value = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : ULONG_MAX;
		if (value == ULONG_MAX)
			return error_set(err, STATUS_DATA, "blocks is '%.64s', expected a comma list of numbers from 0",
					 text);
		if (value >= count)
			return error_set(err, STATUS_DATA, "blocks is '%.64s', expected numbers below %" PRIu32, text,
					 count);
		if (blocks[value])
			return error_set(err, STATUS_DATA, "blocks is '%.64s': %lu stands twice", text, value);
		blocks[value] = true;
		at = end + strspn(end, " ");
		if (*at == ',' && at[1 + strspn(at + 1, " ")] != '\0')
			at += 1 + strspn(at + 1, " ");
		else if (*at != '\0')
			return error_set(err, STATUS_DATA, "blocks is '%.64s', expected a comma list", text);
	}
	return STATUS_OK;
}

static enum status read_blocks(const struct safetensors *st, const struct network *net, struct patch_spec *spec,
			       struct error *err)
{
	const uint32_t count = net->shape.blocks + (spec->insertion == PATCH_SIDE ? 1 : 0);
	const char *text = safetensors_metadata(st, "blocks");
	for (uint32_t i = 0; text == NULL && i < count; i++)
		spec->blocks[i] = true;
	if (text != NULL && patch_parse_blocks(text, count, spec->blocks, err) != STATUS_OK)
		return error_prefix(err, "metadata");
	return STATUS_OK;
}

static bool has(const struct safetensors *st, const char *format, uint32_t block)
{
	char name[64];
	(void)snprintf(name, sizeof name, format, block);
	return safetensors_find(st, name) != NULL;
}

/* What the tensors of any patched block tell of all of them. */
static void find_adapters(const struct safetensors *st, const struct network *net, struct patch_spec *spec)
{
	bool any = false;
	for (uint32_t i = 0; spec->insertion != PATCH_SIDE && i < net->shape.blocks; i++) {
		if (!spec->blocks[i])
			continue;
		any = true;
		spec->first = spec->first || has(st, "patches.%" PRIu32 ".1.down.weight", i);
		spec->second = spec->second || has(st, "patches.%" PRIu32 ".2.down.weight", i);
		spec->norms = spec->norms || has(st, "norms.%" PRIu32 ".2.weight", i);
	}
	if (any && !spec->first && !spec->second && !spec->norms)
		spec->first = spec->second = true; /* the error then names the tensor that is missing */
}

static enum status read_spec(const struct safetensors *st, const struct network *net, struct patch_spec *spec,
			     struct error *err)
{
	enum status status = read_blocks(st, net, spec, err);
	if (status == STATUS_OK)
		status = backbone_number(st, "bottleneck", NULL, 0, PATCH_BOTTLENECK_AT_MOST, &spec->bottleneck, err);
	if (status == STATUS_OK && spec->insertion == PATCH_SIDE)
		status =
			backbone_number(st, "mean_window", NULL, 1, PATCH_MEAN_WINDOW_AT_MOST, &spec->mean_window, err);
	find_adapters(st, net, spec);
	return status;
}

static bool is_hash(const char *text)
{
	return strlen(text) == HASH_HEX_LENGTH && strspn(text, "0123456789abcdef") == HASH_HEX_LENGTH;
}

static enum status read_hash(const struct safetensors *st, const char *key, char ret[HASH_HEX_LENGTH + 1],
			     struct error *err)
{
	const char *text = NULL;
	if (backbone_text(st, key, "", &text, err) != STATUS_OK)
		return err->status;
	if (text[0] != '\0' && !is_hash(text))
		return error_set(err, STATUS_DATA, "metadata: %s is '%.64s', expected a SHA-256 in lower-case hex", key,
				 text);
	memcpy(ret, text, strlen(text) + 1);
	return STATUS_OK;
}

/* Before anything that depends on the trunk. */
static enum status check_backbone(const struct safetensors *st, const char *backbone_hash, struct error *err)
{
	char named[HASH_HEX_LENGTH + 1] = "";
	if (read_hash(st, "backbone", named, err) != STATUS_OK)
		return err->status;
	if (named[0] != '\0' && strcmp(named, backbone_hash) != 0)
		return error_set(err, STATUS_DATA, "metadata: made for the backbone %s, this one is %s", named,
				 backbone_hash);
	return STATUS_OK;
}

static enum status read_lineage(const struct safetensors *st, struct patch *p, struct error *err)
{
	const char *version = NULL;
	enum status status = read_hash(st, "backbone", p->backbone, err);
	if (status == STATUS_OK)
		status = read_hash(st, "parent", p->parent, err);
	if (status == STATUS_OK)
		status = backbone_text(st, "version", "0", &version, err);
	if (status != STATUS_OK)
		return status;
	char *end = NULL;
	errno = 0;
	p->version = strtoull(version, &end, 10);
	if (version[0] < '0' || version[0] > '9' || *end != '\0' || errno != 0)
		return error_set(err, STATUS_DATA, "metadata: version is '%.64s', expected a whole number from 0",
				 version);
	memcpy(p->hash, safetensors_hash(st), sizeof p->hash);
	return STATUS_OK;
}

/* The labels in `array`, borrowed from it; whole numbers are put into `numbers`, 24 bytes each. */
static enum status list_labels(const json_t *array, const char *labels[], char *numbers, struct error *err)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		const json_t *value = json_array_get(array, i);
		labels[i] = json_string_value(value);
		if (json_is_integer(value)) {
			(void)snprintf(numbers + 24 * i, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
			labels[i] = numbers + 24 * i;
		}
		if (labels[i] == NULL)
			return error_set(err, STATUS_DATA, "metadata: labels: entry %zu is no string", i);
	}
	return STATUS_OK;
}

static enum status take_labels(const json_t *array, uint32_t classes, struct patch *p, struct error *err)
{
	const size_t count = json_array_size(array);
	const bool named = p->spec.type != PATCH_REGRESSION;
	if (named ? count != classes : count > 1)
		return error_set(err, STATUS_DATA, "metadata: labels has %zu entries, head.weight %" PRIu32 " rows",
				 count, classes);
	const char **labels = calloc(count + 1, sizeof *labels);
	char *numbers = calloc(count + 1, 24);
	enum status status =
		labels == NULL || numbers == NULL ? error_set_memory(err) : list_labels(array, labels, numbers, err);
	if (status == STATUS_OK && patch_set_labels(p, labels, classes, err) != STATUS_OK)
		status = err->status == STATUS_MEMORY ? err->status : error_prefix(err, "metadata");
	free(labels);
	free(numbers);
	return status;
}

static enum status read_labels(const struct safetensors *st, uint32_t classes, struct patch *p, struct error *err)
{
	const char *text = NULL;
	json_error_t why;
	if (backbone_text(st, "labels", p->spec.type == PATCH_REGRESSION ? "[]" : NULL, &text, err) != STATUS_OK)
		return err->status;
	json_t *array = json_loads(text, 0, &why);
	if (array == NULL && json_error_code(&why) == json_error_out_of_memory)
		return error_set_memory(err);
	enum status status = json_is_array(array) ? take_labels(array, classes, p, err)
						  : error_set(err, STATUS_DATA, "metadata: labels is no JSON array");
	json_decref(array);
	return status;
}

static enum status count_classes(const struct safetensors *st, uint32_t *ret, struct error *err)
{
	const struct safetensors_tensor *head = safetensors_find(st, "head.weight");
	if (head == NULL)
		return error_set(err, STATUS_DATA, "head.weight: no such tensor");
	if (head->rank != 2 || head->shape[0] >= UINT32_MAX)
		return error_set(err, STATUS_DATA, "head.weight: expected [classes, channels]");
	*ret = (uint32_t)head->shape[0];
	return STATUS_OK;
}

/* All shapes, before anything of their size is allocated; and nothing that would be passed over in silence. */
static enum status check_tensors(const struct safetensors *st, const struct patch *p, struct error *err)
{
	static const char *const ours[] = { "patches.", "norms.", "side.", "head." };
	enum status status = STATUS_OK;
	const struct safetensors_tensor *ignored = NULL;
	for (size_t i = 0; status == STATUS_OK && i < p->table.count; i++) {
		const struct parameter *t = &p->table.list[i];
		status = safetensors_expect(st, t->name, t->rank, t->shape, &ignored, err);
	}
	for (size_t i = 0; status == STATUS_OK && i < safetensors_count(st); i++) {
		const char *name = safetensors_at(st, i)->name;
		bool known = parameters_find(&p->table, name) != NULL;
		for (size_t k = 0; !known && status == STATUS_OK && k < sizeof ours / sizeof ours[0]; k++) {
			if (strncmp(name, ours[k], strlen(ours[k])) == 0)
				status = error_set(err, STATUS_DATA,
						   "%.128s: does not belong to a patch of this insertion and blocks",
						   name);
		}
	}
	return status;
}

static enum status read_patch(const struct safetensors *st, const struct network *net, const char *backbone_hash,
			      struct patch **ret, struct error *err)
{
	struct patch_spec spec = { 0 };
	const char *task = NULL;
	uint32_t classes = 0;
	struct patch *p = NULL;
	enum status status = read_choice(st, &spec, err);
	if (status == STATUS_OK)
		status = check_backbone(st, backbone_hash, err);
	if (status == STATUS_OK)
		status = read_spec(st, net, &spec, err);
	if (status == STATUS_OK)
		status = backbone_text(st, "task", NULL, &task, err);
	if (status == STATUS_OK)
		status = count_classes(st, &classes, err);
	if (status == STATUS_OK)
		status = patch_begin(&spec, net, task, &p, err);
	if (status == STATUS_OK)
		status = read_lineage(st, p, err);
	if (status == STATUS_OK)
		status = read_labels(st, classes, p, err);
	if (status == STATUS_OK)
		status = patch_lay_out(p, err);
	if (status == STATUS_OK)
		status = check_tensors(st, p, err);
	if (status == STATUS_OK)
		status = patch_allocate(p, err);
	if (status == STATUS_OK)
		status = parameters_load(&p->table, st, p->weights, err);
	if (status == STATUS_OK)
		*ret = p;
	else
		patch_free(p);
	return status;
}

/* Takes `st`. */
static enum status load_open(struct safetensors *st, const struct network *net, const char *backbone_hash,
			     struct patch **ret, bool *ret_unnamed, struct error *err)
{
	enum status status = read_patch(st, net, backbone_hash, ret, err);
	if (status == STATUS_OK)
		*ret_unnamed = (*ret)->backbone[0] == '\0';
	else
		(void)safetensors_blame(safetensors_path(st), err);
	safetensors_close(st);
	return status;
}

enum status patch_load(const char *path, const struct network *net, const char *backbone_hash, struct patch **ret,
		       bool *ret_unnamed, struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open(path, &st, err);
	return status == STATUS_OK ? load_open(st, net, backbone_hash, ret, ret_unnamed, err) : status;
}

enum status patch_load_memory(const char *name, const void *bytes, size_t length, const struct network *net,
			      const char *backbone_hash, struct patch **ret, bool *ret_unnamed, struct error *err)
{
	struct safetensors *st = NULL;
	enum status status = safetensors_open_memory(name, bytes, length, &st, err);
	return status == STATUS_OK ? load_open(st, net, backbone_hash, ret, ret_unnamed, err) : status;
}

/* The labels as a JSON array, malloc'd; NULL: out of memory, or one is not UTF-8. */
static char *labels_text(const struct patch *p)
{
	json_t *array = json_array();
	bool good = array != NULL;
	for (uint32_t i = 0; good && p->labels != NULL && i < p->classes; i++)
		good = json_array_append_new(array, json_string(p->labels[i])) == 0;
	char *text = good ? json_dumps(array, JSON_COMPACT) : NULL;
	json_decref(array);
	return text;
}

/* "0,2,3". */
static void blocks_text(const struct patch *p, char *out, size_t size)
{
	size_t at = 0;
	out[0] = '\0';
	for (uint32_t i = 0; i <= p->trunk_blocks && at < size; i++) {
		if (p->spec.blocks[i])
			at += (size_t)snprintf(out + at, size - at, "%s%" PRIu32, at > 0 ? "," : "", i);
	}
	assert(at < size);
}

/* To a file, or where `path` is NULL behind what is in `out`. */
static enum status put(const struct patch *p, const char *labels, const struct safetensors_tensor tensors[],
		       const char *path, struct buffer *out, struct error *err)
{
	char bottleneck[16];
	char window[16];
	char version[24];
	char blocks[4 * (NETWORK_BLOCKS_AT_MOST + 1)];
	(void)snprintf(bottleneck, sizeof bottleneck, "%" PRIu32, p->spec.bottleneck);
	(void)snprintf(window, sizeof window, "%" PRIu32, p->spec.mean_window);
	(void)snprintf(version, sizeof version, "%" PRIu64, p->version);
	blocks_text(p, blocks, sizeof blocks);
	struct safetensors_string metadata[12] = {
		{ "format", FORMAT },
		{ "task", p->task },
		{ "type", patch_type_name(p->spec.type) },
		{ "insertion", patch_insertion_name(p->spec.insertion) },
		{ "bottleneck", bottleneck },
		{ "blocks", blocks },
		{ "version", version },
		{ "parent", p->parent },
		{ "labels", labels },
	};
	size_t count = 9;
	if (p->backbone[0] != '\0')
		metadata[count++] = (struct safetensors_string){ "backbone", p->backbone };
	if (p->spec.insertion == PATCH_SIDE)
		metadata[count++] = (struct safetensors_string){ "mean_window", window };
	return path ? safetensors_write(path, tensors, p->table.count, metadata, count, err)
		    : safetensors_encode(tensors, p->table.count, metadata, count, out, err);
}

static enum status put_patch(const struct patch *p, const char *path, struct buffer *out, struct error *err)
{
	char *labels = labels_text(p);
	float *scratch = NULL;
	struct safetensors_tensor *tensors = calloc(p->table.count, sizeof *tensors);
	enum status status = STATUS_OK;
	if (labels == NULL)
		status = error_set(err, STATUS_MEMORY, "%s: labels: out of memory, or one is not UTF-8",
				   path ? path : p->task);
	else if (tensors == NULL)
		status = error_set_memory(err);
	if (status == STATUS_OK)
		status = parameters_tensors(&p->table, p->weights, tensors, &scratch, err);
	if (status == STATUS_OK)
		status = put(p, labels, tensors, path, out, err);
	free(scratch);
	free(tensors);
	free(labels);
	return status;
}

enum status patch_save(const struct patch *p, const char *path, struct error *err)
{
	return put_patch(p, path, NULL, err);
}

enum status patch_encode(const struct patch *p, struct buffer *out, struct error *err)
{
	return put_patch(p, NULL, out, err);
}
