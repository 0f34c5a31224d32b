/* Writes a trained network as a backbone's file (contract, "Model files"), which backbone_load and network_load
 * read. */
#ifndef MODEL_BACKBONE_WRITE_H
#define MODEL_BACKBONE_WRITE_H

#include "base/error.h"
#include "model/network.h"

#include <stdbool.h>

/* ids: [shape.items - 3], UTF-8, distinct, item i at index i + 3. `task`: next items are ranked from the task
 * token's state, otherwise from the newest item's; said where the network has an output layer. Atomic. Errors: those
 * of safetensors_write; STATUS_DATA for a weight that is not finite. */
enum status backbone_write(const char *path, const struct network *net, const char *const ids[], bool task,
			   struct error *err) MUST_CHECK;

#endif
