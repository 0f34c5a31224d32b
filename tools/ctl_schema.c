/* peterctl schema: the shipped Avro schemas. */
#include "tools/ctl.h"

#include "io/schema.h"

#include <stdio.h>
#include <string.h>

static enum status print_schema(const char *name, struct error *err)
{
	const char *const *names = schema_names();
	const char *json = schema_json(name);
	size_t count = 0;
	if (json) {
		printf("%s%s", json, *json && json[strlen(json) - 1] == '\n' ? "" : "\n");
		return STATUS_OK;
	}
	while (names[count])
		count++;
	const char *nearest = ctl_nearest(name, names, count);
	return error_set(err, STATUS_USAGE, "%s: no such schema%s%s", name,
			 nearest ? "; did you mean " : "; peterctl schema lists them", nearest ? nearest : "");
}

enum status ctl_schema(int argc, char **argv, struct error *err)
{
	const struct ctl_usage usage = {
		"schema",
		"[NAME]",
		"Prints the Avro schema of that name as JSON; without a name, the names of those that are shipped.\n",
		NULL,
		0,
		1
	};
	int operands;
	bool help;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (operands < argc)
		return print_schema(argv[operands], err);
	for (const char *const *name = schema_names(); *name; name++)
		printf("%s\n", *name);
	return STATUS_OK;
}
