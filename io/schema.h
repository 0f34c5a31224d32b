/* The Avro schemas that peterd ships (io/schemas), built into the programs.
 *
 * Any thread; everything returned lives as long as the program. */
#ifndef IO_SCHEMA_H
#define IO_SCHEMA_H

#include <stddef.h>

/* The JSON text of the schema of that name ("Interaction"), byte for byte as in its file; NULL where there is none. */
const char *schema_json(const char *name);

/* The names, in the order of their files, NULL-terminated. */
const char *const *schema_names(void);

#endif
