/* Spinning.
 *
 * Sleeping and waking up is the largest cost of a round trip, and the next request of a busy client
 * follows within tens of microseconds. So an empty queue is asked again for up to spin_ns, which
 * adapts as KVM's halt polling does: it grows while requests come soon after we would have slept,
 * and falls to nothing when they do not. Requests that come later than spin_max are not waited for.
 *
 * Spinning only pays where another processor runs the client meanwhile. When the scheduler takes
 * this one away from us (involuntary context switches), others want it, and we stop for a while. It
 * does so on a quiet machine, too, for its own threads (RCU, softirqs), but seldom; where it has put
 * the client beside us, at every answer.
 *
 * A client that always asks just before we would give up would have a whole processor spun away, and
 * gain the same few microseconds by each request. So three quarters of the time are spun at most. (With
 * half of it a client that does nothing but ask took up to a third longer.)
 *
 * Nor does it pay while as many clients are at work as there are processors: each of them could run
 * where we spin. Who made a request a moment ago is at work.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SPIN_FIRST 10000L /* ns */
#define SPIN_REST 50000000L /* ns */
#define SPIN_SHARE 75 /* percent of the time may be spun, */
#define SPIN_SAVED 50000000L /* ns, and what was not, later, up to this */
#define CLIENTS 16 /* a power of two */
#define SPIN_AT_WORK 500000L /* ns */
#define SPIN_PREEMPTED 4 /* times that do not count, between two spins for nothing, */
#define SPIN_SELDOM 1000000L /* ns; nor do those that come more seldom */

static long spin_max; /* ns; 0: never */
static long spin_ns;
static long long empty_since; /* when the queue was first found empty; 0: it was not */
static long long rest_until;
static long preempted; /* times, */
static long long preempted_ns; /* and when that was counted */
static long long credit; /* ns that may be spun */
static long long credited; /* when that was counted */
static unsigned long long spun; /* ns, for nothing or not */
static unsigned long long caught;

static int processors;
static uint64_t asked_ns[CLIENTS]; /* when a client last did; by its number, or another's like it */

static long long now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void adapt(long long waited)
{
	if (waited > spin_max)
		spin_ns = 0;
	else if (spin_ns == 0)
		spin_ns = SPIN_FIRST;
	else if (waited > spin_ns)
		spin_ns = spin_ns * 2 < spin_max ? spin_ns * 2 : spin_max;
}

static long preemptions(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static void rest_if_preempted(long long now)
{
	long count = preemptions();

	if (count - preempted > SPIN_PREEMPTED &&
	    now - preempted_ns < (count - preempted) * SPIN_SELDOM)
		rest_until = now + SPIN_REST;
	preempted = count;
	preempted_ns = now;
}

/* Whether to spin at *now*. What happens during a rest is no reason for another. */
static int is_rested(long long now)
{
	if (now < rest_until)
		return 0;
	if (rest_until) {
		preempted = preemptions();
		preempted_ns = now;
	}
	rest_until = 0;
	return 1;
}

static int has_credit(long long now)
{
	credit += (now - credited) / 100 * SPIN_SHARE;
	credited = now;
	if (credit > SPIN_SAVED)
		credit = SPIN_SAVED;
	return credit > 0;
}

void spin_request(const struct fuse_in_header *head, uint64_t now)
{
	switch (head->opcode) { /* not those of the kernel's own */
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		return;
	}
	asked_ns[head->pid & (CLIENTS - 1)] = now;
}

static int is_crowded(uint64_t now)
{
	int at_work = 0;

	for (int i = 0; i < CLIENTS; i++)
		at_work += asked_ns[i] + SPIN_AT_WORK > now;
	return at_work >= processors;
}

static ssize_t spin(int fd, void *buffer, size_t length, long long start)
{
	long long now = start;
	ssize_t size;

	do {
		size = read(fd, buffer, length);
		if (size >= 0 || errno != EAGAIN)
			break;
		now = now_ns();
	} while (now - start < spin_ns);
	if (size >= 0)
		caught++;
	spun += now - start;
	credit -= now - start;
	return size;
}

ssize_t spin_read(int fd, void *buffer, size_t length)
{
	ssize_t size = read(fd, buffer, length);
	long long now;

	while (size < 0 && errno == EAGAIN && next_work())
		size = read(fd, buffer, length);
	if (spin_max == 0)
		return size;
	if (size >= 0) {
		if (empty_since) {
			adapt(now_ns() - empty_since);
			empty_since = 0;
		}
		return size;
	}
	if (errno != EAGAIN || empty_since)
		return size;
	now = empty_since = now_ns();
	if (spin_ns == 0 || !has_credit(now) || is_crowded((uint64_t)now) || !is_rested(now))
		return size;
	size = spin(fd, buffer, length, now);
	if (size >= 0) {
		empty_since = 0;
	} else {
		int error = errno;

		rest_if_preempted(now_ns());
		errno = error;
	}
	return size;
}

void spin_limit(long microseconds)
{
	cpu_set_t usable;

	processors = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? CPU_COUNT(&usable) : CLIENTS;
	spin_max = microseconds * 1000;
	spin_ns = 0;
	empty_since = 0;
}

void spin_totals(unsigned long long *ns, unsigned long long *count)
{
	*ns = spun;
	*count = caught;
}
