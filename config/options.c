#include "config/options.h"

#include <string.h>

const struct option options[] = {
#define TEXT(field_, key_, default_, text_)                                                                            \
	{ .kind = OPTION_TEXT,                                                                                         \
	  .offset = offsetof(struct config, field_),                                                                   \
	  .key = key_,                                                                                                 \
	  .text = text_,                                                                                               \
	  .text_default = default_ },
#define REQUIRED(field_, key_, example_, text_)                                                                        \
	{ .kind = OPTION_REQUIRED,                                                                                     \
	  .offset = offsetof(struct config, field_),                                                                   \
	  .key = key_,                                                                                                 \
	  .text = text_,                                                                                               \
	  .text_default = example_ },
#define WHOLE(field_, key_, default_, low_, high_, unit_, text_)                                                       \
	{ .kind = OPTION_WHOLE,                                                                                        \
	  .offset = offsetof(struct config, field_),                                                                   \
	  .key = key_,                                                                                                 \
	  .text = text_,                                                                                               \
	  .whole_default = default_,                                                                                   \
	  .low = low_,                                                                                                 \
	  .high = high_,                                                                                               \
	  .unit = unit_ },
#define FLAG(field_, key_, default_, text_)                                                                            \
	{ .kind = OPTION_FLAG,                                                                                         \
	  .offset = offsetof(struct config, field_),                                                                   \
	  .key = key_,                                                                                                 \
	  .text = text_,                                                                                               \
	  .whole_default = default_ },
#define LIST(field_, key_, text_)                                                                                      \
	{ .kind = OPTION_LIST, .offset = offsetof(struct config, field_), .key = key_, .text = text_ },
#define SECTION(key_, text_) { .kind = OPTION_SECTION, .key = key_, .text = text_ },
#include "config/options.def"
#undef TEXT
#undef REQUIRED
#undef WHOLE
#undef FLAG
#undef LIST
#undef SECTION
};
const size_t options_count = sizeof options / sizeof options[0];

const struct option *option_find(const char *key)
{
	for (size_t i = 0; i < options_count; i++)
		if (options[i].kind != OPTION_SECTION && !strcmp(options[i].key, key))
			return &options[i];
	return NULL;
}

bool option_is_section(const char *key)
{
	size_t length = strlen(key);
	for (size_t i = 0; i < options_count; i++)
		if (!strncmp(options[i].key, key, length) && options[i].key[length] == '.')
			return true;
	return false;
}

/* Levenshtein's distance over the first 63 bytes of each, with neighbours swapped counted as one edit. */
static unsigned distance(const char *a, const char *b)
{
	enum { MOST = 63 };
	size_t n = strnlen(a, MOST), m = strnlen(b, MOST);
	unsigned row[3][MOST + 1];
	for (size_t j = 0; j <= m; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);
			if (before[j] + 1 < best)
				best = before[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best)
				best = earlier[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[n % 3][m];
}

static const char *last_part(const char *key)
{
	const char *dot = strrchr(key, '.');
	return dot ? dot + 1 : key;
}

static void consider(const char *key, const char *candidate, const char **best, unsigned *best_distance)
{
	unsigned whole = distance(key, candidate);
	unsigned part = distance(last_part(key), last_part(candidate)) + 1;
	unsigned d = whole < part ? whole : part;
	if (d < *best_distance) {
		*best = candidate;
		*best_distance = d;
	}
}

const char *option_nearest(const char *key)
{
	const char *best = options[0].key;
	unsigned best_distance = ~0u;
	for (size_t i = 0; i < options_count; i++)
		consider(key, options[i].key, &best, &best_distance);
	consider(key, "interactions.fields", &best, &best_distance);
	consider(key, "kafka", &best, &best_distance);
	consider(key, "tasks", &best, &best_distance);
	return best;
}

const char *nearest_name(const char *name, const char *const names[])
{
	const char *best = names[0];
	unsigned best_distance = ~0u;
	for (size_t i = 0; names[i]; i++) {
		unsigned d = distance(name, names[i]);
		if (d < best_distance) {
			best = names[i];
			best_distance = d;
		}
	}
	return best;
}
