/* Any bytes as a model file: refused with a reason that names the file, or loaded and usable. */
#include "model/backbone.h"
#include "model/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES ((size_t)1 << 20) /* larger ones are loaded, not run */

static void run(const struct backbone *b)
{
	struct error err;
	struct backbone_workspace *ws = NULL;
	const size_t offsets[] = { 0, 4 };
	const uint32_t items[] = { BACKBONE_OOV, BACKBONE_TCL, BACKBONE_OOV, BACKBONE_OOV };
	size_t bytes = (backbone_state_bytes(b) + 63) / 64 * 64;
	if (bytes + backbone_window(b) * backbone_dim(b) * sizeof(float) > SMALL_BYTES)
		return;
	float *out = malloc(backbone_dim(b) * sizeof *out);
	void *state = bytes == 0 ? NULL : aligned_alloc(64, bytes);
	if (out == NULL || backbone_workspace_new(b, &ws, &err) != STATUS_OK)
		abort();
	backbone_embed(b, ws, 1, offsets, items, state == NULL ? NULL : &state, out);
	for (size_t i = 0; state != NULL && i < 4; i++)
		backbone_push_read(b, ws, 1, &state, &items[i], out);
	backbone_workspace_free(ws);
	free(state);
	free(out);
}

static void check_error(enum status status, const struct error *err)
{
	if ((status != STATUS_DATA && status != STATUS_MEMORY) || strncmp(err->text, "fuzz: ", 6) != 0 ||
	    strchr(err->text, '\n') != NULL)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct safetensors *st = NULL;
	struct backbone *b = NULL;
	enum status status = safetensors_open_memory("fuzz", data, size, &st, &err);
	if (status != STATUS_OK) {
		check_error(status, &err);
		return 0;
	}
	for (size_t i = 0; i < safetensors_count(st); i++)
		(void)safetensors_check_floats(safetensors_at(st, i), &err);
	safetensors_close(st);
	status = backbone_load_memory("fuzz", data, size, &b, &err);
	if (status != STATUS_OK) {
		check_error(status, &err);
		return 0;
	}
	run(b);
	backbone_free(b);
	return 0;
}
