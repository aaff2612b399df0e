/* Requests that Python answers without pyfuse3.
 *
 * From a request through libfuse, pyfuse3 and its coroutine to the handler and back is as much work as
 * most of the handlers do. So FORGET and what changes names is asked of plain functions of Python's
 * (fuse/direct.py), right where the request is read. They do all of it before they return, or nothing:
 * then they say None, and the request goes the long way, where a handler can wait. When what was asked
 * for is done they may say so, and keep their accounts while the caller goes on: nothing else is
 * read before they return.
 *
 * FORGETs are put off while names are removed, each of which makes one, and told some dozens together:
 * then nothing comes between that takes Python's place in the processor's caches, and rm -rf took 0.9 of
 * its time. No other request comes to Python before they are told, nor is any slept for: what a file had,
 * its number and its room, is free for who asks next.
 *
 * The reply to CREATE is made here, of a new file whose inode says everything: by fstat(2).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_module.h"
#include "_native.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#define PUT_OFF 64 /* FORGETs */

static struct { /* the request that a function is asked about */
	int session;
	const struct fuse_in_header *head; /* NULL: it was answered */
} asked;

static unsigned long long answered;

static struct fuse_forget_one put_off[PUT_OFF];
static size_t put_off_count;

static PyObject *forget, *unlink_name, *remove_dir, *rename_name, *create_file; /* or NULL */

/* The name at offset from in the message, which ends there; NULL: it has none. */
static const char *name_at(const struct fuse_in_header *head, size_t size, size_t from)
{
	const char *message = (const char *)head;

	return from < size && memchr(message + from, 0, size - from) ? message + from : NULL;
}

/* Say that the request is done, or what is wrong. */
static void tell(int error, const void *body, size_t size)
{
	session_reply(asked.session, asked.head, error, body, size);
	asked.head = NULL;
}

static void tell_unforeseen(void)
{
	PyErr_WriteUnraisable(NULL); /* guard.directly turns what can be foreseen into an errno */
	if (asked.head != NULL)
		tell(EIO, NULL, 0);
}

/* Tell what a function has answered, if it has not told by itself; 0: it has not begun. */
static int taken(PyObject *answer)
{
	int known = answer != Py_None || asked.head == NULL;

	if (answer == NULL || (answer != Py_None && !PyLong_Check(answer)))
		tell_unforeseen();
	else if (asked.head != NULL && known)
		tell((int)PyLong_AsLong(answer), NULL, 0);
	Py_XDECREF(answer);
	return known;
}

static int ask_name(PyObject *function, const struct fuse_in_header *head, size_t size)
{
	const char *name = name_at(head, size, sizeof(*head));

	if (function == NULL || name == NULL)
		return 0;
	return taken(PyObject_CallFunction(function, "Ky", (unsigned long long)head->nodeid, name));
}

static int ask_rename(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_rename_in *in = (const struct fuse_rename_in *)(head + 1);
	const char *old = name_at(head, size, sizeof(*head) + sizeof(*in));
	const char *new = old ? name_at(head, size, (size_t)(old - (const char *)head) + strlen(old) + 1)
			      : NULL;

	if (rename_name == NULL || new == NULL)
		return 0;
	return taken(PyObject_CallFunction(rename_name, "KyKy", (unsigned long long)head->nodeid, old,
					   (unsigned long long)in->newdir, new));
}

static int ask_create(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_create_in *in = (const struct fuse_create_in *)(head + 1);
	const char *name = name_at(head, size, sizeof(*head) + sizeof(*in));

	if (create_file == NULL || name == NULL)
		return 0;
	return taken(PyObject_CallFunction(create_file, "KyIIIII", (unsigned long long)head->nodeid,
					   name, (unsigned int)in->mode, (unsigned int)in->umask,
					   (unsigned int)head->uid, (unsigned int)head->gid,
					   (unsigned int)head->pid));
}

