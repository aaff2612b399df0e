/* Shared descriptors: where the data of a node is, by node.
 *
 * Reads are answered from any. One that is "own" is of a file in the upper, open for writing, whose
 * inode says everything: there, writes and attributes go straight to it, too.
 *
 * Open addressing, linear probing; a removed place keeps its node with fd -1 until the table is
 * rebuilt. */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

struct shared {
	uint64_t node; /* 0: never used */
	int fd;
	int own;
};

static struct shared *table;
static size_t table_size; /* a power of two, or 0 */
static size_t table_used; /* places with a node, removed ones included */

static struct shared *place_of(uint64_t node)
{
	size_t at = spread(node) >> 20;

	if (table_size == 0)
		return NULL;
	for (;; at++) {
		struct shared *place = &table[at & (table_size - 1)];

		if (place->node == node || place->node == 0)
			return place;
	}
}

static int rebuild(void)
{
	struct shared *old = table;
	size_t old_size = table_size, living = 0;

	for (size_t i = 0; i < old_size; i++)
		living += old[i].node && old[i].fd >= 0;
	table_size = 256;
	while (table_size < living * 4)
		table_size *= 2;
	table = calloc(table_size, sizeof(*table));
	if (table == NULL) {
		table = old;
		table_size = old_size;
		return -1;
	}
	table_used = living;
	for (size_t i = 0; i < old_size; i++)
		if (old[i].node && old[i].fd >= 0)
			*place_of(old[i].node) = old[i];
	free(old);
	return 0;
}

int shared_add(uint64_t node, int fd, int own)
{
	struct shared *place;

	if (table_used * 2 >= table_size && rebuild() < 0)
		return -1;
	place = place_of(node);
	if (place->node == 0) {
		place->node = node;
		table_used++;
	}
	place->fd = fd;
	place->own = own;
	return 0;
}

void shared_remove(uint64_t node)
{
	struct shared *place = place_of(node);

	if (place != NULL && place->node == node)
		place->fd = -1;
}

/* What write(2) takes from a file, and a mapping does not, whose pages we write by it: capabilities
 * and, in a user namespace, set-id bits. */
struct privileges {
	ssize_t size; /* of the capability; less than 1: it has none */
	mode_t mode; /* 0: no set-id bits */
	char capability[64];
};

static void keep_privileges(int fd, struct privileges *kept)
{
	struct stat st;

	kept->size = fgetxattr(fd, CAPABILITY, kept->capability, sizeof(kept->capability));
	kept->mode = fstat(fd, &st) < 0 ? 0 : st.st_mode & (S_ISUID | S_ISGID) ? st.st_mode : 0;
}

static void restore_privileges(int fd, const struct privileges *kept)
{
	struct stat st;

	if (kept->mode && fstat(fd, &st) == 0 && st.st_mode != kept->mode)
		(void)!fchmod(fd, kept->mode & 07777);
	if (kept->size > 0)
		(void)!fsetxattr(fd, CAPABILITY, kept->capability, (size_t)kept->size, 0);
}

/* As write(2): what was written counts, and an error only if nothing was. Returns the error. */
static int write_all(int fd, const struct fuse_write_in *in, uint32_t *written)
{
	const char *data = (const char *)(in + 1);

	while (*written < in->size) {
		ssize_t done = pwrite(fd, data + *written, in->size - *written,
				      (off_t)(in->offset + *written));

		if (done < 0 && (*written == 0 || errno == ENOSPC || errno == EDQUOT))
			return errno;
		if (done <= 0)
			break;
		*written += (uint32_t)done;
	}
	return 0;
}

/* Whether a write by somebody without CAP_FSETID, as all are in a user namespace, or a new owner may
 * have to take set-id bits away: which ones depends on the caller's groups, and that is left to Python. */
static int may_have_set_id(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || st.st_mode & (S_ISUID | S_ISGID);
}

static int answer_write(int session, const struct fuse_in_header *head, size_t size,
			const struct shared *place)
{
	const struct fuse_write_in *in = (const struct fuse_write_in *)(head + 1);
	const int mapped = in->write_flags & FUSE_WRITE_CACHE;
	struct privileges kept;
	struct fuse_write_out out = {0};
	int error;

	if (in->size > size - sizeof(*head) - sizeof(*in) ||
	    (in->write_flags & FUSE_WRITE_KILL_SUIDGID && may_have_set_id(place->fd)))
		return 0;
	if (mapped)
		keep_privileges(place->fd, &kept);
	error = write_all(place->fd, in, &out.size);
	if (mapped)
		restore_privileges(place->fd, &kept);
	if (error == ENOSPC || error == EDQUOT)
		return 0; /* there may be room when Python has looked (loop.with_room) */
	if (error)
		return answer_with(session, head, error, NULL, 0);
	return answer_with(session, head, 0, &out, sizeof(out));
}

static int answer_getattr(int session, const struct fuse_in_header *head, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	return answer_with_stat(session, head, &st, (uint32_t)st.st_nlink);
}

static struct timespec time_to_set(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds,
				   uint32_t nanoseconds)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (valid & set)
		return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = nanoseconds};
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

/* Owner, then mode, then times, as Python does it. Sizes and bare KILL_SUIDGID are left to it. */
static int answer_setattr(int session, const struct fuse_in_header *head, int fd)
{
	const struct fuse_setattr_in *in = (const struct fuse_setattr_in *)(head + 1);
	const uint32_t owner = FATTR_UID | FATTR_GID;
	const uint32_t times = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW;
	const uint32_t aside = FATTR_FH | FATTR_LOCKOWNER | FATTR_KILL_SUIDGID;
	struct timespec both[2] = {
		time_to_set(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_to_set(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	if (in->valid & ~(owner | times | aside | FATTR_MODE) ||
	    !(in->valid & (owner | times | FATTR_MODE)) ||
	    (in->valid & owner && may_have_set_id(fd)))
		return 0;
	if ((in->valid & owner && fchown(fd, in->valid & FATTR_UID ? in->uid : (uid_t)-1,
					 in->valid & FATTR_GID ? in->gid : (gid_t)-1) < 0) ||
	    (in->valid & FATTR_MODE && fchmod(fd, in->mode & 07777) < 0) ||
	    (in->valid & times && futimens(fd, both) < 0))
		return answer_with(session, head, errno, NULL, 0);
	return answer_getattr(session, head, fd);
}

int shared_answer(int session, const struct fuse_in_header *head, size_t size)
{
	struct shared *place = place_of(head->nodeid);
	size_t body = size - sizeof(*head);

	if (place == NULL || place->node == 0 || place->fd < 0)
		return 0;
	if (head->opcode == FUSE_READ)
		return body >= sizeof(struct fuse_read_in) && answer_from(session, head, place->fd);
	if (!place->own)
		return 0;
	switch (head->opcode) {
	case FUSE_WRITE:
		return body >= sizeof(struct fuse_write_in) &&
		       answer_write(session, head, size, place);
	case FUSE_GETATTR:
		return answer_getattr(session, head, place->fd);
	case FUSE_SETATTR:
		return body >= sizeof(struct fuse_setattr_in) &&
		       answer_setattr(session, head, place->fd);
	}
	return 0;
}
