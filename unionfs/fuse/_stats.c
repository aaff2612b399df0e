/* What requests there were: how many of each kind, how many failed, how long they took.
 *
 * From the read of a request to the write of its reply; waiting in the kernel's queue is not in it.
 * Requests that have no reply (FORGET, INTERRUPT) are only counted. Times are kept in buckets whose
 * limits are powers of two, in nanoseconds.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <linux/fuse.h>
#include <time.h>

static struct operation operations[OPCODES];

static struct {
	uint64_t unique;
	uint64_t since; /* ns */
	uint32_t opcode;
} pending[IN_FLIGHT];
static int pending_count;

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static int has_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

uint64_t stats_begin(const struct fuse_in_header *head)
{
	uint64_t now = now_ns();

	if (head->opcode >= OPCODES)
		return now;
	operations[head->opcode].count++;
	if (!has_reply(head->opcode) || pending_count == IN_FLIGHT)
		return now;
	pending[pending_count].unique = head->unique;
	pending[pending_count].since = now;
	pending[pending_count++].opcode = head->opcode;
	return now;
}

void stats_end(uint64_t unique, int error)
{
	for (int i = pending_count - 1; i >= 0; i--) { /* the latest is mostly the one */
		struct operation *operation;
		uint64_t took;

		if (pending[i].unique != unique)
			continue;
		operation = &operations[pending[i].opcode];
		took = now_ns() - pending[i].since;
		pending[i] = pending[--pending_count];
		operation->errors += error != 0;
		operation->total_ns += took;
		if (took > operation->longest_ns)
			operation->longest_ns = took;
		for (i = 0; i < BUCKETS - 1 && took >> i > 1; i++)
			;
		operation->buckets[i]++;
		return;
	}
}

const struct operation *stats_of(uint32_t opcode)
{
	return &operations[opcode];
}
