/* The trainable NextItNet: the trunk of PeterRec (Yuan et al., SIGIR 2020, sections 3.2 and 3.3) with patches inserted,
 * forward and backward over a batch of sequences. Training, and exact scores of serial and parallel patches, run here;
 * serving without patches runs in nextitnet.c, which it agrees with to 1e-5.
 *
 *     block(x) = x + relu(norm2(c2(relu(norm1(c1(x))))))
 *     c(x) = conv(x)                                   without a patch
 *          = conv(x) + up(gelu_tanh(down(conv(x))))    serial
 *          = conv(x) + up(gelu_tanh(down(x)))          parallel
 *
 * A network is the trunk's shape, weights and table of parameters. A *pass* is one part's activations: forward fills it,
 * backward reads it; one pass per thread. Sequences are packed without padding, so that a batch's composition changes no
 * result beyond rounding.
 *
 * The task token: in a causal network a column of its own at position `cut` of its sequence, which sees the events before
 * the cut and which no event sees; the events go on behind it undisturbed. In a non-causal network it stands before the
 * first and after the last event, everything sees it, and the state is the sum of the two. */
#ifndef MODEL_NETWORK_H
#define MODEL_NETWORK_H

#include "base/error.h"
#include "base/random.h"
#include "model/parameters.h"
#include "model/safetensors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NETWORK_BLOCKS_AT_MOST = 256 };

struct network_shape {
	uint32_t channels;    /* d */
	uint32_t kernel_size; /* k, taps */
	uint32_t blocks;
	uint32_t dilations[NETWORK_BLOCKS_AT_MOST]; /* of a block's first convolution; the second has twice that */
	uint32_t items;                             /* V, special tokens included */
	uint32_t window;                            /* non-causal only: events read at most */
	float eps;                                  /* of the layer norms */
	bool causal;
	bool output; /* has output.weight and output.bias */
};

struct network { /* shared by threads while nobody changes it */
	struct network_shape shape;
	struct parameters table; /* item_embedding, blocks.*, output.*: all `trained` after network_new */
	float *weights;          /* a block of the table */
};

/* The adapters of one patch as the network sees them: views that patch.c sets up. NULL pointers: not patched there. All
 * indices count convolutions, 2 i for conv1 of block i and 2 i + 1 for its conv2. Gradients of the patch go to a block of
 * the same layout: gradient pointer = gradients + (weight pointer - weights). */
struct network_patch {
	bool parallel;                                        /* otherwise serial */
	uint32_t bottleneck;                                  /* b */
	const float *weights;                                 /* the patch's block, into which all below point */
	const float *down_weight[2 * NETWORK_BLOCKS_AT_MOST]; /* [b, d] */
	const float *down_bias[2 * NETWORK_BLOCKS_AT_MOST];   /* [b] */
	const float *up_weight[2 * NETWORK_BLOCKS_AT_MOST];   /* [d, b] */
	const float *up_bias[2 * NETWORK_BLOCKS_AT_MOST];     /* [d] */
	const float *norm_weight[NETWORK_BLOCKS_AT_MOST];     /* [d]: instead of the block's norm2; followed by zeros */
	const float *norm_bias[NETWORK_BLOCKS_AT_MOST];       /* up to a multiple of 16 floats, as in any block */
};

struct network_batch {
	size_t sequences;
	const size_t *offsets; /* [sequences + 1] into items */
	const uint32_t *items; /* vocabulary indices, oldest first, without task tokens; a sequence may be empty */
	const uint32_t *cuts;  /* [sequences]: events before the task token; NULL: all. Causal networks only */
	bool every;            /* the states at the events are wanted too, not the task tokens' alone */
	uint32_t newest;       /* without `every`: the states at so many events before the cut are wanted too */
};

/* What stays of a forward's activations: nothing, what a backward needs, or the states after every block. */
enum network_keep { NETWORK_KEEP_NOTHING, NETWORK_KEEP_ALL, NETWORK_KEEP_LEVELS };

struct network_pass;

/* A network of this shape with zero weights. Errors: STATUS_DATA (a shape that the contract does not allow),
 * STATUS_MEMORY. */
enum status network_new(const struct network_shape *shape, struct network **ret, struct error *err) MUST_CHECK;
void network_free(struct network *net); /* NULL is fine */

/* Shape and weights of a backbone's file. Errors: those of backbone_load. */
enum status network_load(const char *path, struct network **ret, struct error *err) MUST_CHECK;

struct backbone;

/* The same file, read once, as what serves and as what patches inside the trunk run on: the latter without the output layer,
 * which they do not use. */
enum status network_load_beside(const char *path, struct backbone **ret_backbone, struct network **ret_net,
				struct error *err) MUST_CHECK;

/* Random weights to start pre-training from: embedding and output.weight normal with deviation 0.02, convolutions normal
 * by their fan-in, norms 1 and 0, biases 0. */
void network_randomise(struct network *net, struct random_stream *random);

uint32_t network_field(const struct network_shape *shape); /* R, the receptive field in positions */

/* Room for batches of up to `rows` positions (events, and task tokens: one a sequence, two where not causal) in
 * `sequences` sequences, and patches of up to `bottleneck` (0: none). Errors: STATUS_MEMORY. */
enum status network_pass_new(const struct network *net, uint32_t bottleneck, size_t rows, size_t sequences,
			     enum network_keep keep, struct network_pass **ret, struct error *err) MUST_CHECK;
void network_pass_free(struct network_pass *pass); /* NULL is fine */

/* Forward. `patch` NULL: none. Afterwards, until the next forward of the pass: network_pass_task gives [sequences, d], the
 * last block's output at the task tokens (user embeddings); network_pass_every gives [events, d] in the order of the
 * items (where batch->every or ->newest; zeros for events that were not wanted). What no output needs is not computed:
 * without `every`, a causal network's convolution runs only as far back from the cut as later ones look. A non-causal
 * network reads the last `window` events of a sequence. */
void network_forward(const struct network *net, const struct network_patch *patch, struct network_pass *pass,
		     const struct network_batch *batch);
const float *network_pass_task(const struct network_pass *pass);
const float *network_pass_every(const struct network_pass *pass);

/* The states after `level` blocks (0: the embeddings) at the task tokens, [sequences, d], and at the events, [events, d] as
 * network_pass_every. After a forward of a pass that keeps levels or all; until the next call of the same function. */
const float *network_pass_task_level(const struct network_pass *pass, uint32_t level);
const float *network_pass_every_level(const struct network_pass *pass, uint32_t level);

/* Backward of the last forward (same arguments). d_task [sequences, d] and d_every [events, d] (NULL: zero) are the loss's
 * derivatives; gradients are ADDED to `trunk` (a block of net->table; NULL: the trunk is frozen) and `adapters` (a block of
 * the patch; NULL). Only tensors with `trained` set get any, and the pass stops below the lowest block that has one. */
void network_backward(const struct network *net, const struct network_patch *patch, struct network_pass *pass,
		      const struct network_batch *batch, const float *d_task, const float *d_every, float *trunk,
		      float *adapters);

#endif
