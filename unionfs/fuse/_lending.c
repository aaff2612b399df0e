/* The extension's Python face, continued: lent directories (_lent.c). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_lent.h"
#include "_module.h"

#include <dirent.h>

#define KIND_BITS 16 /* unionfs.union.scan */

static PyObject *native_lend_how(PyObject *self, PyObject *args)
{
	(void)self;
	if (!PyArg_ParseTuple(args, "pp", &lent_one_link, &lent_attributes))
		return NULL;
	Py_RETURN_NONE;
}

static int copy_mark(char *to, size_t room, const char *mark)
{
	if (strlen(mark) >= room)
		return -1;
	strcpy(to, mark);
	return 0;
}

static PyObject *native_lend_layer(PyObject *self, PyObject *args)
{
	struct lent_layer layer = {0};
	unsigned long long near, far, device;
	unsigned int number;
	const char *prefix, *metacopy, *kept, *capability;

	(void)self;
	if (!PyArg_ParseTuple(args, "IiKKKppyyyy", &number, &layer.fd, &device, &near, &far,
			      &layer.plain, &layer.aufs, &prefix, &metacopy, &kept, &capability))
		return NULL;
	layer.device = (dev_t)device;
	layer.near = near;
	layer.far = far;
	if (copy_mark(layer.prefix, sizeof(layer.prefix), prefix) < 0 ||
	    copy_mark(layer.metacopy, sizeof(layer.metacopy), metacopy) < 0 ||
	    copy_mark(layer.kept, sizeof(layer.kept), kept) < 0 ||
	    copy_mark(layer.capability, sizeof(layer.capability), capability) < 0) {
		PyErr_SetString(PyExc_ValueError, "a mark is too long");
		return NULL;
	}
	if (lent_add_layer(number, &layer) < 0)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *rows_from; /* returns a directory's row */

static char *row_of(const char *path, size_t *size)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *row = PyObject_CallFunction(rows_from, "y", path);
	char *copy = NULL;

	if (row != NULL && PyBytes_Check(row)) {
		*size = (size_t)PyBytes_GET_SIZE(row);
		copy = malloc(*size + 1);
		if (copy != NULL)
			memcpy(copy, PyBytes_AS_STRING(row), *size + 1);
	}
	Py_XDECREF(row);
	PyErr_Clear(); /* whoever is asked instead meets the error again, and says it */
	PyGILState_Release(state);
	return copy;
}

static PyObject *native_lend_rows(PyObject *self, PyObject *args)
{
	PyObject *from;

	(void)self;
	if (!PyArg_ParseTuple(args, "Op", &from, &lent_rows_have_attributes))
		return NULL;
	Py_INCREF(from);
	Py_XSETREF(rows_from, from);
	lent_rows = row_of;
	Py_RETURN_NONE;
}

static PyObject *native_lend(PyObject *self, PyObject *args)
{
	unsigned long long node, above, several;
	unsigned int layer;
	const char *path;

	(void)self;
	if (!PyArg_ParseTuple(args, "KKIKy", &node, &above, &layer, &several, &path))
		return NULL;
	return PyBool_FromLong(lent_add(node, above, layer, several, path) == 0);
}

static struct lent *lent_of(PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	return PyErr_Occurred() ? NULL : lent_find(node);
}

