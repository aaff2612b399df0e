/* The extension's Python face; unionfs/fuse/native.py says what each function is for. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_module.h"
#include "_native.h"

static PyObject *native_descriptor(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromLong(session_descriptor());
}

static PyObject *native_enable(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	session_enable();
	Py_RETURN_NONE;
}

static PyObject *native_relayed(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(relay_on());
}

static PyObject *native_misses(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLongLong(session_misses());
}

static PyObject *native_hear_releases(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	session_hear_releases();
	Py_RETURN_NONE;
}

static PyObject *native_share(PyObject *self, PyObject *args)
{
	unsigned long long node;
	int fd, own;

	(void)self;
	if (!PyArg_ParseTuple(args, "Kip", &node, &fd, &own))
		return NULL;
	if (shared_add(node, fd, own) < 0)
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

static PyObject *native_end_of_listing(PyObject *self, PyObject *args)
{
	unsigned long long node, position;

	(void)self;
	if (!PyArg_ParseTuple(args, "KK", &node, &position))
		return NULL;
	known_end(node, position);
	Py_RETURN_NONE;
}

static PyObject *native_share_dir(PyObject *self, PyObject *args)
{
	unsigned long long node;
	int fd, merged;

	(void)self;
	if (!PyArg_ParseTuple(args, "Kip", &node, &fd, &merged))
		return NULL;
	dirs_share(node, fd, merged); /* failing that, Python goes on answering */
	Py_RETURN_NONE;
}

static PyObject *native_unshare_dirs(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	dirs_unshare();
	Py_RETURN_NONE;
}

static PyObject *native_forget_attributes(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	known_forget();
	Py_RETURN_NONE;
}

static PyObject *native_names_wanted(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(absent_wanted(node));
}

static PyObject *native_share_names(PyObject *self, PyObject *args)
{
	unsigned long long node;
	const char *all;
	Py_ssize_t size, count;

	(void)self;
	if (!PyArg_ParseTuple(args, "Ky#n", &node, &all, &size, &count))
		return NULL;
	absent_share(node, all, (size_t)size, (size_t)count);
	Py_RETURN_NONE;
}

static PyObject *native_share_part(PyObject *self, PyObject *args)
{
	unsigned long long dir;
	unsigned int layer;
	const char *mark;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "KIiy", &dir, &layer, &fd, &mark))
		return NULL;
	lower_share(dir, layer, fd, mark); /* failing that, Python goes on answering */
	Py_RETURN_NONE;
}

static PyObject *native_warm_up(PyObject *self, PyObject *args)
{
	const char *name;
	Py_buffer parents;
	size_t cold;

	(void)self;
	if (!PyArg_ParseTuple(args, "yw*", &name, &parents))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	cold = warm_up(parents.buf, (size_t)parents.len / sizeof(int), name);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&parents);
	return PyLong_FromSize_t(cold);
}

static PyObject *native_share_xattrless(PyObject *self, PyObject *args)
{
	unsigned long long node;
	int is_dir;

	(void)self;
	if (!PyArg_ParseTuple(args, "Kp", &node, &is_dir))
		return NULL;
	xattrless_share(node, is_dir);
	Py_RETURN_NONE;
}

static PyObject *native_answered(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLongLong(session_answered());
}

