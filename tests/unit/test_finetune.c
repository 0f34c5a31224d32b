/* `peterctl finetune` and `score` from files to files, on a small backbone and users whose labels their items tell. */
#include "tools/ctl.h"

#include "base/buffer.h"
#include "model/backbone.h"
#include "model/patch.h"
#include "tools/patched.h"
#include "model_fixture.h"
#include "text_file.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

enum { USERS = 120, EVENTS = 12, KINDS = 2 };

static char folder[] = "/tmp/peterd-test-XXXXXX";
static char backbone[256], events[256], labels[256], patch[256], trunk_out[256], scores[256], output[256];

/* Of a user's items most are of the user's kind: even or odd ones. */
static void write_events(void)
{
	struct buffer text = { 0 };
	char line[64];
	uint64_t random = 5;
	buffer_append(&text, "user_id,item_id,timestamp\n", 26);
	for (size_t i = 0; i < EVENTS; i++) {
		for (size_t user = 0; user < USERS; user++) {
			uint64_t item = fixture_random(&random) % 2 * 2;
			item += (user + (fixture_random(&random) % 6 == 0)) % KINDS;
			int n = snprintf(line, sizeof line, "u%zu,item %d,%zu\n", user, (int)item, 100 * i + 1);
			buffer_append(&text, line, (size_t)n);
		}
	}
	FILE *file = fopen(events, "wb");
	assert_int_equal(fwrite(text.data, 1, text.length, file), text.length);
	assert_int_equal(fclose(file), 0);
	buffer_free(&text);
}

/* Kinds as classes, as numbers, and as target items. */
static void write_labels(const char *more)
{
	FILE *file = fopen(labels, "wb");
	(void)fprintf(file, "task,user_id,label,timestamp\n");
	for (size_t user = 0; user < USERS; user++) {
		(void)fprintf(file, "kind,u%zu,%s,5000\n", user, user % KINDS ? "odd" : "even");
		(void)fprintf(file, "number,u%zu,%d,\n", user, user % KINDS ? 120 : 100);
		(void)fprintf(file, "target,u%zu,film %zu,5000\n", user, user % KINDS + KINDS * (user % 3));
	}
	(void)fprintf(file, "%s", more);
	assert_int_equal(fclose(file), 0);
}

/* Runs a command; its standard output goes to `output`. */
static enum status run(enum status (*command)(int argc, char **argv, struct error *err), struct error *err,
		       const char *const words[])
{
	char *argv[64] = { (char *)(uintptr_t) "command" };
	int argc = 1;
	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	argv[argc] = NULL;
	(void)fflush(stdout);
	int old = dup(STDOUT_FILENO);
	int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(old >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0);
	(void)close(file);
	err->text[0] = '\0';
	enum status status = command(argc, argv, err);
	(void)fflush(stdout);
	assert_true(dup2(old, STDOUT_FILENO) >= 0);
	(void)close(old);
	return status;
}

#define RUN(command, err, ...) run(command, err, (const char *const[]){ __VA_ARGS__, NULL })
#define FILES "--backbone", backbone, "--events", events, "--labels", labels, "--out", patch
#define FINETUNE(err, task, type, ...)                                                                                 \
	RUN(ctl_finetune, err, FILES, "--task", task, "--type", type, "--threads", "2", "--bottleneck", "4", "--rate", \
	    "0.01", __VA_ARGS__)

static void expect_done(enum status status, const struct error *err)
{
	if (status)
		fail_msg("%s", err->text);
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_number(value))
		fail_msg("%s is no number", key);
	return json_number_value(value);
}

static json_t *read_output(void)
{
	json_error_t why;
	json_t *object = json_load_file(output, 0, &why);
	if (!object)
		fail_msg("%s", why.text);
	return object;
}

static void *read_file(const char *path, size_t *ret_length)
{
	struct stat about;
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &about), 0);
	char *bytes = malloc((size_t)about.st_size + 1);
	*ret_length = fread(bytes, 1, (size_t)about.st_size, file);
	(void)fclose(file);
	return bytes;
}

