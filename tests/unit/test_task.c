/* Task definitions: what their keys must be, files of them, and what their hash depends on. */
#include "config/config.h"

#include "text_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct config *parse(const char *text)
{
	struct config *config = NULL;
	struct error err = { 0 };
	if (config_parse_tasks("t.yaml", text, strlen(text), &config, &err))
		fail_msg("%s", err.text);
	return config;
}

static void refuses(const char *text, const char *message)
{
	struct config *config = NULL;
	struct error err = { 0 };
	enum status s = config_parse_tasks("t.yaml", text, strlen(text), &config, &err);
	assert_null(config);
	assert_string_equal(err.text, message);
	assert_int_equal(s, STATUS_DATA);
	assert_int_equal(err.status, STATUS_DATA);
}

/* After a name and a type: faults stand on line 3 and below. */
static void refuses_of(const char *type, const char *more, const char *message)
{
	char text[512];
	(void)snprintf(text, sizeof text, "name: t\ntype: %s\n%s", type, more);
	refuses(text, message);
}

static void one_task_has_its_defaults(void **state)
{
	struct config *c = parse("name: a\ntype: classification\n");
	const struct config_task *t = &c->tasks[0];
	assert_int_equal(c->tasks_count, 1);
	assert_string_equal(c->path, "t.yaml");
	assert_string_equal(t->name, "a");
	assert_string_equal(t->insertion, "side");
	assert_string_equal(t->loss, "softmax");
	assert_int_equal(t->bottleneck, 16);
	assert_int_equal(t->mean_window, 128);
	assert_int_equal(t->negatives, -1);
	assert_true(fabs(t->rate - 0.001) < 1e-12);
	assert_int_equal(t->replay, 8192);
	assert_int_equal(t->max_age_ms, -1);
	assert_int_equal(t->min_labels, -1);
	assert_int_equal(t->wait_ms, 0);
	assert_int_equal(t->given, 1 << TASK_KEY_name | 1 << TASK_KEY_type);
	config_free(c);
}

static void every_key_is_read(void **state)
{
	struct config *c =
		parse("tasks:\n- name: films\n  type: ranking\n  labels: [m1, m2]\n  insertion: parallel\n"
		      "  blocks: [3, 0, 2]\n  bottleneck: 8\n  adapters: 1\n  norms: true\n  loss: hard\n"
		      "  negatives: 7\n  rate: 5e-4\n  replay: 9\n  max_age_ms: 5\n  min_labels: 6\n  wait_ms: 8\n"
		      "  scores_k: 3\n"
		      "- {name: b, type: regression, mean_window: 4, labels: []}\n");
	const struct config_task *t = &c->tasks[0];
	assert_int_equal(c->tasks_count, 2);
	assert_int_equal(t->labels.count, 2);
	assert_int_equal(t->blocks.count, 3);
	assert_int_equal(t->blocks.items[1], 2);
	assert_int_equal(t->adapters, 1);
	assert_true(t->norms);
	assert_string_equal(t->loss, "hard");
	assert_int_equal(t->negatives, 7);
	assert_true(fabs(t->rate - 5e-4) < 1e-12);
	assert_int_equal(t->replay, 9);
	assert_int_equal(t->max_age_ms, 5);
	assert_int_equal(t->min_labels, 6);
	assert_int_equal(t->wait_ms, 8);
	assert_int_equal(t->scores_k, 3);
	assert_int_equal(c->tasks[1].mean_window, 4);
	assert_string_equal(c->tasks[1].loss, "squared");
	for (enum task_key key = 0; key < TASK_KEYS; key++)
		assert_true(key == TASK_KEY_mean_window || config_task_has(t, key));
	config_free(c);
}

static void bad_files_are_refused(void **state)
{
	refuses("", "t.yaml:1: task: must be a map: {name: ..., type: ...}");
	refuses("type: ranking\n", "t.yaml:1: name: missing; a task needs it");
	refuses("name: a\ntype: ranking\nkind: 3\n", "t.yaml:3: kind: unknown key; did you mean name?");
	refuses("name: a\ntype: ranking\nbotleneck: 3\n", "t.yaml:3: botleneck: unknown key; did you mean bottleneck?");
	refuses("name: a\ntype: ranking\nname: b\n", "t.yaml:3: name: stands twice, first on line 1");
	refuses("tasks: []\nworkers: 1\n", "t.yaml:2: workers: a file of several tasks has nothing beside `tasks`");
	refuses("tasks: {}\n", "t.yaml:1: tasks: must be a list of tasks");
	refuses("tasks:\n- {name: a, type: ranking}\n- {name: a, type: ranking}\n",
		"t.yaml:3: tasks[1].name: the task a stands twice, first on line 2");
}

