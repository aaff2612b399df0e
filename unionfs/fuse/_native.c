/* What pyfuse3 cannot say, said beside it: hooks on the requests and replies of its session.
 *
 * This module is loaded with RTLD_GLOBAL before pyfuse3, so that pyfuse3's call of
 * fuse_session_mount() finds the one defined here. It calls the real one and then libfuse's public
 * fuse_session_custom_io() (libfuse 3.13) with a read and a writev of its own, which see every
 * message. Messages are those of linux/fuse.h.
 *
 * What is done to them:
 *   - the descriptor is non-blocking: an empty queue is EINTR to libfuse, which pyfuse3 takes as
 *     "nothing yet", and reading goes past the splice(2) that libfuse would use for every request;
 *   - requests without a handle carry the node in its place. OPEN and OPENDIR are answered ENOSYS,
 *     from when on the kernel sends neither: opening needs no request, and directories are cached;
 *   - the INIT reply asks for symbolic links to be cached; takes over the removal of set-id bits on
 *     writes and truncations (FUSE_HANDLE_KILLPRIV_V2), without which the kernel asks for
 *     security.capability before every write; leaves the umask to us (FUSE_DONT_MASK), which must not
 *     count where a directory has a default ACL; and gives up FUSE_ATOMIC_O_TRUNC, since without
 *     OPEN nobody would truncate;
 *   - entries of a listing whose generation is NAME_ONLY lose their node and attributes, which to the
 *     kernel means that it has to look the name up when it wants more;
 *   - READ of a node whose descriptor Python has shared is answered at once (_shared.c);
 *   - what pyfuse3 has no handler for travels as what it has one for (_carry.c);
 *   - the root shows its real inode number (_number.c);
 *   - requests are counted by opcode;
 *   - an empty queue is asked again for some microseconds before the read gives up (_spin.c).
 *
 * One thread: the one that runs pyfuse3's loop.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

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
#include <sys/uio.h>
#include <unistd.h>

#define OPCODES 64

static int session_fd = -1;
#define NAME_ONLY 2 /* unionfs.fuse.native.NAME_ONLY */

static uint64_t init_unique;
static uint64_t listing_unique;
static uint32_t init_offered; /* the kernel's flags */
static int kill_privileges;  /* the request being handled has to remove set-id bits */
static unsigned long long counts[OPCODES];
static unsigned long misses;

static int in_a_row; /* READs answered without Python, which must get its turn (signals, threads) */
#define IN_A_ROW 64

static void name_the_node(struct fuse_in_header *head, ssize_t size)
{
	struct fuse_read_in *in = (struct fuse_read_in *)(head + 1);

	if (size >= (ssize_t)(sizeof(*head) + sizeof(in->fh)) && in->fh == 0)
		in->fh = head->nodeid; /* the others' messages begin with the handle as well */
}

static int asks_to_kill(const struct fuse_in_header *head, ssize_t size)
{
	const void *body = head + 1;
	size_t rest = (size_t)size - sizeof(*head);

	switch (head->opcode) {
	case FUSE_WRITE:
		return rest >= sizeof(struct fuse_write_in) &&
		       ((const struct fuse_write_in *)body)->write_flags & FUSE_WRITE_KILL_SUIDGID;
	case FUSE_SETATTR:
		return rest >= sizeof(struct fuse_setattr_in) &&
		       ((const struct fuse_setattr_in *)body)->valid & FATTR_KILL_SUIDGID;
	case FUSE_OPEN:
		return rest >= sizeof(struct fuse_open_in) &&
		       ((const struct fuse_open_in *)body)->open_flags & FUSE_OPEN_KILL_SUIDGID;
	}
	return 0;
}