static PyObject *native_write_after_init(PyObject *self, PyObject *args)
{
	const char *text;
	Py_ssize_t size;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy#", &fd, &text, &size))
		return NULL;
	session_write_after_init(fd, text, (size_t)size);
	Py_RETURN_NONE;
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

static PyObject *native_set_nap(PyObject *self, PyObject *arg)
{
	long limit = PyLong_AsLong(arg);

	(void)self;
	if (limit == -1 && PyErr_Occurred())
		return NULL;
	nap_limit((int)limit);
	Py_RETURN_NONE;
}

static PyObject *native_spun(PyObject *self, PyObject *unused)
{
	unsigned long long ns, caught;

	(void)self, (void)unused;
	spin_totals(&ns, &caught);
	return Py_BuildValue("(KK)", ns, caught);
}

static PyObject *native_caller(PyObject *self, PyObject *unused)
{
	uint32_t uid, gid, pid;

	(void)self, (void)unused;
	asked_by(&uid, &gid, &pid);
	return Py_BuildValue("(III)", (unsigned int)uid, (unsigned int)gid, (unsigned int)pid);
}

static PyObject *native_kills(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(asked_to_kill_privileges());
}

static PyObject *native_mapped(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(asked_for_mapped());
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

static PyObject *native_touches(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyBool_FromLong(carried_touch());
}

static PyObject *native_pass_through(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	passing_wanted();
	Py_RETURN_NONE;
}

static PyObject *native_back(PyObject *self, PyObject *arg)
{
	long fd = PyLong_AsLong(arg);

	(void)self;
	if (fd == -1 && PyErr_Occurred())
		return NULL;
	return PyLong_FromLong(passing_back(session_descriptor(), (int)fd));
}

static PyObject *native_unback(PyObject *self, PyObject *arg)
{
	long backing = PyLong_AsLong(arg);

	(void)self;
	if (backing == -1 && PyErr_Occurred())
		return NULL;
	passing_unback(session_descriptor(), (int)backing);
	Py_RETURN_NONE;
}

static PyObject *native_set_near(PyObject *self, PyObject *arg)
{
	long bits = PyLong_AsLong(arg);

	(void)self;
	if (bits == -1 && PyErr_Occurred())
		return NULL;
	if (bits < 1 || bits > 32) {
		PyErr_SetString(PyExc_ValueError, "so many bits are not short");
		return NULL;
	}
	number_near((int)bits);
	Py_RETURN_NONE;
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

static PyMethodDef methods[] = {
	{"descriptor", native_descriptor, METH_NOARGS,
	 "Return the hooked session's descriptor; -1 while no session is hooked."},
	{"enable", native_enable, METH_NOARGS,
	 "Hook the session that is mounted next."},
	{"relayed", native_relayed, METH_NOARGS,
	 "Return whether replies go through memory, as libfuse refuses custom I/O."},
	{"misses", native_misses, METH_NOARGS,
	 "Return how many reads found no request, or ended to give the loop its turn."},
	{"caller", native_caller, METH_NOARGS,
	 "Return the user, group and process ID of who made the request read last."},
	{"kills_privileges", native_kills, METH_NOARGS,
	 "Return whether the request read last is to remove set-id bits from its file."},
	{"mapped", native_mapped, METH_NOARGS,
	 "Return whether the request read last is a WRITE of what a mapping holds."},
	{"hear_releases", native_hear_releases, METH_NOARGS,
	 "Leave RELEASE to Python, whose handles are in use, from now on."},
	{"share", native_share, METH_VARARGS,
	 "Answer READ of a node (its number) from this descriptor, until unshare; and what changes or asks"
	 " for its content and attributes, if it is its own."},
	{"unshare", native_unshare, METH_O, "Answer requests about this node no more."},
	{"end_of_listing", native_end_of_listing, METH_VARARGS,
	 "Answer what follows this position in the listing of a directory (its node's number): nothing."},
	{"share_dir", native_share_dir, METH_VARARGS,
	 "Answer GETATTR of a node by fstat of this directory, with one link if it is merged."},
	{"unshare_dirs", native_unshare_dirs, METH_NOARGS,
	 "Answer GETATTR of shared directories no more."},
	{"forget_attributes", native_forget_attributes, METH_NOARGS,
	 "Answer GETATTR from nothing that was told before."},
	{"names_wanted", native_names_wanted, METH_O,
	 "Return whether absent names of a directory (its node's number) were asked for before."},
	{"share_names", native_share_names, METH_VARARGS,
	 "Answer LOOKUP of names that are not among these of a directory: node, names (joined by NUL),"
	 " how many they are."},
	{"share_part", native_share_part, METH_VARARGS,
	 "Read files of a directory (its node's number) in a layer (its number) from this descriptor"
	 " of it, but not those with this attribute (empty: none has it)."},
	{"warm_up", native_warm_up, METH_VARARGS,
	 "Have directories of this name read from the disk, in each of the directories open on these"
	 " descriptors (an array of int, whose order changes); return how many had to be."},
	{"share_xattrless", native_share_xattrless, METH_VARARGS,
	 "Answer that a node (its number, whether it is a directory) has no attributes, until it changes."},
	{"answered", native_answered, METH_NOARGS,
	 "Return how many requests were answered without Python."},
	{"write_after_init", native_write_after_init, METH_VARARGS,
	 "Write this to a descriptor when INIT has been answered, and close it."},
	{"set_spin", native_set_spin, METH_O,
	 "Let reads of an empty queue try again for at most so many microseconds; 0: never."},
	{"set_nap", native_set_nap, METH_O,
	 "Let reads of an empty queue wait for at most so many milliseconds; 0: not at all."},
	{"spun", native_spun, METH_NOARGS,
	 "Return how long reads tried again (ns), and how many requests that caught."},
	{"carried", native_carried, METH_NOARGS,
	 "Return opcode and body of the request read last if GETXATTR carries it, else None."},
	{"xattr_flags", native_xattr_flags, METH_NOARGS,
	 "Return the flags of the SETXATTR read last."},
	{"asks_tmpfile", native_asks_tmpfile, METH_NOARGS,
	 "Return whether the CREATE read last asks for a file without a name."},
	{"touches", native_touches, METH_NOARGS,
	 "Return whether the SETATTR read last sets both times to now."},
	{"pass_through", native_pass_through, METH_NOARGS,
	 "Ask the kernel of the session mounted next to read files by itself."},
	{"back", native_back, METH_O,
	 "Return the kernel's number for a file that it is to read by itself; 0: it refuses."},
	{"unback", native_unback, METH_O, "Let the kernel forget such a number."},
	{"set_near", native_set_near, METH_O,
	 "Say how many bits inode numbers have that their filesystem's place is next to."},
	{"set_root_number", native_set_root_number, METH_O,
	 "Show this inode number for the root; 0: the node's, which is 1."},
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

	if (made != NULL && (PyModule_AddIntConstant(made, "VERSION", 37) < 0 || watching_add(made) < 0 ||
			     lending_add(made) < 0 || direct_add(made) < 0 ||
			     removing_add(made) < 0))
		Py_CLEAR(made);
	return made;
}
