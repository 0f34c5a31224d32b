/* A task's patch: adapters (or a side network), a head, and what they are for. Contract, "Model files".
 *
 * A patch is its table of parameters and one block of weights, trained as a whole (learner) and saved as a file whose
 * SHA-256 is its name. Side patches read the frozen trunk's states (side.h); their tensors are
 *     side.{l}.down.weight [b, 2 d]  side.{l}.down.bias [b]  side.{l}.up.weight [d, b]  side.{l}.up.bias [d]
 * for the levels l of `blocks` (0 the embedding, i + 1 the output of block i; default 0 .. N), and metadata `mean_window` M,
 * which must be there.
 *
 * Which adapters a file has is read from its tensors, the same for every patched block: patches.{i}.1, patches.{i}.2,
 * norms.{i}.2. The head's tensors are the last two of the table, so that new rows move nothing else.
 *
 * A patch belongs to one thread while it changes; otherwise any number may read it. */
#ifndef MODEL_PATCH_H
#define MODEL_PATCH_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"
#include "model/network.h"
#include "model/parameters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum patch_type { PATCH_CLASSIFICATION, PATCH_RANKING, PATCH_REGRESSION };
enum patch_insertion { PATCH_SERIAL, PATCH_PARALLEL, PATCH_SIDE };

enum {
	PATCH_MEAN_WINDOW = 128, /* M of new side patches where nothing is said */
	PATCH_MEAN_WINDOW_AT_MOST = 65536,
	PATCH_BOTTLENECK_AT_MOST = 65536,
};

struct patch_spec {
	enum patch_type type;
	enum patch_insertion insertion;
	uint32_t bottleneck;                     /* b */
	uint32_t mean_window;                    /* side: M */
	bool blocks[NETWORK_BLOCKS_AT_MOST + 1]; /* patched ones; side: levels, 0 the embedding. None: head only */
	bool first, second;                      /* adapters after conv1, after conv2; not for side */
	bool norms;                              /* re-learn the patched blocks' second norm; not for side */
};

struct patch_side { /* offsets of one level's tensors into a block */
	size_t down_weight, down_bias, up_weight, up_bias;
};

struct patch {
	struct patch_spec spec;
	uint32_t channels; /* d */
	uint32_t trunk_blocks;
	char *task;
	char **labels;    /* [classes]: names of the head's rows; NULL: regression, whose one row has none */
	uint32_t classes; /* C: rows of the head */
	char backbone[HASH_HEX_LENGTH + 1]; /* SHA-256, "" where none is named */
	char hash[HASH_HEX_LENGTH + 1];     /* SHA-256 of the file it was read from, "" for one that was not */
	uint64_t version;
	char parent[HASH_HEX_LENGTH + 1]; /* "" none */
	struct parameters table;
	float *weights;                                     /* a block of the table */
	size_t head_weight, head_bias;                      /* offsets */
	struct network_patch adapters;                      /* views into weights; serial and parallel */
	struct patch_side side[NETWORK_BLOCKS_AT_MOST + 1]; /* of the levels in spec.blocks */
};

const char *patch_type_name(enum patch_type type);
const char *patch_insertion_name(enum patch_insertion insertion);
bool patch_type_parse(const char *name, enum patch_type *ret);
bool patch_insertion_parse(const char *name, enum patch_insertion *ret);

/* Marks the blocks of a comma list ("0,2"; "": none) among `count`. Errors: STATUS_DATA. */
enum status patch_parse_blocks(const char *text, uint32_t count, bool blocks[], struct error *err) MUST_CHECK;

/* Marks what a new patch has where nothing is said, on a trunk of `count` blocks: all of them; side: the levels 0 and N,
 * which are worth as much as all on the tasks that were measured, and cost a stream the least. */
void patch_default_blocks(enum patch_insertion insertion, uint32_t count, bool blocks[]);

/* Whether the patch has neither adapters nor a side network: its head reads the user embedding as it is. */
bool patch_head_only(const struct patch *p);

/* A fresh patch: `up` zero, `down` random by fan-in, norms copied from the network, head small random. Texts are copied;
 * `labels` NULL and one class for regression. backbone, parent and version are the caller's to set. Errors: STATUS_DATA (a
 * block that the trunk does not have, labels that are empty or equal, ...), STATUS_MEMORY. */
enum status patch_new(const struct patch_spec *spec, const struct network *net, const char *task,
		      const char *const labels[], uint32_t classes, struct random_stream *random, struct patch **ret,
		      struct error *err) MUST_CHECK;
void patch_free(struct patch *p); /* NULL is fine */

/* Reads and checks everything. `backbone_hash`: a patch that names another one is refused (STATUS_DATA); one that names
 * none passes with *ret_unnamed set. Errors: STATUS_NO_INPUT, STATUS_IO, STATUS_DATA naming file and tensor or key,
 * STATUS_MEMORY. */
enum status patch_load(const char *path, const struct network *net, const char *backbone_hash, struct patch **ret,
		       bool *ret_unnamed, struct error *err) MUST_CHECK;

/* The same from bytes in memory; `name` stands for the path in errors. */
enum status patch_load_memory(const char *name, const void *bytes, size_t length, const struct network *net,
			      const char *backbone_hash, struct patch **ret, bool *ret_unnamed,
			      struct error *err) MUST_CHECK;

/* Writes the file, atomically; the bytes depend on the patch only. Errors: those of safetensors_write. */
enum status patch_save(const struct patch *p, const char *path, struct error *err) MUST_CHECK;

/* The file's bytes, appended to `out`. Errors: STATUS_MEMORY. */
enum status patch_encode(const struct patch *p, struct buffer *out, struct error *err) MUST_CHECK;

/* 1 to PATCH_TASK_AT_MOST of a-z A-Z 0-9 . _ - , as in the daemon's configuration. */
enum { PATCH_TASK_AT_MOST = 100 };
bool patch_task_is_name(const char *task);

/* Rows of the head for labels that are new, small random. The old rows keep their numbers; moments and other blocks of
 * the old table follow by patch_move_block. Errors: STATUS_DATA (a label twice), STATUS_MEMORY; the patch is unchanged. */
enum status patch_grow(struct patch *p, const char *const labels[], uint32_t more, struct random_stream *random,
		       struct error *err) MUST_CHECK;

/* Copies a block from one table to another of the same patch: rows that both have; others of `out` are untouched. */
void patch_move_block(const struct parameters *from, const struct parameters *to, const float *in, float *out);

/* The head's row of a label, UINT32_MAX where it has none. Linear. */
uint32_t patch_label(const struct patch *p, const char *label);

/* Makes the one output of a regression y become scale x y + offset, in the head. */
void patch_rescale(struct patch *p, float scale, float offset);

#endif
