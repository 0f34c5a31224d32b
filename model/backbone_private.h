/* What backbone.c, the architectures and patch_file.c share; nobody else includes it. */
#ifndef MODEL_BACKBONE_PRIVATE_H
#define MODEL_BACKBONE_PRIVATE_H

#include "model/backbone.h"
#include "model/safetensors.h"
#include "model/vocabulary.h"

/* One architecture. `step` and `state_reset` are called only where state_bytes is not 0. The arguments are those of the
 * functions of the same name in backbone.h; `levels` may be NULL. */
struct backbone_ops {
	const char *arch;

	/* Sets everything of *b below `hash` and its own `impl`. On failure close is called nevertheless. */
	enum status (*load)(const struct safetensors *st, struct backbone *b, struct error *err);
	void (*close)(struct backbone *b);
	enum status (*workspace_new)(const struct backbone *b, struct backbone_workspace **ret, struct error *err);
	void (*workspace_free)(struct backbone_workspace *ws);
	enum status (*workspace_reserve)(const struct backbone *b, struct backbone_workspace *ws, uint32_t newest,
					 struct error *err);
	const float *(*vector)(const struct backbone *b, uint32_t item);
	void (*state_reset)(const struct backbone *b, void *state);
	/* states[u] is written only where `items` is not NULL. */
	void (*step)(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
		     const uint32_t items[], float *out, const struct backbone_levels *levels);
	void (*embed)(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		      const uint32_t items[], void *const states[], float *out, const struct backbone_levels *levels);
	void (*side_states)(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			    const uint32_t items[], uint32_t mean_window, const uint32_t levels[], size_t count,
			    float *out);
};

struct backbone {
	const struct backbone_ops *ops;
	struct vocabulary *vocabulary;
	char hash[HASH_HEX_LENGTH + 1];
	uint32_t dim;    /* d */
	uint32_t window; /* events */
	uint32_t items;  /* V */
	uint32_t blocks;
	bool causal;
	size_t state_bytes; /* 0: no incremental form */
	void *impl;         /* the architecture's own */
};

/* Each begins with a pointer to the ops that made it. */
struct backbone_workspace {
	const struct backbone_ops *ops;
};

/* backbone_load of a file that is open already and stays so. */
enum status backbone_read_file(const struct safetensors *st, struct backbone **ret, struct error *err) MUST_CHECK;

/* Metadata readers. Errors start with the key; a missing key is one where `fallback` is NULL. */
enum status backbone_text(const struct safetensors *st, const char *key, const char *fallback, const char **ret,
			  struct error *err) MUST_CHECK;
enum status backbone_number(const struct safetensors *st, const char *key, const char *fallback, uint32_t min,
			    uint32_t max, uint32_t *ret, struct error *err) MUST_CHECK;

#endif
