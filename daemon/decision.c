#include "daemon/decision.h"

_Static_assert((int)PATCH_BETTER == (int)LEARNER_BETTER - 1 && (int)PATCH_ASKED == (int)LEARNER_ASKED - 1,
	       "reasons map by order");

enum patch_decision decision_kind(enum learner_verdict verdict)
{
	switch (verdict) {
	case LEARNER_PROMOTED:
		return PATCH_PROMOTED;
	case LEARNER_REJECTED:
		return PATCH_REJECTED;
	case LEARNER_ROLLED_BACK:
		return PATCH_ROLLED_BACK;
	case LEARNER_NOTHING:
		break;
	}
	return PATCH_CHECKPOINT;
}

struct patch_gate decision_gate(const struct learner_decision *d)
{
	return (struct patch_gate){ .reason = (enum patch_reason)(d->reason - 1),
				    .parent = d->parent,
				    .anew = d->anew,
				    .onset = d->onset,
				    .until = d->until,
				    .count = d->count,
				    .gain = d->gain,
				    .width = d->width,
				    .over = d->over,
				    .over_log = d->over_log,
				    .level = d->level };
}

static enum learner_verdict verdict_of(const struct patch_record *record)
{
	static const enum learner_verdict verdicts[PATCH_DECISION_KINDS] = { [PATCH_PROMOTED] = LEARNER_PROMOTED,
									     [PATCH_REJECTED] = LEARNER_REJECTED,
									     [PATCH_ROLLED_BACK] =
										     LEARNER_ROLLED_BACK };
	return record->has_gate ? verdicts[record->decision] : LEARNER_NOTHING;
}

struct learner_decision decision_recorded(const struct patch_record *record)
{
	const struct patch_gate *g = &record->gate;
	return (struct learner_decision){ .verdict = verdict_of(record),
					  .reason = (enum learner_reason)(g->reason + 1),
					  .time_ms = record->timestamp_ms,
					  .labels = record->labels_trained,
					  .version = record->version,
					  .parent = g->parent,
					  .anew = g->anew,
					  .onset = g->onset,
					  .until = g->until };
}
