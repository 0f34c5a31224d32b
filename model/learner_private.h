/* What the files of the learner share; nobody else includes it. */
#ifndef MODEL_LEARNER_PRIVATE_H
#define MODEL_LEARNER_PRIVATE_H

#include "model/drift.h"
#include "model/gate.h"
#include "model/learner.h"
#include "model/reservoir.h"

/* A patch and what scores with it; the student's trains it too. */
struct learner_patch {
	struct patch *patch;
	struct tuner *tuner;
	uint64_t born; /* labels consumed when it was made */
};

/* What is known of labels without looking at any events, over all of the lineage and over the newest labels; whichever
 * predicted better of late speaks. */
enum { PRIOR_WHOLE, PRIOR_RECENT, PRIOR_MEMORIES };
struct learner_prior {
	double *counts[PRIOR_MEMORIES]; /* [classes]: of a label, times unit */
	double unit[PRIOR_MEMORIES];    /* what one label adds; grows where older ones fade */
	double total[PRIOR_MEMORIES];
	double mean[PRIOR_MEMORIES]; /* regression */
	double labels[PRIOR_MEMORIES];
	double loss[PRIOR_MEMORIES]; /* fading mean */
	uint32_t classes;
};

/* Mean and deviation of a regression's labels, wild ones cut; the student learns (value - offset) / scale. */
struct learner_units {
	double mean;
	double square;
	uint64_t count;
	double offset;
	double scale;
};

struct label_row; /* uthash: label -> row */

/* One example of the cut in hand. */
struct learner_fresh {
	const struct learner_example *example;
	uint64_t number;
	uint32_t target; /* UINT32_MAX: no row yet */
	float weight;
	bool usable; /* may be trained on */
	bool sound;  /* all of it is finite */
	double losses[LEARNER_MODELS];
};

struct learner {
	struct learner_options options;
	struct patch_spec spec;
	char *task;
	char backbone[HASH_HEX_LENGTH + 1];
	struct network_shape shape;
	const struct network *net; /* borrowed; NULL: states */
	struct network shell;      /* of the shape, for patch_new where there is no net */
	bool head_only;
	bool side;            /* reads side states */
	uint32_t given;       /* classes of the lineage */
	size_t state_floats;  /* of an example; 0: items */
	size_t items_at_most; /* of one in the reservoir */
	struct label_row *rows;
	struct learner_patch live, predecessor, challenger, student;
	float *anchor;     /* a block of the student: the live patch */
	uint64_t versions; /* made */
	uint64_t averaged; /* steps in the challenger's average */
	uint32_t strikes;  /* steps skipped in a row */
	bool broken;       /* the challenger must start again */
	struct reservoir reservoir;
	struct learner_prior prior;
	struct learner_units units;
	struct learner_counts counts;
	struct learner_metrics metrics;
	struct gate challenge; /* loss of live less challenger's, since the last decision on them */
	struct gate defence;   /* loss of live less predecessor's, since that is the predecessor */
	struct gate_scale challenge_scale, defence_scale, worth_scale;
	struct gate_late worth; /* loss of prior less live's, until the lineage is proven */
	bool proven;            /* has beaten the prior */
	struct drift drift;
	struct gate_late trust;  /* loss of prior less challenger's, since the flag */
	struct gate doubt;       /* loss of prior less live's, since the flag */
	bool refuted;            /* it was below 0 */
	struct gate recovery;    /* the same, from where its sum was last not above 0 */
	uint64_t recovery_since; /* number of its first label */
	int64_t promoted_ms;
	int64_t restarted_ms; /* of the last rejection */
	uint64_t promoted_at; /* labels consumed then */
	uint64_t settled_at;  /* labels consumed when the predecessor became it */
	/* Scratch of a call. */
	struct learner_fresh *fresh;
	size_t fresh_room;
	struct tuner_example *examples; /* [batch or SCORED_AT_ONCE] */
	float *scores;
	size_t score_room;  /* floats */
	uint32_t *eligible; /* reservoir entries that may be drawn, while drift is flagged */
	size_t eligible_room;
};

enum { LEARNER_SCORED_AT_ONCE = 256, LEARNER_STRIKES = 3 };

/* learner.c */
enum status learner_patch_make(struct learner *l, const char *const labels[], uint32_t classes, bool train,
			       struct learner_patch *ret, struct error *err) MUST_CHECK;
void learner_patch_close(struct learner_patch *p);
uint32_t learner_row(const struct learner *l, const char *label); /* UINT32_MAX: none */
enum status learner_add_row(struct learner *l, const char *label, uint32_t row, struct error *err) MUST_CHECK;
struct optimizer_options learner_optimizer(const struct learner_options *o);
enum status learner_begin(const struct learner_options *options, const struct learner_lineage *lineage,
			  struct learner **ret, struct error *err) MUST_CHECK;

/* learner_score.c: fills losses of the cut's sound examples, and moves metrics, gates, drift and prior on. */
enum status learner_score(struct learner *l, size_t count, struct error *err) MUST_CHECK;

/* learner_train.c */
uint64_t learner_steps_wanted(const struct learner *l, size_t usable);
enum status learner_train(struct learner *l, size_t count, uint64_t steps, struct learner_report *report,
			  struct error *err) MUST_CHECK;

/* learner_decide.c */
enum status learner_anchor(struct learner *l, struct error *err) MUST_CHECK; /* the live patch in the student's units */
void learner_start_rows(const struct learner *l, const struct patch *p, uint32_t known, uint32_t end, float *weights);
void learner_live_weights(const struct learner *l, float *out);
enum status learner_restart(struct learner *l, struct error *err) MUST_CHECK; /* the challenger, from the live patch */
void learner_flagged(struct learner *l);                                      /* drift is, with this label */

/* learner_prior.c. `target` may be UINT32_MAX: a label that has no row yet. */
void prior_init(struct learner_prior *p);
void prior_close(struct learner_prior *p);
enum status prior_grow(struct learner_prior *p, uint32_t classes, struct error *err) MUST_CHECK;
double prior_probability(const struct learner_prior *p, int memory, uint32_t target);
uint32_t prior_rank(const struct learner_prior *p, int memory, uint32_t target);
double prior_mean(const struct learner_prior *p, int memory);
int prior_better(const struct learner_prior *p); /* the memory that speaks */
void prior_add(struct learner_prior *p, uint32_t target, double value, const double losses[PRIOR_MEMORIES]);

#endif
