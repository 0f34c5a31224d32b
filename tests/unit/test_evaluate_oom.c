/* Every allocation of `peterctl evaluate` may fail: each failure says so, prints nothing, and leaks nothing (the sanitizers
 * watch). */
#include "tools/ctl.h"

#include "model/backbone_write.h"
#include "model/patch.h"
#include "network_fixture.h"
#include "oom.h"
#include "text_file.h"

#include <sys/stat.h>

static const char *const ids[] = { "a", "b", "c", "d" };
static char backbone[256], patch[256], events[256], labels[256], sequences[256], targets[256];

static void make_text(const char *text, char path[256])
{
	text_file_make(".csv", text, strlen(text), path);
}

static int set_up(void **state)
{
	struct error err;
	struct patch *p = NULL;
	struct random_stream random = random_from(1, 1);
	const struct network_shape shape = { .channels = 8,
					     .kernel_size = 2,
					     .blocks = 1,
					     .dilations = { 1 },
					     .items = 4 + BACKBONE_FIRST_ITEM,
					     .eps = 1e-8F,
					     .causal = true,
					     .output = true };
	const struct patch_spec spec = { .type = PATCH_RANKING,
					 .insertion = PATCH_SIDE,
					 .bottleneck = 2,
					 .mean_window = 2,
					 .blocks = { true, true } };
	struct network *net = fixture_network(&shape, 1);
	make_text("user_id,item_id,timestamp\nu,a,1\nv,a,2\nu,b,3\nv,c,4\nu,d,5\n", events);
	make_text("user_id,label,timestamp\nu,a,4\nv,b,9\n", labels);
	make_text("a b c\n", sequences);
	make_text("d\n", targets);
	make_text("", backbone);
	make_text("", patch);
	if (backbone_write(backbone, net, ids, false, &err) || patch_new(&spec, net, "t", ids, 4, &random, &p, &err) ||
	    patch_save(p, patch, &err))
		fail_msg("%s", err.text);
	patch_free(p);
	network_free(net);
	return 0;
}

static int tear_down(void **state)
{
	const char *const all[] = { backbone, patch, events, labels, sequences, targets };
	for (size_t i = 0; i < CTL_COUNT(all); i++)
		(void)unlink(all[i]);
	return 0;
}

/* With standard output and error in files; *ret_bytes: what came to the first. */
static enum status run(const char *const words[], off_t *ret_bytes, struct error *err)
{
	char copies[16][256], *argv[17] = { NULL };
	int argc = 0;
	FILE *out = tmpfile(), *errors = tmpfile();
	struct stat seen;
	assert_true(out && errors);
	for (; words[argc]; argc++) {
		(void)snprintf(copies[argc], sizeof copies[argc], "%s", words[argc]);
		argv[argc] = copies[argc];
	}
	(void)fflush(stdout);
	int kept[] = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };
	assert_true(dup2(fileno(out), STDOUT_FILENO) >= 0 && dup2(fileno(errors), STDERR_FILENO) >= 0);
	enum status status = ctl_evaluate(argc, argv, err);
	(void)fflush(stdout);
	assert_true(dup2(kept[0], STDOUT_FILENO) >= 0 && dup2(kept[1], STDERR_FILENO) >= 0);
	assert_int_equal(fstat(fileno(out), &seen), 0);
	*ret_bytes = seen.st_size;
	(void)close(kept[0]);
	(void)close(kept[1]);
	(void)fclose(out);
	(void)fclose(errors);
	return status;
}

static void sweep(const char *const words[])
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		off_t bytes = 0;
		oom_fail_at(n);
		enum status status = run(words, &bytes, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(bytes > 0);
			assert_true(n > 30);
			return;
		}
		if (status != STATUS_MEMORY)
			fail_msg("allocation %zu: status %d, %s", n, status, err.text);
		assert_true(bytes == 0);
	}
}

static void next_items(void **state)
{
	const char *const words[] = {
		"evaluate", "--backbone", backbone, "--events", events, "--negatives", "2", NULL
	};
	sweep(words);
}

static void lines(void **state)
{
	const char *const words[] = { "evaluate", "--backbone", backbone, "--sequences",
				      sequences,  "--targets",  targets,  NULL };
	sweep(words);
}

static void tasks(void **state)
{
	const char *const words[] = { "evaluate", "--backbone", backbone, "--events",  events, "--patch",
				      patch,      "--labels",   labels,   "--threads", "1",    NULL };
	sweep(words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(next_items),
		cmocka_unit_test(lines),
		cmocka_unit_test(tasks),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
