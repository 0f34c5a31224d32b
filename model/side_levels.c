#include "model/side.h"

size_t side_levels(const struct patch_spec *spec, uint32_t trunk_blocks, uint32_t levels[])
{
	size_t count = 0;
	for (uint32_t level = 0; level <= trunk_blocks; level++) {
		if (!spec->blocks[level] && level != trunk_blocks)
			continue;
		if (levels != NULL)
			levels[count] = level;
		count++;
	}
	return count;
}