/* The rows of `scores`, after its header. */
static float *read_scores(const char *shape)
{
	size_t length;
	char *bytes = read_file(scores, &length);
	char *values = memmem(bytes, length, "\n", 1);
	if (!memmem(bytes, length, shape, strlen(shape)))
		fail_msg("not of shape %s", shape);
	const size_t left = length - (size_t)(values + 1 - bytes);
	float *copy = malloc(left);
	memcpy(copy, values + 1, left);
	free(bytes);
	return copy;
}

static void check_classification(const char *const more[6])
{
	struct error err;
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "25", "--json", more[0], more[1], more[2],
			     more[3], more[4], more[5]),
		    &err);
	json_t *result = read_output();
	assert_int_equal(number(result, "examples") + number(result, "validation_examples"), USERS);
	if (!(number(result, "accuracy") >= 0.75))
		fail_msg("%s %s: accuracy %g", more[0], more[1], number(result, "accuracy"));
	assert_int_equal(number(result, "classes"), 2);
	json_decref(result);
	const char *over = strcmp(more[0], "--backbone-out") ? backbone : trunk_out;
	expect_done(RUN(ctl_score, &err, "--backbone", over, "--patch", patch, "--events", events, "--out", scores),
		    &err);
	float *rows = read_scores("(120, 2)");
	size_t right = 0;
	for (size_t user = 0; user < USERS; user++) { /* labels are sorted: even, odd */
		assert_true(fabsf(rows[2 * user] + rows[2 * user + 1] - 1) < 1e-5F);
		right += rows[2 * user + user % KINDS] > 0.5F;
	}
	assert_true(right > USERS * 3 / 4);
	free(rows);
}

static void classes_are_learnt(void **state)
{
	static const char *const cases[][6] = {
		{ "--insertion", "serial" },
		{ "--insertion", "parallel", "--norms" },
		{ "--insertion", "side" },
		{ "--insertion", "serial", "--blocks", "1", "--adapters", "1" },
		{ "--insertion", "side", "--blocks", "0,2", "--balanced" },
		{ "--insertion", "side", "--cache-mib", "0" },
		{ "--train", "head" },
		{ "--train", "head", "--cache-mib", "0" },
		{ "--backbone-out", trunk_out, "--train", "everything" },
		{ "--backbone-out", trunk_out, "--train", "last:1" },
		{ "--backbone-out", trunk_out, "--train", "scratch" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		check_classification(cases[i]);
}

/* A trunk that was trained is a backbone of its own, which alone the patch takes. */
static void trained_trunks(void **state)
{
	struct error err;
	struct backbone *before = NULL;
	struct backbone *after = NULL;
	struct patched patched;
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1", "--json", "--train", "last:1",
			     "--backbone-out", trunk_out),
		    &err);
	assert_int_equal(backbone_load(backbone, &before, &err), STATUS_OK);
	assert_int_equal(backbone_load(trunk_out, &after, &err), STATUS_OK);
	assert_string_not_equal(backbone_hash(before), backbone_hash(after));
	assert_int_equal(backbone_item(after, hash_item("item 7", 6)), backbone_item(before, hash_item("item 7", 6)));
	expect_done(patched_load(trunk_out, patch, &patched, &err), &err);
	assert_string_equal(patched.patch->backbone, backbone_hash(after));
	assert_true(patch_head_only(patched.patch));
	patched_close(&patched);
	assert_int_equal(patched_load(backbone, patch, &patched, &err), STATUS_DATA);
	json_t *result = read_output();
	assert_string_equal(json_string_value(json_object_get(result, "backbone")), backbone_hash(after));
	assert_true(number(result, "parameters") < number(result, "trunk_parameters"));
	json_decref(result);
	backbone_free(before);
	backbone_free(after);
}

