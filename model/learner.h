/* Continuous learning of one task's lineage: labels in their order to a live patch that only gets better. What the daemon's
 * learner lane calls; no clock, no threads, no files: times and examples come in as arguments.
 *
 * Four models. The *student* takes the optimizer's steps; the *challenger* is the running average of its weights and what
 * may go live; the *live* patch serves; its *predecessor* is an older live patch of a time without drift. A cut of examples
 * is consumed in this order:
 *
 *     1. each example, in its order, is scored by live, challenger and predecessor, and by the *prior*, which knows labels
 *        only (their frequencies; regression: their mean), before anything learns from any of the cut. Metrics and the
 *        gates' paired differences come from there alone;
 *     2. the label vocabulary grows by labels that are new, where it was not given;
 *     3. the student takes steps on batches of fresh examples and of older ones from the reservoir;
 *     4. the fresh examples enter the reservoir.
 *
 * After a cut, or when time has passed, learner_decide asks the gates (gate.h, each at confidence 1 - alpha at every moment).
 * `worse`, `better`: by the mean difference of losses on labels that neither model had seen.
 *
 *     promoted     the challenger is better than the live patch, min_age_ms have passed; or max_age_ms have and it is not
 *                  worse. At least min_labels since the last one.
 *     rejected     the challenger is worse, or its outputs or three steps in a row are not finite: it starts again from the
 *                  live patch (for the latter min_age_ms after the last time, and until then nothing is trained).
 *     rolled_back  the live patch is worse than its predecessor, or drift is flagged and it went live after the onset: the
 *                  predecessor is live again.
 *
 * Poison or drift. When labels stop following the events, every model that hedges beats the live patch, so that a gate between
 * two patches alone would promote noise. Therefore: once the lineage has beaten the prior, a rise of the live patch's loss is
 * watched for (drift.h). While drift is flagged, the live patch is one from before its onset; the student learns from examples
 * since the onset only; and a challenger must ALSO be better than the prior, counted from the flag on. Noise never is, whatever
 * its length (at confidence 1 - alpha in all): the prior is the best model of labels that follow nothing. A new concept is as
 * soon as it is learnt; with its promotion the examples before the onset go. Is the live patch better than the prior again, the
 * flag falls; had it been worse in between, those labels were poison: they leave the reservoir and the challenger starts
 * again. What reaches the live patch of poison is what goes live between its first label and the flag, and is rolled back
 * with the flag. The price: a task whose labels turn into noise for good keeps a live patch that is worse than the prior.
 *
 * The losses of gates and drift, of one example of weight w:
 *
 *     classification   -log(0.99 p + 0.01 / C), p the label's probability
 *     ranking          1 - 1 / log2(rank + 2), rank from 0 in the full ranking; 1 where the label has no row
 *     regression       min(e^2, 16) / 2, e the error in standard deviations of the labels so far
 *
 * times min(w, 1). Determinism: the same options, lineage, cuts, steps and decisions give the same bytes on the same kind of
 * machine; decisions may be handed in (learner_apply) instead of asked for, and learner_save puts down everything that later
 * calls depend on. One thread at a time. */
#ifndef MODEL_LEARNER_H
#define MODEL_LEARNER_H

#include "base/buffer.h"
#include "base/error.h"
#include "model/network.h"
#include "model/patch.h"
#include "model/tuner.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct learner_options {
	enum tuner_loss loss;
	uint32_t negatives; /* sampled, hard */
	float rate;         /* Adam's */
	float clip;         /* largest norm of a gradient */
	float dropout;      /* of the state before the head */
	float proximal;     /* pull of the student towards the patch that is live; 0: none */
	float average;   /* decay of the challenger's running average, below 1; 0: the student's weights as they are */
	uint32_t batch;  /* examples of a step, fresh and old */
	uint32_t passes; /* times that an example is trained on while there are few; falls to passes_at_least */
	uint32_t passes_at_least;
	float passes_rise; /* times the root of the examples there are: no more passes than that; 0: no such bound */
	uint32_t replay;   /* examples kept to be trained on again */
	uint32_t classes_at_most; /* a label beyond counts as unknown */
	bool grows;               /* labels that are new get rows; false: they are dropped. Not for regression */
	double alpha;             /* of each gate: 1 - confidence */
	int64_t min_age_ms;       /* between promotions at least */
	int64_t max_age_ms;       /* since the last promotion: not worse is good enough */
	uint64_t min_labels;
	uint64_t seed;
};

