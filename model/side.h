/* Side patches: a small network beside the frozen trunk that reads its states and never feeds back (after Sung et al. 2022,
 * Ladder Side-Tuning). With h_l the state after block l at the task token (h_0 its embedding) and m_l the mean of the states
 * after block l over the user's last min(t, M) events (m_0 of their embeddings; 0 without events):
 *
 *     z = 0;  for l = 0 .. N:  z = z + up_l(gelu_tanh(down_l([h_l + z, m_l])));   scores = head(h_N + z)
 *
 * The means are over the events' own columns, which a stream computes anyway, not over task tokens that might have followed
 * each of them. A row of states holds what a patch reads and no more: [count, 2, d], h_l and m_l of side_levels(), as
 * backbone_side_states gives them. Pure functions of their arguments and the pass; one thread a pass. */
#ifndef MODEL_SIDE_H
#define MODEL_SIDE_H

#include "model/network.h"
#include "model/patch.h"

/* The levels whose states a side patch reads, ascending: those of spec->blocks, and N = trunk_blocks always, for the head reads
 * h_N. Returns their number; levels: room for trunk_blocks + 1, or NULL. */
size_t side_levels(const struct patch_spec *spec, uint32_t trunk_blocks, uint32_t levels[]);

/* Floats of one user's states. */
size_t side_state_floats(const struct patch *patch);

/* The events that a user's states depend on: the last R - 1 + M where the trunk is causal, else its window. */
size_t side_events(const struct network_shape *shape, uint32_t mean_window);

/* The states of a batch, without cuts: a forward of the trunk that keeps every level. The pass keeps levels or all.
 * out: [sequences, side_state_floats]. The sequences must hold the last side_events() events where there
 * are as many. */
void side_states(const struct network *net, struct network_pass *pass, const struct network_batch *batch,
		 const struct patch *patch, float *out);

struct side_pass; /* activations of up to `rows` users */

/* Errors: STATUS_MEMORY. */
enum status side_pass_new(const struct patch *patch, size_t rows, struct side_pass **ret, struct error *err) MUST_CHECK;
void side_pass_free(struct side_pass *pass); /* NULL is fine */

/* h_N + z of n users: [n, d], until the next forward. states: [n, side_state_floats]. */
const float *side_forward(const struct patch *patch, struct side_pass *pass, size_t n, const float *states);

/* Adds to gradients (a block of the patch) what d_out [n, d] makes of the last forward, whose arguments these are. */
void side_backward(const struct patch *patch, struct side_pass *pass, size_t n, const float *states, const float *d_out,
		   float *gradients);

#endif
