/* The configuration parser on any bytes, and that of files of tasks: an error of one line, or a struct that frees. */
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
	config = NULL;
	s = config_parse_tasks("f", (const char *)data, size, &config, &err);
	if (s ? config || !*err.text || strchr(err.text, '\n') : !config)
		abort();
	for (size_t i = 0; config && i < config->tasks_count; i++) {
		char hash[HASH_HEX_LENGTH + 1];
		if (!config->tasks[i].name || config_task_hash(&config->tasks[i], hash, &err))
			abort();
	}
	config_free(config);
	return 0;
}
