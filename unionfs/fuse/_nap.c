/* Sleeping until the next request comes, without going back to Python for it.
 *
 * Through libfuse and pyfuse3 to the loop's own wait and back are some microseconds for each request
 * of a client that lets us sleep between them. So an empty queue is waited for right here, for a
 * moment, as the loop would; it has its turn when none comes, after a few such moments, and when
 * Python has something else to do: a signal, a task that waits for a thread's end (nap_limit).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_native.h"

#include <poll.h>

#define NAPS 64 /* of two ms at most each: what a task may have to wait for */

static int limit_ms; /* 0: never */
static int naps;

void nap_limit(int milliseconds)
{
	limit_ms = milliseconds;
}

int nap(int fd)
{
	struct pollfd queue = {.fd = fd, .events = POLLIN};
	int found;

	if (limit_ms == 0 || naps == NAPS || !PyGILState_Check()) {
		naps = 0;
		return 0;
	}
	naps++;
	Py_BEGIN_ALLOW_THREADS
	found = poll(&queue, 1, limit_ms) > 0;
	Py_END_ALLOW_THREADS
	if (!found)
		naps = 0;
	return found;
}
