/* The names of the processes that make requests, for whom somebody traces (_trace.c).
 *
 * A process's name is read while its request is under way, since afterwards the process may be gone.
 * The descriptors of those asked last are kept, and of one that asks again in no time, in which it
 * cannot have executed another program, the name. To execute one takes a third of a millisecond; but
 * where the program is on this mount, the kernel asks for its capabilities (and opens and reads it)
 * on the way, and from there to the first request of the new program it is less.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES 16
#define NO_TIME 60000 /* ns from an answer to the next request */
#define LESS_TIME 20000 /* the same while another program may be about to begin, */
#define BEGINS 2000000 /* ns from the kernel's asking for what it needs for that */
#define LONG 1000000 /* ns after which a name is read again whatever happens */

static struct process {
	uint32_t pid; /* 0: none */
	int fd; /* its comm */
	uint64_t read_ns, answered_ns, executes_ns;
	char command[sizeof(((struct record *)0)->command)];
} processes[PROCESSES];

static void close_process(struct process *process)
{
	if (process->pid)
		close(process->fd);
	process->pid = 0;
}

/* Return the process, its comm open; NULL: it cannot be. */
static struct process *opened(uint32_t pid)
{
	struct process *process = &processes[pid & (PROCESSES - 1)];
	char path[32];

	if (process->pid == pid)
		return process;
	close_process(process);
	snprintf(path, sizeof(path), "/proc/%u/comm", (unsigned int)pid);
	process->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (process->fd < 0)
		return NULL;
	process->pid = pid;
	process->answered_ns = process->read_ns = process->executes_ns = 0;
	return process;
}

/* Whether the name of *process* is still the one that was read. */
static int is_known(const struct process *process, uint64_t now)
{
	uint64_t enough = now - process->executes_ns < BEGINS ? LESS_TIME : NO_TIME;

	return now - process->answered_ns <= enough && now - process->read_ns <= LONG;
}

void command_asked(struct record *record, int executes)
{
	for (int tries = 0; record->pid && tries < 2; tries++) {
		struct process *process = opened(record->pid);

		if (process == NULL)
			return;
		if (executes)
			process->executes_ns = record->start_ns;
		if (!is_known(process, record->start_ns)) {
			char name[sizeof(process->command)] = {0};
			ssize_t size = pread(process->fd, name, sizeof(name), 0);

			if (size <= 0) { /* of another process, which had this number before */
				close_process(process);
				continue;
			}
			name[size - 1] = 0; /* the line's end */
			memcpy(process->command, name, sizeof(name));
			process->read_ns = record->start_ns;
		}
		memcpy(record->command, process->command, sizeof(record->command));
		return;
	}
}

void command_answered(const struct record *record)
{
	struct process *process = &processes[record->pid & (PROCESSES - 1)];

	if (process->pid == record->pid)
		process->answered_ns = record->start_ns + record->took_ns;
}

void command_end(void)
{
	for (int i = 0; i < PROCESSES; i++)
		close_process(&processes[i]);
}
