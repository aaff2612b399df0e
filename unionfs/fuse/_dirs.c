/* Directories in the upper whose descriptors Python has shared, by node.
 *
 * GETATTR of one is answered as fstat(2) says. Making and removing names changes a directory, so what was
 * told before does not last there (_known.c).
 *
 * A direct-mapped table: a later directory takes the place of an earlier one.
 */
#include "_native.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRS 512 /* a power of two */

struct shared_dir {
	uint64_t node; /* 0: none */
	int fd; /* ours */
	int merged;
};

static struct shared_dir dirs[DIRS];

static struct shared_dir *place_of(uint64_t node)
{
	static size_t places;

	if (places == 0)
		places = descriptors_kept(DIRS);
	return &dirs[node & (places - 1)];
}

static void drop(struct shared_dir *dir)
{
	if (dir->node)
		close(dir->fd);
	dir->node = 0;
}

void dirs_forget(uint64_t node)
{
	if (place_of(node)->node == node)
		drop(place_of(node));
}

/* From -1 on nothing is shared at the node's place. */
int dirs_share(uint64_t node, int fd, int merged)
{
	struct shared_dir *dir = place_of(node);
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	drop(dir);
	if (own < 0)
		return -1;
	*dir = (struct shared_dir){node, own, merged};
	return 0;
}

int dirs_descriptor(uint64_t node)
{
	const struct shared_dir *dir = place_of(node);

	return dir->node == node ? dir->fd : -1;
}

void dirs_unshare(void)
{
	for (int i = 0; i < DIRS; i++)
		drop(&dirs[i]);
}

int dirs_answer(int session, const struct fuse_in_header *head)
{
	struct shared_dir *dir = place_of(head->nodeid);
	struct stat st;

	if (dir->node != head->nodeid || fstat(dir->fd, &st) < 0)
		return 0;
	return answer_with_stat(session, head, &st, dir->merged ? 1 : (uint32_t)st.st_nlink);
}
