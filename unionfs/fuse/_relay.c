/* The hooks' way to the messages: fuse_session_custom_io(), or another where libfuse refuses that.
 *
 * It does from 3.18.3 on, unless it was built with that function. The other way, too, stands on public
 * functions that pyfuse3 calls, and that are found here first, as fuse_session_mount() is:
 *   - libfuse's descriptor becomes a piece of memory (memfd_create(2)); the device has another number.
 *     So libfuse's writev(2), which it uses for a reply or a notification, goes into the memory;
 *   - each function that makes it write calls the real one, then hands what is in the memory to the
 *     writev hook. Those that no pyfuse3 calls are not here;
 *   - fuse_session_receive_buf() reads from the device, by the read hook.
 * It costs a copy and three system calls for each reply of Python's; what is answered in C takes no
 * other way than with custom I/O.
 *
 * Replies are made by one thread, notifications by others, too: one at a time in the memory. They are
 * sent on outside of the lock, since the kernel may keep a notification until a request is answered.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include "_native.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_log.h>
#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_DATA (1u << 20) /* bytes of a READ or WRITE */
#define HEADERS 4096	     /* what a message has beside that, generously */
#define PAPER (4 * (MOST_DATA + HEADERS))
#define KEPT (64u << 10) /* bytes of memory that stay allocated */

static struct {
	int device;  /* -1: nothing is relayed */
	int theirs;  /* libfuse's number, of the memory meanwhile */
	char *paper; /* the memory; hooks change messages in it */
	read_hook read;
	writev_hook writev;
} relay = { .device = -1, .theirs = -1 };

static pthread_mutex_t lock; /* recursive: libfuse calls itself */

#define EXPORTED __attribute__((visibility("default")))

/* Declare real, the function of that name that would have been found without ours. */
#define REAL(name)                          \
	static __typeof__(&name) real;      \
                                            \
	if (real == NULL)                   \
		*(void **)&real = dlsym(RTLD_NEXT, #name)

struct notification {
	struct notification *next;
	struct iovec whole;
};

static int make_lock(void)
{
	pthread_mutexattr_t kind;

	return pthread_mutexattr_init(&kind) ||
	       pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE) ||
	       pthread_mutex_init(&lock, &kind);
}

