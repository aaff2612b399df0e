/* What is asked about a file that the kernel has from here (_lent.c), and that it is forgotten. */
#define _GNU_SOURCE
#include "_lent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAMES 256 /* bytes of those of attributes; few files have more than one */

static struct lent *child_of(uint64_t node)
{
	struct lent *lent = lent_find(node);

	return lent != NULL && lent->parent != NULL ? lent : NULL;
}

void lent_told(uint64_t node, const struct fuse_attr *attr)
{
	struct lent *lent = lent_find(node);

	if (lent != NULL && lent->parent == NULL && !lent->is_copied)
		lent->attr = *attr;
}

void lent_copied(uint64_t node)
{
	struct lent *lent = lent_find(node);

	if (lent == NULL || lent->parent != NULL)
		return;
	lent->is_copied = 1;
	memset(&lent->attr, 0, sizeof(lent->attr));
}

int lent_answer_getattr(int session, const struct fuse_in_header *head)
{
	const struct lent *lent = lent_find(head->nodeid);
	struct fuse_attr_out out = {.attr_valid = FOREVER};

	if (lent == NULL || lent->attr.mode == 0)
		return 0;
	out.attr = lent->attr;
	return answer_with(session, head, 0, &out, sizeof(out));
}

/* What stands for a symbolic link where its owner is kept beside it: a file that holds its target. */
static ssize_t read_stand_in(const struct lent *lent, int dir, char *target, size_t room)
{
	struct stat st;
	ssize_t size = -1;
	int fd = openat(dir, lent->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == number_inode(lent->node))
		size = pread(fd, target, room, 0);
	close(fd);
	return size;
}

int lent_answer_readlink(int session, const struct fuse_in_header *head)
{
	const struct lent *lent = child_of(head->nodeid);
	char target[PATH_MAX];
	ssize_t size;
	int fd;

	if (lent == NULL || (fd = lent_open(lent->parent, lent->layer)) < 0)
		return 0;
	size = lent_layer(lent->layer)->kept[0] ? read_stand_in(lent, fd, target, sizeof(target))
						: readlinkat(fd, lent->name, target, sizeof(target));
	if (size < 0 || size == sizeof(target))
		return 0;
	return answer_with(session, head, 0, target, (size_t)size);
}

/* access(2) and chdir(2), as RootedOperations.access has it: nobody else's kernel asks for them. */
int lent_answer_access(int session, const struct fuse_in_header *head, size_t size)
{
	const struct fuse_access_in *in = (const struct fuse_access_in *)(head + 1);
	const struct lent *lent = child_of(head->nodeid);
	int may_run;

	if (lent == NULL || size < sizeof(*head) + sizeof(*in))
		return 0;
	may_run = S_ISDIR(lent->attr.mode) || lent->attr.mode & (S_IXUSR | S_IXGRP | S_IXOTH);
	return answer_with(session, head, in->mask & X_OK && !may_run ? EACCES : 0, NULL, 0);
}

/* Whether a file has no attributes but that of what it is shown as; not so if that is not known. */
static int has_none(const struct lent_layer *layer, int fd, const char *name)
{
	char names[NAMES];
	ssize_t size = lent_attributes_of(fd, name, names, sizeof(names));

	return size == 0 || (layer->kept[0] && size == (ssize_t)strlen(layer->kept) + 1 &&
			     memcmp(names, layer->kept, (size_t)size) == 0);
}

void lent_look_at_attributes(const struct fuse_in_header *head)
{
	const struct lent *lent = child_of(head->nodeid);
	int fd;

	if (lent == NULL || !lent_attributes || (fd = lent_open(lent->parent, lent->layer)) < 0)
		return;
	if (has_none(lent_layer(lent->layer), fd, lent->name))
		xattrless_share(lent->node, S_ISDIR(lent->attr.mode));
}

int lent_answer_getxattr(int session, const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1) + sizeof(struct fuse_getxattr_in);
	const struct lent *lent = child_of(head->nodeid);
	char path[LENT_REACH];
	int fd;

	if (lent == NULL || !lent_attributes ||
	    size < sizeof(*head) + sizeof(struct fuse_getxattr_in) + sizeof(CAPABILITY) ||
	    memcmp(name, CAPABILITY, sizeof(CAPABILITY)) != 0 || (fd = lent_open(lent->parent, lent->layer)) < 0)
		return 0;
	lent_reach(path, fd, lent->name);
	if (lgetxattr(path, lent_layer(lent->layer)->capability, NULL, 0) >= 0 || errno != ENODATA)
		return 0;
	return answer_with(session, head, ENODATA, NULL, 0);
}

int lent_where_is(uint64_t node, struct lower_place *place)
{
	const struct lent *lent = child_of(node);

	if (lent == NULL)
		return 0;
	*place = (struct lower_place){lent->parent->node, lent->layer, lent->name};
	return 1;
}

void lent_share(uint64_t node, uint32_t layer)
{
	const struct lent *dir = lent_find(node);
	int fd;

	if (dir != NULL && (fd = lent_open(dir, layer)) >= 0)
		lower_share(node, layer, fd, lent_layer(layer)->metacopy);
}

/* Whether the kernel's references are counted here, and Python need not hear that they go. */
static int forget(uint64_t node, uint64_t count)
{
	struct lent *lent = child_of(node);

	if (lent == NULL || (trace_on && trace_mentions(node)))
		return 0;
	lent->count -= count < lent->count ? count : lent->count;
	lent_settle(lent);
	return 1;
}

size_t lent_forget(struct fuse_in_header *head, size_t size)
{
	const struct fuse_forget_in *single = (const void *)(head + 1);
	struct fuse_batch_forget_in *in = (void *)(head + 1);
	struct fuse_forget_one *one = (void *)(in + 1);
	uint32_t kept = 0;

	if (head->opcode == FUSE_FORGET)
		return size >= sizeof(*head) + sizeof(*single) &&
				       forget(head->nodeid, single->nlookup)
			       ? 0
			       : size;
	if (size < sizeof(*head) + sizeof(*in) ||
	    (size - sizeof(*head) - sizeof(*in)) / sizeof(*one) < in->count)
		return size;
	for (uint32_t i = 0; i < in->count; i++)
		if (!forget(one[i].nodeid, one[i].nlookup))
			one[kept++] = one[i];
	if (kept == in->count)
		return size;
	in->count = kept;
	head->len = (uint32_t)(sizeof(*head) + sizeof(*in) + kept * sizeof(*one));
	return kept ? head->len : 0;
}