static void numbers_are_learnt(void **state)
{
	struct error err;
	expect_done(FINETUNE(&err, "number", "regression", "--epochs", "60", "--json"), &err);
	json_t *result = read_output();
	assert_true(number(result, "rmse") < 8);
	json_decref(result);
	expect_done(RUN(ctl_score, &err, "--backbone", backbone, "--patch", patch, "--events", events, "--out", scores),
		    &err);
	float *rows = read_scores("(120, 1)");
	double sum = 0;
	for (size_t user = 0; user < USERS; user++) {
		sum += (double)rows[user];
		assert_true(rows[user] > 80 && rows[user] < 140);
	}
	assert_true(fabs(sum / USERS - 110) < 3);
	free(rows);
}

static void targets_are_learnt(void **state)
{
	static const char *const losses[] = { "softmax", "sampled", "bpr", "bce", "hard" };
	for (size_t i = 0; i < 5; i++) {
		struct error err;
		expect_done(FINETUNE(&err, "target", "ranking", "--epochs", "30", "--json", "--loss", losses[i],
				     "--negatives", "3"),
			    &err);
		json_t *result = read_output();
		assert_int_equal(number(result, "classes"), 6);
		/* 3 of 6 targets are of the user's kind: in any order 1 and 1/2 and 1/3 for them */
		if (!(number(result, "mrr@5") > 0.48))
			fail_msg("%s: MRR@5 %g", losses[i], number(result, "mrr@5"));
		json_decref(result);
	}
}

/* The same seed and parts: the same file, byte for byte. */
static void runs_repeat(void **state)
{
	struct error err;
	size_t lengths[3];
	void *bytes[3];
	static const char *const seeds[] = { "7", "7", "8" };
	for (size_t i = 0; i < 3; i++) {
		expect_done(FINETUNE(&err, "target", "ranking", "--epochs", "3", "--loss", "bpr", "--insertion",
				     "serial", "--seed", seeds[i]),
			    &err);
		bytes[i] = read_file(patch, &lengths[i]);
	}
	assert_int_equal(lengths[0], lengths[1]);
	assert_memory_equal(bytes[0], bytes[1], lengths[0]);
	assert_true(lengths[0] != lengths[2] || memcmp(bytes[0], bytes[2], lengths[0]) != 0);
	for (size_t i = 0; i < 3; i++)
		free(bytes[i]);
}

/* `embed --patch` of a head alone is the frozen embedding. */
static void embeddings_under_a_patch(void **state)
{
	struct error err;
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1", "--train", "head"), &err);
	expect_done(RUN(ctl_embed, &err, "--backbone", backbone, "--events", events, "--out", scores), &err);
	float *frozen = read_scores("(120, 8)");
	expect_done(RUN(ctl_embed, &err, "--backbone", backbone, "--patch", patch, "--events", events, "--out", scores),
		    &err);
	float *patched = read_scores("(120, 8)");
	assert_true(fixture_difference(frozen, patched, USERS * 8) <= 1e-5);
	free(frozen);
	free(patched);
	assert_int_equal(RUN(ctl_embed, &err, "--backbone", backbone, "--patch", patch, "--events", events, "--out",
			     scores, "--incremental"),
			 STATUS_USAGE);
}