/* The defaults, which come near offline fine-tuning. max_age_ms: of the task's definition. */
struct learner_options learner_defaults(enum patch_type type, enum patch_insertion insertion, int64_t max_age_ms);

/* What a learner is for. Copied, but for `net`, which is borrowed. */
struct learner_lineage {
	const char *task;
	struct patch_spec spec;
	const char *const *labels; /* [classes]; regression: NULL and 1; 0 classes where they grow from nothing */
	uint32_t classes;
	const char *backbone; /* SHA-256; "" none */
	const struct network_shape *shape;
	const struct network *net; /* serial and parallel patches: the frozen trunk; NULL: examples carry states */
};

enum learner_kind { LEARNER_LABEL, LEARNER_FORGET };

struct learner_example { /* borrowed for the call */
	enum learner_kind kind;
	uint64_t offset;       /* where it can be read again */
	uint64_t user;         /* hash of the id. LEARNER_FORGET needs nothing else */
	const char *label;     /* classification, ranking */
	double value;          /* regression */
	float weight;          /* finite, not negative; 0: scored, counted, and in no loss */
	const float *state;    /* without net: a row of side_states, of the spec's levels; head only: user embedding */
	const uint32_t *items; /* with net: vocabulary indices, oldest first */
	size_t length;
};

struct learner_cut {
	const struct learner_example *examples; /* in the order of their offsets */
	size_t count;
	uint64_t
		steps; /* to be taken: as recorded, or fewer than asked for; LEARNER_STEPS: as many as the options say */
};
#define LEARNER_STEPS UINT64_MAX

struct learner_report {     /* what one cut did */
	uint64_t steps;     /* taken or skipped: to be recorded with the cut */
	uint64_t skipped;   /* of them: not finite, nothing changed */
	uint64_t labels;    /* consumed */
	uint64_t dropped;   /* of them: never trained on */
	uint64_t forgotten; /* examples that left the reservoir or the cut */
};

/* Since the lineage began. A label is consumed once, whatever becomes of it. */
struct learner_counts {
	uint64_t labels;   /* consumed */
	uint64_t dropped;  /* of them: unknown label, or not finite, or in a skipped step */
	uint64_t unknown;  /* of the dropped: label not in the vocabulary */
	uint64_t steps;    /* taken */
	uint64_t skipped;  /* not taken: not finite */
	uint64_t promoted; /* decisions */
	uint64_t rejected;
	uint64_t rolled_back;
	uint64_t alarms; /* times that drift was flagged */
};

enum learner_model { LEARNER_LIVE, LEARNER_CHALLENGER, LEARNER_PREDECESSOR, LEARNER_PRIOR, LEARNER_MODELS };

/* Sums over scored examples; divide by count. `recent`: each label makes what is before it count 1/1000 less. The prior has
 * `loss` alone. A label without a row is counted as wrong. */
struct learner_sums {
	double count;
	double loss;       /* as the gates have it */
	double log_loss;   /* classification: -log max(p, 1e-6) */
	double right;      /* classification: the label has the highest probability */
	double reciprocal; /* ranking at 5: MRR, HR, NDCG */
	double hits;
	double gain;
	double square; /* regression: squared and absolute error */
	double absolute;
};
struct learner_metrics {
	struct learner_sums whole[LEARNER_MODELS];
	struct learner_sums recent[LEARNER_MODELS];
};

enum learner_verdict { LEARNER_NOTHING, LEARNER_PROMOTED, LEARNER_REJECTED, LEARNER_ROLLED_BACK };
enum learner_reason {
	LEARNER_NONE,
	LEARNER_BETTER,    /* promoted */
	LEARNER_NOT_WORSE, /* promoted after max_age_ms */
	LEARNER_WORSE,     /* rejected, rolled back */
	LEARNER_BROKEN,    /* rejected: not finite */
	LEARNER_DRIFT,     /* rolled back */
	LEARNER_POISON,    /* rejected: the live patch is better than the prior again */
	LEARNER_ASKED,     /* by a person */
};

