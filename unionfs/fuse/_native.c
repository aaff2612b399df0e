/* What pyfuse3 cannot say, said beside it: hooks on the requests and replies of its session.
 *
 * This module is loaded with RTLD_GLOBAL before pyfuse3, so that pyfuse3's call of
 * fuse_session_mount() finds the one defined here. It calls the real one and then libfuse's public
 * fuse_session_custom_io() (libfuse 3.13) with a read and a writev of its own, which see every
 * message; where that is refused they see them by another way (_relay.c). Messages are those of
 * linux/fuse.h.
 *
 * What is done to them:
 *   - the descriptor is non-blocking: an empty queue is EINTR to libfuse, which pyfuse3 takes as
 *     "nothing yet", and reading goes past the splice(2) that libfuse would use for every request;
 *   - requests without a handle carry the node in its place. OPEN and OPENDIR are answered ENOSYS,
 *     from when on the kernel sends neither: opening needs no request, and directories are cached;
 *   - the INIT reply asks for symbolic links to be cached, and for lookups and listings of one directory
 *     by several clients at once, which libfuse leaves to wait for each other; takes over the removal
 *     of set-id bits on writes and truncations (FUSE_HANDLE_KILLPRIV_V2), without which the kernel asks
 *     for security.capability before every write; leaves the umask to us (FUSE_DONT_MASK), which must not
 *     count where a directory has a default ACL;
 *     gives up FUSE_ATOMIC_O_TRUNC where OPEN is not sent, since nobody would truncate; and
 *     FUSE_AUTO_INVAL_DATA, with which every new time of change, also that of a write of the kernel's
 *     own, drops a file's pages: nobody else changes the layers;
 *   - entries of a listing may lose their attributes (_entries.c);
 *   - requests about the content and attributes of a node whose descriptor Python has shared are
 *     answered at once (_shared.c), and so is what is known already (_known.c, _dirs.c), which names are
 *     not there (_absent.c), and that a file has no attributes (_xattrless.c);
 *   - files of lower layers are read at once (_lower.c), and what is in directories that the upper
 *     does not have is told without Python (_lent.c, _lend.c, _look.c, _lentfile.c, _listing.c,
 *     _merging.c); large pieces go by splice(2) (_pipe.c);
 *   - what changes names is asked of Python without pyfuse3, where that can be (_direct.c), and names of
 *     lower files are removed at once (_removing.c);
 *   - what pyfuse3 has no handler for travels as what it has one for (_carry.c);
 *   - the root shows its real inode number (_number.c);
 *   - where that is wanted, the kernel reads files by itself (_passing.c);
 *   - requests are counted and timed by opcode (_stats.c), and told one by one to who traces them
 *     (_trace.c);
 *   - an empty queue is asked again for some microseconds (_spin.c), then waited for a moment (_nap.c),
 *     before the read gives up.
 *
 * One thread: the one that runs pyfuse3's loop.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include "_native.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

static int session_fd = -1;
static int enabled; /* Python uses this module: one of another version is loaded, and left alone */

static uint64_t init_unique;
static union { /* older headers know the first fields only */
	struct fuse_init_in in;
	char all[64];
} init_offered;
static struct {
	int fd; /* 0: nothing is to be written */
	size_t size;
	char text[32];
} after_init;
static unsigned long misses;

static int releases_heard; /* handles are Python's: it has to know of their end */

static int in_a_row; /* requests answered without Python, which must get its turn (signals, threads) */
static unsigned long long answered;
#define IN_A_ROW 64
static unsigned asked_directly; /* the loop, too, gets its turn after as many of these */

#define PLENTY 4096 /* descriptors of a process */

static void name_the_node(struct fuse_in_header *head, ssize_t size)
{
	struct fuse_read_in *in = (struct fuse_read_in *)(head + 1);

	if (size >= (ssize_t)(sizeof(*head) + sizeof(in->fh)) && in->fh == 0)
		in->fh = head->nodeid; /* the others' messages begin with the handle as well */
}