static void values_are_checked(void **state)
{
	refuses_of("ranking", "insertion: besides\n",
		   "t.yaml:3: insertion: must be serial, parallel or side, found besides; did you mean side?");
	refuses_of("ranking", "loss: brp\n",
		   "t.yaml:3: loss: must be softmax, sampled, bpr, bce, hard or squared, found brp; did you mean bpr?");
	refuses_of("ranking", "blocks: 3\n", "t.yaml:3: blocks: must be a list of numbers: [0, 1]");
	refuses_of("ranking", "blocks: [1, x]\n", "t.yaml:3: blocks: must be a whole number, found x");
	refuses_of("ranking", "blocks: [1, 257]\n", "t.yaml:3: blocks: must be from 0 to 256 blocks, found 257");
	refuses_of("ranking", "blocks: [2, 1, 2]\n", "t.yaml:3: blocks: the block 2 stands twice");
	refuses_of("ranking", "rate: fast\n", "t.yaml:3: rate: must be a number, found fast");
	refuses_of("ranking", "rate: nan\n", "t.yaml:3: rate: must be a number, found nan");
	refuses_of("ranking", "rate: 0x1\n", "t.yaml:3: rate: must be a number, found 0x1");
	refuses_of("ranking", "rate: \"1\"\n", "t.yaml:3: rate: must be a number");
	refuses_of("ranking", "rate: -1\n", "t.yaml:3: rate: must be from 1e-07 to 1, found -1");
	refuses_of("ranking", "norms: 1\ninsertion: serial\n", "t.yaml:3: norms: must be true or false, found 1");
	refuses_of("ranking", "\nmax_age_ms: 0\n", "t.yaml:4: max_age_ms: must be from 1 to 86400000 ms, found 0");
}

static void keys_fit_each_other(void **state)
{
	refuses_of("ranking", "norms: true\n", "t.yaml:3: norms: is for serial and parallel patches only");
	refuses_of("ranking", "insertion: serial\nmean_window: 9\n", "t.yaml:4: mean_window: is for side patches only");
	refuses_of("regression", "scores_k: 4\n", "t.yaml:3: scores_k: is for ranking tasks only");
	refuses_of("regression", "loss: softmax\n", "t.yaml:3: loss: softmax: for regression it is squared");
	refuses_of("classification", "loss: bpr\n", "t.yaml:3: loss: bpr: for classification it is softmax");
	refuses_of("ranking", "loss: squared\n",
		   "t.yaml:3: loss: squared: for ranking it is softmax, sampled, bpr, bce or hard");
	refuses_of("ranking", "loss: bpr\nnegatives: 3\n",
		   "t.yaml:4: negatives: the loss bpr draws none; sampled and hard do");
	config_free(parse("name: a\ntype: ranking\nnegatives: 3\n")); /* the learner may choose sampled */
}

static void hash_of(const char *text, char ret[HASH_HEX_LENGTH + 1])
{
	struct error err;
	struct config *c = parse(text);
	assert_int_equal(config_task_hash(&c->tasks[0], ret, &err), STATUS_OK);
	config_free(c);
}

static void expect_hashes(const char *a, const char *b, bool equal)
{
	char x[HASH_HEX_LENGTH + 1], y[HASH_HEX_LENGTH + 1];
	hash_of(a, x);
	hash_of(b, y);
	if (!strcmp(x, y) != equal)
		fail_msg("%s%s: %s", a, b, equal ? "differ" : "are the same");
}

static void the_hash_is_of_what_trains(void **state)
{
	static const char plain[] = "name: a\ntype: classification\n";
	static const char ranking[] = "name: a\ntype: ranking\ninsertion: serial\n";
	char text[512];
	static const char *const same[] = { "insertion: side", "bottleneck: 16", "mean_window: 128", "loss: softmax",
					    "rate: 1.0e-3",    "replay: 8192",   "labels: []",       "blocks: ~",
					    "max_age_ms: 7",   "min_labels: 9",  "wait_ms: 5" };
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		(void)snprintf(text, sizeof text, "type: classification\n%s\nname: other\n", same[i]);
		expect_hashes(plain, text, true);
	}
	static const char *const other[] = { "insertion: serial", "bottleneck: 8",  "mean_window: 127", "rate: 1.1e-3",
					     "replay: 8191",      "labels: [a, b]", "blocks: []",       "blocks: [0]" };
	for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
		(void)snprintf(text, sizeof text, "%s%s\n", plain, other[i]);
		expect_hashes(plain, text, false);
	}
	static const char *const more[] = { "adapters: 1", "norms: true", "loss: softmax", "negatives: 512" };
	for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
		(void)snprintf(text, sizeof text, "%s%s\n", ranking, more[i]);
		expect_hashes(ranking, text, false);
	}
	(void)snprintf(text, sizeof text, "%sscores_k: 2\nadapters: 2\nnorms: false\n", ranking);
	expect_hashes(ranking, text, true);
	expect_hashes("name: a\ntype: ranking\nlabels: [ab, c]\n", "name: a\ntype: ranking\nlabels: [a, bc]\n", false);
	expect_hashes("name: a\ntype: ranking\nlabels: [a, b]\n", "name: a\ntype: ranking\nlabels: [b, a]\n", false);
	expect_hashes("name: a\ntype: ranking\nblocks: [1, 0]\n", "name: a\ntype: ranking\nblocks: [0, 1]\n", true);
}

