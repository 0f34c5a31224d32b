/* The demonstration's live view on standard output: tables redrawn in place on a terminal, plain lines elsewhere.
 * One thread. */
#ifndef TOOLS_DEMO_VIEW_H
#define TOOLS_DEMO_VIEW_H

#include "tools/demo_tasks.h"
#include "tools/tracker.h"

enum { DEMO_VIEW_ROWS = 5 };

struct demo_row {
	char user[32];
	int64_t events;
	int64_t latency_ms;
	float values[4]; /* the embedding's first ones */
};

struct demo_view {
	bool terminal;
	int lines; /* drawn, to go back over */
	int64_t started_us;
	int64_t shown_us;
	int64_t tasks_us;   /* when the tasks had lines of their own, elsewhere than on a terminal */
	int64_t shown_sent; /* totals of the last time */
	int64_t shown_updates;
	size_t next; /* row of `rows` to overwrite */
	struct demo_row rows[DEMO_VIEW_ROWS];
};

void demo_view_start(struct demo_view *v);
void demo_view_note(struct demo_view *v, const struct update *update, int64_t latency_ms);

/* Draws once a second; elsewhere than on a terminal decisions as they come, and the tasks every five seconds. */
void demo_view_show(struct demo_view *v, const struct tracker *t, struct demo_tasks *tasks);

double demo_view_s(const struct demo_view *v); /* since demo_view_start */

/* The times from event to update for people, in `text`; "-" where there was no update. */
const char *demo_view_latencies(const struct tracker_totals *totals, char text[96]);

#endif
