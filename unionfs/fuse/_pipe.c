/* Large reads, from the file to the kernel through a pipe.
 *
 * read(2) and writev(2) copy the data twice. By splice(2) it is the page cache's own pages that the
 * device gets, and copies once. It takes two system calls more, so it is for what is large. Pages are
 * never moved (SPLICE_F_MOVE): the file's cache would lose them.
 *
 * The header goes first and says how much follows, so how much there is has to be known before. Where
 * it turns out otherwise, or there is no pipe to be had that is large enough, the caller reads.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGE (64u << 10) /* bytes */

static int ends[2] = {-1, -1};
static size_t room;
static size_t refused = SIZE_MAX; /* so much room, or more, is not to be had */

/* Also empties it. */
static void drop(void)
{
	close(ends[0]);
	close(ends[1]);
	ends[0] = ends[1] = -1;
	room = 0;
}

static int make_room(size_t wanted)
{
	int made;

	if (wanted <= room)
		return 1;
	if (wanted >= refused)
		return 0;
	if (ends[0] < 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return 0;
	made = fcntl(ends[1], F_SETPIPE_SZ, (int)wanted);
	if (made < 0 || (size_t)made < wanted) { /* pipe(7), /proc/sys/fs/pipe-max-size */
		refused = wanted;
		return 0;
	}
	room = (size_t)made;
	return 1;
}

static int fill(const struct fuse_out_header *out, int fd, off_t offset)
{
	size_t left = out->len - sizeof(*out);

	if (write(ends[1], out, sizeof(*out)) != (ssize_t)sizeof(*out))
		return 0;
	while (left > 0) {
		ssize_t size = splice(fd, &offset, ends[1], NULL, left, SPLICE_F_NONBLOCK);

		if (size < 0 && errno == EINVAL)
			refused = 0; /* a filesystem without it; before Linux 6.5 there were some */
		if (size <= 0)
			return 0;
		left -= (size_t)size;
	}
	return 1;
}

enum piped pipe_answer(int session, const struct fuse_in_header *head, int fd, size_t *size)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	struct fuse_out_header out = {.unique = head->unique};
	enum piped answer = NOT_PIPED;
	struct stat st;

	if (in->size < LARGE || fstat(fd, &st) < 0 || (uint64_t)st.st_size < in->offset + LARGE)
		return NOT_PIPED;
	*size = (uint64_t)st.st_size - in->offset < in->size ? (size_t)st.st_size - in->offset
							     : in->size;
	/* A page for the header, and one more where the data does not begin with a page. */
	if (!make_room(*size + 2 * (size_t)getpagesize()))
		return NOT_PIPED;
	out.len = (uint32_t)(sizeof(out) + *size);
	if (fill(&out, fd, (off_t)in->offset)) {
		if (splice(ends[0], NULL, session, NULL, out.len, 0) == (ssize_t)out.len)
			return PIPED;
		answer = errno == ENOENT ? PIPED_TO_NOBODY : NOT_PIPED; /* it was interrupted */
	}
	drop();
	return answer;
}
