/* Examples as a learner takes them: the label, and what its lineage's patch reads of the user's past. States that the record
 * carries are taken as they are where they are those of the lineage; otherwise, for another backbone or another
 * definition, they come anew from the events. One thread. */
#ifndef DAEMON_EXAMPLE_INPUT_H
#define DAEMON_EXAMPLE_INPUT_H

#include "daemon/learner_setup.h"
#include "io/example.h"

struct example_input;

enum status example_input_new(const struct backbone *backbone, struct example_input **ret,
			      struct error *err) MUST_CHECK;
void example_input_free(struct example_input *in); /* NULL is fine */

struct taken_example {
	bool rollback;                  /* a person's request, no example: `offset` alone says something */
	struct learner_example example; /* points into `memory` */
	void *memory;                   /* free() is the caller's */
};

/* Whether it is for the task as it is defined now: labels of the kind that it predicts, forgets, requests about this
 * lineage. */
bool example_input_fits(const struct served_task *task, const struct learner_setup *setup,
			const struct example *example);

/* An example that fits, read at this offset. Errors: STATUS_DATA (its events are damaged), STATUS_MEMORY. */
enum status example_input_take(struct example_input *in, const struct served_task *task,
			       const struct learner_setup *setup, const struct example *example, uint64_t offset,
			       struct taken_example *ret, struct error *err) MUST_CHECK;

#endif