static ssize_t hooked_read(int fd, void *buffer, size_t length, void *userdata)
{
	struct fuse_in_header *head = buffer;
	ssize_t size;

	(void)userdata;
again:
	size = spin_read(fd, buffer, length);
	if (size < 0 && errno == EAGAIN) {
		misses++;
		errno = EINTR;
	}
	if (size < (ssize_t)sizeof(*head))
		return size;
	if (head->opcode < OPCODES)
		counts[head->opcode]++;
	kill_privileges = asks_to_kill(head, size);
	size = (ssize_t)carry(head, (size_t)size, length);
	switch (head->opcode) {
	case FUSE_INIT:
		init_unique = head->unique;
		init_offered = ((struct fuse_init_in *)(head + 1))->flags;
		break;
	case FUSE_READ:
		if (size >= (ssize_t)(sizeof(*head) + sizeof(struct fuse_read_in)) &&
		    ++in_a_row < IN_A_ROW && shared_answer_read(fd, head))
			goto again;
		in_a_row = 0;
		name_the_node(head, size);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		number_asked(head);
		break;
	case FUSE_READDIRPLUS:
		listing_unique = head->unique;
		name_the_node(head, size);
		break;
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

static void finish_entries(char *data, size_t size)
{
	size_t at = 0;

	while (at + FUSE_NAME_OFFSET_DIRENTPLUS <= size) {
		struct fuse_direntplus *entry = (struct fuse_direntplus *)(data + at);

		entry->dirent.ino = number_shown(entry->dirent.ino);
		if (entry->entry_out.generation == NAME_ONLY)
			memset(&entry->entry_out, 0, sizeof(entry->entry_out));
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
}

static ssize_t hooked_writev(int fd, struct iovec *parts, int count, void *userdata)
{
	struct fuse_out_header *head = parts[0].iov_base;

	(void)userdata;
	if (init_unique && head->unique == init_unique) {
		init_unique = 0;
		if (count > 1 && head->error == 0) {
			struct fuse_init_out *init = parts[1].iov_base;

			init->flags |= init_offered & (FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2 |
						       FUSE_DONT_MASK);
			init->flags &= ~FUSE_ATOMIC_O_TRUNC;
		}
	}
	if (listing_unique && head->unique == listing_unique) {
		listing_unique = 0;
		if (count > 1 && head->error == 0)
			finish_entries(parts[1].iov_base, parts[1].iov_len);
	}
	number_answer(head, count > 1 ? parts[1].iov_base : NULL, count > 1 ? parts[1].iov_len : 0);
	return writev(fd, parts, count);
}

/* Interposed: see the head of this file. */
__attribute__((visibility("default"))) int
fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	static const struct fuse_custom_io io = {
		.read = hooked_read,
		.writev = hooked_writev,
	};
	int (*real)(struct fuse_session *, const char *);
	int fd, flags, result;

	*(void **)&real = dlsym(RTLD_NEXT, "fuse_session_mount");
	if (real == NULL)
		return -1;
	result = real(session, mountpoint);
	if (result != 0)
		return result;
	fd = fuse_session_fd(session);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return 0; /* unhooked: everything works as pyfuse3 alone would */
	if (fuse_session_custom_io(session, &io, fd) != 0) {
		fcntl(fd, F_SETFL, flags);
		return 0;
	}
	session_fd = fd;
	return 0;
}

static PyObject *native_descriptor(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromLong(session_fd);
}

static PyObject *native_misses(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLong(misses);
}

static PyObject *native_share(PyObject *self, PyObject *args)
{
	unsigned long long node;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "Ki", &node, &fd))
		return NULL;
	if (shared_add(node, fd) < 0)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *native_unshare(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	shared_remove(node);
	Py_RETURN_NONE;
}

static PyObject *native_answered(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLongLong(shared_answered());
}

static PyObject *native_set_spin(PyObject *self, PyObject *arg)
{
	long limit = PyLong_AsLong(arg);

	(void)self;
	if (limit == -1 && PyErr_Occurred())
		return NULL;
	spin_limit(limit);
	Py_RETURN_NONE;
}

static PyObject *native_spun(PyObject *self, PyObject *unused)
{
	unsigned long long ns, caught;

	(void)self, (void)unused;
	spin_totals(&ns, &caught);
	return Py_BuildValue("(KK)", ns, caught);
}

static PyObject *native_kills(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(kill_privileges);
}

static PyObject *native_carried(PyObject *self, PyObject *unused)
{
	const void *body;
	size_t size;
	uint32_t opcode = carried_request(&body, &size);

	(void)self, (void)unused;
	if (opcode == 0)
		Py_RETURN_NONE;
	return Py_BuildValue("(Iy#)", (unsigned int)opcode, (const char *)body, (Py_ssize_t)size);
}

static PyObject *native_xattr_flags(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLong(carried_flags());
}

static PyObject *native_asks_tmpfile(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(carried_tmpfile());
}

static PyObject *native_set_root_number(PyObject *self, PyObject *arg)
{
	unsigned long long ino = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	number_root(ino);
	Py_RETURN_NONE;
}

static PyObject *native_counts(PyObject *self, PyObject *unused)
{
	PyObject *found = PyDict_New();

	(void)self, (void)unused;
	for (long opcode = 0; found != NULL && opcode < OPCODES; opcode++) {
		PyObject *key, *value;
		int failed;

		if (counts[opcode] == 0)
			continue;
		key = PyLong_FromLong(opcode);
		value = PyLong_FromUnsignedLongLong(counts[opcode]);
		failed = key == NULL || value == NULL || PyDict_SetItem(found, key, value) < 0;
		Py_XDECREF(key);
		Py_XDECREF(value);
		if (failed)
			Py_CLEAR(found);
	}
	return found;
}

static PyMethodDef methods[] = {
	{"descriptor", native_descriptor, METH_NOARGS,
	 "Return the hooked session's descriptor; -1 while no session is hooked."},
	{"misses", native_misses, METH_NOARGS,
	 "Return how many reads found no request."},
	{"kills_privileges", native_kills, METH_NOARGS,
	 "Return whether the request read last is to remove set-id bits from its file."},
	{"share", native_share, METH_VARARGS,
	 "Answer READ of a node (its number) from this descriptor, until unshare."},
	{"unshare", native_unshare, METH_O, "Answer READ of this node no more."},
	{"answered", native_answered, METH_NOARGS,
	 "Return how many requests were answered without Python."},
	{"set_spin", native_set_spin, METH_O,
	 "Let reads of an empty queue try again for at most so many microseconds; 0: never."},
	{"spun", native_spun, METH_NOARGS,
	 "Return how long reads tried again (ns), and how many requests that caught."},
	{"carried", native_carried, METH_NOARGS,
	 "Return opcode and body of the request read last if GETXATTR carries it, else None."},
	{"xattr_flags", native_xattr_flags, METH_NOARGS,
	 "Return the flags of the SETXATTR read last."},
	{"asks_tmpfile", native_asks_tmpfile, METH_NOARGS,
	 "Return whether the CREATE read last asks for a file without a name."},
	{"set_root_number", native_set_root_number, METH_O,
	 "Show this inode number for the root; 0: the node's, which is 1."},
	{"counts", native_counts, METH_NOARGS,
	 "Return how many requests came, by opcode (enum fuse_opcode)."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "unionfs.fuse._native",
	.m_doc = "Hooks on the requests and replies of pyfuse3's session.",
	.m_size = -1,
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void)
{
	PyObject *made = PyModule_Create(&module);

	if (made != NULL && PyModule_AddIntConstant(made, "VERSION", 3) < 0)
		Py_CLEAR(made);
	return made;
}
