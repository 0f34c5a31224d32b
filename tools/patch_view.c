#include "tools/patch_view.h"

#include "base/plural.h"
#include "tools/line.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 9 };

/* ---- JSON ---- */

static json_t *metrics_json(const struct patch_record *r)
{
	json_t *object = json_object();
	for (size_t i = 0; i < r->metric_count; i++)
		(void)json_object_set_new(object, r->metrics[i].name, line_number(r->metrics[i].value));
	return object;
}

static json_t *cuts_json(const struct patch_record *r)
{
	json_t *array = json_array();
	for (size_t i = 0; i < r->cut_count; i++)
		(void)json_array_append_new(array, json_pack("{sIsIsI}", "offset", (json_int_t)r->cuts[i].offset,
							     "count", (json_int_t)r->cuts[i].count, "steps",
							     (json_int_t)r->cuts[i].steps));
	return array;
}

static json_t *gate_json(const struct patch_record *r)
{
	const struct patch_gate *g = &r->gate;
	if (!r->has_gate)
		return json_null();
	return json_pack("{sssIsbsIsIsIsososososo}", "reason", patch_reason_name(g->reason), "parent",
			 (json_int_t)g->parent, "anew", g->anew, "onset", (json_int_t)g->onset, "until",
			 (json_int_t)g->until, "count", (json_int_t)g->count, "gain", line_number(g->gain), "width",
			 line_number(g->width), "over", line_number(g->over), "over_log", line_number(g->over_log),
			 "level", line_number(g->level));
}

static json_t *slot_json(const struct patch_record *r)
{
	const struct patch_weights *w = &r->weights;
	if (!r->has_weights)
		return json_null();
	return json_pack("{sisisIss}", "number", (int)w->slot, "chunks", (int)w->chunks, "bytes", (json_int_t)w->bytes,
			 "sha256", w->sha256);
}

/* NULL: out of memory. */
static json_t *record_json(const struct patch_record *r)
{
	json_t *object = json_pack("{sssIsssososossss}", "task", r->task, "version", (json_int_t)r->version, "patch",
				   r->patch, "parent", line_text(r->parent), "predecessor", line_text(r->predecessor),
				   "backbone", line_text(r->backbone), "definition", r->definition, "decision",
				   patch_decision_name(r->decision));
	if (!object)
		return NULL;
	(void)json_object_set_new(object, "labels_trained", json_integer((json_int_t)r->labels_trained));
	(void)json_object_set_new(object, "labels_dropped", json_integer((json_int_t)r->labels_dropped));
	(void)json_object_set_new(object, "metrics", metrics_json(r));
	(void)json_object_set_new(object, "timestamp", json_integer(r->timestamp_ms));
	(void)json_object_set_new(object, "number", json_integer((json_int_t)r->number));
	(void)json_object_set_new(object, "examples",
				  json_pack("{sisIsI}", "partition", (int)r->examples.partition, "first",
					    (json_int_t)r->examples.first, "next", (json_int_t)r->examples.next));
	(void)json_object_set_new(object, "cuts", cuts_json(r));
	(void)json_object_set_new(object, "gate", gate_json(r));
	(void)json_object_set_new(object, "slot", slot_json(r));
	return object;
}

/* ---- what a record says in short ---- */

/* What says most of a task, by its type. */
static const char *const telling[] = { "accuracy", "mrr_at_5", "rmse" };

double patch_view_value(const struct patch_record *r, const char *model, const char *name)
{
	char wanted[64];
	(void)snprintf(wanted, sizeof wanted, "%s.recent.%s", model, name);
	for (size_t i = 0; i < r->metric_count; i++)
		if (!strcmp(r->metrics[i].name, wanted))
			return r->metrics[i].value;
	return NAN;
}

const char *patch_view_metric(const struct patch_record *r)
{
	for (size_t t = 0; t < sizeof telling / sizeof *telling; t++)
		if (!isnan(patch_view_value(r, "live", telling[t])))
			return telling[t];
	return NULL;
}

const char *patch_view_gain(const struct patch_gate *gate, char ret[PATCH_VIEW_GAIN_SIZE])
{
	if (gate->count && isfinite(gate->gain) && isfinite(gate->width))
		(void)snprintf(ret, PATCH_VIEW_GAIN_SIZE, "%+.4f +- %.4f of %llu", gate->gain, gate->width,
			       (unsigned long long)gate->count);
	else
		(void)strcpy(ret, "-");
	return ret;
}

