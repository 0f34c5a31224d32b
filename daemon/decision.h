/* A decision of a learner, and what a record on the patches topic says of it. Pure; any thread. */
#ifndef DAEMON_DECISION_H
#define DAEMON_DECISION_H

#include "io/patch_record.h"
#include "model/learner.h"

enum patch_decision decision_kind(enum learner_verdict verdict); /* PATCH_CHECKPOINT: nothing was decided */
struct patch_gate decision_gate(const struct learner_decision *d);

/* The other way, as much as learner_apply reads: LEARNER_NOTHING where the record says of no decision. */
struct learner_decision decision_recorded(const struct patch_record *record);

#endif