int direct_answer(int session, const struct fuse_in_header *head, size_t size)
{
	PyGILState_STATE state;
	int known = 0;

	if (forget == NULL)
		return 0;
	removing_settle();
	asked.session = session;
	asked.head = head;
	state = PyGILState_Ensure();
	switch (head->opcode) {
	case FUSE_UNLINK:
		known = ask_name(unlink_name, head, size);
		break;
	case FUSE_RMDIR:
		known = ask_name(remove_dir, head, size);
		break;
	case FUSE_RENAME:
		direct_settle();
		known = ask_rename(head, size);
		break;
	case FUSE_CREATE:
		direct_settle();
		known = ask_create(head, size);
		break;
	}
	PyGILState_Release(state);
	asked.head = NULL;
	answered += (unsigned)known;
	return known;
}

int direct_settle(void)
{
	int told = removing_settle(); /* before its file is forgotten */
	size_t count = put_off_count;
	PyGILState_STATE state;

	if (count == 0)
		return told;
	state = PyGILState_Ensure();
	put_off_count = 0;
	for (size_t i = 0; i < count; i++) {
		PyObject *nothing = PyObject_CallFunction(forget, "KK",
							  (unsigned long long)put_off[i].nodeid,
							  (unsigned long long)put_off[i].nlookup);

		if (nothing == NULL)
			PyErr_WriteUnraisable(NULL);
		Py_XDECREF(nothing);
	}
	PyGILState_Release(state);
	return 1;
}

int direct_forget(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_forget_in *in = (const struct fuse_forget_in *)(head + 1);
	static size_t most;

	if (forget == NULL || head->opcode != FUSE_FORGET || size < sizeof(*head) + sizeof(*in))
		return 0;
	if (most == 0)
		most = descriptors_kept(PUT_OFF);
	put_off[put_off_count++] = (struct fuse_forget_one){head->nodeid, in->nlookup};
	if (put_off_count >= most || trace_on)
		direct_settle();
	return 1;
}

static PyObject *native_tell_done(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	if (asked.head != NULL)
		tell(0, NULL, 0);
	Py_RETURN_NONE;
}

static PyObject *native_tell_created(PyObject *self, PyObject *args)
{
	struct created {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} created;
	unsigned long long node, generation;
	struct stat st;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "KKi", &node, &generation, &fd))
		return NULL;
	if (fstat(fd, &st) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	memset(&created, 0, sizeof(created));
	created.entry.nodeid = node;
	created.entry.generation = generation;
	created.entry.entry_valid = FOREVER;
	created.entry.attr_valid = FOREVER;
	attr_of_stat(&created.entry.attr, node, &st, (uint32_t)st.st_nlink);
	created.open.fh = node;
	created.open.open_flags = FOPEN_KEEP_CACHE;
	if (asked.head != NULL)
		tell(0, &created, sizeof(created));
	Py_RETURN_NONE;
}

static PyObject *native_answered_directly(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLongLong(answered);
}

static PyObject *native_serve_directly(PyObject *self, PyObject *args)
{
	PyObject **places[] = {&forget, &unlink_name, &remove_dir, &rename_name, &create_file};
	PyObject *given[5];

	(void)self;
	if (!PyArg_ParseTuple(args, "OOOOO", &given[0], &given[1], &given[2], &given[3], &given[4]))
		return NULL;
	for (int i = 0; i < 5; i++) {
		PyObject *function = given[i] == Py_None ? NULL : given[i];

		Py_XINCREF(function);
		Py_XSETREF(*places[i], function);
	}
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"serve_directly", native_serve_directly, METH_VARARGS,
	 "Ask these functions, or None, about FORGET, UNLINK, RMDIR, RENAME and CREATE, before pyfuse3."},
	{"answered_directly", native_answered_directly, METH_NOARGS,
	 "Return how many requests such functions answered, FORGETs aside."},
	{"tell_done", native_tell_done, METH_NOARGS,
	 "Answer the request that such a function is asked about, before it returns: it is done."},
	{"tell_created", native_tell_created, METH_VARARGS,
	 "The same of CREATE: number, generation and a descriptor of the new file."},
	{NULL, NULL, 0, NULL},
};

int direct_add(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
