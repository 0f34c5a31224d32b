/* What the daemon would say of a definition, by the backbone that its configuration names, where that can be read here. Main
 * thread. */
#ifndef TOOLS_LOCAL_FIT_H
#define TOOLS_LOCAL_FIT_H

#include "config/config.h"
#include "daemon/task_fit.h"

struct local_fit {
	struct backbone *backbone; /* NULL: it cannot be read here */
	struct task_fit fit;
	struct task_judge judge;
	struct error why; /* it cannot */
};

/* *ret stays where it is until it is closed; a zeroed one may be closed. Errors: STATUS_MEMORY. */
enum status local_fit_open(const struct config *config, struct local_fit *ret, struct error *err) MUST_CHECK;
void local_fit_close(struct local_fit *f);

const struct task_judge *local_fit_judge(const struct local_fit *f); /* NULL: nobody can tell here */

void local_fit_say(const struct local_fit *f); /* a line on stderr where nobody can tell */

#endif
