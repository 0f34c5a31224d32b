/* "1 record", "2 records". */
#ifndef BASE_PLURAL_H
#define BASE_PLURAL_H

#include <stdint.h>

/* The ending of a regular noun that follows the number. */
static inline const char *plural(int64_t number)
{
	return number == 1 ? "" : "s";
}

#endif