enum column { TIME, TASK, VERSION, DECISION, REASON, LABELS, METRIC, LIVE, CHALLENGER, GAIN, COLUMNS };

static const char *const headings[COLUMNS] = { "time",   "task",   "version", "decision",   "reason",
					       "labels", "metric", "live",    "challenger", "gain" };

struct row {
	char cells[COLUMNS][PATCH_NAME_AT_MOST + 1];
};

static void set_number(char *cell, double number)
{
	if (isfinite(number))
		(void)snprintf(cell, PATCH_NAME_AT_MOST + 1, "%.4f", number);
}

static void fill(const struct patch_record *r, struct row *row)
{
	char when[LINE_TIME_SIZE], gain[PATCH_VIEW_GAIN_SIZE];
	const char *metric = patch_view_metric(r);
	memset(row, 0, sizeof *row);
#define CELL(column, ...) (void)snprintf(row->cells[column], sizeof row->cells[column], __VA_ARGS__)
	CELL(TIME, "%s", line_time(r->timestamp_ms, true, when));
	CELL(TASK, "%s", r->task);
	CELL(VERSION, "%llu", (unsigned long long)r->version);
	CELL(DECISION, "%s", patch_decision_name(r->decision));
	CELL(LABELS, "%llu", (unsigned long long)r->labels_trained);
	if (metric) {
		CELL(METRIC, "%s", metric);
		set_number(row->cells[LIVE], patch_view_value(r, "live", metric));
		set_number(row->cells[CHALLENGER], patch_view_value(r, "challenger", metric));
	}
	if (r->has_gate)
		CELL(REASON, "%s", patch_reason_name(r->gate.reason));
	if (r->has_gate)
		CELL(GAIN, "%s", patch_view_gain(&r->gate, gain));
#undef CELL
}

static bool is_number(enum column c)
{
	return c == VERSION || c == LABELS || c == LIVE || c == CHALLENGER;
}

static void print_row(const struct row *row, const size_t widths[COLUMNS])
{
	char line[COLUMNS * (PATCH_NAME_AT_MOST + 3) + 1];
	size_t length = 0;
	for (enum column c = 0; c < COLUMNS; c++) {
		const int width = (int)widths[c];
		length += (size_t)snprintf(line + length, sizeof line - length, "%s%*s", c ? "  " : "",
					   is_number(c) ? width : -width, row->cells[c]);
	}
	while (length > 0 && line[length - 1] == ' ')
		length--;
	line_safe((struct slice){ (const uint8_t *)line, length }, length);
	printf("\n");
}

/* ---- a record after the other ---- */

struct walk {
	const struct patch_entry **entries; /* [count] */
	size_t *next;                       /* [count]: into the decisions */
	size_t count;
};

static enum status walk_begin(const struct patch_table *table, const struct patch_entry *only, struct walk *w,
			      struct error *err)
{
	size_t room = 1;
	for (const struct patch_entry *e = NULL; (e = patch_table_next(table, e));)
		room++;
	*w = (struct walk){ .entries = calloc(room, sizeof *w->entries), .next = calloc(room, sizeof *w->next) };
	if (!w->entries || !w->next)
		return error_set_memory(err);
	for (const struct patch_entry *e = NULL; (e = patch_table_next(table, e));)
		if (!only || e == only)
			w->entries[w->count++] = e;
	return STATUS_OK;
}

static void walk_end(struct walk *w)
{
	free(w->entries);
	free(w->next);
}

/* The earliest of the tasks' next records; NULL: that was all. */
static const struct patch_record *walk_next(struct walk *w, const struct patch_entry **ret)
{
	const struct patch_record *found = NULL;
	size_t of = 0;
	for (size_t i = 0; i < w->count; i++) {
		const struct patch_entry *e = w->entries[i];
		if (w->next[i] == e->decision_count ||
		    (found && e->decisions[w->next[i]]->timestamp_ms >= found->timestamp_ms))
			continue;
		found = e->decisions[w->next[i]];
		of = i;
	}
	if (found) {
		*ret = w->entries[of];
		w->next[of]++;
	}
	return found;
}

