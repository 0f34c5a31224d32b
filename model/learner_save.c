/* A learner as bytes, and back. One walk over its fields serves both ways, so that what is written is what is read:
 *
 *     "peterd.learner.2"   16 bytes
 *     fields               in the order of walk() below, as they lie in memory (little-endian machines)
 *     checksum             4 bytes, hash_checksum of all before
 *
 * The checksum finds damage; what memory depends on (counts, rows, lengths) is checked besides. */
#include "model/learner_private.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT "peterd.learner.1"

enum { FORMAT_BYTES = 16, CHECKSUM_BYTES = 4, LABEL_AT_MOST = 1 << 16 };

struct codec {
	struct buffer *out; /* writing; NULL: reading */
	const uint8_t *at;
	const uint8_t *end;
	bool bad; /* the bytes do not fit */
};

static void bytes(struct codec *c, void *value, size_t n)
{
	if (c->out) {
		buffer_append(c->out, value, n);
	} else if (c->bad || (size_t)(c->end - c->at) < n) {
		c->bad = true;
		memset(value, 0, n);
	} else {
		memcpy(value, c->at, n);
		c->at += n;
	}
}

/* A number that need not lie in memory. */
static uint64_t number(struct codec *c, uint64_t value)
{
	bytes(c, &value, sizeof value);
	return value;
}

static void flag(struct codec *c, bool *value)
{
	*value = number(c, *value) != 0;
}

#define FIELD(c, field) bytes(c, &(field), sizeof(field)) /* of a type without padding */

static void walk_gate(struct codec *c, struct gate *g)
{
	FIELD(c, g->scale);
	FIELD(c, g->sum);
	FIELD(c, g->variation);
	FIELD(c, g->count);
}

static void walk_scale(struct codec *c, struct gate_scale *s)
{
	FIELD(c, s->square);
	FIELD(c, s->count);
}

static void walk_late(struct codec *c, struct gate_late *g)
{
	for (int i = 0; i < GATE_STARTS; i++)
		walk_gate(c, &g->gates[i]);
	FIELD(c, g->count);
}

static void walk_gates(struct codec *c, struct learner *l)
{
	walk_gate(c, &l->challenge);
	walk_gate(c, &l->defence);
	walk_gate(c, &l->doubt);
	walk_gate(c, &l->recovery);
	walk_scale(c, &l->challenge_scale);
	walk_scale(c, &l->defence_scale);
	walk_scale(c, &l->worth_scale);
	walk_late(c, &l->worth);
	walk_late(c, &l->trust);
	flag(c, &l->proven);
	flag(c, &l->refuted);
	FIELD(c, l->recovery_since);
	FIELD(c, l->drift.mean);
	FIELD(c, l->drift.square);
	FIELD(c, l->drift.count);
	FIELD(c, l->drift.rise);
	FIELD(c, l->drift.since);
	FIELD(c, l->drift.onset);
	flag(c, &l->drift.flagged);
}

static void walk_numbers(struct codec *c, struct learner *l)
{
	FIELD(c, l->versions);
	FIELD(c, l->averaged);
	l->strikes = (uint32_t)number(c, l->strikes);
	flag(c, &l->broken);
	FIELD(c, l->counts);
	FIELD(c, l->metrics);
	FIELD(c, l->units);
	FIELD(c, l->promoted_ms);
	FIELD(c, l->restarted_ms);
	FIELD(c, l->promoted_at);
	FIELD(c, l->settled_at);
}

static void walk_prior(struct codec *c, struct learner *l)
{
	struct learner_prior *p = &l->prior;
	for (int m = 0; m < PRIOR_MEMORIES && p->counts[m]; m++)
		bytes(c, p->counts[m], p->classes * sizeof *p->counts[m]);
	FIELD(c, p->unit);
	FIELD(c, p->total);
	FIELD(c, p->mean);
	FIELD(c, p->labels);
	FIELD(c, p->loss);
}

