#include "daemon/scorer.h"

#include "model/loss.h"
#include "model/side.h"
#include "model/top.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
	POSITIONS = 8192,        /* of a pass of the network: with a wide receptive field fewer users at a time */
	FLOATS_AT = 1024 * 1024, /* of a ranking's full scores: with many items fewer users at a time */
};

/* What one live patch needs; moved to the next set where it serves on. */
struct scored {
	const struct served *entry; /* of the set */
	struct side_pass *pass;     /* of a side network */
	size_t group;               /* of whose states it reads */
	struct slice *labels;       /* [classes], of the patch; regression: one, empty */
	size_t width;               /* values of a user */
	float *values;              /* [SCORER_ROWS, width] */
	uint32_t *rows;             /* [SCORER_ROWS, width], a ranking's best */
};

/* Side patches that read the same states. */
struct group {
	const uint32_t *levels;
	size_t count;
	uint32_t mean_window;
	float *states; /* [SCORER_ROWS, count, 2, d] */
};

struct scorer {
	const struct backbone *backbone;
	const struct network *net;
	struct trunk *trunk;
	uint32_t dim;
	size_t window; /* newest events that a pass of the network reads */
	struct task_set *set;
	struct scored *scored; /* [count] */
	size_t count;
	struct group *groups; /* [groups_count] */
	size_t groups_count;
	struct update_score *scores; /* [count] */
	float *full;                 /* of rankings: [full_rows, their largest] */
	size_t full_rows;
	struct network_pass *pass; /* NULL: no patch sits inside the trunk */
	uint32_t pass_bottleneck;
	size_t pass_users;
	uint32_t *items; /* [pass_users x window] */
	size_t offsets[SCORER_ROWS + 1];
};

enum status scorer_new(const struct backbone *backbone, const struct network *net, struct trunk *trunk,
		       struct scorer **ret, struct error *err)
{
	struct scorer *s = calloc(1, sizeof *s);
	if (!s)
		return error_set_memory(err);
	s->backbone = backbone;
	s->net = net;
	s->trunk = trunk;
	s->dim = backbone_dim(backbone);
	s->window = backbone_window(backbone);
	s->pass_users = POSITIONS / (s->window + 2);
	if (s->pass_users < 1)
		s->pass_users = 1;
	if (s->pass_users > SCORER_ROWS)
		s->pass_users = SCORER_ROWS;
	*ret = s;
	return STATUS_OK;
}

static void scored_clear(struct scored *p)
{
	side_pass_free(p->pass);
	free(p->labels);
	free(p->values);
	free(p->rows);
	*p = (struct scored){ 0 };
}

static void close_pass(struct scorer *s)
{
	network_pass_free(s->pass);
	free(s->items);
	s->pass = NULL;
	s->items = NULL;
}

/* Everything of the set but the pass. */
static void forget_set(struct scorer *s)
{
	for (size_t i = 0; i < s->count; i++)
		scored_clear(&s->scored[i]);
	for (size_t i = 0; i < s->groups_count; i++)
		free(s->groups[i].states);
	free(s->scored);
	free(s->groups);
	free(s->scores);
	free(s->full);
	task_set_release(s->set);
	s->scored = NULL;
	s->groups = NULL;
	s->scores = NULL;
	s->full = NULL;
	s->set = NULL;
	s->count = s->groups_count = 0;
}

void scorer_free(struct scorer *s)
{
	if (!s)
		return;
	forget_set(s);
	close_pass(s);
	free(s);
}

bool scorer_has_work(const struct scorer *s)
{
	return s->count > 0;
}

static bool is_inside(const struct patch *p)
{
	return p->spec.insertion != PATCH_SIDE && !patch_head_only(p);
}

static bool is_side(const struct patch *p)
{
	return p->spec.insertion == PATCH_SIDE && !patch_head_only(p);
}

/* ---- a set is taken ---- */

static size_t width_of(const struct served *entry)
{
	const struct patch *p = entry->patch->patch;
	const size_t k = (size_t)entry->task->definition.scores_k;
	return p->spec.type == PATCH_RANKING && k < p->classes ? k : p->classes;
}

static enum status open_scored(struct scored *p, struct error *err)
{
	const struct patch *patch = p->entry->patch->patch;
	const bool ranking = patch->spec.type == PATCH_RANKING;
	p->width = width_of(p->entry);
	p->labels = calloc((size_t)patch->classes + 1, sizeof *p->labels);
	p->values = calloc(SCORER_ROWS * p->width + 1, sizeof *p->values);
	p->rows = ranking ? calloc(SCORER_ROWS * p->width + 1, sizeof *p->rows) : NULL;
	if (!p->labels || !p->values || (ranking && !p->rows))
		return error_set_memory(err);
	for (uint32_t i = 0; i < patch->classes; i++) {
		const char *label = patch->labels ? patch->labels[i] : "";
		p->labels[i] = (struct slice){ (const uint8_t *)label, strlen(label) };
	}
	return is_side(patch) ? side_pass_new(patch, SCORER_ROWS, &p->pass, err) : STATUS_OK;
}