/* Return the device's other number; -1. */
static int start(int fd, read_hook read, writev_hook writev)
{
	int device = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int memory = memfd_create("unionfs replies", MFD_CLOEXEC);
	void *paper = MAP_FAILED;

	if (device >= 0 && memory >= 0 && make_lock() == 0)
		paper = mmap(NULL, PAPER, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (paper == MAP_FAILED || dup3(memory, fd, O_CLOEXEC) < 0) {
		if (paper != MAP_FAILED)
			munmap(paper, PAPER);
		close(device);
		device = -1;
	} else {
		relay.theirs = fd;
		relay.paper = paper;
		relay.read = read;
		relay.writev = writev;
		relay.device = device;
	}
	close(memory);
	return device;
}

static void say_nothing(enum fuse_log_level level, const char *format, va_list arguments)
{
	(void)level, (void)format, (void)arguments;
}

int relay_hook(struct fuse_session *session, int fd, read_hook read, writev_hook writev)
{
	const struct fuse_custom_io io = { .read = read, .writev = writev };
	int refused;

	if (getenv("UNIONFS_RELAY") != NULL) /* for tests */
		return start(fd, read, writev);
	fuse_set_log_func(say_nothing); /* on standard error it would say why it refuses */
	refused = fuse_session_custom_io(session, &io, fd);
	fuse_set_log_func(NULL);
	return refused ? start(fd, read, writev) : fd;
}

int relay_on(void)
{
	return relay.device >= 0;
}

void relay_init(struct fuse_init_out *init)
{
	if (relay.device < 0)
		return;
	if (init->max_write > MOST_DATA)
		init->max_write = MOST_DATA;
	if (init->max_pages > MOST_DATA / (unsigned)getpagesize())
		init->max_pages = (uint16_t)(MOST_DATA / (unsigned)getpagesize());
}

/* Give libfuse the device back, which it is about to close. */
static void stop(void)
{
	if (relay.device < 0)
		return;
	pthread_mutex_lock(&lock);
	dup3(relay.device, relay.theirs, O_CLOEXEC);
	close(relay.device);
	relay.device = -1;
	pthread_mutex_unlock(&lock);
}

static void keep(struct notification ***end, const char *message, size_t size)
{
	struct notification *kept = malloc(sizeof(*kept) + size);

	if (kept == NULL)
		return; /* of a hint to the kernel */
	kept->next = NULL;
	kept->whole.iov_base = memcpy(kept + 1, message, size);
	kept->whole.iov_len = size;
	**end = kept;
	*end = &kept->next;
}

/* Hand the replies in the memory on, and keep the notifications; return the last errno. */
static int empty_paper(struct notification **kept)
{
	off_t size = lseek(relay.theirs, 0, SEEK_CUR), at = 0;
	int error = 0;

	while (at < size && size <= PAPER) {
		struct fuse_out_header *head = (void *)(relay.paper + at);
		struct iovec parts[2] = {
			{ head, sizeof(*head) },
			{ head + 1, head->len - sizeof(*head) },
		};

		if (size - at < (off_t)sizeof(*head))
			break;
		if (head->len < sizeof(*head) || head->len > size - at) { /* there was no room */
			head->len = sizeof(*head);
			head->error = -EIO;
			error = EIO;
			if (head->unique != 0)
				relay.writev(relay.device, parts, 1, NULL);
			break;
		}
		if (head->unique == 0)
			keep(&kept, (const char *)head, head->len);
		else if (relay.writev(relay.device, parts, 1 + (parts[1].iov_len > 0), NULL) < 0)
			error = errno;
		at += head->len;
	}
	if (size > 0)
		lseek(relay.theirs, 0, SEEK_SET);
	if (size > KEPT && ftruncate(relay.theirs, 0) < 0)
		error = errno;
	return error;
}

/* End what began with the lock: libfuse said *result* of it. Returns what it would say. */
static int sent(int result)
{
	struct notification *kept = NULL;
	int error = empty_paper(&kept);

	pthread_mutex_unlock(&lock);
	while (kept != NULL) {
		struct notification *done = kept;

		if (relay.device >= 0 && relay.writev(relay.device, &done->whole, 1, NULL) < 0)
			error = errno;
		kept = done->next;
		free(done);
	}
	return result != 0 ? result : -error;
}

#define RELAYED(name, parameters, ...)              \
	EXPORTED int name parameters                \
	{                                           \
		REAL(name);                         \
		if (relay.device < 0)               \
			return real(__VA_ARGS__);   \
		pthread_mutex_lock(&lock);          \
		return sent(real(__VA_ARGS__));     \
	}

RELAYED(fuse_reply_attr, (fuse_req_t req, const struct stat *attr, double timeout), req, attr,
	timeout)
RELAYED(fuse_reply_buf, (fuse_req_t req, const char *buf, size_t size), req, buf, size)
RELAYED(fuse_reply_create,
	(fuse_req_t req, const struct fuse_entry_param *entry, const struct fuse_file_info *file), req,
	entry, file)
RELAYED(fuse_reply_entry, (fuse_req_t req, const struct fuse_entry_param *entry), req, entry)
RELAYED(fuse_reply_err, (fuse_req_t req, int err), req, err)
RELAYED(fuse_reply_open, (fuse_req_t req, const struct fuse_file_info *file), req, file)
RELAYED(fuse_reply_poll, (fuse_req_t req, unsigned revents), req, revents)
RELAYED(fuse_reply_readlink, (fuse_req_t req, const char *target), req, target)
RELAYED(fuse_reply_statfs, (fuse_req_t req, const struct statvfs *stat), req, stat)
RELAYED(fuse_reply_write, (fuse_req_t req, size_t count), req, count)
RELAYED(fuse_reply_xattr, (fuse_req_t req, size_t count), req, count)
RELAYED(fuse_lowlevel_notify_delete,
	(struct fuse_session *session, fuse_ino_t parent, fuse_ino_t child, const char *name,
	 size_t size),
	session, parent, child, name, size)
RELAYED(fuse_lowlevel_notify_inval_entry,
	(struct fuse_session *session, fuse_ino_t parent, const char *name, size_t size), session,
	parent, name, size)
RELAYED(fuse_lowlevel_notify_inval_inode,
	(struct fuse_session *session, fuse_ino_t node, off_t offset, off_t size), session, node, offset,
	size)
RELAYED(fuse_lowlevel_notify_poll, (struct fuse_pollhandle *handle), handle)
RELAYED(fuse_lowlevel_notify_store,
	(struct fuse_session *session, fuse_ino_t node, off_t offset, struct fuse_bufvec *data,
	 enum fuse_buf_copy_flags flags),
	session, node, offset, data, flags)

/* What it answers by itself, and what handlers answer at once. */
EXPORTED void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buf)
{
	REAL(fuse_session_process_buf);
	if (relay.device < 0) {
		real(session, buf);
		return;
	}
	pthread_mutex_lock(&lock);
	real(session, buf);
	sent(0);
}

EXPORTED int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buf)
{
	ssize_t size;
	int error;

	REAL(fuse_session_receive_buf);
	if (relay.device < 0)
		return real(session, buf);
	if (buf->mem == NULL && (buf->mem = malloc(MOST_DATA + HEADERS)) == NULL)
		return -ENOMEM;
	do
		size = relay.read(relay.device, buf->mem, MOST_DATA + HEADERS, NULL);
	while (size < 0 && errno == ENOENT); /* it was interrupted */
	error = errno;
	if (fuse_session_exited(session))
		return 0;
	if (size < 0 && error == ENODEV) { /* unmounted, or aborted */
		fuse_session_exit(session);
		return 0;
	}
	if (size < 0)
		return -error;
	if (size < (ssize_t)sizeof(struct fuse_in_header))
		return -EIO;
	buf->size = (size_t)size;
	return (int)size;
}

EXPORTED int fuse_session_fd(struct fuse_session *session)
{
	REAL(fuse_session_fd);
	return relay.device < 0 ? real(session) : relay.device;
}

EXPORTED void fuse_session_unmount(struct fuse_session *session)
{
	REAL(fuse_session_unmount);
	stop();
	real(session);
}

EXPORTED void fuse_session_destroy(struct fuse_session *session)
{
	REAL(fuse_session_destroy);
	stop();
	real(session);
}
