/* Two clocks that must not be mixed: monotonic time for intervals, wall time for what people and records see.
 * Any thread. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_monotonic_us(void);  /* since an arbitrary start, never back */
int64_t clock_wall_ms(void);       /* since the epoch, UTC */
int64_t clock_thread_cpu_us(void); /* CPU time of the calling thread */

#endif
