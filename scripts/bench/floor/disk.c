/* The disk behind the tree, where one is wanted: the least that keeps what changes of names and data
 * returned, in overlayfs's upper directory. Nothing is synced, copies get owner, mode and time and no
 * attributes, nothing is put in place by a rename, and a directory of a layer cannot be renamed. With
 * *settled*, a copy is on the disk before a rename gives it its name, which a power loss needs.
 */
#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_LAYERS 500
#define WHITEOUT "whiteout" /* in work: what all whiteouts are links of */

static int layers[MOST_LAYERS], workdir = -1;
static unsigned int discarded; /* directories in work */
static int settles; /* copies, before they have their names */

/* Take the directories; until then, and without it, nothing of this is done. */
int disk_begin(char *lowers, const char *upper, const char *work, int settled)
{
	struct rlimit most = {1 << 20, 1 << 20}; /* each file that is used stays open */
	char *word;

	settles = settled;
	setrlimit(RLIMIT_NOFILE, &most);
	for (int layer = 0; layer < MOST_LAYERS && (word = strsep(&lowers, ":")); layer++)
		layers[layer] = open(word, O_PATH | O_DIRECTORY);
	root.fd = open(upper, O_PATH | O_DIRECTORY);
	workdir = open(work, O_PATH | O_DIRECTORY);
	if (root.fd < 0 || workdir < 0 || mknodat(workdir, WHITEOUT, S_IFCHR, 0) < 0)
		return errno;
	return 0;
}

int disk_is_there(void)
{
	return workdir >= 0;
}

/* Put a node's path below the root at the end of *room* and return where it begins. */
static char *path_of(const struct node *node, char room[PATH_MAX])
{
	char *at = room + PATH_MAX - 1;

	for (*at = 0; node->parent; node = node->parent) {
		size_t length = strlen(node->name);

		if (*at)
			*--at = '/';
		at -= length;
		memcpy(at, node->name, length);
	}
	return at;
}

static int upper_of(struct node *dir)
{
	int parent;

	if (dir->fd >= 0)
		return dir->fd;
	parent = upper_of(dir->parent);
	if (dir->layer != UPPER)
		mkdirat(parent, dir->name, dir->attr.mode & 07777);
	return dir->fd = openat(parent, dir->name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

static int opened(struct node *node)
{
	char room[PATH_MAX];

	if (node->fd < 0 && node->layer == UPPER)
		node->fd = openat(upper_of(node->parent), node->name, O_RDWR | O_NOFOLLOW);
	else if (node->fd < 0)
		node->fd = openat(layers[node->layer], path_of(node, room), O_RDONLY | O_NOFOLLOW);
	return node->fd;
}

static int make(struct node *node, int parent)
{
	mode_t mode = node->attr.mode & 07777;

	if (S_ISDIR(node->attr.mode))
		return mkdirat(parent, node->name, mode);
	if (S_ISLNK(node->attr.mode))
		return symlinkat(node->target, parent, node->name);
	node->fd = openat(parent, node->name, O_RDWR | O_CREAT | O_EXCL, mode);
	return node->fd;
}

int disk_create(struct node *node)
{
	int parent = disk_is_there() ? upper_of(node->parent) : -1;

	if (!disk_is_there() || make(node, parent) >= 0)
		return 0;
	if (errno != EEXIST || unlinkat(parent, node->name, 0) < 0)
		return errno;
	node->below = 1; /* it was a whiteout */
	return make(node, parent) < 0 ? errno : 0;
}

/* Make the file in the upper, with the layer's content. */
static int copy_content(struct node *node)
{
	int from = opened(node), parent = upper_of(node->parent);

	if (make(node, settles ? workdir : parent) < 0)
		return errno;
	while (copy_file_range(from, NULL, node->fd, NULL, INT_MAX, 0) > 0)
		;
	close(from);
	if (settles && (fdatasync(node->fd) < 0 ||
			renameat(workdir, node->name, parent, node->name) < 0))
		return errno;
	return 0;
}

static int copy_up(struct node *node)
{
	int error = 0;

	if (node->layer == UPPER)
		return 0;
	if (S_ISREG(node->attr.mode))
		error = copy_content(node);
	else if (S_ISDIR(node->attr.mode))
		upper_of(node);
	else if (make(node, upper_of(node->parent)) < 0)
		error = errno;
	if (error)
		return error;
	node->layer = UPPER;
	return disk_set(node, &(struct fuse_setattr_in){
		.valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_MTIME,
		.mode = node->attr.mode,
		.uid = node->attr.uid,
		.gid = node->attr.gid,
		.mtime = node->attr.mtime,
	});
}

int disk_set(struct node *node, const struct fuse_setattr_in *in)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {(time_t)in->mtime, in->mtimensec}};
	int error = disk_is_there() ? copy_up(node) : 0, parent, failed = 0;

	if (error || !disk_is_there() || node == &root)
		return error;
	parent = upper_of(node->parent);
	if (in->valid & (FATTR_UID | FATTR_GID))
		failed |= fchownat(parent, node->name, in->valid & FATTR_UID ? in->uid : (uid_t)-1,
				   in->valid & FATTR_GID ? in->gid : (gid_t)-1, AT_SYMLINK_NOFOLLOW);
	if (in->valid & FATTR_MODE && !S_ISLNK(node->attr.mode))
		failed |= fchmodat(parent, node->name, in->mode & 07777, 0);
	if (in->valid & FATTR_SIZE)
		failed |= ftruncate(opened(node), (off_t)in->size);
	if (in->valid & FATTR_MTIME)
		failed |= utimensat(parent, node->name, times, AT_SYMLINK_NOFOLLOW);
	return failed ? errno : 0;
}

