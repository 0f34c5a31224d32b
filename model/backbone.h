/* The frozen backbone: what every architecture (NextItNet now, CmnRec later) looks like from outside.
 *
 * A backbone is loaded once, never changes, and may be shared by threads without locks. A workspace is one thread's
 * scratch memory for it. A *state* is what an incremental architecture keeps of one user between events (NextItNet:
 * the convolutions' rings): backbone_state_bytes() bytes, 64-byte aligned, the caller's memory, plain data that may be
 * copied; its contents mean something to this backbone only. Architectures without one (non-causal) return 0 there,
 * and only backbone_embed works.
 *
 * Items are vocabulary indices; backbone_item() maps an item's hash to its index, or to the out-of-vocabulary token. */
#ifndef MODEL_BACKBONE_H
#define MODEL_BACKBONE_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKBONE_PAD = 0, BACKBONE_TCL = 1, BACKBONE_OOV = 2, BACKBONE_FIRST_ITEM = 3 };

struct backbone;
struct backbone_workspace;

/* Reads and checks a safetensors file (contract, "Model files") and copies its weights into packed private memory.
 * Errors, with the file and the tensor or metadata key named: STATUS_NO_INPUT, STATUS_IO, STATUS_DATA (missing or
 * extra-shaped tensor, wrong type, non-finite value, receptive field above 65,536, vocabulary of the wrong size or
 * with equal items), STATUS_MEMORY. */
enum status backbone_load(const char *path, struct backbone **ret, struct error *err) MUST_CHECK;

/* The same from bytes in memory (which are copied); `name` stands for the path in errors. */
enum status backbone_load_memory(const char *name, const void *bytes, size_t length, struct backbone **ret,
				 struct error *err) MUST_CHECK;
void backbone_free(struct backbone *b); /* NULL is fine; no thread may be using it */

const char *backbone_hash(const struct backbone *b); /* SHA-256 of the file, 64 hex digits, until backbone_free */
const char *backbone_arch(const struct backbone *b); /* "nextitnet" */
uint32_t backbone_dim(const struct backbone *b);     /* d, floats of an embedding */
uint32_t backbone_window(const struct backbone *b);  /* newest events an embedding reads: R - 1 (causal) or `window` */
uint32_t backbone_items(const struct backbone *b);   /* V, special tokens included */
uint32_t backbone_blocks(const struct backbone *b);
bool backbone_causal(const struct backbone *b);

/* Vocabulary index of the item with this hash_item(), BACKBONE_OOV where it has none. */
uint32_t backbone_item(const struct backbone *b, uint64_t item_hash);

/* The embedding of a vocabulary index, [d]; until backbone_free. */
const float *backbone_vector(const struct backbone *b, uint32_t item);

size_t backbone_state_bytes(const struct backbone *b);
void backbone_state_reset(const struct backbone *b, void *state); /* a user before any event */

/* Scratch for one thread; its memory has a fixed ceiling whatever the batch (large batches are cut up inside).
 * Errors: STATUS_MEMORY. */
enum status backbone_workspace_new(const struct backbone *b, struct backbone_workspace **ret,
				   struct error *err) MUST_CHECK;
void backbone_workspace_free(struct backbone_workspace *ws);

/* Room for passes over whole windows that give the columns of the last `newest` events too, no more and no less; a new
 * workspace has none. Errors: STATUS_MEMORY, the workspace is as before. */
enum status backbone_workspace_reserve(const struct backbone *b, struct backbone_workspace *ws, uint32_t newest,
				       struct error *err) MUST_CHECK;

/* One event for each of n distinct users: advances states[u] by items[u]. Incremental architectures only. */
void backbone_push(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
		   const uint32_t items[]);

/* The user embeddings of n states, as if the task token came next; the states do not change. out: [n, d]. */
void backbone_read(const struct backbone *b, struct backbone_workspace *ws, size_t n, const void *const states[],
		   float *out);

/* backbone_push, then backbone_read of the same users, in one pass over the weights: a third faster than the two. */
void backbone_push_read(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
			const uint32_t items[], float *out);

/* The batched pass over whole windows: user u's events are items[offsets[u]] .. items[offsets[u + 1] - 1], oldest
 * first; only the newest backbone_window() of them are read. offsets: [n + 1]. Where `out` is not NULL it receives the
 * embeddings, [n, d]; where `states` is not NULL, states[u] becomes the state after the user's last event
 * (incremental architectures only). Agrees with reset, push, ..., read to the bit. */
void backbone_embed(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		    const uint32_t items[], void *const states[], float *out);

/* What side patches read (model/side.h): states at *levels*, 0 the embedding, l the output of block l - 1, at the task token
 * and in the events' own columns. Padding is left out everywhere. */
struct backbone_levels {
	const uint32_t *levels; /* [count], each at most backbone_blocks(), in any order */
	size_t count;
	uint32_t newest;       /* backbone_embed_levels: columns of so many last events at most */
	float *const *tasks;   /* [n], each receives [count, d] at the task token; NULL: not wanted */
	float *const *columns; /* [n], each receives the events' [count, d], oldest event first; NULL: not wanted */
};

/* backbone_push, _read or _push_read that gives levels: pushes where `items` is not NULL, which fills columns[u] with the
 * event's own, and reads where `out` is not NULL, which fills tasks[u]. */
void backbone_step_levels(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
			  const uint32_t items[], float *out, const struct backbone_levels *levels);

/* backbone_embed that gives levels: of the newest backbone_window() + newest events, which are read, columns[u] receives
 * the last min(t, newest). Agrees with steps to the bit. The workspace has room for `newest`. Incremental
 * architectures only. */
void backbone_embed_levels(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			   const uint32_t items[], void *const states[], float *out,
			   const struct backbone_levels *levels);

/* User by user, level by level: the state at the task token, and the mean (model/mean.h) of the last min(t, mean_window)
 * events' own columns, 0 without events. out: [n, count, 2, d]. Of a user's events the newest backbone_window() +
 * mean_window are read, where not causal backbone_window(): t counts these. Agrees with side_states of model/side.h
 * to 1e-5, in the same layout for side_levels(). The workspace has room for `mean_window`. */
void backbone_side_states(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			  const uint32_t items[], uint32_t mean_window, const uint32_t levels[], size_t count,
			  float *out);

#endif