/* Takes over what the patch had in the set before: it is the same patch, and as many of its rows are wanted. */
static bool keep_scored(struct scorer *s, struct scored *p)
{
	for (size_t i = 0; i < s->count; i++) {
		struct scored *old = &s->scored[i];
		if (!old->entry || old->entry->patch != p->entry->patch || old->width != width_of(p->entry))
			continue;
		const struct served *entry = p->entry;
		*p = *old;
		p->entry = entry;
		*old = (struct scored){ 0 };
		return true;
	}
	return false;
}

static enum status open_all(struct scorer *s, const struct task_set *set, struct scored *scored, size_t *ret_count,
			    struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < set->count && status == STATUS_OK; i++) {
		if (!set->entries[i].patch)
			continue;
		struct scored *p = &scored[(*ret_count)++];
		p->entry = &set->entries[i];
		if (!keep_scored(s, p))
			status = open_scored(p, err);
	}
	return status;
}

/* The group that reads these states, a new one where there is none. */
static enum status join_group(struct scorer *s, struct scored *p, struct error *err)
{
	const struct served_task *task = p->entry->task;
	for (p->group = 0; p->group < s->groups_count; p->group++) {
		const struct group *g = &s->groups[p->group];
		if (g->mean_window == task->spec.mean_window && g->count == task->levels_count &&
		    memcmp(g->levels, task->levels, g->count * sizeof *g->levels) == 0)
			return STATUS_OK;
	}
	struct group *g = &s->groups[s->groups_count++];
	*g = (struct group){ task->levels, task->levels_count, task->spec.mean_window, NULL };
	g->states = calloc(SCORER_ROWS * g->count * 2 * s->dim, sizeof *g->states);
	return g->states ? STATUS_OK : error_set_memory(err);
}

/* The trunk keeps whatever any of them reads, over the longest of their windows. */
static enum status keep_levels(struct scorer *s, struct error *err)
{
	uint32_t levels[NETWORK_BLOCKS_AT_MOST + 1];
	bool read[NETWORK_BLOCKS_AT_MOST + 1] = { false };
	uint32_t mean_window = 0;
	size_t count = 0;
	for (size_t g = 0; g < s->groups_count; g++) {
		for (size_t i = 0; i < s->groups[g].count; i++)
			read[s->groups[g].levels[i]] = true;
		if (s->groups[g].mean_window > mean_window)
			mean_window = s->groups[g].mean_window;
	}
	for (uint32_t level = 0; level <= NETWORK_BLOCKS_AT_MOST; level++)
		if (read[level])
			levels[count++] = level;
	return trunk_keep_levels(s->trunk, levels, count, mean_window, err);
}

static enum status open_groups(struct scorer *s, struct error *err)
{
	enum status status = STATUS_OK;
	s->groups = calloc(s->count + 1, sizeof *s->groups);
	if (!s->groups)
		return error_set_memory(err);
	for (size_t i = 0; i < s->count && status == STATUS_OK; i++)
		if (is_side(s->scored[i].entry->patch->patch))
			status = join_group(s, &s->scored[i], err);
	return status == STATUS_OK ? keep_levels(s, err) : status;
}

/* A pass of the network for the widest of the patches inside the trunk. */
static enum status open_pass(struct scorer *s, struct error *err)
{
	uint32_t bottleneck = 0;
	bool any = false;
	for (size_t i = 0; i < s->count; i++) {
		const struct patch *p = s->scored[i].entry->patch->patch;
		any = any || is_inside(p);
		if (is_inside(p) && p->spec.bottleneck > bottleneck)
			bottleneck = p->spec.bottleneck;
	}
	if (any && s->pass && bottleneck == s->pass_bottleneck)
		return STATUS_OK;
	close_pass(s);
	if (!any)
		return STATUS_OK;
	s->pass_bottleneck = bottleneck;
	s->items = calloc(s->pass_users * s->window + 1, sizeof *s->items);
	return s->items ? network_pass_new(s->net, bottleneck, s->pass_users * (s->window + 2), s->pass_users,
					   NETWORK_KEEP_NOTHING, &s->pass, err)
			: error_set_memory(err);
}

static enum status open_scratch(struct scorer *s, struct error *err)
{
	size_t classes = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct patch *p = s->scored[i].entry->patch->patch;
		if (p->spec.type == PATCH_RANKING && p->classes > classes)
			classes = p->classes;
	}
	s->full_rows = classes > 0 ? FLOATS_AT / classes : 0;
	if (s->full_rows < 1)
		s->full_rows = 1;
	if (s->full_rows > SCORER_ROWS)
		s->full_rows = SCORER_ROWS;
	s->full = calloc(s->full_rows * classes + 1, sizeof *s->full);
	s->scores = calloc(s->count + 1, sizeof *s->scores);
	return s->full && s->scores ? STATUS_OK : error_set_memory(err);
}

