/* The extension's Python face, continued: what it tells of requests (_stats.c, _trace.c). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_module.h"
#include "_native.h"

static PyObject *described(const struct operation *operation)
{
	PyObject *buckets = PyTuple_New(BUCKETS);

	for (int i = 0; buckets != NULL && i < BUCKETS; i++) {
		PyObject *count = PyLong_FromUnsignedLongLong(operation->buckets[i]);

		if (count == NULL)
			Py_CLEAR(buckets);
		else
			PyTuple_SET_ITEM(buckets, i, count);
	}
	if (buckets == NULL)
		return NULL;
	return Py_BuildValue("(KKKKN)", (unsigned long long)operation->count,
			     (unsigned long long)operation->errors,
			     (unsigned long long)operation->total_ns,
			     (unsigned long long)operation->longest_ns, buckets);
}

static PyObject *native_operations(PyObject *self, PyObject *unused)
{
	PyObject *found = PyDict_New();

	(void)self, (void)unused;
	for (uint32_t opcode = 0; found != NULL && opcode < OPCODES; opcode++) {
		PyObject *key, *value;
		int failed;

		if (stats_of(opcode)->count == 0)
			continue;
		key = PyLong_FromUnsignedLong(opcode);
		value = described(stats_of(opcode));
		failed = key == NULL || value == NULL || PyDict_SetItem(found, key, value) < 0;
		Py_XDECREF(key);
		Py_XDECREF(value);
		if (failed)
			Py_CLEAR(found);
	}
	return found;
}

static PyObject *native_read_ahead(PyObject *self, PyObject *unused)
{
	unsigned long long files, right;

	(void)self, (void)unused;
	next_totals(&files, &right);
	return Py_BuildValue("(KK)", files, right);
}

static PyObject *native_no_files_ahead(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	next_off();
	Py_RETURN_NONE;
}

static PyObject *native_trace_for(PyObject *self, PyObject *arg)
{
	Py_buffer pids;
	int failed;

	(void)self;
	if (PyObject_GetBuffer(arg, &pids, PyBUF_SIMPLE) < 0)
		return NULL;
	failed = trace_for(pids.buf, (size_t)pids.len / sizeof(uint32_t));
	PyBuffer_Release(&pids);
	if (failed < 0)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *native_trace_waiting(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromSize_t(trace_waiting());
}

static PyObject *native_trace_mentions(PyObject *self, PyObject *arg)
{
	unsigned long long node = PyLong_AsUnsignedLongLong(arg);

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(trace_mentions(node));
}

static PyObject *native_trace_take(PyObject *self, PyObject *unused)
{
	struct traced found;
	PyObject *taken;

	(void)self, (void)unused;
	trace_found(&found);
	taken = Py_BuildValue("(y#y#K)", found.records ? (const char *)found.records : "",
			      (Py_ssize_t)(found.record_count * sizeof(*found.records)),
			      found.heap ? found.heap : "", (Py_ssize_t)found.heap_size,
			      (unsigned long long)found.lost);
	if (taken != NULL)
		trace_taken();
	return taken;
}

static PyMethodDef methods[] = {
	{"operations", native_operations, METH_NOARGS,
	 "Return what requests there were, by opcode (enum fuse_opcode): count, errors, time in all and"
	 " at most (ns), and how many took how long."},
	{"read_ahead", native_read_ahead, METH_NOARGS,
	 "Return how many files were asked of the disk ahead, and how many were read as foreseen."},
	{"no_files_ahead", native_no_files_ahead, METH_NOARGS, "Ask for no file ahead."},
	{"trace_for", native_trace_for, METH_O,
	 "Tell of requests from now on, but not of these processes' (bytes of 32-bit numbers) own asking;"
	 " where they are none, tell no more."},
	{"trace_waiting", native_trace_waiting, METH_NOARGS,
	 "Return how many requests are to be told of."},
	{"trace_mentions", native_trace_mentions, METH_O,
	 "Return whether a request that is to be told of is about the node."},
	{"trace_take", native_trace_take, METH_NOARGS,
	 "Return what is to be told, which is then gone: records, the names in them, how many were lost."},
	{NULL, NULL, 0, NULL},
};

int watching_add(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