/* `inspect` says what a patch is, alone and beside its backbone. */
static void inspected(void **state)
{
	struct error err;
	expect_done(
		FINETUNE(&err, "kind", "classification", "--epochs", "1", "--insertion", "parallel", "--blocks", "1"),
		&err);
	for (int beside = 0; beside < 2; beside++) {
		expect_done(beside ? RUN(ctl_inspect, &err, patch, "--json", "--backbone", backbone)
				   : RUN(ctl_inspect, &err, patch, "--json"),
			    &err);
		json_t *result = read_output();
		json_t *about = json_object_get(result, "patch");
		assert_string_equal(json_string_value(json_object_get(about, "insertion")), "parallel");
		assert_string_equal(json_string_value(json_array_get(json_object_get(about, "labels"), 1)), "odd");
		assert_int_equal(number(about, "bottleneck"), 4);
		assert_int_equal(number(about, "adapters"), 2);
		assert_int_equal(json_integer_value(json_array_get(json_object_get(about, "blocks"), 0)), 1);
		assert_int_equal(number(about, "parameters"), 2 * (4 * 8 + 4 + 8 * 4 + 8) + 2 * 8 + 2);
		assert_int_equal(json_object_get(about, "percent") != NULL, beside);
		json_decref(result);
		expect_done(beside ? RUN(ctl_inspect, &err, patch, "--backbone", backbone)
				   : RUN(ctl_inspect, &err, patch),
			    &err);
	}
	assert_int_equal(RUN(ctl_inspect, &err, patch, "--backbone", patch), STATUS_DATA);
}

static void rows_that_are_left_out(void **state)
{
	struct error err;
	write_labels("kind,nobody,odd,5000\nkind,u3,odd,1\nkind,u4,even,5000\n");
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1", "--json"), &err);
	json_t *result = read_output();
	assert_int_equal(number(result, "unknown_users"), 1);
	assert_int_equal(number(result, "users_without_events"), 1);
	assert_int_equal(number(result, "repeated_rows"), 1);
	json_decref(result);
	write_labels("");
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		enum status status;
		const char *why;
		const char *words[6];
	} cases[] = {
		{ STATUS_USAGE, "--type: sort is none", { "--task", "kind", "--type", "sort" } },
		{ STATUS_USAGE, "--insertion: on is none", { "--insertion", "on" } },
		{ STATUS_USAGE, "--loss: bpr: for classification it is softmax", { "--loss", "bpr" } },
		{ STATUS_USAGE, "--train: last: is none of", { "--train", "last:" } },
		{ STATUS_USAGE, "--train: last:0 is none of", { "--train", "last:0" } },
		{ STATUS_USAGE, "--train: last:N is none of", { "--train", "last:N" } },
		{ STATUS_USAGE, "--backbone-out is missing", { "--train", "everything" } },
		{ STATUS_USAGE, "the backbone has 2 blocks", { "--train", "last:3", "--backbone-out", trunk_out } },
		{ STATUS_USAGE, "--backbone-out: --train patch does not", { "--backbone-out", trunk_out } },
		{ STATUS_USAGE, "--blocks: blocks is '3', expected numbers below 3", { "--blocks", "3" } },
		{ STATUS_USAGE, "--blocks: --train head has no", { "--blocks", "1", "--train", "head" } },
		{ STATUS_USAGE, "--norms: a side patch", { "--norms" } },
		{ STATUS_USAGE, "--mean-window: only", { "--mean-window", "9", "--insertion", "parallel" } },
		{ STATUS_USAGE, "--mean-window: only", { "--mean-window", "9", "--train", "head" } },
		{ STATUS_USAGE, "--task:  is not 1 to 100 of", { "--task", "" } },
		{ STATUS_USAGE, "--task: Bad Name! is not 1 to 100 of", { "--task", "Bad Name!" } },
		{ STATUS_USAGE, "--labels-list: odd,odd: a label stands twice", { "--labels-list", "odd,odd" } },
		{ STATUS_USAGE, "--labels-list: odd,: a label is empty", { "--labels-list", "odd," } },
		{ STATUS_DATA, "line 5: label odd is none of the 1 known", { "--labels-list", "even" } },
		{ STATUS_DATA, "labels.csv: no row is of task age", { "--task", "age" } },
		{ STATUS_DATA, "label even is not a finite number", { "--type", "regression" } },
		{ STATUS_NO_INPUT, "/nonexistent", { "--events", "/nonexistent" } },
		{ STATUS_NO_INPUT, "/nonexistent", { "--backbone", "/nonexistent" } },
		{ STATUS_IO, "--out: /nonexistent/p: cannot be written", { "--out", "/nonexistent/p" } },
		{ STATUS_USAGE, "--out: /dev/null is no regular file", { "--out", "/dev/null" } },
		{ STATUS_USAGE, "is the file of --events", { "--out", events } },
		{ STATUS_USAGE, "is the file of --labels", { "--out", labels } },
		{ STATUS_USAGE, "is the file of --backbone", { "--out", backbone } },
		{ STATUS_USAGE, "is the file of --backbone", { "--backbone-out", backbone, "--train", "scratch" } },
		{ STATUS_USAGE, "is the file of --out", { "--backbone-out", patch, "--train", "scratch" } },
		{ STATUS_USAGE, "both are standard input", { "--events", "-", "--labels", "-" } },
		{ STATUS_IO,
		  "--backbone-out: /nonexistent/p: cannot be written",
		  { "--backbone-out", "/nonexistent/p", "--train", "scratch" } },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct error err;
		const char *const *w = cases[i].words;
		enum status status = FINETUNE(&err, "kind", "classification", w[0], w[1], w[2], w[3], w[4], w[5]);
		if (status != cases[i].status || !strstr(err.text, cases[i].why))
			fail_msg("case %zu: %d, '%s', not '%s'", i, status, err.text, cases[i].why);
	}
}

