/* The trainable network's forward: against the serving trunk, and against its formulas. */
#include "model_fixture.h"
#include "network_fixture.h"

#include <string.h>

#define SERVING_BOUND 1e-5
#define FORMULA_BOUND 1e-5 /* relative to the largest value */

static const struct random_backbone served[] = {
	{ 8, 3, "1,4,1,4", true, 0, 1 },   { 16, 2, "1,3,5", true, 0, 2 },   { 64, 3, "1,4,1,4,1,4,1,4", true, 0, 3 },
	{ 64, 4, "7,2", true, 0, 5 },      { 20, 3, "2,5", true, 0, 6 },     { 8, 1, "1", true, 0, 7 },
	{ 8, 3, "1,4,1,4", false, 40, 8 }, { 64, 2, "3,1,2", false, 30, 9 }, { 20, 4, "1,5", false, 25, 10 },
};

static void load_both(const struct random_backbone *r, struct backbone **b, struct network **net)
{
	struct error err;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, r);
	if (backbone_load(path, b, &err) != STATUS_OK || network_load(path, net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
}

static void check_served(const struct random_backbone *r, bool every, enum network_keep keep)
{
	struct backbone *b = NULL;
	struct network *net = NULL;
	load_both(r, &b, &net);
	struct backbone_workspace *ws = fixture_workspace(b);
	const uint32_t longest = backbone_window(b) + 1;
	const uint32_t lengths[] = { 0, 1, 2, 7, longest - 1, longest, longest + 50, 0, 30 };
	struct network_fixture *f = fixture_batch(net, lengths, sizeof lengths / sizeof lengths[0], every, 0, keep);
	float *expected = calloc(f->batch.sequences * r->channels, sizeof *expected);
	backbone_embed(b, ws, f->batch.sequences, f->batch.offsets, f->batch.items, NULL, expected);
	network_forward(net, NULL, f->pass, &f->batch);
	double difference = fixture_difference(network_pass_task(f->pass), expected, f->batch.sequences * r->channels);
	if (!(difference <= SERVING_BOUND * 10))
		fail_msg("d = %u, %s: off by %g", r->channels, r->dilations, difference);
	free(expected);
	fixture_batch_free(f);
	backbone_workspace_free(ws);
	backbone_free(b);
	network_free(net);
}

static void test_serving(void **unused)
{
	for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
		check_served(&served[i], false, NETWORK_KEEP_NOTHING);
		check_served(&served[i], true, NETWORK_KEEP_ALL);
		check_served(&served[i], true, NETWORK_KEEP_LEVELS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serving),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
