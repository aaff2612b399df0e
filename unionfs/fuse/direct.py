"""Answers that need neither pyfuse3 nor a wait: what ``_direct.c`` asks as requests come.

From a request through libfuse and pyfuse3's coroutine to the handler and back takes as long as
many of the handlers do. What changes names is usually done without an await, so the extension first
asks the plain functions here. They do all of it, or nothing; then the handler of ``changes`` has
its turn.
"""

from __future__ import annotations

from typing import NamedTuple

from unionfs.fuse import native
from unionfs.fuse.guard import directly
from unionfs.fuse.operations import Operations
from unionfs.fuse.removing import Removing

_DONE = 0  # no error


class _Caller(NamedTuple):
    """A ``callers.Caller``."""

    uid: int
    gid: int
    pid: int
    umask: int


class Direct:
    """The functions of one mount. Each returns an errno (0: done), or None: not here.

    Nor with a full disk (``guard.directly``).
    """

    def __init__(self, operations: Operations) -> None:
        assert native.hooks is not None
        self._operations = operations
        self._done = native.hooks.tell_done
        self._created = native.hooks.tell_created
        self._removing: Removing | None = None

    def serve(self, *, names: bool, creates: bool) -> None:
        """From now on be asked; before the first request only.

        *names*: about names, where the kernel has seen to it that the caller may change them.
        *creates*: about new files, where what the inode says is shown, and handles are numbers of
        nodes.
        """
        assert native.hooks is not None
        upper = self._operations.upper
        if names and upper is not None:
            self._removing = Removing(self._operations, upper)
            self._removing.begin()
        native.hooks.serve_directly(
            self._operations.forget_one,
            self._unlink if names else None,
            self._rmdir if names else None,
            self._rename if names else None,
            self._create if names and creates else None,
        )

    @directly
    def _unlink(self, parent: int, name: bytes) -> int | None:
        if self._operations.remove_name(parent, name, self._done) is not None:
            return None
        if self._removing is not None:
            self._removing.went(parent)
        return _DONE

    @directly
    def _rmdir(self, parent: int, name: bytes) -> int:
        self._operations.remove_dir(parent, name, self._done)
        return _DONE

    @directly
    def _rename(self, old: int, old_name: bytes, new: int, new_name: bytes) -> int | None:
        done = self._operations.rename_file(old, old_name, new, new_name, self._done)
        return _DONE if done else None

    @directly
    def _create(
        self, parent: int, name: bytes, mode: int, umask: int, uid: int, gid: int, pid: int
    ) -> int:
        caller = _Caller(uid, gid, pid, umask)
        self._operations.create_file(parent, name, mode, caller, self._created)
        return _DONE
