#include "tools/demo_tasks.h"

#include "io/label.h"
#include "io/patch_topic.h"
#include "io/task_record.h"
#include "io/topic_write.h"
#include "tools/demo_series.h"
#include "tools/patch_view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 20000, MOST_A_ROUND = 500, NOTES = DEMO_TASKS_NOTES, UNSET = -1 };

#define WHOLE_S 90.0 /* that the times below are of */
#define DRIFT_S 45.0
#define FIRST_S 2.0
#define RECENT_S 5.0 /* "now" is the mean of so long */

static const struct script {
	const char *name;
	const char *definition;
	enum simulation_question question;
	double start_s;
	const char *metric; /* of the records on the patches topic */
	const char *shown;
	double worst; /* what knows nothing gets, about */
	double best;
} scripts[] = {
	{ "segment", "name: segment\ntype: classification\nlabels: [explorer, fan, gamer, reader]\ninsertion: side\n",
	  SIMULATION_SEGMENT, 5, "live.all.accuracy", "accuracy", 0.25, 1 },
	{ "offer", "name: offer\ntype: ranking\ninsertion: side\n", SIMULATION_OFFER, 15, "live.all.mrr_at_5", "MRR@5",
	  0.1, 0.7 },
	{ "age", "name: age\ntype: regression\ninsertion: side\n", SIMULATION_AGE, 25, "live.all.rmse", "RMSE", 16, 4 },
};

enum { TASKS = sizeof scripts / sizeof *scripts };

struct demo_task {
	const struct script *script;
	double put_s; /* UNSET: not yet */
	bool served;  /* an update had its scores: labels find it known */
	uint64_t asked;
	uint64_t version;
	uint64_t labels;  /* trained, says the newest record */
	double count;     /* labels that the live patch was scored on */
	double total;     /* sum of what the metric averages over them */
	uint64_t decided; /* number of the newest decision noted */
	uint64_t promoted, rejected, rolled_back;
	double found_s;                 /* the drift, UNSET: not */
	struct demo_series prequential; /* of labels before they were trained on */
	struct demo_series unasked;     /* of the scores of users who never answer */
};

struct demo_tasks {
	const struct config *config;
	struct simulation *simulation;
	struct patch_topic *patches;
	double scale; /* of the script's times */
	double drifted_s;
	size_t turn; /* task that is asked for next */
	struct demo_task tasks[TASKS];
	struct buffer value;
	struct update_scores scores;
	char notes[NOTES][DEMO_TASKS_LINE]; /* a ring: the newest at (noted - 1) % NOTES */
	size_t noted;
	size_t told;
};

enum status demo_tasks_open(const struct config *config, struct simulation *simulation, double seconds,
			    struct demo_tasks **ret, struct error *err)
{
	struct demo_tasks *t = calloc(1, sizeof *t);
	if (!t)
		return error_set_memory(err);
	*t = (struct demo_tasks){ .config = config,
				  .simulation = simulation,
				  .scale = seconds > 0 ? seconds / WHOLE_S : 1,
				  .drifted_s = UNSET };
	for (size_t i = 0; i < TASKS; i++) {
		t->tasks[i] = (struct demo_task){ .script = &scripts[i], .put_s = UNSET, .found_s = UNSET };
	}
	enum status status = patch_topic_open(config, false, TIMEOUT_MS, &t->patches, err);
	if (status) {
		demo_tasks_close(t);
		return status;
	}
	*ret = t;
	return STATUS_OK;
}

void demo_tasks_close(struct demo_tasks *t)
{
	if (!t)
		return;
	patch_topic_close(t->patches);
	buffer_free(&t->value);
	update_scores_free(&t->scores);
	free(t);
}

static void note(struct demo_tasks *t, double now_s, const char *text)
{
	(void)snprintf(t->notes[t->noted++ % NOTES], DEMO_TASKS_LINE, "%5.1f s  %s", now_s, text);
}

/* ---- what goes in ---- */

static enum status put(struct demo_tasks *t, struct demo_task *task, double now_s, struct error *err)
{
	const struct script *s = task->script;
	struct config *file = NULL;
	char text[DEMO_TASKS_LINE];
	enum status status = config_parse_tasks(s->name, s->definition, strlen(s->definition), &file, err);
	if (status)
		return status;
	buffer_clear(&t->value);
	task_record_encode(&file->tasks[0], &t->value);
	const struct topic_change change = { { (const uint8_t *)s->name, strlen(s->name) },
					     { t->value.data, t->value.length },
					     RD_KAFKA_PARTITION_UA };
	status = t->value.failed ? error_set_memory(err)
				 : topic_write(t->config, t->config->tasks_topic, &change, 1, TIMEOUT_MS, err);
	(void)snprintf(text, sizeof text, "%-8s put on the tasks topic: %s, %s patch", s->name, file->tasks[0].type,
		       file->tasks[0].insertion);
	config_free(file);
	if (status)
		return status;
	task->put_s = now_s;
	note(t, now_s, text);
	return STATUS_OK;
}