/* Rates that leave the numbers, and labels that weigh nothing. */
static void losses_that_are_none(void **state)
{
	static const char *const ways[][4] = {
		{ "--rate", "1e30" },
		{ "--rate", "1e300" },
		{ "--rate", "1e37", "--validation", "0" },
		{ "--rate", "1e38", "--insertion", "serial" },
	};
	struct error err;
	char other[256];
	(void)unlink(patch);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		assert_int_equal(FINETUNE(&err, "kind", "classification", "--epochs", "6", ways[i][0], ways[i][1],
					  ways[i][2], ways[i][3]),
				 STATUS_DATA);
		if (!strstr(err.text, "lower --rate"))
			fail_msg("%s", err.text);
		assert_int_not_equal(access(patch, F_OK), 0);
	}
	text_file_make(".csv", "user_id,label,weight\nu1,odd,0\nu2,even,0\nu3,odd,1e-42\n", 53, other);
	assert_int_equal(FINETUNE(&err, "kind", "classification", "--labels", other), STATUS_DATA);
	assert_non_null(strstr(err.text, "all weights of the examples trained with are 0, or almost"));
	(void)unlink(other);
}

/* What cannot be written without a loss is refused, with the file that is to blame. */
static void rows_that_cannot_be_written(void **state)
{
	struct error err;
	struct patched patched;
	char broken_id[256];
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1"), &err);
	text_file_make(".csv", "user_id,item_id\nu1,item 1\n\"u\n2\",item 2\n", 39, broken_id);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(RUN(i ? ctl_embed : ctl_score, &err, "--backbone", backbone, "--events", broken_id,
				     "--out", scores, "--users-out", output, i == 2 ? NULL : "--patch", patch),
				 STATUS_DATA);
		assert_non_null(strstr(err.text, "row 2: the user_id holds a line break"));
	}
	expect_done(
		RUN(ctl_score, &err, "--backbone", backbone, "--patch", patch, "--events", broken_id, "--out", scores),
		&err);
	(void)unlink(broken_id);
	expect_done(patched_load(backbone, patch, &patched, &err), &err);
	for (size_t i = 0; i < patched.patch->table.floats; i++)
		patched.patch->weights[i] = 3e38F;
	expect_done(patch_save(patched.patch, patch, &err), &err);
	patched_close(&patched);
	assert_int_equal(
		RUN(ctl_score, &err, "--backbone", backbone, "--patch", patch, "--events", events, "--out", scores),
		STATUS_DATA);
	assert_non_null(strstr(err.text, "patch: scores: row 1: a value is not finite"));
}