/* What the bytes of later calls depend on and nobody may change: written, and compared when read. */
static void walk_settings(struct codec *c, struct learner *l)
{
	const struct learner_options *o = &l->options;
	const struct patch_spec *s = &l->spec;
	char task[HASH_HEX_LENGTH + 1];
	hash_sha256_hex(l->task, strlen(l->task), task);
	const uint64_t ours[] = { (uint64_t)o->loss,
				  o->negatives,
				  o->batch,
				  o->passes,
				  o->passes_at_least,
				  o->replay,
				  o->classes_at_most,
				  o->grows,
				  o->seed,
				  (uint64_t)s->type,
				  (uint64_t)s->insertion,
				  s->bottleneck,
				  s->mean_window,
				  (uint64_t)s->first + 2 * (uint64_t)s->second + 4 * (uint64_t)s->norms,
				  l->given,
				  l->shape.channels,
				  l->shape.blocks,
				  l->state_floats,
				  l->items_at_most,
				  l->student.patch->table.count };
	const double reals[] = {
		(double)o->rate,        (double)o->clip, (double)o->dropout, (double)o->proximal, (double)o->average,
		(double)o->passes_rise, o->alpha
	};
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		c->bad = number(c, ours[i]) != ours[i] || c->bad;
	for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
		double value = reals[i];
		bytes(c, &value, sizeof value);
		c->bad = c->bad || memcmp(&value, &reals[i], sizeof value) != 0;
	}
	const char *const texts[] = { task, l->backbone };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		char text[HASH_HEX_LENGTH + 1] = "";
		memcpy(text, texts[i], strlen(texts[i]));
		bytes(c, text, sizeof text);
		c->bad = c->bad || memcmp(text, texts[i], strlen(texts[i]) + 1) != 0;
	}
	bool blocks[sizeof s->blocks / sizeof s->blocks[0]];
	memcpy(blocks, s->blocks, sizeof blocks);
	bytes(c, blocks, sizeof blocks);
	c->bad = c->bad || memcmp(blocks, s->blocks, sizeof blocks) != 0;
}

/* Weights and what names them. Reading: the patch has its rows already. */
static void walk_patch(struct codec *c, struct learner_patch *p)
{
	FIELD(c, p->born);
	FIELD(c, p->patch->version);
	FIELD(c, p->patch->hash);
	FIELD(c, p->patch->parent);
	p->patch->hash[HASH_HEX_LENGTH] = '\0';
	p->patch->parent[HASH_HEX_LENGTH] = '\0';
	bytes(c, p->patch->weights, p->patch->table.floats * sizeof(float));
}

static void walk_optimizer(struct codec *c, struct learner *l)
{
	struct optimizer *o = tuner_optimizer(l->student.tuner);
	const size_t size = l->student.patch->table.floats * sizeof(float);
	FIELD(c, o->step);
	bytes(c, o->mean, size);
	bytes(c, o->square, size);
	bytes(c, l->anchor, size);
}

static void walk_entry(struct codec *c, const struct learner *l, struct reservoir_entry *e)
{
	FIELD(c, e->number);
	FIELD(c, e->offset);
	FIELD(c, e->user);
	FIELD(c, e->value);
	FIELD(c, e->weight);
	FIELD(c, e->target);
	FIELD(c, e->length);
	flag(c, &e->present);
	const bool number_only = l->spec.type == PATCH_REGRESSION;
	c->bad = c->bad || e->length > l->reservoir.bytes || e->length % sizeof(float) != 0 ||
		 (!number_only && e->target >= l->student.patch->classes);
}

/* Writing: the labels that came after those given. Reading: rows for them. */
static void write_labels(struct codec *c, const struct learner *l)
{
	const struct patch *p = l->student.patch;
	(void)number(c, p->classes - l->given);
	for (uint32_t i = l->given; i < p->classes; i++) {
		const size_t length = strlen(p->labels[i]);
		(void)number(c, length);
		buffer_append(c->out, p->labels[i], length);
	}
}

static void write_reservoir(struct codec *c, const struct learner *l, bool contents)
{
	const struct reservoir *r = &l->reservoir;
	(void)number(c, r->count);
	(void)number(c, r->random.state);
	for (size_t i = 0; i < r->count; i++) {
		struct reservoir_entry e = r->entries[i];
		e.present = (contents && e.present) || e.length == 0;
		walk_entry(c, l, &e);
		if (e.present)
			buffer_append(c->out, reservoir_bytes(r, i), e.length);
	}
}

