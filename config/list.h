/* Lists of the configuration's values. A zeroed one is empty. */
#ifndef CONFIG_LIST_H
#define CONFIG_LIST_H

#include <stddef.h>
#include <stdint.h>

struct config_list {
	char **items;
	size_t count;
};

struct config_numbers {
	uint32_t *items;
	size_t count;
};

void config_list_clear(struct config_list *list);          /* frees and zeroes */
void config_numbers_clear(struct config_numbers *numbers); /* likewise */

#endif
