/* What the patch is worth on the users that were kept out. */
#include "tools/finetune_private.h"

#include "model/metrics.h"

#include <math.h>
#include <stdlib.h>

enum { AT_ONCE = 256 }; /* rows of scores */

struct measure {
	size_t count;
	double right, log_loss;
	struct metrics_ranking ranking;
	double squares, absolute;
	struct metrics_scored *scored; /* of two classes */
};

static void measure_row(struct measure *m, const struct finetune *f, const struct task_example *e, const float *scores)
{
	const uint32_t classes = f->patch->classes;
	if (f->patch->spec.type == PATCH_REGRESSION) {
		const double difference = (double)scores[0] - (double)e->value;
		m->squares += difference * difference;
		m->absolute += fabs(difference);
	} else if (f->patch->spec.type == PATCH_RANKING) {
		metrics_ranking_add(&m->ranking, metrics_rank(scores, classes, e->target, NULL));
	} else {
		const double chance = (double)scores[e->target];
		m->right += metrics_rank(scores, classes, e->target, NULL) == 0;
		m->log_loss -= log(chance > 1e-15 ? chance : 1e-15);
		if (m->scored)
			m->scored[m->count] = (struct metrics_scored){ scores[1], e->target == 1 };
	}
	m->count++;
}

static void conclude(const struct finetune *f, const struct measure *m, struct finetune_metrics *ret)
{
	const double count = (double)m->count;
	if (f->patch->spec.type == PATCH_REGRESSION) {
		ret->rmse = sqrt(m->squares / count);
		ret->mae = m->absolute / count;
	} else if (f->patch->spec.type == PATCH_RANKING) {
		ret->mrr = m->ranking.reciprocal / count;
		ret->hits = m->ranking.hits / count;
		ret->gain = m->ranking.gain / count;
	} else {
		ret->accuracy = m->right / count;
		ret->log_loss = m->log_loss / count;
		ret->auc = m->scored ? metrics_auc(m->scored, m->count) : (double)NAN;
	}
}

enum status finetune_measure(struct finetune *f, struct finetune_metrics *ret, struct error *err)
{
	const double nan = (double)NAN;
	const uint32_t classes = f->patch->classes;
	const bool binary = f->patch->spec.type == PATCH_CLASSIFICATION && classes == 2;
	struct measure m = { .ranking.k = FINETUNE_RANKED };
	float *scores = calloc(AT_ONCE, classes * sizeof *scores);
	m.scored = binary ? calloc(f->validation_count + 1, sizeof *m.scored) : NULL;
	*ret = (struct finetune_metrics){ nan, nan, nan, nan, nan, nan, nan, nan };
	if (!scores || (binary && !m.scored)) {
		free(scores);
		free(m.scored);
		return error_set_memory(err);
	}
	for (size_t first = 0; first < f->validation_count; first += AT_ONCE) {
		const size_t left = f->validation_count - first;
		const struct tuner_batch batch = { f->examples, f->validation + first,
						   left < AT_ONCE ? left : AT_ONCE };
		tuner_scores(f->tuner, &batch, scores);
		for (size_t i = 0; i < batch.count; i++)
			measure_row(&m, f, &f->input.data->examples[batch.indices[i]], scores + i * classes);
	}
	if (m.count > 0)
		conclude(f, &m, ret);
	free(scores);
	free(m.scored);
	return STATUS_OK;
}
