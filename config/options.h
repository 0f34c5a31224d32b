/* options.def as a table. Internal to config/. */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include "config/config.h"

enum option_kind { OPTION_TEXT, OPTION_REQUIRED, OPTION_WHOLE, OPTION_FLAG, OPTION_LIST, OPTION_SECTION };

struct option {
	enum option_kind kind;
	size_t offset;                    /* of the field in struct config */
	const char *key;                  /* dotted */
	const char *text;                 /* for people */
	const char *text_default;         /* OPTION_REQUIRED: an example */
	int64_t whole_default, low, high; /* OPTION_FLAG: the default as 0 or 1 */
	const char *unit;
};

extern const struct option options[];
extern const size_t options_count;

const struct option *option_find(const char *key); /* NULL: no such option; sections are not options */
bool option_is_section(const char *key);           /* options' keys begin with "<key>." */

/* The nearest of all keys (options, sections, "kafka", "tasks") by edit distance; for a name at the wrong level, by its
 * last part. Never NULL. Static. */
const char *option_nearest(const char *key);

/* The nearest of `names` (ends with NULL). */
const char *nearest_name(const char *name, const char *const names[]);

#endif
