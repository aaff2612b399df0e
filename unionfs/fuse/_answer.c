/* Writing answers to requests that Python is not asked about. */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

static int latest_error;
static int was_taken;
static char *data_buffer;
static size_t data_size;

int answered_error(void)
{
	return latest_error;
}

int answer_was_taken(void)
{
	return was_taken;
}

int answer_with(int session, const struct fuse_in_header *head, int error, const void *body,
		size_t size)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + size),
		.error = -error,
		.unique = head->unique,
	};
	struct iovec parts[2] = {{&out, sizeof(out)}, {(void *)body, size}};

	latest_error = error;
	if (trace_on)
		trace_end(head->unique, error, body, size, 1);
	/* It fails when the caller was interrupted, and then nobody wants it. */
	was_taken = writev(session, parts, size ? 2 : 1) >= 0;
	return 1;
}

void attr_of_stat(struct fuse_attr *attr, uint64_t node, const struct stat *st, uint32_t nlink)
{
	*attr = (struct fuse_attr){
		.ino = number_shown(node),
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

struct fuse_attr attr_of_statx(const struct statx *stx)
{
	return (struct fuse_attr){
		.ino = stx->stx_ino,
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.atime = (uint64_t)stx->stx_atime.tv_sec,
		.mtime = (uint64_t)stx->stx_mtime.tv_sec,
		.ctime = (uint64_t)stx->stx_ctime.tv_sec,
		.atimensec = stx->stx_atime.tv_nsec,
		.mtimensec = stx->stx_mtime.tv_nsec,
		.ctimensec = stx->stx_ctime.tv_nsec,
		.mode = stx->stx_mode,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.rdev = (uint32_t)makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.blksize = stx->stx_blksize,
	};
}

int answer_with_stat(int session, const struct fuse_in_header *head, const struct stat *st,
		     uint32_t nlink)
{
	struct fuse_attr_out out = {.attr_valid = FOREVER};

	attr_of_stat(&out.attr, head->nodeid, st, nlink);
	return answer_with(session, head, 0, &out, sizeof(out));
}

int answer_from(int session, const struct fuse_in_header *head, int fd)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	size_t piped_size = 0;
	enum piped piped = pipe_answer(session, head, fd, &piped_size);
	ssize_t size;

	if (piped != NOT_PIPED) {
		latest_error = 0;
		was_taken = piped == PIPED;
		if (trace_on)
			trace_end(head->unique, 0, NULL, piped_size, 1);
		return 1;
	}
	if (in->size > data_size) {
		char *larger = realloc(data_buffer, in->size);

		if (larger == NULL)
			return 0;
		data_buffer = larger;
		data_size = in->size;
	}
	size = pread(fd, data_buffer, in->size, (off_t)in->offset);
	if (size < 0)
		return answer_with(session, head, errno, NULL, 0);
	return answer_with(session, head, 0, data_buffer, (size_t)size);
}