enum status demo_tasks_begin(struct demo_tasks *t, double now_s, struct error *err)
{
	for (size_t i = 0; i < TASKS; i++) {
		struct demo_task *task = &t->tasks[i];
		if (task->put_s >= 0 || now_s < task->script->start_s * t->scale)
			continue;
		enum status status = put(t, task, now_s, err);
		if (status)
			return status;
	}
	if (t->drifted_s < 0 && now_s >= DRIFT_S * t->scale) {
		t->drifted_s = now_s;
		simulation_drift(t->simulation);
		note(t, now_s, "from now on the same people answer differently: the planted drift");
	}
	return STATUS_OK;
}

static struct demo_task *next_task(struct demo_tasks *t)
{
	for (size_t i = 0; i < TASKS; i++) {
		struct demo_task *task = &t->tasks[t->turn++ % TASKS];
		if (task->served)
			return task;
	}
	return NULL;
}

enum status demo_tasks_ask(struct demo_tasks *t, struct feed *feed, uint32_t user, int64_t time_ms, struct error *err)
{
	char id[SIMULATION_ID_BYTES];
	struct demo_task *task = next_task(t);
	if (!task || !simulation_answers(t->simulation, user))
		return STATUS_OK;
	const struct simulation_answer answer = simulation_ask(t->simulation, user, task->script->question);
	const char *text = answer.text;
	const struct label label = { .task = { (const uint8_t *)task->script->name, strlen(task->script->name) },
				     .user_id = simulation_user_id(user, id),
				     .timestamp_ms = time_ms,
				     .text = { (const uint8_t *)text, text ? strlen(text) : 0 },
				     .number = answer.number,
				     .weight = 1 };
	buffer_clear(&t->value);
	label_encode(&label, &t->value);
	if (t->value.failed)
		return error_set_memory(err);
	task->asked++;
	return feed_put(feed, true, label.user_id, (struct slice){ t->value.data, t->value.length }, err);
}

/* ---- what comes back ---- */

static bool slice_is(struct slice s, const char *text)
{
	return s.length == strlen(text) && !memcmp(s.data, text, s.length);
}

static double metric(const struct patch_record *record, const char *name)
{
	for (size_t i = 0; i < record->metric_count; i++)
		if (!strcmp(record->metrics[i].name, name))
			return record->metrics[i].value;
	return (double)NAN;
}

static bool is_root(const struct demo_task *task)
{
	return task->script->question == SIMULATION_AGE;
}

/* A mean over more labels than in the record before: the difference is that of the labels in between. */
static void take_metric(struct demo_task *task, const struct patch_record *record, double now_s)
{
	const double mean = metric(record, task->script->metric);
	const double count = metric(record, "live.all.count");
	if (!isfinite(mean) || !(count > task->count))
		return;
	const double total = (is_root(task) ? mean * mean : mean) * count;
	demo_series_add(&task->prequential, now_s, total - task->total, count - task->count);
	task->count = count;
	task->total = total;
}

static void take_decision(struct demo_tasks *t, struct demo_task *task, const struct patch_record *record, double now_s)
{
	char text[DEMO_TASKS_LINE], gain[PATCH_VIEW_GAIN_SIZE];
	const struct patch_gate *gate = &record->gate;
	const bool drift = record->has_gate && (gate->onset > 0 || gate->reason == PATCH_DRIFT);
	int length = snprintf(text, sizeof text, "%-8s %s v%llu", task->script->name,
			      patch_decision_name(record->decision), (unsigned long long)record->version);
	if (record->has_gate)
		(void)snprintf(text + length, sizeof text - (size_t)length, " (%s): gain %s%s",
			       patch_reason_name(gate->reason), patch_view_gain(gate, gain), drift ? ", drift" : "");
	note(t, now_s, text);
	task->promoted += record->decision == PATCH_PROMOTED;
	task->rejected += record->decision == PATCH_REJECTED;
	task->rolled_back += record->decision == PATCH_ROLLED_BACK;
}

static void take_record(struct demo_tasks *t, const struct patch_entry *entry, double now_s)
{
	const struct patch_record *record = patch_entry_newest(entry);
	for (size_t i = 0; record && i < TASKS; i++) {
		struct demo_task *task = &t->tasks[i];
		if (strcmp(task->script->name, entry->task))
			continue;
		take_metric(task, record, now_s);
		task->labels = record->labels_trained;
		task->version = record->version;
		if (t->drifted_s >= 0 && task->found_s < 0 && metric(record, "drifting") > 0)
			task->found_s = now_s;
		if (record->decision != PATCH_CHECKPOINT && record->number > task->decided) {
			task->decided = record->number;
			take_decision(t, task, record, now_s);
		}
	}
}

