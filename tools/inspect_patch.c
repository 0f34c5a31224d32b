#include "tools/inspect_patch.h"

#include "tools/trunk_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The least number of blocks that a trunk of this patch has. */
static uint32_t blocks_at_least(const struct safetensors *st)
{
	static const char *const owners[] = { "patches.", "norms.", "side." };
	unsigned long most = 0;
	for (size_t i = 0; i < safetensors_count(st); i++) {
		const char *name = safetensors_at(st, i)->name;
		for (size_t k = 0; k < 3; k++) {
			const size_t length = strlen(owners[k]);
			const unsigned long number =
				strncmp(name, owners[k], length) ? 0 : strtoul(name + length, NULL, 10);
			const unsigned long blocks = k < 2 ? number + 1 : number; /* side: level 0 is the embedding */
			most = blocks > most ? blocks : most;
		}
	}
	return most < NETWORK_BLOCKS_AT_MOST ? (uint32_t)most : NETWORK_BLOCKS_AT_MOST;
}

/* A trunk of which nothing is known but what the patch needs. */
static struct network guess(const struct safetensors *st)
{
	const struct safetensors_tensor *head = safetensors_find(st, "head.weight");
	struct network net = { .shape.blocks = blocks_at_least(st) };
	if (head && head->rank == 2 && head->shape[1] <= UINT32_MAX)
		net.shape.channels = (uint32_t)head->shape[1];
	return net;
}

static size_t count_parameters(const struct parameters *table)
{
	size_t count = 0;
	for (size_t i = 0; i < table->count; i++)
		count += strncmp(table->list[i].name, "output.", 7) ? table->list[i].count : 0;
	return count;
}

enum status inspect_patch_load(const struct safetensors *st, const char *backbone, struct inspect_patch *ret,
			       struct error *err)
{
	const char *named = safetensors_metadata(st, "backbone");
	const struct network guessed = guess(st);
	struct trunk_file trunk = { 0 };
	struct inspect_patch p = { 0 };
	bool unnamed;
	enum status status = backbone ? trunk_file_load(backbone, &trunk, err) : STATUS_OK;
	if (!status)
		status = patch_load(safetensors_path(st), backbone ? trunk.net : &guessed,
				    backbone ? trunk.hash
				    : named  ? named
					     : "",
				    &p.patch, &unnamed, err);
	if (!status && backbone)
		p.trunk_parameters = count_parameters(&trunk.net->table);
	trunk_file_close(&trunk);
	if (!status)
		*ret = p;
	return status;
}

void inspect_patch_close(struct inspect_patch *p)
{
	patch_free(p->patch);
	*p = (struct inspect_patch){ 0 };
}

static double percent(const struct inspect_patch *p)
{
	return 100 * (double)parameters_trained(&p->patch->table) / (double)p->trunk_parameters;
}

void inspect_patch_print(const struct inspect_patch *p)
{
	enum { SHOWN = 20 };
	const struct patch *patch = p->patch;
	const struct patch_spec *spec = &patch->spec;
	printf("\npatch\n  task %s, %s, %" PRIu32 " rows", patch->task, patch_type_name(spec->type), patch->classes);
	for (uint32_t i = 0; patch->labels && i < patch->classes && i < SHOWN; i++)
		printf("%s%s", i ? ", " : ": ", patch->labels[i]);
	printf("%s\n  ", patch->labels && patch->classes > SHOWN ? ", ..." : "");
	if (patch_head_only(patch))
		printf("a head alone");
	else if (spec->insertion == PATCH_SIDE)
		printf("side, bottleneck %" PRIu32 ", means of %" PRIu32 " events, levels", spec->bottleneck,
		       spec->mean_window);
	else
		printf("%s, bottleneck %" PRIu32 ", adapters a block: %d%s, blocks",
		       patch_insertion_name(spec->insertion), spec->bottleneck, spec->first + spec->second,
		       spec->norms ? ", second norms" : "");
	for (uint32_t i = 0; i <= patch->trunk_blocks; i++)
		if (spec->blocks[i])
			printf(" %" PRIu32, i);
	printf("\n  %zu parameters", parameters_trained(&patch->table));
	if (p->trunk_parameters)
		printf(", %.2f %% of the trunk's %zu", percent(p), p->trunk_parameters);
	printf("\n  for the backbone %s\n", *patch->backbone ? patch->backbone : "that it does not name");
}

json_t *inspect_patch_json(const struct inspect_patch *p)
{
	const struct patch *patch = p->patch;
	const struct patch_spec *spec = &patch->spec;
	json_t *labels = json_array();
	json_t *blocks = json_array();
	for (uint32_t i = 0; patch->labels && i < patch->classes; i++)
		(void)json_array_append_new(labels, json_string(patch->labels[i]));
	for (uint32_t i = 0; i <= patch->trunk_blocks; i++)
		if (spec->blocks[i])
			(void)json_array_append_new(blocks, json_integer(i));
	json_t *object =
		json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:I, s:I}", "task", patch->task, "type",
			  patch_type_name(spec->type), "insertion", patch_insertion_name(spec->insertion), "bottleneck",
			  (json_int_t)spec->bottleneck, "blocks", blocks, "labels", labels, "classes",
			  (json_int_t)patch->classes, "parameters", (json_int_t)parameters_trained(&patch->table));
	if (spec->insertion == PATCH_SIDE) {
		(void)json_object_set_new(object, "mean_window", json_integer(spec->mean_window));
	} else {
		(void)json_object_set_new(object, "adapters", json_integer(spec->first + spec->second));
		(void)json_object_set_new(object, "norms", json_boolean(spec->norms));
	}
	if (p->trunk_parameters) {
		(void)json_object_set_new(object, "trunk_parameters", json_integer((json_int_t)p->trunk_parameters));
		(void)json_object_set_new(object, "percent", json_real(percent(p)));
	}
	(void)json_object_set_new(object, "backbone", json_string(patch->backbone));
	(void)json_object_set_new(object, "parent", json_string(patch->parent));
	(void)json_object_set_new(object, "version", json_integer((json_int_t)patch->version));
	(void)json_object_set_new(object, "sha256", json_string(patch->hash));
	return object;
}
