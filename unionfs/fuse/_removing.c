/* Removing names of lower files without Python.
 *
 * All that such a removal takes on the disk is a whiteout, one more link of the one that Python keeps in
 * the work directory. So once several names of a directory in the upper were removed Python says which
 * others need no more than that, and of these each UNLINK is answered here, by linkat(2). Python is told
 * some dozens at a time, before anything else comes to it: no function of Python's runs that could see
 * a name that is gone.
 *
 * What Python said holds until a request arrives that may change anything but by removing names, which
 * may make one of the files another, or protect it; and each name for one removal. While any other
 * change is under way Python removes. It does, too, where linkat(2) fails, and says what is wrong.
 *
 * A direct-mapped table: a later directory takes the place of an earlier one.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_module.h"
#include "_native.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRS 64 /* a power of two */
#define PUT_OFF (1 << 14) /* bytes of names */

struct removable {
	uint64_t node; /* 0: none */
	uint64_t era;
	size_t in_a_row;  /* names that Python removed in this era */
	int is_said;	  /* what follows */
	char *names;	  /* each with a NUL at its end */
	uint32_t *places; /* where they begin, and 1; open addressing, 0: free */
	size_t mask;	  /* their number, a power of two, less 1 */
};

static struct removable table[DIRS];
static uint64_t era = 1; /* what was said in an earlier one does not hold */
static int whiteout_dir = -1; /* Python's, and the name in it that others are links of */
static char whiteout_name[32];

static PyObject *removed; /* tells Python; NULL: it was not asked for */
static struct { /* what it is to be told: names of one directory */
	uint64_t node;
	size_t size;
	char names[PUT_OFF];
} put_off;

static struct removable *place_of(uint64_t node)
{
	return &table[(spread(node) >> 40) & (DIRS - 1)];
}

static void drop(struct removable *dir)
{
	free(dir->names);
	free(dir->places);
	*dir = (struct removable){0};
}

void removing_end(void)
{
	era++;
}

void removing_forget(uint64_t node)
{
	if (place_of(node)->node == node)
		drop(place_of(node));
}

/* Return the directory's entry of this era, a new one if need be. */
static struct removable *entry_of(uint64_t node)
{
	struct removable *dir = place_of(node);

	if (dir->node != node || dir->era != era) {
		drop(dir);
		dir->node = node;
		dir->era = era;
	}
	return dir;
}

/* FNV-1a */
static size_t hash_of(const char *name)
{
	uint64_t hash = 0xCBF29CE484222325ULL;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001B3ULL;
	return (size_t)(hash ^ (hash >> 32));
}

static int put_names(struct removable *dir, const char *names, size_t size, size_t count)
{
	size_t room = 4;

	if (size >= UINT32_MAX)
		return -1;
	while (room < count * 2)
		room *= 2;
	dir->names = malloc(size + 1);
	dir->places = calloc(room, sizeof(*dir->places));
	if (dir->names == NULL || dir->places == NULL)
		return -1;
	memcpy(dir->names, names, size);
	dir->names[size] = 0;
	dir->mask = room - 1;
	for (size_t from = 0; count--; from += strlen(dir->names + from) + 1) {
		size_t at = hash_of(dir->names + from) & dir->mask;

		while (dir->places[at])
			at = (at + 1) & dir->mask;
		dir->places[at] = (uint32_t)from + 1;
	}
	return 0;
}

/* Take a name out; 0: it is not there. */
static int take(struct removable *dir, const char *name)
{
	if (dir->places == NULL || *name == 0)
		return 0;
	for (size_t at = hash_of(name) & dir->mask; dir->places[at]; at = (at + 1) & dir->mask) {
		char *found = dir->names + dir->places[at] - 1;

		if (strcmp(found, name) == 0) {
			*found = 0; /* its place stays, for those that come after it */
			return 1;
		}
	}
	return 0;
}

int removing_settle(void)
{
	PyGILState_STATE state;
	PyObject *nothing;

	if (put_off.size == 0)
		return 0;
	state = PyGILState_Ensure();
	nothing = PyObject_CallFunction(removed, "Ky#", (unsigned long long)put_off.node,
					put_off.names, (Py_ssize_t)put_off.size - 1);
	put_off.size = 0;
	if (nothing == NULL)
		PyErr_WriteUnraisable(NULL);
	Py_XDECREF(nothing);
	PyGILState_Release(state);
	return 1;
}

/* Note that Python is to be told; there is room. */
static void put_name_off(uint64_t node, const char *name)
{
	size_t length = strlen(name) + 1;

	put_off.node = node;
	memcpy(put_off.names + put_off.size, name, length);
	put_off.size += length;
}

int removing_answer(int session, const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1);
	struct removable *dir = place_of(head->nodeid);
	int fd;

	if (head->opcode != FUSE_UNLINK || dir->node != head->nodeid || dir->era != era ||
	    size == sizeof(*head) || memchr(name, 0, size - sizeof(*head)) == NULL ||
	    !take(dir, name) || trace_on || known_changes() != 1)
		return 0;
	fd = dirs_descriptor(head->nodeid);
	if (fd < 0 || linkat(whiteout_dir, whiteout_name, fd, name, 0) < 0) {
		drop(dir); /* Python may say anew what holds now */
		return 0;
	}
	answer_with(session, head, 0, NULL, 0);
	if (put_off.node != head->nodeid || put_off.size + strlen(name) >= PUT_OFF)
		removing_settle();
	put_name_off(head->nodeid, name);
	return 1;
}

static PyObject *native_removed_in_a_row(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);
	struct removable *dir;

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	if (known_changes() || dirs_descriptor(node) < 0)
		return PyLong_FromLong(0);
	dir = entry_of(node);
	return PyLong_FromSize_t(dir->is_said ? 0 : ++dir->in_a_row);
}

static PyObject *native_share_removable(PyObject *self, PyObject *args)
{
	unsigned long long node;
	const char *whiteout, *names;
	Py_ssize_t size, count;
	struct removable *dir;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "Kiyy#n", &node, &fd, &whiteout, &names, &size, &count))
		return NULL;
	if (known_changes() || strlen(whiteout) >= sizeof(whiteout_name))
		Py_RETURN_NONE;
	removing_forget(node);
	dir = entry_of(node);
	dir->is_said = 1;
	whiteout_dir = fd;
	strcpy(whiteout_name, whiteout);
	if (put_names(dir, names, (size_t)size, (size_t)count) < 0)
		drop(dir);
	Py_RETURN_NONE;
}

static PyObject *native_tell_removed(PyObject *self, PyObject *function)
{
	(void)self;
	Py_INCREF(function);
	Py_XSETREF(removed, function);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"removed_in_a_row", native_removed_in_a_row, METH_O,
	 "Return how many names Python has removed from a directory, this one included, since anything else"
	 " was changed; 0 if what it holds was said since then, or would not be used."},
	{"share_removable", native_share_removable, METH_VARARGS,
	 "Answer UNLINK in a directory of these names: a descriptor and the name there of the whiteout that"
	 " others are links of; the names, NUL between them, and how many they are."},
	{"tell_removed", native_tell_removed, METH_O,
	 "Call this with a directory's number, and names in it, NUL between them, that were removed so."},
	{NULL, NULL, 0, NULL},
};

int removing_add(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