enum status demo_tasks_follow(struct demo_tasks *t, double now_s, struct error *err)
{
	bool got = true;
	for (int i = 0; i < MOST_A_ROUND && got; i++) {
		struct patch_change change;
		enum status status = patch_topic_poll(t->patches, 0, &got, &change, err);
		if (status)
			return status;
		if (got && change.entry && change.kind == PATCH_KEY_DECISION)
			take_record(t, change.entry, now_s);
	}
	return STATUS_OK;
}

uint64_t demo_tasks_waiting(const struct demo_tasks *t)
{
	uint64_t waiting = 0;
	for (size_t i = 0; i < TASKS; i++)
		waiting += t->tasks[i].asked > t->tasks[i].labels ? t->tasks[i].asked - t->tasks[i].labels : 0;
	return waiting;
}

/* How well scores fit what is true: 1 for the likeliest class, the reciprocal rank among the best five, the squared error. */
static double judge(enum simulation_question question, const struct simulation_answer *truth,
		    const struct update_score *score)
{
	size_t at = 0;
	size_t rank = 0;
	if (question == SIMULATION_AGE) {
		const double error = (score->count ? (double)score->values[0] : 0) - truth->number;
		return error * error;
	}
	while (at < score->count && !slice_is(score->labels[at], truth->text))
		at++;
	if (at == score->count)
		return 0;
	for (size_t i = 0; i < score->count; i++)
		rank += score->values[i] > score->values[at];
	if (question == SIMULATION_SEGMENT)
		return rank == 0;
	return rank < 5 ? 1 / (double)(rank + 1) : 0;
}

static void judge_score(struct demo_tasks *t, uint32_t user, const struct update_score *score, double now_s)
{
	for (size_t i = 0; i < TASKS; i++) {
		struct demo_task *task = &t->tasks[i];
		const enum simulation_question question = task->script->question;
		if (!slice_is(score->task, task->script->name))
			continue;
		task->served = true;
		if (simulation_answers(t->simulation, user))
			continue;
		const struct simulation_answer truth = simulation_truth(t->simulation, user, question);
		demo_series_add(&task->unasked, now_s, judge(question, &truth, score), 1);
	}
}

enum status demo_tasks_update(struct demo_tasks *t, uint32_t user, const struct update *update, double now_s,
			      struct error *err)
{
	bool wanted = user < simulation_users(t->simulation) && !simulation_answers(t->simulation, user);
	for (size_t i = 0; i < TASKS; i++)
		wanted = wanted || (t->tasks[i].put_s >= 0 && !t->tasks[i].served);
	if (!wanted || user >= simulation_users(t->simulation))
		return STATUS_OK;
	enum status status = update_decode_scores(update, &t->scores, err);
	for (size_t i = 0; i < t->scores.count && !status; i++)
		judge_score(t, user, &t->scores.items[i], now_s);
	return status;
}

/* ---- for people ---- */

const char *demo_tasks_news(struct demo_tasks *t)
{
	t->told = t->noted - t->told > NOTES ? t->noted - NOTES : t->told;
	return t->told < t->noted ? t->notes[t->told++ % NOTES] : NULL;
}

/* What the task's people are shown, of a stretch; NaN: there is nothing. */
static double shown(const struct demo_task *task, const struct demo_series *series, double from_s, double to_s)
{
	const double mean = demo_series_mean(series, from_s, to_s);
	return is_root(task) ? sqrt(mean) : mean;
}

static const char *number(const struct demo_task *task, double value, char text[16])
{
	if (isnan(value))
		return "-";
	(void)snprintf(text, 16, is_root(task) ? "%.1f" : "%.3f", value);
	return text;
}

static const char *bars(const struct demo_task *task, double now_s, char text[DEMO_SERIES_TEXT])
{
	const struct script *s = task->script;
	return is_root(task) ? demo_series_bars(&task->prequential, now_s, s->worst * s->worst, s->best * s->best, text)
			     : demo_series_bars(&task->prequential, now_s, s->worst, s->best, text);
}

