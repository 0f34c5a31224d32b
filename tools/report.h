/* What an evaluation found: facts and numbers with their standard errors, as a table for people or one JSON object.
 *
 * A row without a key is for people alone, one without a name for JSON. A number X with an error becomes "X" and "X_error" in JSON; what is not finite becomes null. One thread. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "base/error.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPORT_ROWS = 96 };

struct report {
	struct report_row {
		char key[32];  /* in JSON: "mrr@10" */
		char name[32]; /* for people: "MRR@10" */
		enum { REPORT_TEXT, REPORT_COUNT, REPORT_NUMBER } kind;
		char text[128];
		uint64_t count;
		double value;
		double error; /* NaN: none */
	} rows[REPORT_ROWS];
	size_t count;
};

void report_text(struct report *r, const char *key, const char *name, const char *text);
void report_count(struct report *r, const char *key, const char *name, uint64_t count);
void report_number(struct report *r, const char *key, const char *name, double value, double error);

/* On standard output. Errors: STATUS_MEMORY. */
enum status report_print(const struct report *r, bool json, struct error *err) MUST_CHECK;

#endif
