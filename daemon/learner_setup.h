/* What a learner of a task in force is made with: the same in every process, so that a lineage begins with the same bytes
 * everywhere. Any thread. */
#ifndef DAEMON_LEARNER_SETUP_H
#define DAEMON_LEARNER_SETUP_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "model/backbone.h"
#include "model/learner.h"

struct learner_setup {
	struct learner_options options;
	struct learner_lineage lineage; /* borrows from task, backbone and net */
	const struct network *net;
};

/* `net`: the frozen trunk; only patches that sit inside it take it. The seed comes from definition and backbone; the cadence,
 * which is no part of either, from the definition or the configuration. */
struct learner_setup learner_setup(const struct served_task *task, const struct config *config,
				   const struct backbone *backbone, const struct network *net);

/* The version that a lineage begins with: its identity patch, with its hash. Errors: those of learner_new. */
enum status learner_setup_identity(const struct learner_setup *setup, struct patch **ret, struct error *err) MUST_CHECK;

#endif
