#include "tools/demo_view.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TASKS_US = 5000000 };

void demo_view_start(struct demo_view *v)
{
	memset(v, 0, sizeof *v);
	v->terminal = isatty(STDOUT_FILENO);
	v->started_us = v->shown_us = v->tasks_us = clock_monotonic_us();
}

void demo_view_note(struct demo_view *v, const struct update *update, int64_t latency_ms)
{
	struct demo_row *row = &v->rows[v->next++ % DEMO_VIEW_ROWS];
	int length =
		update->user_id.length < sizeof row->user ? (int)update->user_id.length : (int)sizeof row->user - 1;
	(void)snprintf(row->user, sizeof row->user, "%.*s", length, (const char *)update->user_id.data);
	row->events = update->sequence_length;
	row->latency_ms = latency_ms;
	for (uint32_t i = 0; i < 4; i++)
		row->values[i] = i < update->dim ? update->embedding[i] : 0;
}

static void draw_table(struct demo_view *v, const char *summary, const struct demo_tasks *tasks)
{
	char lines[DEMO_TASKS_LINES][DEMO_TASKS_LINE];
	const size_t count = demo_tasks_lines(tasks, demo_view_s(v), true, lines);
	printf("\033[?7l"); /* long lines are cut at the edge: a wrapped one would be two */
	if (v->lines)
		printf("\033[%dA", v->lines);
	printf("\033[K%s\n\033[K\n", summary);
	for (size_t i = 0; i < count; i++)
		printf("\033[K%s\n", lines[i]);
	printf("\033[K\n\033[K  %-14s %8s %10s   %s\n", "user", "events", "after ms",
	       "embedding (first 4 of the vector)");
	for (size_t i = 0; i < DEMO_VIEW_ROWS; i++) {
		const struct demo_row *row = &v->rows[(v->next + i) % DEMO_VIEW_ROWS];
		printf("\033[K");
		if (row->user[0])
			printf("  %-14s %8lld %10lld   %+.3f %+.3f %+.3f %+.3f", row->user, (long long)row->events,
			       (long long)row->latency_ms, (double)row->values[0], (double)row->values[1],
			       (double)row->values[2], (double)row->values[3]);
		printf("\n");
	}
	printf("\033[?7h");
	v->lines = DEMO_VIEW_ROWS + 4 + (int)count;
}

const char *demo_view_latencies(const struct tracker_totals *totals, char text[96])
{
	if (totals->p50_ms < 0)
		return "-";
	(void)snprintf(text, 96, "p50 %lld ms, p99 %lld ms, max %lld ms", (long long)totals->p50_ms,
		       (long long)totals->p99_ms, (long long)totals->max_ms);
	return text;
}

double demo_view_s(const struct demo_view *v)
{
	return (double)(clock_monotonic_us() - v->started_us) / 1e6;
}

static void print_tasks(struct demo_view *v, const struct demo_tasks *tasks, int64_t now_us)
{
	char lines[DEMO_TASKS_LINES][DEMO_TASKS_LINE];
	const size_t count = demo_tasks_lines(tasks, demo_view_s(v), false, lines);
	for (size_t i = 0; i < count; i++)
		printf("%s\n", lines[i]);
	v->tasks_us = now_us;
}

void demo_view_show(struct demo_view *v, const struct tracker *t, struct demo_tasks *tasks)
{
	const char *news;
	char summary[256];
	char latencies[96];
	struct tracker_totals totals;
	int64_t now_us = clock_monotonic_us();
	while (!v->terminal && (news = demo_tasks_news(tasks)))
		printf("%s\n", news);
	if (now_us - v->shown_us < 1000000)
		return;
	double seconds = (double)(now_us - v->shown_us) / 1e6;
	tracker_totals(t, &totals);
	(void)snprintf(summary, sizeof summary,
		       "%4.0f s  %lld events (%.0f/s)  %lld updates (%.0f/s)  %lld users  lag %lld  event to update %s",
		       (double)(now_us - v->started_us) / 1e6, (long long)totals.sent,
		       (double)(totals.sent - v->shown_sent) / seconds, (long long)totals.updates,
		       (double)(totals.updates - v->shown_updates) / seconds, (long long)totals.active,
		       (long long)totals.behind, demo_view_latencies(&totals, latencies));
	v->shown_us = now_us;
	v->shown_sent = totals.sent;
	v->shown_updates = totals.updates;
	if (v->terminal)
		draw_table(v, summary, tasks);
	else
		printf("%s\n", summary);
	if (!v->terminal && now_us - v->tasks_us >= TASKS_US)
		print_tasks(v, tasks, now_us);
	(void)fflush(stdout);
}