enum status learner_save(const struct learner *l, bool contents, struct buffer *out, struct error *err)
{
	const size_t begin = out->length;
	struct codec c = { .out = out };
	struct learner copy = *l; /* walking takes what may be changed; writing changes nothing behind it */
	buffer_append(out, FORMAT, FORMAT_BYTES);
	walk_settings(&c, &copy);
	write_labels(&c, l);
	(void)number(&c, l->live.patch->classes);
	(void)number(&c, l->predecessor.patch ? 1 + (uint64_t)l->predecessor.patch->classes : 0);
	walk_patch(&c, &copy.live);
	if (l->predecessor.patch)
		walk_patch(&c, &copy.predecessor);
	walk_patch(&c, &copy.challenger);
	walk_patch(&c, &copy.student);
	walk_optimizer(&c, &copy);
	walk_numbers(&c, &copy);
	walk_prior(&c, &copy);
	walk_gates(&c, &copy);
	write_reservoir(&c, l, contents);
	if (out->failed)
		return error_set_memory(err);
	const uint32_t checksum = hash_checksum(out->data + begin, out->length - begin);
	buffer_append(out, &checksum, sizeof checksum);
	return out->failed ? error_set_memory(err) : STATUS_OK;
}

static enum status damaged(const struct learner *l, const char *what, struct error *err)
{
	return error_set(err, STATUS_DATA, "checkpoint of task %s: %s", l->task, what);
}

/* Rows for the labels that were grown, one after the other. */
static enum status read_labels(struct codec *c, struct learner *l, char ***ret, uint32_t *ret_count, struct error *err)
{
	const uint64_t count = number(c, 0);
	if (c->bad || count > (uint64_t)(c->end - c->at) / sizeof(uint64_t) ||
	    (count > 0 && (!l->options.grows || count + l->given > l->options.classes_at_most)))
		return damaged(l, "its labels", err);
	char **labels = calloc(count + 1, sizeof *labels);
	if (!labels)
		return error_set_memory(err);
	*ret = labels;
	for (*ret_count = 0; *ret_count < count; (*ret_count)++) {
		const uint64_t length = number(c, 0);
		if (c->bad || length == 0 || length > LABEL_AT_MOST || length > (uint64_t)(c->end - c->at))
			return damaged(l, "a label", err);
		char *label = strndup((const char *)c->at, length);
		if (!label)
			return error_set_memory(err);
		labels[*ret_count] = label;
		c->at += length;
		if (strlen(label) != length || learner_row(l, label) != UINT32_MAX) {
			(*ret_count)++;
			return damaged(l, "a label", err);
		}
		if (learner_add_row(l, label, l->given + *ret_count, err) != STATUS_OK) {
			(*ret_count)++;
			return err->status;
		}
	}
	return STATUS_OK;
}

/* The patch anew with its first `classes` labels. */
static enum status remake(struct learner *l, const char *const *labels, uint32_t classes, bool train,
			  struct learner_patch *p, struct error *err)
{
	learner_patch_close(p);
	return learner_patch_make(l, labels, classes, train, p, err);
}

static enum status remake_all(struct codec *c, struct learner *l, const char *const *labels, uint32_t classes,
			      struct error *err)
{
	const uint64_t live = number(c, 0);
	const uint64_t predecessor = number(c, 0);
	if (c->bad || live > classes || predecessor > (uint64_t)classes + 1)
		return damaged(l, "its patches", err);
	enum status status = remake(l, labels, (uint32_t)live, false, &l->live, err);
	if (status == STATUS_OK && predecessor > 0)
		status = remake(l, labels, (uint32_t)predecessor - 1, false, &l->predecessor, err);
	if (status == STATUS_OK)
		status = remake(l, labels, classes, false, &l->challenger, err);
	if (status == STATUS_OK)
		status = remake(l, labels, classes, true, &l->student, err);
	if (status == STATUS_OK && l->spec.type != PATCH_REGRESSION)
		status = prior_grow(&l->prior, classes, err);
	return status == STATUS_OK ? learner_anchor(l, err) : status;
}

static enum status read_patches(struct codec *c, struct learner *l, const struct learner_lineage *lineage,
				struct error *err)
{
	char **grown = NULL;
	uint32_t count = 0;
	const bool none = l->spec.type == PATCH_REGRESSION;
	enum status status = read_labels(c, l, &grown, &count, err);
	const char **labels = calloc((size_t)lineage->classes + count + 1, sizeof *labels);
	if (status == STATUS_OK && !labels)
		status = error_set_memory(err);
	for (uint32_t i = 0; status == STATUS_OK && !none && i < lineage->classes + count; i++)
		labels[i] = i < lineage->classes ? lineage->labels[i] : grown[i - lineage->classes];
	if (status == STATUS_OK)
		status = remake_all(c, l, none ? NULL : labels, lineage->classes + count, err);
	for (uint32_t i = 0; i < count; i++)
		free(grown[i]);
	free(grown);
	free(labels);
	return status;
}