static PyObject *native_lent_above(PyObject *self, PyObject *arg)
{
	const struct lent *lent = lent_of(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromUnsignedLongLong(lent && lent->parent ? lent->parent->node : 0);
}

static PyObject *native_lent_where(PyObject *self, PyObject *arg)
{
	const struct lent *lent = lent_of(arg), *root = lent;
	PyObject *where;
	char *path;

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	path = lent != NULL && lent->parent != NULL ? lent_path(lent) : NULL;
	if (path == NULL)
		Py_RETURN_NONE;
	while (root->parent != NULL)
		root = root->parent;
	where = Py_BuildValue("(KyI)", (unsigned long long)root->node, path + strlen(root->name),
			      lent->layer);
	free(path);
	return where;
}

static PyObject *native_lent_moved(PyObject *self, PyObject *args)
{
	unsigned long long node, above;
	struct lent *lent;

	(void)self;
	if (!PyArg_ParseTuple(args, "KK", &node, &above))
		return NULL;
	lent = lent_find(node);
	if (lent != NULL)
		lent->above = above;
	Py_RETURN_NONE;
}

static PyObject *native_lent_copied(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	lent_copied(node);
	Py_RETURN_NONE;
}

/* Return the layers of each entry of a listing, None if it is of one layer. */
static PyObject *layers_of(const struct listing *listing)
{
	PyObject *layers;

	if (listing->several == NULL)
		Py_RETURN_NONE;
	layers = PyList_New((Py_ssize_t)listing->count);
	for (size_t i = 0; layers != NULL && i < listing->count; i++) {
		PyObject *one = PyLong_FromUnsignedLongLong(listing->several[i]);

		if (one == NULL)
			Py_CLEAR(layers);
		else
			PyList_SET_ITEM(layers, (Py_ssize_t)i, one);
	}
	return layers;
}

/* Return what is in a listing as Python has it, None where an inode's number does not fit there. */
static PyObject *entries_of(const struct listing *listing)
{
	PyObject *entries = PyDict_New();

	for (size_t i = 0; entries != NULL && i < listing->count; i++) {
		const struct entry *entry = &listing->entries[i];
		PyObject *name, *number;

		if (entry->ino >> (64 - KIND_BITS)) {
			Py_DECREF(entries);
			Py_RETURN_NONE;
		}
		name = PyBytes_FromStringAndSize(listing->names + entry->name_at, entry->length);
		number = PyLong_FromUnsignedLongLong(entry->ino << KIND_BITS | DTTOIF(entry->kind));
		if (name == NULL || number == NULL || PyDict_SetItem(entries, name, number) < 0)
			Py_CLEAR(entries);
		Py_XDECREF(name);
		Py_XDECREF(number);
	}
	return entries == NULL ? NULL : Py_BuildValue("(NN)", entries, layers_of(listing));
}

static PyObject *native_lent_entries(PyObject *self, PyObject *arg)
{
	const struct lent *dir = lent_of(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	if (dir == NULL || dir->parent != NULL || dir->listing == NULL || lent_rows != NULL)
		Py_RETURN_NONE;
	return entries_of(dir->listing);
}

/* Return the names of a listing, None for none. */
static PyObject *names_of(const struct listing *listing)
{
	PyObject *names;

	if (listing == NULL)
		Py_RETURN_NONE;
	names = PyList_New((Py_ssize_t)listing->count);
	for (size_t i = 0; names != NULL && i < listing->count; i++) {
		const struct entry *entry = &listing->entries[i];
		PyObject *name = PyBytes_FromStringAndSize(listing->names + entry->name_at,
							   entry->length);

		if (name == NULL)
			Py_CLEAR(names);
		else
			PyList_SET_ITEM(names, (Py_ssize_t)i, name);
	}
	return names;
}

/* Return name, number and references of all that is below a directory, and whether it may change. */
static PyObject *told_of(const struct lent *dir)
{
	PyObject *told = PyList_New(0);

	for (const struct lent *lent = dir->first; told != NULL && lent != NULL; lent = lent->right) {
		PyObject *one = Py_BuildValue("(yKKi)", lent->name, (unsigned long long)lent->node,
					      (unsigned long long)lent->count, lent->unprotected);

		if (one == NULL || PyList_Append(told, one) < 0)
			Py_CLEAR(told);
		Py_XDECREF(one);
	}
	return told;
}

static PyObject *native_take_back(PyObject *self, PyObject *arg)
{
	struct lent *dir = lent_of(arg), *next;
	PyObject *names, *told;

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	if (dir == NULL || dir->parent != NULL)
		Py_RETURN_NONE;
	names = names_of(dir->is_listed ? dir->listing : NULL);
	told = names != NULL ? told_of(dir) : NULL;
	if (told == NULL) {
		Py_XDECREF(names);
		return NULL;
	}
	for (const struct lent *lent = dir->first; lent != NULL; lent = lent->right)
		if (lent->count && lent_take(lent->node) < 0) {
			Py_DECREF(names);
			Py_DECREF(told);
			return PyErr_NoMemory();
		}
	for (struct lent *lent = dir->first; lent != NULL; lent = next) {
		next = lent->right;
		lent_hand_over(lent);
	}
	lent_end(dir);
	return Py_BuildValue("(NN)", names, told);
}

static PyObject *native_lent_roots(PyObject *self, PyObject *unused)
{
	PyObject *roots = PyList_New(0);

	(void)self, (void)unused;
	for (struct lent *lent = lent_next(NULL); roots != NULL && lent != NULL; lent = lent_next(lent)) {
		PyObject *number;

		if (lent->parent != NULL)
			continue;
		number = PyLong_FromUnsignedLongLong(lent->node);
		if (number == NULL || PyList_Append(roots, number) < 0)
			Py_CLEAR(roots);
		Py_XDECREF(number);
	}
	return roots;
}

static PyObject *native_lent_total(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromSize_t(lent_total());
}

static PyObject *native_lent_lose(PyObject *self, PyObject *arg)
{
	struct lent *lent = lent_of(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	if (lent != NULL)
		lent_lose(lent);
	Py_RETURN_NONE;
}

static PyObject *native_lent_take(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	if (lent_take(node) < 0)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *native_lent_leave(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	lent_leave(node);
	Py_RETURN_NONE;
}

static PyObject *native_lent_has(PyObject *self, PyObject *arg)
{
	const struct lent *lent = lent_of(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(lent != NULL && lent->parent != NULL);
}

static PyObject *native_lent_wanted(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	lent_wanted();
	Py_RETURN_NONE;
}

static PyObject *native_lent_end(PyObject *self, PyObject *arg)
{
	struct lent *dir = lent_of(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(dir != NULL && dir->parent == NULL && lent_end(dir));
}

static PyMethodDef methods[] = {
	{"lend_how", native_lend_how, METH_VARARGS,
	 "Say of what is lent whether directories show one link, and whether files have attributes."},
	{"lend_layer", native_lend_layer, METH_VARARGS,
	 "Let directories of a layer be lent: its number, root, device, what its inode numbers get added,"
	 " whether it has no marks, whether names that begin with .wh. are no files, how marks begin, that of"
	 " metacopies, that of what files are shown as, and what security.capability is called."},
	{"lend_rows", native_lend_rows, METH_VARARGS,
	 "Lend what a merged index has: what returns a directory's row (its path from a layer's root), and"
	 " whether attributes in it hold."},
	{"lend", native_lend, METH_VARARGS,
	 "Answer for a directory: its node's number, its parent's, its layer's, those of several, a bit each, or"
	 " 0, and its path from there."},
	{"lent_above", native_lent_above, METH_O,
	 "Return the number of the directory that a node was told in, 0 if it is not lent."},
	{"lent_where", native_lent_where, METH_O,
	 "Return of a node that was told from here: the number of the lent directory above it that Python"
	 " knows, its path from there, the number of its layer. None of others."},
	{"lent_moved", native_lent_moved, METH_VARARGS,
	 "Note that a lent directory has another parent (numbers)."},
	{"lent_copied", native_lent_copied, METH_O,
	 "Note that a directory, lent or not, was copied up: its attributes change from now on."},
	{"lent_entries", native_lent_entries, METH_O,
	 "Return what a lent directory that was listed holds: by name, the inode's number above 16 bits"
	 " of its kind; and the layers that have each, a bit each, None of one layer's. None if it is not"
	 " lent, or an index says it."},
	{"take_back", native_take_back, METH_O,
	 "Answer for a directory no more; return the names that were listed or None, and name, number,"
	 " references and whether it is unprotected of what is known in it. None if it is not lent."},
	{"lent_roots", native_lent_roots, METH_NOARGS,
	 "Return the numbers of the lent directories that Python knows."},
	{"lent_total", native_lent_total, METH_NOARGS, "Return how many nodes are known in lent directories."},
	{"lent_lose", native_lent_lose, METH_O,
	 "Forget a lent node and all that is known below it."},
	{"lent_take", native_lent_take, METH_O, "Tell of no file by this number, which Python gave."},
	{"lent_leave", native_lent_leave, METH_O, "Python has given that number no more."},
	{"lent_has", native_lent_has, METH_O, "Return whether a file was told from here by a number."},
	{"lent_wanted", native_lent_wanted, METH_NOARGS,
	 "Note that a file was looked up that had been listed by its name only."},
	{"lent_end", native_lent_end, METH_O,
	 "Answer for a directory no more, unless something in it is known; return whether that is so."},
	{NULL, NULL, 0, NULL},
};

int lending_add(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
