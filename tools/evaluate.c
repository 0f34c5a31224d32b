#include "tools/evaluate.h"

#include <inttypes.h>
#include <stdio.h>

void evaluate_ranks_start(const struct evaluate *e, struct evaluate_ranks *r)
{
	*r = (struct evaluate_ranks){ 0 };
	for (size_t i = 0; i < e->k_count; i++)
		r->lists[i].k = e->ks[i];
}

void evaluate_ranks_add(const struct evaluate *e, struct evaluate_ranks *r, uint32_t rank)
{
	for (size_t i = 0; i < e->k_count; i++)
		metrics_ranking_add(&r->lists[i], rank);
}

static void report_at(struct evaluate *e, const char *key, const char *name, const struct metrics_ranking *m,
		      double sum, double squares)
{
	char with_k[2][32];
	(void)snprintf(with_k[0], sizeof with_k[0], "%s@%" PRIu32, key, m->k);
	(void)snprintf(with_k[1], sizeof with_k[1], "%s@%" PRIu32, name, m->k);
	report_number(&e->report, with_k[0], with_k[1], sum / (double)m->count, metrics_error(m->count, sum, squares));
}

void evaluate_ranks_report(struct evaluate *e, const struct evaluate_ranks *r)
{
	report_count(&e->report, "negatives", NULL, (uint64_t)e->negatives);
	report_text(&e->report, "seen", NULL, e->include_seen ? "include" : "exclude");
	char how[64] = "all items";
	if (e->negatives > 0)
		(void)snprintf(how, sizeof how, "the target and %" PRId64 " drawn items", e->negatives);
	report_text(&e->report, NULL, "ranked among", how);
	report_text(&e->report, NULL, "seen items", e->include_seen ? "included" : "excluded");
	for (size_t i = 0; i < e->k_count; i++) {
		const struct metrics_ranking *m = &r->lists[i];
		report_at(e, "mrr", "MRR", m, m->reciprocal, m->reciprocal_square);
		report_at(e, "hr", "HR", m, m->hits, m->hits);
		report_at(e, "ndcg", "NDCG", m, m->gain, m->gain_square);
	}
}

void evaluate_mean_add(struct evaluate_mean *m, double value)
{
	if (value != value)
		return;
	m->count++;
	m->sum += value;
	m->squares += value * value;
}

void evaluate_mean_report(struct evaluate *e, const char *key, const char *name, const struct evaluate_mean *m)
{
	report_number(&e->report, key, name, m->count ? m->sum / (double)m->count : (double)NAN,
		      metrics_error(m->count, m->sum, m->squares));
}
