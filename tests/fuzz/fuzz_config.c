/* The configuration parser on any bytes: an error of one line, or a struct that frees. */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = NULL;
	struct error err = { 0 };
	enum status s = config_parse("f", (const char *)data, size, &config, &err);
	if (s ? config || !*err.text || strchr(err.text, '\n') : !config)
		abort();
	config_free(config);
	return 0;
}