/* Answer a request that needs no Python; 0: it does. */
static int answer(int fd, const struct fuse_in_header *head, size_t size)
{
	int done = 0;

	switch (head->opcode) {
	case FUSE_READ:
		done = shared_answer(fd, head, size) || lower_answer_read(fd, head, size);
		break;
	case FUSE_WRITE:
	case FUSE_SETATTR:
		done = shared_answer(fd, head, size);
		break;
	case FUSE_UNLINK:
		done = removing_answer(fd, head, size);
		break;
	case FUSE_GETATTR:
		done = shared_answer(fd, head, size) || lent_answer_getattr(fd, head) ||
		       known_answer_getattr(fd, head);
		break;
	case FUSE_RELEASE: /* nothing was opened: see OPEN above */
		done = !releases_heard && answer_with(fd, head, 0, NULL, 0);
		break;
	case FUSE_GETXATTR:
		lent_look_at_attributes(head);
		done = lent_answer_getxattr(fd, head, size) ||
		       known_answer_getxattr(fd, head, size) ||
		       xattrless_answer_get(fd, head, size);
		break;
	case FUSE_LISTXATTR:
		lent_look_at_attributes(head);
		done = xattrless_answer_list(fd, head, size);
		break;
	case FUSE_IOCTL:
		done = known_answer_ioctl(fd, head, size);
		break;
	case FUSE_LOOKUP:
		done = lent_answer_lookup(fd, head, size) || absent_answer(fd, head, size);
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		done = lent_answer_list(fd, head, size) || known_answer_end(fd, head, size);
		break;
	case FUSE_ACCESS:
		done = lent_answer_access(fd, head, size);
		break;
	case FUSE_READLINK:
		done = lent_answer_readlink(fd, head);
		break;
	}
	in_a_row = done ? in_a_row + 1 : 0;
	answered += (unsigned)done;
	return done;
}

void session_write_after_init(int fd, const char *text, size_t size)
{
	after_init.fd = fd;
	after_init.size = size < sizeof(after_init.text) ? size : sizeof(after_init.text);
	memcpy(after_init.text, text, after_init.size);
}

/* Answer INIT, and do what has to follow it. */
static ssize_t finish_init(int fd, struct iovec *parts, int count)
{
	const struct fuse_out_header *head = parts[0].iov_base;
	ssize_t written;

	init_unique = 0;
	if (count > 1 && head->error == 0) {
		struct fuse_init_out *init = parts[1].iov_base;

		init->flags |= init_offered.in.flags &
			       (FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_DONT_MASK |
				FUSE_PARALLEL_DIROPS);
		init->flags &= ~(uint32_t)FUSE_AUTO_INVAL_DATA;
		if (!releases_heard) /* then OPEN is answered, by whom truncates */
			init->flags &= ~(uint32_t)FUSE_ATOMIC_O_TRUNC;
		relay_init(init);
		passing_init(init, &init_offered.in);
	}
	written = writev(fd, parts, count);
	if (after_init.fd) {
		(void)!write(after_init.fd, after_init.text, after_init.size);
		close(after_init.fd);
		after_init.fd = 0;
	}
	return written;
}

static ssize_t hooked_writev(int fd, struct iovec *parts, int count, void *userdata)
{
	struct fuse_out_header *head = parts[0].iov_base;

	(void)userdata;
	if (head->unique == 0) /* a notification, perhaps of another thread's */
		return writev(fd, parts, count);
	stats_end(head->unique, head->error);
	if (trace_on)
		trace_end(head->unique, -head->error, count > 1 ? parts[1].iov_base : NULL,
			  count > 1 ? parts[1].iov_len : 0, 0);
	if (init_unique && head->unique == init_unique)
		return finish_init(fd, parts, count);
	entries_told(head, count > 1 ? parts[1].iov_base : NULL, count > 1 ? parts[1].iov_len : 0);
	absent_done(head->unique);
	if (count > 1) {
		lower_reply(head, parts[1].iov_base, parts[1].iov_len);
		passing_reply(head, parts[1].iov_base, parts[1].iov_len);
		number_answer(head, parts[1].iov_base, parts[1].iov_len);
		known_reply(head, parts[1].iov_base, parts[1].iov_len);
	} else {
		passing_reply(head, NULL, 0);
		number_answer(head, NULL, 0);
		known_reply(head, NULL, 0);
	}
	return writev(fd, parts, count);
}