static int whiteout(int parent, const char *name)
{
	if (linkat(workdir, WHITEOUT, parent, name, 0) == 0)
		return 0;
	return mknodat(parent, name, S_IFCHR, 0) < 0 ? errno : 0;
}

int disk_drop(struct node *node)
{
	int is_directory = S_ISDIR(node->attr.mode), parent, there;
	char name[16];

	if (!disk_is_there())
		return 0;
	parent = upper_of(node->parent);
	there = node->layer == UPPER || (is_directory && node->fd >= 0);
	if (node->fd >= 0)
		close(node->fd);
	node->fd = -1;
	if (!there)
		return whiteout(parent, node->name);
	if (is_directory && node->below) { /* with whiteouts in it */
		snprintf(name, sizeof(name), "%u", discarded++);
		return renameat2(parent, node->name, workdir, name, RENAME_WHITEOUT) ? errno : 0;
	}
	if (unlinkat(parent, node->name, is_directory ? AT_REMOVEDIR : 0) < 0)
		return errno;
	return node->below ? whiteout(parent, node->name) : 0;
}

int disk_move(struct node *node, struct node *parent, const char *name)
{
	struct node *there = tree_find(parent, name);
	int error;

	if (!disk_is_there())
		return 0;
	if (S_ISDIR(node->attr.mode) && node->below)
		return EXDEV;
	if ((error = copy_up(node)))
		return error;
	if (renameat2(upper_of(node->parent), node->name, upper_of(parent), name,
		      node->below ? RENAME_WHITEOUT : 0) < 0)
		return errno;
	node->below = there && there->below;
	return 0;
}

int disk_write(struct node *node, const struct fuse_write_in *in, const char *data)
{
	int error = disk_is_there() ? copy_up(node) : 0;

	if (error || !disk_is_there())
		return error;
	return pwrite(opened(node), data, in->size, (off_t)in->offset) < 0 ? errno : 0;
}

/* Read into *out*, and return how much. Without a disk, *out* is left as it is. */
ssize_t disk_read(struct node *node, const struct fuse_read_in *in, char *out)
{
	uint64_t rest = in->offset < node->attr.size ? node->attr.size - in->offset : 0;
	ssize_t done;

	if (!disk_is_there())
		return (ssize_t)(rest < in->size ? rest : in->size);
	done = pread(opened(node), out, in->size, (off_t)in->offset);
	return done < 0 ? -errno : done;
}
