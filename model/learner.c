#include "model/learner.h"

#include "model/learner_private.h"
#include "model/side.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define STREAM_START 0x7374617274
#define STREAM_GROWTH 0x67726f77000000
#define STREAM_RESERVOIR 0x7265736572766f
#define STATE_AT_MOST 1e6F /* of a float in a state: beyond, squares and products leave the range of floats */

enum { ITEMS_LEAST = 1 };

struct label_row {
	char *label;
	uint32_t row;
	UT_hash_handle hh;
};

struct learner_options learner_defaults(enum patch_type type, enum patch_insertion insertion, int64_t max_age_ms)
{
	const bool side = insertion == PATCH_SIDE; /* docs/patches.md, "Learnt from the stream" */
	const bool classes = type == PATCH_CLASSIFICATION;
	return (struct learner_options){
		.loss = tuner_default_loss(type, UINT32_MAX),
		.negatives = 512,
		.rate = 0.001F,
		.clip = 5,
		.dropout = !classes ? 0.5F
			   : side   ? 0.6F
				    : 0.7F,
		.proximal = 0,
		.average = 0.99F,
		.batch = 64,
		.passes = 36,
		.passes_at_least = side ? 2 : 1,
		.passes_rise = side ? 0 : 0.25F,
		.replay = 8192,
		.classes_at_most = 100000,
		.grows = type != PATCH_REGRESSION,
		.alpha = 0.05,
		.min_age_ms = max_age_ms / 8,
		.max_age_ms = max_age_ms,
		.min_labels = 1,
		.seed = 1,
	};
}

struct optimizer_options learner_optimizer(const struct learner_options *o)
{
	return (struct optimizer_options){ .rate = o->rate,
					   .beta1 = 0.9,
					   .beta2 = 0.999,
					   .epsilon = 1e-8F,
					   .clip = o->clip,
					   .proximal = o->proximal };
}

void learner_patch_close(struct learner_patch *p)
{
	tuner_free(p->tuner);
	patch_free(p->patch);
	*p = (struct learner_patch){ 0 };
}

enum status learner_patch_make(struct learner *l, const char *const labels[], uint32_t classes, bool train,
			       struct learner_patch *ret, struct error *err)
{
	const struct tuner_options options = { .loss = l->options.loss,
					       .negatives = l->options.negatives,
					       .dropout = l->options.dropout,
					       .seed = l->options.seed,
					       .optimizer = learner_optimizer(&l->options) };
	struct learner_patch p = { 0 };
	struct random_stream random = random_from(l->options.seed, STREAM_START);
	const size_t at_once = train ? l->options.batch : LEARNER_SCORED_AT_ONCE;
	enum status status =
		patch_new(&l->spec, l->net ? l->net : &l->shell, l->task, labels, classes, &random, &p.patch, err);
	if (status == STATUS_OK)
		status = tuner_new(p.patch, (struct network *)(uintptr_t)l->net, train ? &options : NULL,
				   &parallel_none, at_once, &p.tuner, err);
	if (status != STATUS_OK) {
		learner_patch_close(&p);
		return status;
	}
	memcpy(p.patch->backbone, l->backbone, sizeof p.patch->backbone);
	*ret = p;
	return STATUS_OK;
}

uint32_t learner_row(const struct learner *l, const char *label)
{
	struct label_row *found = NULL;
	HASH_FIND_STR(l->rows, label, found);
	return found ? found->row : UINT32_MAX;
}

enum status learner_add_row(struct learner *l, const char *label, uint32_t row, struct error *err)
{
	struct label_row *r = calloc(1, sizeof *r);
	if (r)
		r->label = strdup(label);
	if (!r || !r->label) {
		free(r);
		return error_set_memory(err);
	}
	r->row = row;
	HASH_ADD_KEYPTR(hh, l->rows, r->label, strlen(r->label), r);
	if (!r->hh.tbl) { /* uthash found no memory */
		free(r->label);
		free(r);
		return error_set_memory(err);
	}
	return STATUS_OK;
}

