/* NextItNet (Yuan et al., WSDM 2019) as a backbone: residual blocks of two dilated convolutions over a user's items,
 *
 *     block(x) = x + relu(norm2(conv2(relu(norm1(conv1(x))))))
 *
 * and the task token's column on top as the user's embedding. Private to the model's floor: backbone.h is the way in.
 *
 * Three programs run the same weights: the batched pass over a window (nextitnet_batch.c; causal and not), and the
 * column by column one (nextitnet_stream.c; causal only). All weights are packed for kernels.h.
 *
 * The stream's state. A causal convolution of k taps and dilation e at position p reads its input at p - m e, m = 0 to
 * k - 1. Instead of old inputs the ring keeps what they will contribute: row p mod (k - 1) e holds the sum over m >= 1
 * of W_m x[p - m e] as far as those inputs exist. An item's column then costs k products (its own output, and its
 * contributions to k - 1 later positions), and the task token's only one, where a ring of inputs would ask for k again.
 * Zeros are the state before any event. */
#ifndef MODEL_NEXTITNET_H
#define MODEL_NEXTITNET_H

#include "model/backbone_private.h"
#include "model/kernels.h"

#define NEXTITNET_CHUNK 64 /* users of one pass through the layers of the stream */
#define NEXTITNET_AHEAD 3  /* layers whose rings are known: this one and those being fetched */

struct nextitnet_convolution {
	const float *weight; /* packed [width, width] per lag; lag m (newest first) at m * width * width */
	struct kernels_norm norm;
	uint32_t dilation;  /* positions */
	uint32_t span;      /* (taps - 1) * dilation: how far back it reads, and the rows of its ring */
	uint32_t right;     /* of these, how many lie after the position: 0 where causal */
	uint32_t after;     /* the spans of all later convolutions, summed */
	size_t ring_offset; /* floats from the start of a state's rings */
};

struct nextitnet {
	const struct kernels *kernels;
	uint32_t width; /* d, padded to KERNELS_PANEL */
	uint32_t taps;  /* kernel_size */
	uint32_t count; /* convolutions, two a block */
	struct nextitnet_convolution *convolutions;
	float *floats;          /* all weights, one block */
	const float *embedding; /* [V, width] */
};

/* The head of a state; the rings, floats, follow after 64 bytes. */
struct nextitnet_state {
	uint64_t events; /* the next event's position */
};
#define NEXTITNET_STATE_HEAD_BYTES 64

struct nextitnet_workspace {
	struct backbone_workspace base;
	float *floats;   /* the stream's, and the products */
	float *stream_x; /* [2 * CHUNK, width] block inputs: task tokens, then items */
	float *stream_y; /* [2 * CHUNK, width] between a block's two convolutions */
	uint32_t rows[NEXTITNET_AHEAD]
		     [NEXTITNET_CHUNK]; /* of the rings: each user's next position, by layer mod AHEAD */
	float *products;                /* [(taps + 1) * CHUNK, width] */
	uint32_t newest;                /* events whose columns a window has room for */
	float *batch;                   /* everything below */
	float *batch_x;                 /* position 0 of [positions, width], with zero rows around it */
	float *batch_y;
	float *batch_sum;   /* [positions, width] */
	float *batch_carry; /* [positions, width] what older taps contribute */
};

extern const struct backbone_ops nextitnet_ops;

void nextitnet_step(const struct backbone *b, struct backbone_workspace *ws, size_t n, void *const states[],
		    const uint32_t items[], float *out, const struct backbone_levels *levels);
void nextitnet_embed(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
		     const uint32_t items[], void *const states[], float *out, const struct backbone_levels *levels);
void nextitnet_side_states(const struct backbone *b, struct backbone_workspace *ws, size_t n, const size_t offsets[],
			   const uint32_t items[], uint32_t mean_window, const uint32_t levels[], size_t count,
			   float *out);

#endif
