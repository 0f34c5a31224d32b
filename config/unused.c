/* Keys that are checked, and that nothing in the daemon reads yet: they are for training on examples. */
#include "config/options.h"

#include <stdio.h>
#include <string.h>

static bool is_unused(const char *key)
{
	static const char *const prefixes[] = { "patch.", "topics.patches" };
	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
		if (!strncmp(key, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static bool is_default(const struct config *c, const struct option *o)
{
	const void *field = (const char *)c + o->offset;
	return o->kind == OPTION_WHOLE ? *(const int64_t *)field == o->whole_default
				       : !strcmp(*(char *const *)field, o->text_default);
}

bool config_unused(const struct config *config, char *text, size_t size)
{
	bool meant = false;
	size_t used = 0;
	text[0] = '\0';
	for (size_t i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		if (o->kind == OPTION_SECTION || !is_unused(o->key) || !config_line(config, o->key))
			continue;
		meant = meant || !is_default(config, o);
		if (used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", o->key);
	}
	return meant;
}