static void name_scores(struct scorer *s)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct scored *p = &s->scored[i];
		const char *task = p->entry->task->definition.name;
		s->scores[i] = (struct update_score){
			.task = { (const uint8_t *)task, strlen(task) },
			.version = (int64_t)p->entry->patch->version,
			.patch = { (const uint8_t *)p->entry->patch->hash, HASH_HEX_LENGTH },
			.labels = p->labels,
			.count = p->width,
		};
	}
}

enum status scorer_use(struct scorer *s, struct task_set *set, struct error *err)
{
	struct scored *scored = calloc(set->count + 1, sizeof *scored);
	size_t count = 0;
	enum status status = scored ? open_all(s, set, scored, &count, err) : error_set_memory(err);
	forget_set(s);
	s->set = task_set_hold(set);
	s->scored = scored;
	s->count = count;
	if (status == STATUS_OK)
		status = open_groups(s, err);
	if (status == STATUS_OK)
		status = open_pass(s, err);
	if (status == STATUS_OK)
		status = open_scratch(s, err);
	if (status == STATUS_OK)
		name_scores(s);
	else
		forget_set(s);
	return status;
}

/* ---- users are scored ---- */

/* What the head makes of n states, [n, d], of users `first` on. */
static void score_heads(const struct scorer *s, struct scored *p, size_t first, size_t n, const float *hidden)
{
	const struct patch *patch = p->entry->patch->patch;
	const struct loss_head head = { patch->channels, patch->classes, patch->weights + patch->head_weight,
					patch->weights + patch->head_bias };
	float *values = p->values + first * p->width;
	if (p->width == 0)
		return;
	if (patch->spec.type != PATCH_RANKING) {
		loss_scores(&head, n, hidden, values);
		if (patch->spec.type == PATCH_CLASSIFICATION)
			loss_probabilities(n, patch->classes, values);
		return;
	}
	uint32_t *rows = p->rows + first * p->width;
	for (size_t at = 0; at < n; at += s->full_rows) {
		const size_t some = n - at < s->full_rows ? n - at : s->full_rows;
		loss_scores(&head, some, hidden + at * s->dim, s->full);
		for (size_t i = 0; i < some; i++, rows += p->width, values += p->width) {
			const float *full = s->full + i * patch->classes;
			(void)top_scores(full, patch->classes, p->width, rows);
			for (size_t j = 0; j < p->width; j++)
				values[j] = full[rows[j]];
		}
	}
}

/* The windows of n <= pass_users users, as the network's pass reads them. */
static struct network_batch gather(struct scorer *s, struct user *const users[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct sequence *q = &users[i]->sequence;
		const size_t length = q->length < s->window ? q->length : s->window;
		const struct event *events = q->events + (q->length - length);
		uint32_t *items = s->items + s->offsets[i];
		for (size_t e = 0; e < length; e++)
			items[e] = backbone_item(s->backbone, events[e].item);
		s->offsets[i + 1] = s->offsets[i] + length;
	}
	return (struct network_batch){ .sequences = n, .offsets = s->offsets, .items = s->items };
}

static void score_inside(struct scorer *s, struct user *const users[], size_t n)
{
	for (size_t at = 0; s->pass && at < n; at += s->pass_users) {
		const size_t some = n - at < s->pass_users ? n - at : s->pass_users;
		const struct network_batch batch = gather(s, users + at, some);
		for (size_t i = 0; i < s->count; i++) {
			const struct patch *p = s->scored[i].entry->patch->patch;
			if (!is_inside(p))
				continue;
			network_forward(s->net, &p->adapters, s->pass, &batch);
			score_heads(s, &s->scored[i], at, some, network_pass_task(s->pass));
		}
	}
}

enum status scorer_run(struct scorer *s, struct user *const users[], size_t n, const float *embeddings,
		       struct error *err)
{
	assert(n <= SCORER_ROWS);
	for (size_t i = 0; i < s->groups_count; i++) {
		const struct group *g = &s->groups[i];
		enum status status =
			trunk_side_states(s->trunk, users, n, g->levels, g->count, g->mean_window, g->states, err);
		if (status != STATUS_OK)
			return status;
	}
	for (size_t i = 0; i < s->count; i++) {
		struct scored *p = &s->scored[i];
		const struct patch *patch = p->entry->patch->patch;
		if (is_side(patch))
			score_heads(s, p, 0, n, side_forward(patch, p->pass, n, s->groups[p->group].states));
		else if (!is_inside(patch))
			score_heads(s, p, 0, n, embeddings);
	}
	score_inside(s, users, n);
	return STATUS_OK;
}

const struct update_score *scorer_of(struct scorer *s, size_t i, size_t *ret_count)
{
	for (size_t t = 0; t < s->count; t++) {
		const struct scored *p = &s->scored[t];
		s->scores[t].values = p->values + i * p->width;
		s->scores[t].rows = p->rows ? p->rows + i * p->width : NULL;
	}
	*ret_count = s->count;
	return s->scores;
}
