#include "tools/finetune_trunk.h"

#include <stdlib.h>
#include <string.h>

struct file {
	const struct safetensors *from;
	const struct network *net;
	struct safetensors_tensor *tensors;
	struct safetensors_string *metadata;
	float *scratch; /* of the convolutions */
};

static enum status write_file(struct file *f, const char *to, struct error *err)
{
	size_t tensors = f->net->table.count;
	size_t strings = 0;
	enum status status = parameters_tensors(&f->net->table, f->net->weights, f->tensors, &f->scratch, err);
	if (status)
		return status;
	for (size_t i = 0; i < safetensors_count(f->from); i++) {
		const struct safetensors_tensor *t = safetensors_at(f->from, i);
		if (!parameters_find(&f->net->table, t->name))
			f->tensors[tensors++] = *t;
	}
	for (size_t i = 0; i < safetensors_metadata_count(f->from); i++) {
		f->metadata[strings] = safetensors_metadata_at(f->from, i);
		strings += strcmp(f->metadata[strings].key, "parent") != 0;
	}
	f->metadata[strings++] = (struct safetensors_string){ "parent", safetensors_hash(f->from) };
	return safetensors_write(to, f->tensors, tensors, f->metadata, strings, err);
}

enum status finetune_trunk_write(const char *from, const struct network *net, const char *to,
				 char ret_hash[HASH_HEX_LENGTH + 1], struct error *err)
{
	struct safetensors *st = NULL;
	struct safetensors *written = NULL;
	enum status status = safetensors_open(from, &st, err);
	if (status)
		return status;
	struct file f = { .from = st, .net = net };
	f.tensors = calloc(net->table.count + safetensors_count(st), sizeof *f.tensors);
	f.metadata = calloc(safetensors_metadata_count(st) + 1, sizeof *f.metadata);
	status = f.tensors && f.metadata ? write_file(&f, to, err) : error_set_memory(err);
	if (!status)
		status = safetensors_open(to, &written, err);
	if (!status)
		memcpy(ret_hash, safetensors_hash(written), HASH_HEX_LENGTH + 1);
	safetensors_close(written);
	safetensors_close(st);
	free(f.scratch);
	free(f.tensors);
	free(f.metadata);
	return status;
}