static enum status print_objects(struct walk *w, struct error *err)
{
	const struct patch_entry *of;
	const struct patch_record *r;
	enum status status = STATUS_OK;
	while (!status && (r = walk_next(w, &of)))
		status = line_json(record_json(r), DIGITS, err);
	return status;
}

static enum status print_table(struct walk *w, struct error *err)
{
	size_t room = 1, count = 0;
	size_t widths[COLUMNS] = { 0 };
	const struct patch_entry *of;
	const struct patch_record *r;
	for (size_t i = 0; i < w->count; i++)
		room += w->entries[i]->decision_count;
	struct row *rows = calloc(room, sizeof *rows);
	if (!rows)
		return error_set_memory(err);
	for (enum column c = 0; c < COLUMNS; c++)
		(void)snprintf(rows[0].cells[c], sizeof rows[0].cells[c], "%s", headings[c]);
	while ((r = walk_next(w, &of)))
		if (r->decision != PATCH_CHECKPOINT || r == patch_entry_newest(of))
			fill(r, &rows[++count]);
	for (size_t i = 0; i <= count; i++)
		for (enum column c = 0; c < COLUMNS; c++)
			if (strlen(rows[i].cells[c]) > widths[c])
				widths[c] = strlen(rows[i].cells[c]);
	for (size_t i = 0; i <= count && count > 0; i++)
		print_row(&rows[i], widths);
	free(rows);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}

enum status patch_view_list(const struct patch_table *table, const struct patch_entry *only, bool json,
			    struct error *err)
{
	struct walk walk;
	enum status status = walk_begin(table, only, &walk, err);
	if (!status)
		status = json ? print_objects(&walk, err) : print_table(&walk, err);
	walk_end(&walk);
	return status;
}

/* In a line's place in time. */
static void print_record(const struct patch_record *r)
{
	char when[LINE_TIME_SIZE], gain[PATCH_VIEW_GAIN_SIZE];
	const char *metric = patch_view_metric(r);
	printf("%s  %s  version %llu", line_time(r->timestamp_ms, false, when), r->task,
	       (unsigned long long)r->version);
	if (r->decision != PATCH_CHECKPOINT)
		printf(" %s", patch_decision_name(r->decision));
	if (r->has_gate)
		printf(", %s", patch_reason_name(r->gate.reason));
	printf("  %llu label%s", (unsigned long long)r->labels_trained, plural((int64_t)r->labels_trained));
	if (metric)
		printf("  %s %.4f", metric, patch_view_value(r, "live", metric));
	if (metric && !isnan(patch_view_value(r, "challenger", metric)))
		printf(", challenger %.4f", patch_view_value(r, "challenger", metric));
	if (r->has_gate)
		printf("  gain %s", patch_view_gain(&r->gate, gain));
	printf("\n");
}

enum status patch_view_record(const struct patch_record *record, bool json, struct error *err)
{
	if (json)
		return line_json(record_json(record), DIGITS, err);
	print_record(record);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}

/* ---- one record at length ---- */

static const struct patch_slot *next_version(const struct patch_entry *e, const struct patch_slot *after)
{
	const struct patch_slot *found = NULL;
	for (uint32_t s = 0; s < PATCH_VERSION_SLOTS; s++) {
		const struct patch_slot *slot = &e->slots[s];
		if (slot->state == PATCH_SLOT_WHOLE && (!after || slot->offset > after->offset) &&
		    (!found || slot->offset < found->offset))
			found = slot;
	}
	return found;
}

static const char *role(const struct patch_entry *e, const struct patch_slot *slot)
{
	return slot == patch_entry_live(e) ? "live" : slot == patch_entry_predecessor(e) ? "predecessor" : NULL;
}

const char *patch_view_versions(const struct patch_entry *e, char *ret, size_t size)
{
	size_t length = 0;
	(void)snprintf(ret, size, "none");
	for (const struct patch_slot *slot = NULL; (slot = next_version(e, slot)) && length < size;) {
		const char *as = role(e, slot);
		length += (size_t)snprintf(ret + length, size - length, "%s%llu%s%s%s", length ? ", " : "",
					   (unsigned long long)slot->record.version, as ? " (" : "", as ? as : "",
					   as ? ")" : "");
	}
	return ret;
}