/* What score and embed write is none of what they read. */
static void outputs_apart(void **state)
{
	enum status (*const commands[])(int argc, char **argv, struct error *err) = { ctl_score, ctl_embed };
	struct error err;
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1"), &err);
	const char *const clashes[][2] = {
		{ events, scores }, { backbone, scores }, { patch, scores }, { scores, scores }, { scores, events },
	};
	for (size_t i = 0; i < sizeof clashes / sizeof clashes[0] * 2; i++) {
		assert_int_equal(RUN(commands[i % 2], &err, "--backbone", backbone, "--patch", patch, "--events",
				     events, "--out", clashes[i / 2][0], "--users-out", clashes[i / 2][1]),
				 STATUS_USAGE);
		assert_non_null(strstr(err.text, "is the file of"));
	}
	expect_done(RUN(ctl_score, &err, "--backbone", backbone, "--patch", patch, "--events", events, "--out",
			"/dev/null", "--users-out", "/dev/null"),
		    &err);
}

static void wrong_files(void **state)
{
	struct error err;
	char other[256];
	char *broken;
	size_t length;
	text_file_make(".csv", "user_id,item_id,timestamp\n", 26, other);
	assert_int_equal(FINETUNE(&err, "kind", "classification", "--events", other), STATUS_DATA);
	assert_non_null(strstr(err.text, ": no users"));
	(void)unlink(other);
	text_file_make(".csv", "user_id,label\nu1,odd\nu3,odd\n", 28, other);
	assert_int_equal(FINETUNE(&err, "kind", "classification", "--labels", other), STATUS_DATA);
	assert_non_null(strstr(err.text, "all labels are odd"));
	(void)unlink(other);
	expect_done(FINETUNE(&err, "kind", "classification", "--epochs", "1"), &err);
	broken = read_file(patch, &length);
	text_file_make(".safetensors", broken, length - 1, other);
	assert_int_equal(
		RUN(ctl_score, &err, "--backbone", backbone, "--patch", other, "--events", events, "--out", scores),
		STATUS_DATA);
	(void)unlink(other);
	memset(broken + length - 4, 0xff, 4); /* not a number */
	text_file_make(".safetensors", broken, length, other);
	assert_int_equal(
		RUN(ctl_score, &err, "--backbone", backbone, "--patch", other, "--events", events, "--out", scores),
		STATUS_DATA);
	assert_non_null(strstr(err.text, "is not finite"));
	(void)unlink(other);
	free(broken);
}

static int set_up(void **state)
{
	const struct random_backbone shape = { 8, 3, "1,2", true, 0, 1 };
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(backbone, sizeof backbone, "%s/backbone", folder);
	(void)snprintf(events, sizeof events, "%s/events.csv", folder);
	(void)snprintf(labels, sizeof labels, "%s/labels.csv", folder);
	(void)snprintf(patch, sizeof patch, "%s/patch", folder);
	(void)snprintf(trunk_out, sizeof trunk_out, "%s/trunk", folder);
	(void)snprintf(scores, sizeof scores, "%s/scores.npy", folder);
	(void)snprintf(output, sizeof output, "%s/output", folder);
	fixture_write(backbone, &shape);
	write_events();
	write_labels("");
	return 0;
}

static int tear_down(void **state)
{
	const char *const files[] = { backbone, events, labels, patch, trunk_out, scores, output };
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		(void)unlink(files[i]);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_are_learnt),
		cmocka_unit_test(trained_trunks),
		cmocka_unit_test(numbers_are_learnt),
		cmocka_unit_test(targets_are_learnt),
		cmocka_unit_test(runs_repeat),
		cmocka_unit_test(embeddings_under_a_patch),
		cmocka_unit_test(inspected),
		cmocka_unit_test(rows_that_are_left_out),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(losses_that_are_none),
		cmocka_unit_test(rows_that_cannot_be_written),
		cmocka_unit_test(outputs_apart),
		cmocka_unit_test(wrong_files),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