static void line(const struct demo_task *task, double now_s, bool table, char text[DEMO_TASKS_LINE])
{
	char numbers[2][16], course[DEMO_SERIES_TEXT];
	const char *now = number(task, shown(task, &task->prequential, now_s - RECENT_S, now_s), numbers[0]);
	const char *unasked = number(task, shown(task, &task->unasked, now_s - RECENT_S, now_s), numbers[1]);
	if (table)
		(void)snprintf(text, DEMO_TASKS_LINE, "  %-8s %8llu %8llu  %-9s %6s %8s  %s", task->script->name,
			       (unsigned long long)task->version, (unsigned long long)task->labels, task->script->shown,
			       now, unasked, bars(task, now_s, course));
	else
		(void)snprintf(text, DEMO_TASKS_LINE,
			       "        %-8s version %llu, %llu labels, %s %s, of users who never answer %s",
			       task->script->name, (unsigned long long)task->version, (unsigned long long)task->labels,
			       task->script->shown, now, unasked);
}

size_t demo_tasks_lines(const struct demo_tasks *t, double now_s, bool table,
			char lines[DEMO_TASKS_LINES][DEMO_TASKS_LINE])
{
	size_t count = 0;
	if (table)
		(void)snprintf(lines[count++], DEMO_TASKS_LINE, "  %-8s %8s %8s  %-9s %6s %8s  %s", "task", "version",
			       "labels", "metric", "now", "unasked", "since the beginning");
	for (size_t i = 0; i < TASKS; i++)
		if (table || t->tasks[i].put_s >= 0)
			line(&t->tasks[i], now_s, table, lines[count++]);
	for (size_t i = 0; table && i < NOTES; i++) {
		const size_t at = t->noted < NOTES ? i : t->noted + i;
		(void)snprintf(lines[count++], DEMO_TASKS_LINE, "  %.*s", DEMO_TASKS_LINE - 3, t->notes[at % NOTES]);
	}
	return count;
}

/* Seconds from the drift until the metric had made up nine tenths of what it lost; UNSET: it has not. */
static double recovery_s(const struct demo_tasks *t, const struct demo_task *task, double before, double now_s)
{
	const double enough = before + (task->script->worst - before) / 10;
	const bool falls = is_root(task);
	bool lost = false;
	for (double at = floor(t->drifted_s); at + RECENT_S <= now_s; at++) {
		const double value = shown(task, &task->prequential, at, at + RECENT_S);
		const bool good = falls ? value <= enough : value >= enough;
		if (good && lost)
			return at + RECENT_S - t->drifted_s;
		lost = lost || !good;
	}
	return UNSET;
}

static void summarise_drift(const struct demo_tasks *t, const struct demo_task *task, double now_s)
{
	const double before = shown(task, &task->prequential, t->drifted_s - RECENT_S, t->drifted_s);
	const double recovered_s = isnan(before) ? UNSET : recovery_s(t, task, before, now_s);
	printf("            the drift ");
	if (task->found_s >= 0)
		printf("was found after %.1f s", task->found_s - t->drifted_s);
	else
		printf("was not found%s", isnan(before) ? ", there was nothing learnt before it" : "");
	if (recovered_s >= 0)
		printf(", nine tenths of the loss were made up after %.0f s\n", recovered_s);
	else
		printf(", and not recovered from yet\n");
}

static void summarise_task(const struct demo_tasks *t, const struct demo_task *task, double now_s)
{
	char text[5][16];
	const struct demo_series *p = &task->prequential;
	const double begin_s = floor(task->put_s);
	const bool drifted = t->drifted_s >= 0 && t->drifted_s > task->put_s;
	printf("  %-8s  %s of labels before they were trained on: %s in its first %d s", task->script->name,
	       task->script->shown, number(task, shown(task, p, begin_s, begin_s + FIRST_S), text[0]), (int)FIRST_S);
	if (drifted)
		printf(", %s before the drift, %s just after",
		       number(task, shown(task, p, t->drifted_s - RECENT_S, t->drifted_s), text[1]),
		       number(task, shown(task, p, ceil(t->drifted_s), ceil(t->drifted_s) + FIRST_S), text[2]));
	printf(", %s at the end\n"
	       "            of users who never answer: %s at the end, without the noise of labels\n"
	       "            %llu labels sent, %llu trained on%s; live: version %llu; %llu promoted, %llu rejected, "
	       "%llu rolled back\n",
	       number(task, shown(task, p, now_s - RECENT_S, now_s), text[3]),
	       number(task, shown(task, &task->unasked, now_s - RECENT_S, now_s), text[4]),
	       (unsigned long long)task->asked, (unsigned long long)task->labels,
	       task->labels < task->asked ? ", says its newest record" : "", (unsigned long long)task->version,
	       (unsigned long long)task->promoted, (unsigned long long)task->rejected,
	       (unsigned long long)task->rolled_back);
	if (drifted)
		summarise_drift(t, task, now_s);
}

void demo_tasks_summarise(const struct demo_tasks *t, double now_s)
{
	for (size_t i = 0; i < TASKS; i++)
		if (t->tasks[i].put_s >= 0)
			summarise_task(t, &t->tasks[i], now_s);
}
