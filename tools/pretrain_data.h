/* What pre-training makes of an events file: a vocabulary in falling frequency, sequences of its indices, and the
 * users whose last events are asked for in validation. One thread. */
#ifndef TOOLS_PRETRAIN_DATA_H
#define TOOLS_PRETRAIN_DATA_H

#include "base/error.h"
#include "io/catalogue.h"
#include "model/next_item.h"
#include "model/pretrainer.h"

struct pretrain_data {
	struct catalogue *catalogue;           /* ids by index - BACKBONE_FIRST_ITEM */
	struct pretrainer_sequences sequences; /* offsets and items are ours */
	struct next_item_case *cases;          /* [case_count], histories in sequences.items */
	size_t case_count;
	size_t rare; /* items seen fewer than five times */
};

/* Reads the file; items seen fewer than `least` times become the out-of-vocabulary token. `validation`: as many
 * users, drawn by the seed, of those with three or more events; 0: nobody, and no event is held out. Errors: those
 * of audience_load; STATUS_DATA with the file's name: no events. */
enum status pretrain_data_load(const char *path, uint64_t least, size_t validation, uint64_t seed,
			       struct pretrain_data *ret, struct error *err) MUST_CHECK;
void pretrain_data_free(struct pretrain_data *data); /* a zeroed one is fine */

#endif
