#include "tools/trunk_file.h"

#include "model/backbone.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <string.h>

enum status trunk_file_load(const char *path, struct trunk_file *ret, struct error *err)
{
	struct trunk_file t = { 0 };
	struct safetensors *file = NULL;
	enum status status = network_load(path, &t.net, err);
	if (!status)
		status = safetensors_open(path, &file, err);
	if (!status && vocabulary_load(file, &t.vocabulary, err) != STATUS_OK)
		status = safetensors_blame(path, err);
	if (!status && vocabulary_size(t.vocabulary) + BACKBONE_FIRST_ITEM != t.net->shape.items)
		status = error_set(err, STATUS_DATA, "%s: changed while being read", path);
	if (!status) {
		const char *from = safetensors_metadata(file, "next_item");
		t.task = from && !strcmp(from, "tcl");
		(void)snprintf(t.hash, sizeof t.hash, "%s", safetensors_hash(file));
		*ret = t;
	} else {
		trunk_file_close(&t);
	}
	safetensors_close(file);
	return status;
}

void trunk_file_close(struct trunk_file *t)
{
	network_free(t->net);
	vocabulary_free(t->vocabulary);
	*t = (struct trunk_file){ 0 };
}