void session_reply(int fd, const struct fuse_in_header *head, int error, const void *body, size_t size)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + size),
		.error = -error,
		.unique = head->unique,
	};
	struct iovec parts[2] = {{&out, sizeof(out)}, {(void *)body, size}};

	hooked_writev(fd, parts, size ? 2 : 1, NULL); /* fails as in answer_with() */
}

static ssize_t hooked_read(int fd, void *buffer, size_t length, void *userdata)
{
	struct fuse_in_header *head = buffer;
	uint64_t now_ns;
	ssize_t size;

	(void)userdata;
again:
	if (in_a_row >= IN_A_ROW) {
		direct_settle();
		in_a_row = 0;
		errno = EINTR;
		return -1;
	}
	size = spin_read(fd, buffer, length);
	if (size < 0 && errno == EAGAIN) {
		if (direct_settle() || nap(fd))
			goto again;
		misses++;
		errno = EINTR;
	}
	if (size < (ssize_t)sizeof(*head)) {
		int error = errno;

		direct_settle();
		errno = error;
		return size;
	}
	now_ns = stats_begin(head);
	spin_request(head, now_ns);
	if (trace_on)
		trace_begin(head, (size_t)size, now_ns);
	known_request(head, (size_t)size);
	absent_request(head, (size_t)size);
	lower_request(head, (size_t)size);
	passing_request(head);
	if (head->opcode == FUSE_FORGET || head->opcode == FUSE_BATCH_FORGET) {
		size = (ssize_t)lent_forget(head, (size_t)size);
		if (size == 0 || direct_forget(head, (size_t)size)) {
			in_a_row++;
			goto again;
		}
	}
	if (answer(fd, head, (size_t)size)) {
		known_done(head->unique);
		stats_end(head->unique, answered_error());
		goto again;
	}
	asked_for(head, (size_t)size);
	if (direct_answer(fd, head, (size_t)size)) {
		if (++asked_directly % IN_A_ROW)
			goto again;
		direct_settle();
		misses++; /* which the loop takes as its turn */
		errno = EINTR;
		return -1;
	}
	direct_settle();
	size = (ssize_t)carry(head, (size_t)size, length);
	switch (head->opcode) {
	case FUSE_INIT:
		init_unique = head->unique;
		memset(&init_offered, 0, sizeof(init_offered));
		memcpy(&init_offered, head + 1,
		       (size_t)size - sizeof(*head) < sizeof(init_offered)
			       ? (size_t)size - sizeof(*head)
			       : sizeof(init_offered));
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		number_asked(head);
		break;
	case FUSE_READDIRPLUS:
		entries_asked(head);
		name_the_node(head, size);
		break;
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_FSYNC:
	case FUSE_FLUSH:
	case FUSE_READDIR:
	case FUSE_FSYNCDIR:
		name_the_node(head, size);
		break;
	}
	return size;
}

int session_descriptor(void)
{
	return session_fd;
}

void session_enable(void)
{
	enabled = 1;
}

void session_hear_releases(void)
{
	releases_heard = 1;
}

unsigned long long session_misses(void)
{
	return misses;
}

unsigned long long session_answered(void)
{
	return answered;
}

/* Python's own tables need most of what a process may have, where that is little. */
size_t descriptors_kept(size_t most)
{
	struct rlimit limit;
	size_t kept = 1;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return kept;
	if (limit.rlim_cur >= PLENTY)
		return most;
	while (kept < most && kept * 64 <= limit.rlim_cur)
		kept *= 2;
	return kept;
}

/* Interposed: see the head of this file. */
__attribute__((visibility("default"))) int
fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	int (*real)(struct fuse_session *, const char *);
	int fd, flags, result;

	*(void **)&real = dlsym(RTLD_NEXT, "fuse_session_mount");
	if (real == NULL)
		return -1;
	result = real(session, mountpoint);
	if (result != 0 || !enabled)
		return result;
	fd = fuse_session_fd(session);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return 0; /* unhooked: everything works as pyfuse3 alone would */
	fd = relay_hook(session, fd, hooked_read, hooked_writev);
	if (fd < 0)
		fcntl(fuse_session_fd(session), F_SETFL, flags);
	session_fd = fd;
	return 0;
}