static void free_rows(struct learner *l)
{
	struct label_row *r, *next;
	HASH_ITER(hh, l->rows, r, next)
	{
		HASH_DEL(l->rows, r);
		free(r->label);
		free(r);
	}
}

/* Sizes of examples. */
static void measure_examples(struct learner *l)
{
	const struct network_shape *shape = &l->shape;
	l->head_only = true;
	for (uint32_t i = 0; i <= NETWORK_BLOCKS_AT_MOST; i++)
		l->head_only = l->head_only && !l->spec.blocks[i];
	l->side = l->spec.insertion == PATCH_SIDE && !l->head_only;
	if (l->net)
		l->items_at_most = !shape->causal ? shape->window
				   : l->side      ? side_events(shape, l->spec.mean_window)
						  : network_field(shape) - (size_t)1;
	else
		l->state_floats = (l->side ? side_levels(&l->spec, shape->blocks, NULL) * 2 : 1) * shape->channels;
}

static enum status make_scratch(struct learner *l, struct error *err)
{
	const size_t room = l->options.batch > LEARNER_SCORED_AT_ONCE ? l->options.batch : LEARNER_SCORED_AT_ONCE;
	l->examples = calloc(room, sizeof *l->examples);
	return l->examples ? STATUS_OK : error_set_memory(err);
}

static enum status make_patches(struct learner *l, const char *const labels[], uint32_t classes, struct error *err)
{
	enum status status = learner_patch_make(l, labels, classes, false, &l->live, err);
	if (status == STATUS_OK)
		status = learner_patch_make(l, labels, classes, false, &l->challenger, err);
	if (status == STATUS_OK)
		status = learner_patch_make(l, labels, classes, true, &l->student, err);
	if (status == STATUS_OK && l->spec.type != PATCH_REGRESSION)
		status = prior_grow(&l->prior, classes, err);
	for (uint32_t i = 0; status == STATUS_OK && labels && i < classes; i++)
		status = learner_add_row(l, labels[i], i, err);
	return status;
}

static enum status init(struct learner *l, const struct learner_lineage *lineage, struct error *err)
{
	const size_t items = sizeof(uint32_t);
	l->spec = lineage->spec;
	l->shape = *lineage->shape;
	l->shell.shape = *lineage->shape;
	l->net = lineage->net;
	l->given = lineage->classes;
	prior_init(&l->prior);
	l->units.scale = 1;
	measure_examples(l);
	if (!l->net && !l->side && !l->head_only)
		return error_set(err, STATUS_DATA, "task %s: a patch inside the trunk needs the trunk", lineage->task);
	reservoir_init(&l->reservoir, l->options.replay,
		       l->net ? (l->items_at_most + ITEMS_LEAST) * items : l->state_floats * sizeof(float),
		       random_from(l->options.seed, STREAM_RESERVOIR));
	(void)strncpy(l->backbone, lineage->backbone, sizeof l->backbone - 1);
	l->task = strdup(lineage->task);
	if (!l->task)
		return error_set_memory(err);
	if (make_scratch(l, err) != STATUS_OK)
		return err->status;
	return make_patches(l, lineage->labels, lineage->classes, err);
}

enum status learner_begin(const struct learner_options *options, const struct learner_lineage *lineage,
			  struct learner **ret, struct error *err)
{
	assert(options->batch > 0 && options->alpha > 0 && options->alpha < 1);
	struct learner *l = calloc(1, sizeof *l);
	if (!l)
		return error_set_memory(err);
	l->options = *options;
	const enum status status = init(l, lineage, err);
	if (status == STATUS_OK)
		*ret = l;
	else
		learner_free(l);
	return status;
}

enum status learner_new(const struct learner_options *options, const struct learner_lineage *lineage, int64_t time_ms,
			struct learner **ret, struct error *err)
{
	struct learner *l = NULL;
	enum status status = learner_begin(options, lineage, &l, err);
	if (status != STATUS_OK)
		return status;
	l->versions = 1;
	l->live.patch->version = 1;
	l->promoted_ms = time_ms;
	l->restarted_ms = time_ms;
	gate_start(&l->challenge, 1);
	gate_start(&l->defence, 1);
	gate_late_start(&l->worth, 1);
	status = learner_restart(l, err);
	if (status == STATUS_OK)
		*ret = l;
	else
		learner_free(l);
	return status;
}

