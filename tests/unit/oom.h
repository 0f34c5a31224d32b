/* Failing allocations, for programs named test_*_oom.c: the linker sends the floors' calls of malloc, calloc, realloc,
 * reallocarray, strdup, strndup, aligned_alloc and posix_memalign here (those inside shared libraries are untouched).
 *
 * A sweep fails the 1st, the 2nd, ... allocation until nothing fails any more:
 *
 *     for (size_t n = 1;; n++) {
 *             oom_fail_at(n);
 *             status = thing_new(&thing, &err);
 *             bool failed = oom_failed();
 *             oom_reset();
 *             if (!failed)
 *                     break;
 *             assert_int_equal(status, STATUS_MEMORY);
 *     }
 *
 * The counter is shared by all threads of the program. */
#ifndef TESTS_UNIT_OOM_H
#define TESTS_UNIT_OOM_H

#include <stdbool.h>
#include <stddef.h>

/* Counts from zero again and fails the n-th allocation from here (1 is the next one) and no other. */
void oom_fail_at(size_t n);

/* The same, and every one after it. */
void oom_fail_from(size_t n);

/* Nothing fails any more; counts from zero. */
void oom_reset(void);

/* Allocations since the last oom_reset or oom_fail_*. */
size_t oom_count(void);

/* Whether one of them was made to fail. */
bool oom_failed(void);

#endif