static json_t *versions_json(const struct patch_entry *e)
{
	json_t *array = json_array();
	for (const struct patch_slot *slot = NULL; (slot = next_version(e, slot));)
		(void)json_array_append_new(array,
					    json_pack("{sIsssosisI}", "version", (json_int_t)slot->record.version,
						      "patch", slot->record.patch, "role", line_text(role(e, slot)),
						      "slot", (int)slot->record.weights.slot, "bytes",
						      (json_int_t)slot->record.weights.bytes));
	return array;
}

static json_t *damaged_json(const struct patch_entry *e)
{
	json_t *array = json_array();
	for (int s = 0; s < PATCH_SLOTS; s++)
		if (e->slots[s].state == PATCH_SLOT_BROKEN)
			(void)json_array_append_new(array,
						    json_pack("{siss}", "slot", s, "reason", e->slots[s].reason));
	return array;
}

static void print_hash(const char *name, const char *hash)
{
	printf("  %-12s %s\n", name, *hash ? hash : "none");
}

static void print_gate(const struct patch_gate *g)
{
	printf("  %-12s %s, %llu label%s, gain ", "gate", patch_reason_name(g->reason), (unsigned long long)g->count,
	       plural((int64_t)g->count));
	if (g->count && isfinite(g->gain) && isfinite(g->width))
		printf("%+.6f +- %.6f\n", g->gain, g->width);
	else
		printf("-\n");
	if (isfinite(g->over))
		printf("  %-12s %+.6f than the prior, log of the evidence %+.3f\n", "", g->over, g->over_log);
	if (g->onset)
		printf("  %-12s drift from label %llu on, level %.3f%s\n", "", (unsigned long long)g->onset, g->level,
		       g->anew ? ", another concept" : "");
	if (g->until)
		printf("  %-12s poison before label %llu\n", "", (unsigned long long)g->until);
}

static void print_metric(const struct patch_metric *m, bool first)
{
	printf("  %-12s ", first ? "metrics" : "");
	line_safe((struct slice){ (const uint8_t *)m->name, strlen(m->name) }, 60);
	printf("  %.6g\n", m->value);
}

static void print_at_length(const struct patch_entry *e, const struct patch_record *r)
{
	char text[256];
	const struct patch_slot *slot = patch_entry_version(e, r->patch);
	const char *as = slot ? role(e, slot) : NULL;
	printf("%s: version %llu%s%s\n", r->task, (unsigned long long)r->version, as ? ", " : "", as ? as : "");
	print_hash("patch", r->patch);
	print_hash("parent", r->parent);
	print_hash("predecessor", r->predecessor);
	print_hash("backbone", r->backbone);
	print_hash("definition", r->definition);
	printf("  %-12s %s, %s\n", "decision", patch_decision_name(r->decision),
	       line_time(r->timestamp_ms, true, text));
	if (r->has_gate)
		print_gate(&r->gate);
	printf("  %-12s %llu consumed, %llu of them never trained on\n", "labels",
	       (unsigned long long)r->labels_trained, (unsigned long long)r->labels_dropped);
	printf("  %-12s partition %d, offsets from %lld to before %lld\n", "examples", r->examples.partition,
	       (long long)r->examples.first, (long long)r->examples.next);
	for (size_t i = 0; i < r->metric_count; i++)
		print_metric(&r->metrics[i], i == 0);
	printf("  %-12s %s\n", "versions", patch_view_versions(e, text, sizeof text));
	for (size_t s = 0; s < PATCH_SLOTS; s++)
		if (e->slots[s].state == PATCH_SLOT_BROKEN)
			printf("  %-12s slot %zu: %s\n", "damaged", s, e->slots[s].reason);
}

enum status patch_view_show(const struct patch_entry *entry, const struct patch_record *record, bool json,
			    struct error *err)
{
	if (json) {
		json_t *object = record_json(record);
		(void)json_object_set_new(object, "versions", versions_json(entry));
		(void)json_object_set_new(object, "damaged", damaged_json(entry));
		return line_json(object, DIGITS, err);
	}
	print_at_length(entry, record);
	return ferror(stdout) ? error_set_errno(err, "standard output") : STATUS_OK;
}
