/* What the files of the trainable network share; nobody else includes it.
 *
 * A *stage* is what one convolution leaves: stage 0 the embeddings, stage c + 1 the output of convolution c, with norm and
 * ReLU, and of a block's second one with the residual. The states after l blocks are stage 2 l.
 *
 * A pass walks through a batch in *groups* of sequences whose activations fit the caches: all convolutions of one group,
 * then the next group. The rows of a group's stage lie together: for each sequence the positions that are wanted
 * (network_span), then, in causal networks, the task tokens. In others these are the first and last position. */
#ifndef MODEL_NETWORK_PRIVATE_H
#define MODEL_NETWORK_PRIVATE_H

#include "model/layers.h"
#include "model/network.h"

enum {
	NETWORK_CONVOLUTIONS_AT_MOST = 2 * NETWORK_BLOCKS_AT_MOST,
	NETWORK_GROUP_ROWS = 512, /* a group is closed when it has as many */
	NETWORK_BACK = 5,         /* gradients of activations at once */
};

enum network_tensor { /* of one convolution, in the table's order */
		      NETWORK_CONV_WEIGHT,
		      NETWORK_CONV_BIAS,
		      NETWORK_NORM_WEIGHT,
		      NETWORK_NORM_BIAS,
		      NETWORK_TENSORS,
};

static inline const struct parameter *network_embedding(const struct network *net)
{
	return &net->table.list[0];
}

static inline const struct parameter *network_tensor(const struct network *net, uint32_t convolution,
						     enum network_tensor tensor)
{
	return &net->table.list[1 + (size_t)NETWORK_TENSORS * convolution + tensor];
}

struct network_sequence {
	const uint32_t *items; /* those that are read */
	size_t offset;         /* of the first of them among the batch's */
	uint32_t events;
	uint32_t cut; /* position of the task token (causal) */
};

struct network_group {
	size_t first; /* sequence */
	size_t count; /* sequences */
	size_t row;   /* of tensors that are kept for the whole batch */
};

struct network_pass {
	struct network_shape shape;
	uint32_t width; /* channels, padded */
	uint32_t bottleneck;
	uint32_t convolutions;
	uint32_t reach[NETWORK_CONVOLUTIONS_AT_MOST + 1]; /* positions before the task token that it sees of a stage */
	struct layers_convolution convolution[NETWORK_CONVOLUTIONS_AT_MOST]; /* as forward */
	enum network_keep keep;
	size_t row_capacity;
	size_t sequence_capacity;
	const struct kernels *kernels;
	const struct layer_kernels *layers;

	bool every; /* the batch's */
	uint32_t newest;
	size_t events;
	size_t sequence_count;
	size_t group_count;
	struct network_sequence *sequences;
	struct network_group *groups;

	float *floats; /* all below; mask and zeros stay as they are */
	float *mask;   /* [width] */
	float *zeros;  /* [width] */
	float *packed; /* [convolutions, taps, width, width], forward's or backward's */

	/* Kept for the whole batch, or one for all and of the group alone. Rows of `width`; inverse: of 1; inner: of
	 * `bottleneck`. */
	bool kept[NETWORK_CONVOLUTIONS_AT_MOST + 1]; /* stages */
	float *stage[NETWORK_CONVOLUTIONS_AT_MOST + 1];
	float *normal[NETWORK_CONVOLUTIONS_AT_MOST];
	float *inverse[NETWORK_CONVOLUTIONS_AT_MOST];
	float *plain[NETWORK_CONVOLUTIONS_AT_MOST]; /* what an adapter reads */
	float *inner[NETWORK_CONVOLUTIONS_AT_MOST]; /* before its gelu */

	/* Of the group. */
	float *outer; /* [rows, bottleneck]: after an adapter's gelu */
	float *taken; /* [taps, sequences, width]: what the task tokens read, or its gradient */
	float *back[NETWORK_BACK];
	float *wasted; /* [3, width]: gradients that nobody asked for */

	/* Of the batch: [sequences, channels] and [events, channels]. */
	float *task;
	float *every_states;
	float *task_level;
	float *every_level;
};

/* The rows of a stage for one sequence. */
static inline struct layers_span network_span(const struct network_pass *pass, const struct network_sequence *s,
					      uint32_t stage)
{
	if (!pass->shape.causal)
		return (struct layers_span){ 0, (size_t)s->events + 2 };
	if (pass->every)
		return (struct layers_span){ 0, s->events };
	const size_t wanted = (size_t)pass->reach[stage] + pass->newest;
	return (struct layers_span){ s->cut - (wanted < s->cut ? wanted : s->cut), s->cut };
}

static inline size_t network_span_rows(struct layers_span span)
{
	return span.end - span.first;
}

/* All sequences' of a group, without the task tokens behind them. */
size_t network_event_rows(const struct network_pass *pass, const struct network_group *group, uint32_t stage);

static inline size_t network_task_rows(const struct network_pass *pass, const struct network_group *group)
{
	return pass->shape.causal ? group->count : 0;
}

/* Where a group's part of a tensor begins whose rows have `columns` floats. */
static inline float *network_part(const struct network_group *group, float *tensor, bool kept, size_t columns)
{
	return tensor + (kept ? group->row * columns : 0);
}

static inline float *network_stage(const struct network_pass *pass, const struct network_group *group, uint32_t stage)
{
	return network_part(group, pass->stage[stage], pass->kept[stage], pass->width);
}

/* Cuts the batch into sequences and groups. */
void network_lay_out(struct network_pass *pass, const struct network_batch *batch);

/* A group's states of a stage into task [sequences, channels] and every [events, channels] (each may be NULL). */
void network_read(const struct network_pass *pass, const struct network_group *group, uint32_t stage, float *task,
		  float *every);

/* What the group's task tokens read of stage c, x, goes to pass->taken. */
void network_take(const struct network_pass *pass, const struct network_group *group, uint32_t c, const float *x);

/* The norm that follows convolution c, the patch's where it has one. */
struct kernels_norm network_norm(const struct network *net, const struct network_patch *patch,
				 const struct network_pass *pass, uint32_t c);

static inline bool network_patched(const struct network_patch *patch, uint32_t c)
{
	return patch != NULL && patch->down_weight[c] != NULL;
}

static inline struct layers_adapter network_adapter(const struct network *net, const struct network_patch *patch,
						    uint32_t c)
{
	return (struct layers_adapter){ net->shape.channels, patch->bottleneck,   patch->down_weight[c],
					patch->down_bias[c], patch->up_weight[c], patch->up_bias[c] };
}

/* The row of the group's stage that tap `tap` of a task token reads: the `task`th sequence's, whose events begin at row
 * `row`. False: before the first event. */
static inline bool network_task_reads(const struct network_pass *pass, const struct network_sequence *s, uint32_t c,
				      uint32_t tap, size_t row, size_t own_row, size_t *ret_row)
{
	const size_t lag = (size_t)(pass->shape.kernel_size - 1 - tap) * pass->convolution[c].dilation;
	if (lag == 0) {
		*ret_row = own_row;
		return true;
	}
	if (lag > s->cut)
		return false;
	*ret_row = row + (s->cut - lag) - network_span(pass, s, c).first;
	return true;
}

#endif
