/* The files that make up the extension's Python face. */
#ifndef UNIONFS_MODULE_H
#define UNIONFS_MODULE_H

#include <Python.h>

/* _watching.c */
int watching_add(PyObject *module); /* its functions; -1: failed */

/* _lending.c */
int lending_add(PyObject *module); /* the same */

/* _direct.c */
int direct_add(PyObject *module); /* the same */

/* _removing.c */
int removing_add(PyObject *module); /* the same */

#endif