static enum status read_reservoir(struct codec *c, struct learner *l, struct error *err)
{
	struct reservoir *r = &l->reservoir;
	const uint64_t count = number(c, 0);
	r->random.state = number(c, 0);
	if (c->bad || count > r->capacity || count > (uint64_t)(c->end - c->at))
		return damaged(l, "its examples", err);
	if (reservoir_reserve(r, count, err) != STATUS_OK)
		return err->status;
	for (; r->count < count && !c->bad; r->count++) {
		struct reservoir_entry *e = &r->entries[r->count];
		*e = (struct reservoir_entry){ 0 };
		walk_entry(c, l, e);
		if (!c->bad && e->present)
			bytes(c, reservoir_place(r, r->count), e->length);
	}
	return STATUS_OK;
}

static enum status read_all(struct codec *c, struct learner *l, const struct learner_lineage *lineage,
			    struct error *err)
{
	walk_settings(c, l);
	if (c->bad)
		return damaged(l, "made with other settings", err);
	if (read_patches(c, l, lineage, err) != STATUS_OK)
		return err->status;
	walk_patch(c, &l->live);
	if (l->predecessor.patch)
		walk_patch(c, &l->predecessor);
	walk_patch(c, &l->challenger);
	walk_patch(c, &l->student);
	walk_optimizer(c, l);
	walk_numbers(c, l);
	walk_prior(c, l);
	walk_gates(c, l);
	if (read_reservoir(c, l, err) != STATUS_OK)
		return err->status;
	return c->bad || c->at != c->end ? damaged(l, "it does not end where it should", err) : STATUS_OK;
}

enum status learner_restore(const struct learner_options *options, const struct learner_lineage *lineage,
			    const void *data, size_t length, struct learner **ret, struct error *err)
{
	struct learner *l = NULL;
	struct codec c = { .at = data };
	uint32_t checksum = 0;
	if (length >= FORMAT_BYTES + CHECKSUM_BYTES) {
		c.end = c.at + length - CHECKSUM_BYTES;
		memcpy(&checksum, c.end, sizeof checksum);
	}
	if (!c.end || memcmp(c.at, FORMAT, FORMAT_BYTES) != 0)
		return error_set(err, STATUS_DATA, "checkpoint of task %s: not one of ours", lineage->task);
	if (hash_checksum(data, length - CHECKSUM_BYTES) != checksum)
		return error_set(err, STATUS_DATA, "checkpoint of task %s: its checksum is wrong", lineage->task);
	c.at += FORMAT_BYTES;
	enum status status = learner_begin(options, lineage, &l, err);
	if (status == STATUS_OK)
		status = read_all(&c, l, lineage, err);
	if (status == STATUS_OK)
		*ret = l;
	else
		learner_free(l);
	return status;
}

bool learner_wants(const struct learner *l, uint64_t *ret_offset)
{
	bool any = false;
	for (size_t i = 0; i < l->reservoir.count; i++) {
		const struct reservoir_entry *e = &l->reservoir.entries[i];
		if (e->present || (any && e->offset >= *ret_offset))
			continue;
		*ret_offset = e->offset;
		any = true;
	}
	return any;
}

void learner_refill(struct learner *l, const struct learner_example *example)
{
	for (size_t i = 0; i < l->reservoir.count; i++) {
		struct reservoir_entry *e = &l->reservoir.entries[i];
		if (e->present || e->offset != example->offset)
			continue;
		const size_t items = e->length / sizeof *example->items;
		if (!l->net)
			memcpy(reservoir_place(&l->reservoir, i), example->state, l->state_floats * sizeof(float));
		else if (items <= example->length)
			memcpy(reservoir_place(&l->reservoir, i), example->items + (example->length - items),
			       e->length);
		e->present = !l->net || items <= example->length;
	}
}

static bool is_absent(void *arg, const struct reservoir_entry *entry)
{
	return !entry->present;
}

void learner_give_up(struct learner *l)
{
	(void)reservoir_remove(&l->reservoir, is_absent, NULL);
}