void learner_free(struct learner *l)
{
	if (!l)
		return;
	learner_patch_close(&l->live);
	learner_patch_close(&l->predecessor);
	learner_patch_close(&l->challenger);
	learner_patch_close(&l->student);
	reservoir_close(&l->reservoir);
	prior_close(&l->prior);
	free_rows(l);
	free(l->anchor);
	free(l->task);
	free(l->fresh);
	free(l->examples);
	free(l->scores);
	free(l->eligible);
	free(l);
}

static bool are_finite(const float *values, size_t n)
{
	bool good = true;
	for (size_t i = 0; i < n; i++)
		good &= fabsf(values[i]) <= STATE_AT_MOST; /* false for what is not a number */
	return good;
}

/* Whether all that is read of the example is a number. */
static bool is_sound(const struct learner *l, const struct learner_example *e)
{
	bool good = isfinite(e->weight) && e->weight >= 0;
	if (l->spec.type == PATCH_REGRESSION)
		good = good && isfinite((float)e->value);
	return good && (l->net || are_finite(e->state, l->state_floats));
}

static struct learner_fresh look_at(struct learner *l, const struct learner_example *e)
{
	struct learner_fresh f = { .example = e, .number = l->counts.labels++, .weight = e->weight };
	if (l->spec.type != PATCH_REGRESSION)
		f.target = learner_row(l, e->label);
	f.sound = is_sound(l, e);
	f.usable = f.sound;
	return f;
}

static enum status make_room(struct learner *l, size_t count, struct error *err)
{
	if (count <= l->fresh_room)
		return STATUS_OK;
	struct learner_fresh *fresh = reallocarray(l->fresh, count, sizeof *fresh);
	if (!fresh)
		return error_set_memory(err);
	l->fresh = fresh;
	l->fresh_room = count;
	return STATUS_OK;
}

static bool is_of_user(void *arg, const struct reservoir_entry *entry)
{
	return entry->user == *(const uint64_t *)arg;
}

/* In the reservoir, and among the cut's examples before it. */
static void forget(struct learner *l, uint64_t user, size_t before, struct learner_report *report)
{
	report->forgotten += reservoir_remove(&l->reservoir, is_of_user, &user);
	for (size_t i = 0; i < before; i++) {
		if (l->fresh[i].usable && l->fresh[i].example->user == user) {
			l->fresh[i].usable = false;
			report->forgotten++;
		}
	}
}

/* The cut's labels to l->fresh; their number. */
static size_t sort_out(struct learner *l, const struct learner_cut *cut, struct learner_report *report)
{
	size_t count = 0;
	for (size_t i = 0; i < cut->count; i++) {
		const struct learner_example *e = &cut->examples[i];
		if (e->kind == LEARNER_FORGET)
			forget(l, e->user, count, report);
		else
			l->fresh[count++] = look_at(l, e);
	}
	report->labels = count;
	return count;
}

/* Rows for labels, in all that trains. */
static enum status grow(struct learner *l, const char *const labels[], uint32_t more, struct error *err)
{
	const struct random_stream random = random_from(l->options.seed, STREAM_GROWTH + l->student.patch->classes);
	const uint32_t before = l->student.patch->classes;
	struct learner_patch *const both[] = { &l->student, &l->challenger };
	for (int i = 0; i < 2; i++) {
		struct random_stream same = random;
		if (tuner_grow(both[i]->tuner, labels, more, &same, err) != STATUS_OK)
			return err->status;
		const struct patch *p = both[i]->patch;
		learner_start_rows(l, p, before, before + more, p->weights);
	}
	if (prior_grow(&l->prior, before + more, err) != STATUS_OK)
		return err->status;
	return learner_anchor(l, err);
}

