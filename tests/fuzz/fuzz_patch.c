/* Any bytes as a patch: refused with a reason that names the file, or loaded and usable. */
#include "model/patch.h"
#include "model/side.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BOTTLENECK 64 /* larger ones are loaded, not run */

static struct network *network(void)
{
	static struct network *net;
	const struct network_shape shape = { .channels = 4,
					     .kernel_size = 2,
					     .blocks = 2,
					     .dilations = { 1, 2 },
					     .items = 5,
					     .eps = 1e-8F,
					     .causal = true };
	struct error err;
	struct random_stream random = random_from(1, 1);
	if (net == NULL) {
		if (network_new(&shape, &net, &err) != STATUS_OK)
			abort();
		network_randomise(net, &random);
	}
	return net;
}

static void run(const struct network *net, const struct patch *p)
{
	struct error err;
	struct network_pass *pass = NULL;
	struct side_pass *side = NULL;
	const size_t offsets[] = { 0, 3, 3 };
	const uint32_t items[] = { 2, 3, 4 };
	const struct network_batch batch = { .sequences = 2, .offsets = offsets, .items = items };
	float states[2 * 3 * 2 * 4];
	if (network_pass_new(net, p->spec.bottleneck, 5, 2, NETWORK_KEEP_LEVELS, &pass, &err) != STATUS_OK)
		abort();
	if (p->spec.insertion == PATCH_SIDE) {
		side_states(net, pass, &batch, p, states);
		if (side_pass_new(p, 2, &side, &err) != STATUS_OK)
			abort();
		(void)side_forward(p, side, 2, states);
	} else {
		network_forward(net, &p->adapters, pass, &batch);
	}
	side_pass_free(side);
	network_pass_free(pass);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct patch *p = NULL;
	bool unnamed = false;
	const struct network *net = network();
	enum status status = patch_load_memory("fuzz", data, size, net, "", &p, &unnamed, &err);
	if (status != STATUS_OK) {
		if ((status != STATUS_DATA && status != STATUS_MEMORY) || strncmp(err.text, "fuzz: ", 6) != 0 ||
		    strchr(err.text, '\n') != NULL)
			abort();
		return 0;
	}
	if (p->spec.bottleneck <= SMALL_BOTTLENECK)
		run(net, p);
	patch_free(p);
	return 0;
}
