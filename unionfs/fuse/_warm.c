/* Directories of many layers, read from the disk side by side.
 *
 * A directory that a hundred layers have is looked up in each, one after the other, and on a disk that
 * is cold each waits for the disk, twice: for the inode, and for the names. Here those waits are had at
 * the same time, in threads; afterwards who looks finds all in the kernel's caches. A name that is there
 * already costs one system call (openat2(2), RESOLVE_CACHED, Linux 5.12; without it nothing is done).
 *
 * Little is read that was not about to be (what is below an opaque directory), and no access time
 * changes: who may not list without that looks for a name, which reads the names as well. (Listing is
 * better: ext4 reads ahead for that, the directories beside it.)
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 8 /* 4 to 16 take as long on a disk; it is them that wait, no processor */
#define PATH (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define LIST (O_RDONLY | O_NOATIME | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define SOUGHT ".wh..wh..opq" /* in mounts of directories it is looked for next */

struct job {
	const int *parents;
	size_t count;
	const char *name;
	size_t next; /* which of them; shared by the threads */
};

static void look(int parent, const char *name)
{
	int fd = openat(parent, name, LIST);
	char names[4096];
	struct stat st;

	if (fd >= 0) {
		syscall(SYS_getdents64, fd, names, sizeof(names));
	} else {
		fd = openat(parent, name, PATH);
		if (fd < 0)
			return;
		(void)!fstatat(fd, SOUGHT, &st, AT_SYMLINK_NOFOLLOW);
	}
	close(fd);
}

static void *work(void *given)
{
	struct job *job = given;
	size_t at;

	while ((at = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->count)
		look(job->parents[at], job->name);
	return NULL;
}

/* Keep those of the parents whose name would have to be read; how many. */
static size_t cold_ones(int *parents, size_t count, const char *name)
{
	struct open_how how = {.flags = PATH, .resolve = RESOLVE_CACHED};
	size_t cold = 0;

	for (size_t i = 0; i < count; i++) {
		long fd = syscall(SYS_openat2, parents[i], name, &how, sizeof(how));

		if (fd >= 0)
			close((int)fd);
		else if (errno == EAGAIN)
			parents[cold++] = parents[i];
	}
	return cold;
}

size_t warm_up(int *parents, size_t count, const char *name)
{
	struct job job = {parents, cold_ones(parents, count, name), name, 0};
	pthread_t threads[THREADS - 1];
	sigset_t all, before;
	size_t made = 0;

	sigfillset(&all); /* signals are the loop's thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (made < THREADS - 1 && made + 1 < job.count &&
	       pthread_create(&threads[made], NULL, work, &job) == 0)
		made++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	work(&job);
	while (made > 0)
		pthread_join(threads[--made], NULL);
	return job.count;
}