/* Rows for the cut's new labels; those that get none are dropped. */
static enum status find_rows(struct learner *l, size_t count, struct error *err)
{
	const uint32_t before = l->student.patch->classes;
	const char **labels = calloc(count + 1, sizeof *labels);
	uint32_t more = 0;
	enum status status = labels ? STATUS_OK : error_set_memory(err);
	for (size_t i = 0; status == STATUS_OK && i < count; i++) {
		struct learner_fresh *f = &l->fresh[i];
		if (!f->usable || f->target != UINT32_MAX)
			continue;
		f->target = learner_row(l, f->example->label);
		const bool fits = l->options.grows && before + more < l->options.classes_at_most;
		if (f->target == UINT32_MAX && fits && f->example->label[0] != '\0') {
			f->target = before + more;
			labels[more] = f->example->label;
			status = learner_add_row(l, labels[more++], f->target, err);
		}
		if (f->target == UINT32_MAX) {
			f->usable = false;
			l->counts.unknown++;
		}
	}
	if (status == STATUS_OK && more > 0)
		status = grow(l, labels, more, err);
	free(labels);
	return status;
}

/* New units where the number of labels has passed a power of two: what the student and the challenger say stays the same.
 * The first time they have learnt nothing yet, and say the mean from then on. */
static enum status refresh_units(struct learner *l, uint64_t before, struct error *err)
{
	struct learner_units *u = &l->units;
	const double deviation = sqrt(u->square);
	uint64_t power = 2;
	while (power <= before)
		power *= 2;
	if (u->count < power || !(deviation > 0))
		return STATUS_OK;
	if (before >= 2) {
		const float scale = (float)(u->scale / deviation);
		const float offset = (float)((u->offset - u->mean) / deviation);
		patch_rescale(l->student.patch, scale, offset);
		patch_rescale(l->challenger.patch, scale, offset);
	}
	u->offset = u->mean;
	u->scale = deviation;
	return learner_anchor(l, err);
}

static enum status consume(struct learner *l, const struct learner_cut *cut, struct learner_report *report,
			   struct error *err)
{
	const uint64_t units_before = l->units.count;
	if (make_room(l, cut->count, err) != STATUS_OK)
		return err->status;
	const size_t count = sort_out(l, cut, report);
	if (learner_score(l, count, err) != STATUS_OK)
		return err->status;
	const enum status status =
		l->spec.type == PATCH_REGRESSION ? refresh_units(l, units_before, err) : find_rows(l, count, err);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; i < count; i++)
		report->dropped += !l->fresh[i].usable;
	const enum status trained = learner_train(l, count, cut->steps, report, err);
	l->counts.dropped += report->dropped;
	return trained;
}

enum status learner_consume(struct learner *l, const struct learner_cut *cut, struct learner_report *ret,
			    struct error *err)
{
	struct learner_report report = { 0 };
	const enum status status = consume(l, cut, &report, err);
	if (status == STATUS_OK)
		*ret = report;
	return status;
}

const struct patch *learner_live(const struct learner *l)
{
	return l->live.patch;
}

const struct patch *learner_predecessor(const struct learner *l)
{
	return l->predecessor.patch;
}

void learner_name_live(struct learner *l, const char hash[HASH_HEX_LENGTH + 1])
{
	memcpy(l->live.patch->hash, hash, sizeof l->live.patch->hash);
}

void learner_set_cadence(struct learner *l, const struct learner_options *options)
{
	l->options.min_age_ms = options->min_age_ms;
	l->options.max_age_ms = options->max_age_ms;
	l->options.min_labels = options->min_labels;
}

const struct learner_counts *learner_counts(const struct learner *l)
{
	return &l->counts;
}

const struct learner_metrics *learner_metrics(const struct learner *l)
{
	return &l->metrics;
}

bool learner_drifting(const struct learner *l)
{
	return l->drift.flagged;
}

uint64_t learner_untested(const struct learner *l)
{
	return l->counts.labels - l->promoted_at;
}

size_t learner_replay(const struct learner *l)
{
	return l->reservoir.count;
}