/* Part of the formats: lineages are named by it. */
static void the_canonical_text_stays(void **state)
{
	char *text;
	struct error err;
	struct config *c = parse("name: a\ntype: ranking\nlabels: [m1, 22]\nblocks: [8, 0]\nrate: 0.5\n");
	assert_int_equal(config_task_canonical(&c->tasks[0], &text, &err), STATUS_OK);
	assert_string_equal(text, "peterd.task.v1\ntype=ranking\nlabels=2:m12:22\ninsertion=side\nblocks=0,8\n"
				  "bottleneck=16\nmean_window=128\nloss\nnegatives\nrate=0.5\nreplay=8192\n");
	free(text);
	config_free(c);
}

static void expect_fit(const char *text, uint32_t channels, uint32_t blocks, const char *message)
{
	struct error err = { 0 };
	enum task_key key;
	struct config *c = parse(text);
	enum status s = config_task_fits(&c->tasks[0], channels, blocks, &key, &err);
	assert_int_equal(s, message ? STATUS_DATA : STATUS_OK);
	if (message) {
		char said[600];
		(void)snprintf(said, sizeof said, "%s: %s", task_rows[key].name, err.text);
		assert_string_equal(said, message);
	}
	config_free(c);
}

static void a_backbone_has_its_say(void **state)
{
	expect_fit("name: a\ntype: ranking\n", 8, 8, NULL);
	expect_fit("name: a\ntype: ranking\n", 7, 8,
		   "bottleneck: 16: at most twice the backbone's 7 channels: it is to be narrow");
	expect_fit("name: a\ntype: ranking\nblocks: [8]\n", 64, 8, NULL);
	expect_fit("name: a\ntype: ranking\nblocks: [0, 9]\n", 64, 8, "blocks: 9: the backbone's levels are 0 to 8");
	expect_fit("name: a\ntype: ranking\ninsertion: serial\nblocks: [8]\n", 64, 8,
		   "blocks: 8: the backbone's blocks are 0 to 7");
}

static void cadence_is_the_task_s_or_the_configuration_s(void **state)
{
	static const char text[] = "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\npatch: {max_age_ms: 700, "
				   "min_labels: 5}\ntasks:\n- {name: a, type: ranking}\n"
				   "- {name: b, type: ranking, insertion: serial}\n"
				   "- {name: c, type: ranking, insertion: serial, max_age_ms: 9, min_labels: 2}\n";
	struct config *c = NULL;
	struct error err;
	assert_int_equal(config_parse("t", text, sizeof text - 1, &c, &err), STATUS_OK);
	assert_int_equal(config_task_max_age_ms(c, &c->tasks[0]), 700);
	assert_int_equal(config_task_max_age_ms(c, &c->tasks[1]), 60000);
	assert_int_equal(config_task_max_age_ms(c, &c->tasks[2]), 9);
	assert_int_equal(config_task_min_labels(c, &c->tasks[0]), 5);
	assert_int_equal(config_task_min_labels(c, &c->tasks[2]), 2);
	config_free(c);
}

static void files_are_loaded(void **state)
{
	static const char text[] = "name: a\ntype: regression\n";
	static const char bad[] = "name: a\ntype: regressions\n";
	char path[256];
	char expected[400];
	struct config *c = NULL;
	struct error err = { 0 };
	assert_int_equal(config_load_tasks("/nonexistent/t.yaml", &c, &err), STATUS_NO_INPUT);
	assert_int_equal(config_load_tasks("/", &c, &err), STATUS_DATA);
	text_file_make(".yaml", text, sizeof text - 1, path);
	assert_int_equal(config_load_tasks(path, &c, &err), STATUS_OK);
	assert_string_equal(c->tasks[0].type, "regression");
	config_free(c);
	assert_int_equal(unlink(path), 0);
	text_file_make(".yaml", bad, sizeof bad - 1, path);
	assert_int_equal(config_load_tasks(path, &c, &err), STATUS_DATA);
	(void)snprintf(expected, sizeof expected,
		       "%s:2: type: must be classification, ranking or regression, found "
		       "regressions; did you mean regression?",
		       path);
	assert_string_equal(err.text, expected);
	assert_int_equal(unlink(path), 0);
}

static void the_sample_names_every_key(void **state)
{
	char *sample = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&sample, &length);
	config_print_sample(out);
	assert_int_equal(fclose(out), 0);
	for (size_t i = 0; i < TASK_KEYS; i++) {
		char start[64];
		(void)snprintf(start, sizeof start, "\n#   %-12s ", task_rows[i].name);
		if (!strstr(sample, start))
			fail_msg("%s", start);
	}
	free(sample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_task_has_its_defaults),
		cmocka_unit_test(every_key_is_read),
		cmocka_unit_test(bad_files_are_refused),
		cmocka_unit_test(values_are_checked),
		cmocka_unit_test(keys_fit_each_other),
		cmocka_unit_test(the_hash_is_of_what_trains),
		cmocka_unit_test(the_canonical_text_stays),
		cmocka_unit_test(a_backbone_has_its_say),
		cmocka_unit_test(files_are_loaded),
		cmocka_unit_test(the_sample_names_every_key),
		cmocka_unit_test(cadence_is_the_task_s_or_the_configuration_s),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
