/* peterctl pretrain as its users meet it: files in, files out, one line for what is wrong. */
#include "tools/ctl.h"

#include "model/backbone.h"
#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>

enum { WORDS = 40, USERS = 60, ITEMS = 20 };

static char events[256];
static char folder[] = "/tmp/peterd-pretrain-XXXXXX";
static int output; /* the true standard output */

static char *in_folder(const char *name)
{
	static char paths[4][300];
	static unsigned next;
	char *path = paths[next++ % 4];
	(void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static int begin(void **state)
{
	static char text[USERS * 40 * 24];
	size_t used = (size_t)sprintf(text, "user_id,item_id,timestamp\n");
	for (int user = 0; user < USERS; user++)
		for (int i = 0; i < 2 + user % 30; i++)
			used += (size_t)sprintf(text + used, "u%d,i%d,%d\n", user, (user * 3 + i * 7) % ITEMS, i);
	text_file_make(".csv", text, used, events);
	output = dup(STDOUT_FILENO);
	return output < 0 || !mkdtemp(folder);
}

static int end(void **state)
{
	char command[300];
	(void)snprintf(command, sizeof command, "rm -r %s", folder);
	return unlink(events) || system(command);
}

/* Runs it with the shape of a toy and the words of `more`; what it prints goes nowhere. */
static enum status run(const char *file, const char *out, const char *more, struct error *err)
{
	char words[WORDS][300];
	char *argv[WORDS + 1];
	char text[2000];
	int argc = 0;
	(void)snprintf(text, sizeof text,
		       "pretrain --events %s --out %s --channels 8 --dilations 1,2 --window 10 --batch 16 --threads 2 "
		       "--rate 0.01 --warm-up 3 %s",
		       file, out, more);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
		(void)snprintf(words[argc], sizeof words[0], "%s", word);
		argv[argc] = words[argc];
		argc++;
	}
	argv[argc] = NULL;
	(void)fflush(stdout);
	int nowhere = open("/dev/null", O_WRONLY);
	assert_true(dup2(nowhere, STDOUT_FILENO) >= 0);
	enum status status = ctl_pretrain(argc, argv, err);
	(void)fflush(stdout);
	assert_true(dup2(output, STDOUT_FILENO) >= 0);
	(void)close(nowhere);
	return status;
}

/* The file's hash as the backbone it is. */
static void pretrain(const char *more, char hash[HASH_HEX_LENGTH + 1])
{
	struct error err;
	struct backbone *b = NULL;
	char *out = in_folder("b.safetensors");
	if (run(events, out, more, &err) != STATUS_OK || backbone_load(out, &b, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(backbone_items(b), ITEMS + BACKBONE_FIRST_ITEM);
	assert_int_equal(backbone_dim(b), 8);
	assert_true(backbone_causal(b) == !strstr(more, "--non-causal"));
	memcpy(hash, backbone_hash(b), HASH_HEX_LENGTH + 1);
	backbone_free(b);
	(void)unlink(out);
}

static void the_same_words_give_the_same_file(void **state)
{
	static const char *const ways[] = {
		"--epochs 2",
		"--epochs 2 --seed 2",
		"--epochs 2 --non-causal",
		"--epochs 2 --validation-users 0 --json",
		"--epochs 2 --loss sampled --sampled 5",
		"--epochs 2 --schedule constant --average 0 --decay 0.01 --tied",
	};
	char hashes[CTL_COUNT(ways)][HASH_HEX_LENGTH + 1];
	char again[HASH_HEX_LENGTH + 1];
	for (size_t i = 0; i < CTL_COUNT(ways); i++) {
		pretrain(ways[i], hashes[i]);
		pretrain(ways[i], again);
		assert_string_equal(hashes[i], again);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(hashes[i], hashes[j]);
	}
}

static void goes_on_from_a_checkpoint(void **state)
{
	char words[400];
	char straight[HASH_HEX_LENGTH + 1];
	char first[HASH_HEX_LENGTH + 1];
	char resumed[HASH_HEX_LENGTH + 1];
	const char *checkpoint = in_folder("run");
	pretrain("--schedule constant --epochs 4", straight);
	(void)snprintf(words, sizeof words, "--schedule constant --epochs 2 --checkpoint %s", checkpoint);
	pretrain(words, first);
	assert_string_not_equal(first, straight);
	(void)snprintf(words, sizeof words, "--schedule constant --epochs 4 --resume --checkpoint %s --threads 1",
		       checkpoint);
	pretrain(words, resumed); /* the parts stay two */
	assert_string_equal(resumed, straight);
	pretrain(words, resumed); /* nothing is left to do */
	assert_string_equal(resumed, straight);
	(void)unlink(checkpoint);
}

static void expect(const char *file, const char *more, enum status status, const char *text)
{
	struct error err = { 0 };
	char *out = in_folder("c.safetensors");
	assert_int_equal(run(file, out, more, &err), status);
	assert_int_equal(err.status, status);
	if (!strstr(err.text, text))
		fail_msg("%s", err.text);
	assert_null(strchr(err.text, '\n'));
	assert_int_not_equal(access(out, F_OK), 0);
}

static void wrong_words(void **state)
{
	char words[700];
	char other[256];
	expect(events, "--dilations 1,,2", STATUS_USAGE, "--dilations: 1,,2 is not a comma list");
	expect(events, "--dilations 1,0", STATUS_USAGE, "--dilations: 1,0 is not a comma list");
	expect(events, "--loss half", STATUS_USAGE, "--loss: half is none of");
	expect(events, "--schedule linear", STATUS_USAGE, "--schedule: linear is neither");
	expect(events, "--resume", STATUS_USAGE, "--resume: --checkpoint is missing");
	expect(events, "--dropout 1", STATUS_USAGE, "--dropout: must be below 1");
	expect(events, "--out /nowhere/b", STATUS_IO, "--out: /nowhere/b: cannot be written");
	expect(events, "--out /dev/null", STATUS_USAGE, "--out: /dev/null is no regular file");
	(void)snprintf(words, sizeof words, "--out %s", events);
	expect(events, words, STATUS_USAGE, "is the file of --events");
	(void)snprintf(words, sizeof words, "--checkpoint %s", events);
	expect(events, words, STATUS_USAGE, "is the file of --events");
	(void)snprintf(words, sizeof words, "--out %s/one --checkpoint %s/./one", folder, folder);
	expect(events, words, STATUS_USAGE, "is the file of --out");
	(void)snprintf(words, sizeof words, "--resume --checkpoint %s/none", folder);
	expect(events, words, STATUS_NO_INPUT, "/none");
	text_file_make(".csv", "user_id", 7, other);
	(void)snprintf(words, sizeof words, "--resume --checkpoint %s", other);
	expect(events, words, STATUS_DATA, other);
	(void)unlink(other);
	expect("/nowhere/e.csv", "", STATUS_NO_INPUT, "/nowhere/e.csv");
	expect(events, "--dilations 30000,30000", STATUS_USAGE, "--dilations: the receptive field would be 360001");
}

/* A run goes on with its own settings, which are named as people know them. */
static void other_settings(void **state)
{
	static const struct {
		const char *words;
		const char *says;
	} cases[] = {
		{ "--epochs 3", "made with --schedule cosine --epochs 2, and this run has 3" },
		{ "--epochs 2 --schedule constant", "made with --schedule cosine --epochs 2, and this run has 0" },
		{ "--epochs 2 --rate 0.02", "made with --rate 0.00999999978, and this run has 0.0199999996" },
		{ "--epochs 2 --kernel-size 2", "made with --kernel-size 3, and this run has 2" },
	};
	char words[400];
	char hash[HASH_HEX_LENGTH + 1];
	char checkpoint[300];
	(void)snprintf(checkpoint, sizeof checkpoint, "%s/other", folder);
	(void)snprintf(words, sizeof words, "--epochs 2 --checkpoint %s", checkpoint);
	pretrain(words, hash);
	for (size_t i = 0; i < CTL_COUNT(cases); i++) {
		(void)snprintf(words, sizeof words, "--checkpoint %s --resume %s", checkpoint, cases[i].words);
		expect(events, words, STATUS_DATA, cases[i].says);
	}
	(void)unlink(checkpoint);
}

/* A small run has few steps: more of them for the warm-up than a tenth is the same as a tenth. */
static void short_warm_up(void **state)
{
	char capped[HASH_HEX_LENGTH + 1];
	char tenth[HASH_HEX_LENGTH + 1];
	char none[HASH_HEX_LENGTH + 1];
	pretrain("--epochs 4 --warm-up 1000", capped);
	pretrain("--epochs 4 --warm-up 4", tenth); /* of 46 */
	pretrain("--epochs 4 --warm-up 0", none);
	assert_string_equal(capped, tenth);
	assert_string_not_equal(capped, none);
	pretrain("--epochs 1 --batch 1000", capped); /* one step, and it teaches */
	pretrain("--epochs 1 --batch 1000 --rate 0.1", tenth);
	assert_string_not_equal(capped, tenth);
	pretrain("--epochs 4 --schedule constant --warm-up 1000", capped);
	pretrain("--epochs 4 --schedule constant --warm-up 4", tenth);
	assert_string_not_equal(capped, tenth);
}

/* Whatever a rate makes of the weights: said, and nothing is written. */
static void exploding_weights(void **state)
{
	static const char *const ways[] = {
		"--epochs 1 --rate 1e30",
		"--epochs 1 --rate 1e300",
		"--epochs 3 --rate 1e36 --clip 0 --average 0",
		"--epochs 2 --rate 1e30 --validation-users 0 --schedule constant",
		"--epochs 2 --rate 1e30 --non-causal",
		"--epochs 1 --rate 1e30 --batch 1000 --json",
	};
	for (size_t i = 0; i < CTL_COUNT(ways); i++)
		expect(events, ways[i], STATUS_DATA, "a lower ");
}

static void expect_bad(const char *rows, const char *text)
{
	char path[256];
	char content[300];
	int length = snprintf(content, sizeof content, "user_id,item_id,timestamp\n%s", rows);
	text_file_make(".csv", content, (size_t)length, path);
	expect(path, "", STATUS_DATA, text);
	expect(path, "", STATUS_DATA, path);
	(void)unlink(path);
}

static void bad_events(void **state)
{
	expect_bad("", "no events");
	expect_bad("u,a,1\nu,a,2\nu,a,3\n", "two items at least are needed, there is 1");
	expect_bad("u,a,1\nv,b,2\nw,c,3\n", "no user has two events to learn from");
	expect_bad("u,a,1\nu,b,nan\n", "line 3: timestamp nan is not");
	expect_bad("u,a\n", "line 2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_words_give_the_same_file),
		cmocka_unit_test(goes_on_from_a_checkpoint),
		cmocka_unit_test(wrong_words),
		cmocka_unit_test(other_settings),
		cmocka_unit_test(short_warm_up),
		cmocka_unit_test(exploding_weights),
		cmocka_unit_test(bad_events),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