struct learner_decision {
	enum learner_verdict verdict;
	enum learner_reason reason;
	int64_t time_ms;
	uint64_t labels;  /* consumed until here */
	uint64_t version; /* live after it */
	uint64_t parent;  /* promoted: live before it; otherwise the version that was given up, 0 for a challenger */
	bool anew;        /* promoted: it is another concept, examples before `onset` go */
	uint64_t onset;   /* number of the drift's or poison's first label; 0: none */
	uint64_t until;   /* poison: of the first label behind it */
	/* The evidence, for people; learner_apply reads nothing below. The two are challenger and live, or, where rolled back,
	 * live and predecessor. */
	uint64_t count;  /* labels that both were scored on since the gate started */
	double gain;     /* mean loss of the second less that of the first */
	double width;    /* the mean lies within gain +- width, each side with confidence 1 - alpha */
	double over;     /* mean loss of the prior less the challenger's since the flag; NaN: no drift */
	double over_log; /* log of the evidence for it; enough is -log(alpha) */
	double level;    /* drift_level */
};

struct learner;

/* Starts a lineage: version 1, the identity patch, is live at time_ms. Errors: STATUS_DATA (as patch_new; a spec that needs
 * a net and has none), STATUS_MEMORY. */
enum status learner_new(const struct learner_options *options, const struct learner_lineage *lineage, int64_t time_ms,
			struct learner **ret, struct error *err) MUST_CHECK;
void learner_free(struct learner *l); /* NULL is fine; the net stays */

/* Errors: STATUS_MEMORY, after which the learner may only be freed. */
enum status learner_consume(struct learner *l, const struct learner_cut *cut, struct learner_report *ret,
			    struct error *err) MUST_CHECK;

/* Takes the next decision, if it is time for one: LEARNER_NOTHING, or one that has been carried out. One call takes one; call
 * again until there is none. Errors: STATUS_MEMORY, as above. */
enum status learner_decide(struct learner *l, int64_t time_ms, struct learner_decision *ret,
			   struct error *err) MUST_CHECK;

/* Carries out a decision that was taken elsewhere: recorded, or a person's. Errors: STATUS_DATA (a rollback without
 * predecessor), nothing changed; STATUS_MEMORY, as above. */
enum status learner_apply(struct learner *l, const struct learner_decision *decision, struct error *err) MUST_CHECK;

/* Patches in the labels' own units, with task, backbone, version and parent set; borrowed until the next call that is not a
 * const one. The predecessor may be NULL. Its own hash is the caller's to compute: learner_name_live keeps it as the parent of
 * what is promoted next. */
const struct patch *learner_live(const struct learner *l);
const struct patch *learner_predecessor(const struct learner *l);
void learner_name_live(struct learner *l, const char hash[HASH_HEX_LENGTH + 1]);

/* Another min_age_ms, max_age_ms and min_labels from now on. */
void learner_set_cadence(struct learner *l, const struct learner_options *options);

const struct learner_counts *learner_counts(const struct learner *l);
const struct learner_metrics *learner_metrics(const struct learner *l);
bool learner_drifting(const struct learner *l);     /* drift is flagged */
uint64_t learner_untested(const struct learner *l); /* labels since the last promotion */
size_t learner_replay(const struct learner *l);     /* examples in the reservoir */

/* Everything, into `out` (appended). `contents`: with the reservoir's examples, replay x (side: two rows of d floats for each
 * level that is read) bytes; without, their offsets only. Errors: STATUS_MEMORY. */
enum status learner_save(const struct learner *l, bool contents, struct buffer *out, struct error *err) MUST_CHECK;

/* Goes on bit by bit from saved bytes; options and lineage must be those that it was saved with. Errors: STATUS_DATA (damaged,
 * another version, other options but for the cadence, another lineage), STATUS_MEMORY. */
enum status learner_restore(const struct learner_options *options, const struct learner_lineage *lineage,
			    const void *bytes, size_t length, struct learner **ret, struct error *err) MUST_CHECK;

/* After a restore without contents: the least offset whose example is not there yet (false: all are), and an example read
 * again, which is taken where its offset is waited for. Until all are there the learner must not consume. learner_give_up
 * takes those out that cannot be read any more: from there on the bytes are others. */
bool learner_wants(const struct learner *l, uint64_t *ret_offset);
void learner_refill(struct learner *l, const struct learner_example *example);
void learner_give_up(struct learner *l);

#endif
